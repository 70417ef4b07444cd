"""An operator's retry is a connection, also while the next hop is left alone after a failure."""

import asyncio
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.daemon import start_daemon
from tests.support.nexthop import Last, NextHop
from tests.support.talk import Talk

from pillarbox.console.operations import Filter, Operations
from pillarbox.control.channel import connect
from pillarbox.daemon import paths

pytestmark = pytest.mark.scenario


async def test_a_retry_reaches_a_next_hop_that_is_suspended_and_what_was_not_tried_did_not_count(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, password: str
) -> None:
    async with NextHop(script={"CONNECT": [Last("421 4.3.2 down"), "220 back"]}) as hop:
        routes = f'[[route]]\nhost = "127.0.0.1"\nport = {hop.port}\ntls = "none"\n'
        daemon = await asyncio.to_thread(
            start_daemon, tmp_path, authority, routes=routes, at_end=request.addfinalizer
        )
        await asyncio.to_thread(daemon.user, "ada", password, ["ada@example.org"])

        def submit() -> str:
            with Talk(daemon.submissions, daemon.ca) as talk:
                talk.say("EHLO client.example.org")
                assert talk.sign_in("ada", password).startswith("235")
                reply = talk.transaction(b"From: ada@example.org\r\n\r\ntext\r\n", "ada@example.org", "b@example.net")
            return reply.split()[-1]

        first = await asyncio.to_thread(submit)
        await asyncio.to_thread(daemon.wait_for, "delivery.deferred", queue_id=first)
        second = await asyncio.to_thread(submit)
        await asyncio.to_thread(daemon.wait_for, "delivery.deferred", queue_id=second)
        channel = await connect(paths.control_socket(daemon.run_dir))
        verbs = Operations(channel)
        async with asyncio.timeout(20):  # what is leased still is no retry's
            while any([(await verbs.show_message(queue_id)).leased for queue_id in (first, second)]):  # noqa: ASYNC110  # the daemon tells nobody
                await asyncio.sleep(0.02)
        shown = [(await verbs.show_message(queue_id)).recipients[0] for queue_id in (first, second)]
        assert [(each.attempts, each.last_attempt_at is not None) for each in shown] == [(1, True), (0, False)]
        assert hop.connections == 1
        assert await verbs.retry_messages(Filter(domain="example.net")) == sorted((first, second))
        channel.close()
        await hop.received(2)
        await asyncio.to_thread(daemon.wait_for, "next_hop.lifted")
        assert await asyncio.to_thread(daemon.stop) == 0
