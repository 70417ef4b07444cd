"""Recipients that the next hop refuses are bounced alone, the others go on; what it defers is tried again."""

import asyncio
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.nexthop import NextHop
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario

CONTENT = b"From: ada@example.org\r\nSubject: to several\r\n\r\ntext\r\n"


def submit(daemon: RunningDaemon, password: str, *forward_paths: str) -> None:
    """Ada sends one message."""
    with Talk(daemon.submissions, daemon.ca) as talk:
        talk.say("EHLO client.example.org")
        assert talk.sign_in("ada", password).startswith("235")
        assert talk.transaction(CONTENT, "ada@example.org", *forward_paths).startswith("250")


async def start(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, hop: NextHop, password: str
) -> RunningDaemon:
    """A daemon whose mail goes to ``hop``."""
    routes = f'[[route]]\nhost = "127.0.0.1"\nport = {hop.port}\ntls = "none"\n'
    extra = '[delivery]\nretry = ["1s"]\n'
    daemon = await asyncio.to_thread(
        start_daemon, tmp_path, authority, routes=routes, extra=extra, at_end=request.addfinalizer
    )
    await asyncio.to_thread(daemon.user, "ada", password, ["ada@example.org"])
    return daemon


async def test_refused_recipients_are_bounced_alone(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, password: str
) -> None:
    async with NextHop(rcpt={"no@elsewhere.example": "550 5.1.1 nobody here"}) as hop:
        daemon = await start(tmp_path, authority, request, hop, password)
        await asyncio.to_thread(submit, daemon, password, "bob@elsewhere.example", "no@elsewhere.example")
        await hop.received(2)
        (message,) = [each for each in hop.messages if b"multipart/report" not in each.content]
        (bounce,) = [each for each in hop.messages if b"multipart/report" in each.content]
        assert message.content.endswith(CONTENT)
        assert message.forward_paths == ["bob@elsewhere.example"]
        assert bounce.reverse_path == ""
        assert bounce.forward_paths == ["ada@example.org"]
        assert b"5.1.1" in bounce.content and b"no@elsewhere.example" in bounce.content
        assert b"bob@elsewhere.example" not in bounce.content
        assert await asyncio.to_thread(daemon.stop) == 0


async def test_what_is_deferred_is_tried_again_and_arrives(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, password: str
) -> None:
    async with NextHop(script={"MAIL": ["451 4.3.0 later", "250 2.1.0 ok"]}) as hop:
        daemon = await start(tmp_path, authority, request, hop, password)
        await asyncio.to_thread(submit, daemon, password, "bob@elsewhere.example")
        await asyncio.to_thread(daemon.wait_for, "delivery.deferred")
        await hop.received(1, 60)
        assert hop.messages[0].content.endswith(CONTENT)
        await asyncio.to_thread(daemon.wait_for, "delivery.delivered")
        assert await asyncio.to_thread(daemon.stop) == 0
