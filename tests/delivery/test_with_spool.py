"""Delivery over the real spool: what is settled is gone, what is not comes back, also after a crash."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.delivery.conftest import make_settings, to_hop
from tests.delivery.memory import CONTENT, make_envelope
from tests.support.nexthop import Gate, NextHop

from pillarbox.delivery.scheduler import Scheduler
from pillarbox.delivery.settings import Route
from pillarbox.spool.base import Filter, State
from pillarbox.spool.embedded import EmbeddedSpool, open_spool
from pillarbox.spool.settings import EmbeddedSettings


@asynccontextmanager
async def spool_in(directory: Path) -> AsyncIterator[EmbeddedSpool]:
    spool = await open_spool(EmbeddedSettings(directory, min_free=0))
    try:
        yield spool
    finally:
        await spool.close()


@asynccontextmanager
async def delivering(spool: EmbeddedSpool, *routes: Route) -> AsyncIterator[Scheduler]:
    scheduler = Scheduler(spool, make_settings(*routes))
    run = asyncio.create_task(scheduler.run())
    try:
        yield scheduler
    finally:
        await scheduler.drain(10.0)
        await run


async def left(spool: EmbeddedSpool) -> dict[str, int]:
    return {state: count for state, count in (await spool.depth(time.time())).recipients.items() if count}


async def test_what_is_delivered_leaves_the_spool(tmp_path: Path) -> None:
    large = b"Subject: large\r\n\r\n" + b"0123456789abcdef\r\n" * 100_000
    async with spool_in(tmp_path) as spool, NextHop() as hop:
        async with delivering(spool, to_hop(hop)):
            for number in range(60):
                await spool.commit(make_envelope(f"r{number}@example.net"), CONTENT)
            envelope = make_envelope(content=large)
            writer = spool.writer(envelope.queue_id)
            for start in range(0, len(large), 100_000):
                await writer.write(large[start : start + 100_000])
            await writer.commit(envelope)
            await hop.received(61)
        assert await left(spool) == {}
    contents = [message.content for message in hop.messages]
    assert sorted(contents, key=len) == [CONTENT] * 60 + [large]
    assert len({message.forward_paths[0] for message in hop.messages}) == 61


async def test_bounce_is_committed_with_the_outcome_and_delivered(tmp_path: Path) -> None:
    async with spool_in(tmp_path) as spool, NextHop(rcpt={"no@example.net": "550 5.1.1 nobody"}) as hop:
        async with delivering(spool, to_hop(hop)):
            await spool.commit(make_envelope("no@example.net", "yes@example.net"), CONTENT)
            await hop.received(2)
        assert await left(spool) == {}
    assert [(message.reverse_path, message.forward_paths) for message in hop.messages] == [
        ("sender@example.org", ["yes@example.net"]),
        ("", ["sender@example.org"]),
    ]


async def test_bounce_that_fails_waits_for_the_operator(tmp_path: Path) -> None:
    async with spool_in(tmp_path) as spool, NextHop(script={"RCPT": "550 5.1.1 nobody"}) as hop:
        async with delivering(spool, to_hop(hop)):
            await spool.commit(make_envelope(), CONTENT)
            await hop.until(lambda: hop.verbs().count("RCPT") == 2)
        assert await left(spool) == {State.DEAD: 1}
        (message,) = await spool.list(Filter(), time.time(), 10)
        assert message.envelope.is_bounce


async def test_deferred_recipient_keeps_its_reply_and_its_time(tmp_path: Path) -> None:
    async with spool_in(tmp_path) as spool, NextHop(script={"DOT": "451 4.3.0 later"}) as hop:
        async with delivering(spool, to_hop(hop)):
            await spool.commit(make_envelope(), CONTENT)
            await hop.until(lambda: "DATA" in hop.verbs())
        (message,) = await spool.list(Filter(), time.time(), 10)
        (recipient,) = message.recipients
        assert recipient.attempts == 1
        assert recipient.last_reply == "451 4.3.0 later"
        assert 50 < recipient.due_at - time.time() < 70


async def test_attempt_cut_off_before_its_settlement_is_made_again(tmp_path: Path) -> None:
    event = asyncio.Event()
    async with NextHop(script={"DOT": [Gate(event, "250 ok"), "250 ok"]}) as hop:
        async with spool_in(tmp_path) as spool:
            await spool.commit(make_envelope(), CONTENT)
            scheduler = Scheduler(spool, make_settings(to_hop(hop)))
            run = asyncio.create_task(scheduler.run())
            await hop.until(lambda: hop.at_gate == 1)
            await scheduler.drain(0.0)
            await run
        event.set()
        async with spool_in(tmp_path) as spool:
            async with delivering(spool, to_hop(hop)):
                await hop.until(lambda: hop.verbs().count("DATA") == 2)
            assert await left(spool) == {}
    assert hop.messages[-1].content == CONTENT
