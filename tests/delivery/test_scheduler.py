"""The loop as a whole: leases in, outcomes out, over real sockets and an outbox in memory."""

import asyncio
from dataclasses import replace

import pytest
from tests.delivery.conftest import Start, make_settings, to_hop
from tests.delivery.memory import CONTENT, MemoryOutbox, make_envelope
from tests.support.nexthop import Gate, NextHop

from pillarbox.delivery import scheduler as schedulers
from pillarbox.delivery.scheduler import Scheduler
from pillarbox.message.envelope import Envelope
from pillarbox.spool.base import Deferred, Delivered, LeaseLost, Unavailable

# -- delivered


async def test_message_is_delivered_and_settled_once(
    outbox: MemoryOutbox, start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    async with NextHop() as hop:
        ident = outbox.commit(make_envelope("a@one.test", "b@two.test"))
        await start(to_hop(hop))
        await outbox.settled(1)
    taken = Delivered("250 2.0.0 taken as 1", f"127.0.0.1:{hop.port}")
    assert outbox.of(ident) == {"a@one.test": taken, "b@two.test": taken}
    assert len(hop.messages) == 1
    assert hop.messages[0].content == CONTENT
    assert outbox.waiting[ident] == {}
    lines = [line for line in capfd.readouterr().out.splitlines() if "delivery.delivered" in line]
    assert len(lines) == 2
    for word in (ident, "recipient=a@one.test", f"127.0.0.1:{hop.port}", "250 2.0.0 taken as 1"):
        assert word in lines[0]


async def test_recipients_of_several_next_hops_are_settled_together(outbox: MemoryOutbox, start: Start) -> None:
    async with NextHop() as one, NextHop(script={"DOT": "451 4.3.0 later"}) as two:
        ident = outbox.commit(make_envelope("a@one.test", "b@two.test", "c@one.test"))
        await start(to_hop(one, "one.test"), to_hop(two))
        await outbox.settled(1)
    assert [message.forward_paths for message in one.messages] == [["a@one.test", "c@one.test"]]
    outcomes = outbox.of(ident)
    assert isinstance(outcomes["a@one.test"], Delivered)
    assert isinstance(outcomes["b@two.test"], Deferred)
    assert len(outbox.settlements) == 1
    assert list(outbox.waiting[ident]) == [1]


async def test_messages_that_come_later_are_seen(outbox: MemoryOutbox, start: Start) -> None:
    async with NextHop() as hop:
        await start(to_hop(hop))
        for number in range(3):
            outbox.commit(make_envelope())
            await outbox.settled(number + 1)
    assert len(hop.messages) == 3


# -- the spool in trouble


async def test_settlement_is_repeated_until_the_spool_takes_it_and_nothing_new_is_sent_meanwhile(
    outbox: MemoryOutbox, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedulers, "FIRST_REPEAT", 0.01)
    outbox.settle_errors = [Unavailable("disk full")] * 5
    async with NextHop() as hop:
        outbox.commit(make_envelope())
        await start(to_hop(hop))
        await outbox.until(lambda: len(outbox.settle_errors) <= 2)
        outbox.commit(make_envelope())
        assert len(hop.messages) == 1
        await outbox.until(lambda: not outbox.settle_errors)
        assert len(hop.messages) == 1
        await outbox.settled(2)
    assert len(hop.messages) == 2


def of_cell(name: str) -> Envelope:
    envelope = make_envelope()
    return replace(envelope, queue_id=f"{envelope.queue_id}-{name}")


async def test_a_cell_that_is_away_with_an_unsettled_message_delays_nothing_of_another_cell(
    outbox: MemoryOutbox, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedulers, "LONGEST_REPEAT", 0.1)
    gate = asyncio.Event()
    async with NextHop(script={"DOT": [Gate(gate, "250 2.0.0 taken"), "250 2.0.0 taken"]}) as hop:
        outbox.commit(of_cell("a"))
        await start(to_hop(hop, concurrency=1), cells=("a", "b"))
        await hop.until(lambda: hop.at_gate == 1)
        outbox.commit(of_cell("b"))  # in whose time the settlement of the first fails
        queued = outbox.commit(of_cell("a"))  # lent, and behind them in the hop's queue
        await outbox.until(lambda: queued in outbox.lent)
        outbox.away = {"a"}
        gate.set()
        await outbox.settled(1)
        outbox.commit(of_cell("b"))
        await outbox.settled(2)
        assert [each.queue_id[26:] for each in outbox.settlements] == ["-b", "-b"]
        assert len(hop.messages) == 3  # nothing of the cell that is away
        outbox.away = set()
        await outbox.settled(4)
    assert len(hop.messages) == 4


async def test_what_waits_for_its_cell_is_given_back_when_the_worker_is_drained(
    outbox: MemoryOutbox, start: Start
) -> None:
    gate = asyncio.Event()
    async with NextHop(script={"DOT": [Gate(gate, "250 2.0.0 taken"), "250 2.0.0 taken"]}) as hop:
        outbox.commit(of_cell("a"))
        scheduler = await start(to_hop(hop, concurrency=1), cells=("a", "b"))
        await hop.until(lambda: hop.at_gate == 1)
        outbox.commit(of_cell("b"))
        queued = outbox.commit(of_cell("a"))
        await outbox.until(lambda: queued in outbox.lent)
        outbox.away = {"a"}
        gate.set()
        await outbox.settled(1)
        outbox.commit(of_cell("b"))
        await outbox.settled(2)
        await scheduler.drain(0.2)
    assert [lease.envelope.queue_id for lease in outbox.released] == [queued]
    assert len(hop.messages) == 3


async def test_lost_lease_settles_nothing_and_the_loop_goes_on(
    outbox: MemoryOutbox, start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    outbox.settle_errors = [LeaseLost("taken over")]
    async with NextHop() as hop:
        outbox.commit(make_envelope())
        await start(to_hop(hop))
        await outbox.until(lambda: not outbox.settle_errors)
        outbox.commit(make_envelope("b@example.net"))
        await outbox.settled(1)
    assert "delivery.lease_lost" in capfd.readouterr().out


async def test_spool_that_cannot_lend_is_waited_for_and_said_once(
    outbox: MemoryOutbox, start: Start, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(schedulers, "FIRST_REPEAT", 0.01)
    outbox.lease_errors = [Unavailable("restarting")] * 3
    async with NextHop() as hop:
        outbox.commit(make_envelope())
        await start(to_hop(hop))
        await outbox.settled(1)
    said = capfd.readouterr().out
    assert said.count("delivery.paused") == 1
    assert said.count("delivery.resumed") == 1


async def test_fault_of_our_own_defers_and_the_next_one_is_served(
    outbox: MemoryOutbox, start: Start, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async with NextHop() as hop:
        # a path that no line can carry: it cannot get past submission, and must not stop anything if it does
        ident = outbox.commit(make_envelope("evil\r\nRCPT TO:<x@example.net"))
        await start(to_hop(hop))
        await outbox.settled(1)
        fine = outbox.commit(make_envelope())
        await outbox.settled(2)
    (outcome,) = outbox.of(ident).values()
    assert isinstance(outcome, Deferred)
    assert outcome.reason == "4.3.0 internal error"
    assert isinstance(outbox.of(fine)["to@example.net"], Delivered)
    assert "delivery.crashed" in capfd.readouterr().out
    assert len(hop.messages) == 1


# -- drain and reload


async def test_drain_finishes_the_transactions_in_hand_and_gives_the_rest_back(outbox: MemoryOutbox) -> None:
    event = asyncio.Event()
    async with NextHop(script={"DOT": Gate(event, "250 2.0.0 ok")}) as hop:
        for _ in range(20):
            outbox.commit(make_envelope())
        scheduler = Scheduler(outbox, make_settings(to_hop(hop, concurrency=2)))
        run = asyncio.create_task(scheduler.run())
        await hop.until(lambda: hop.at_gate == 2)
        drain = asyncio.create_task(scheduler.drain(20.0))
        await outbox.until(lambda: len(outbox.released) == 18)
        assert not drain.done()
        assert not run.done()
        outbox.commit(make_envelope())
        event.set()
        await drain
        await run
        await hop.until(lambda: hop.open_now == 0)
    assert len(hop.messages) == 2
    assert len(outbox.settlements) == 2
    assert all(isinstance(outcome, Delivered) for _, _, outcome in outbox.history)
    assert outbox.leased == {}
    assert hop.verbs(1)[-1] == "QUIT"


async def test_drain_cuts_what_does_not_end_in_time_and_settles_nothing_of_it(
    outbox: MemoryOutbox, capfd: pytest.CaptureFixture[str]
) -> None:
    event = asyncio.Event()
    async with NextHop(script={"DOT": Gate(event, "250 ok")}) as hop:
        outbox.commit(make_envelope())
        scheduler = Scheduler(outbox, make_settings(to_hop(hop)))
        run = asyncio.create_task(scheduler.run())
        await hop.until(lambda: hop.at_gate == 1)
        await scheduler.drain(0.05)
        await run
        event.set()
    assert outbox.settlements == []
    assert "delivery.cut_short" in capfd.readouterr().out


async def test_idle_scheduler_drains_at_once(outbox: MemoryOutbox) -> None:
    async with NextHop() as hop:
        scheduler = Scheduler(outbox, make_settings(to_hop(hop), idle_connection=600.0))
        run = asyncio.create_task(scheduler.run())
        outbox.commit(make_envelope())
        await outbox.settled(1)
        await asyncio.wait_for(scheduler.drain(600.0), 20.0)
        await run
        await hop.until(lambda: hop.open_now == 0)


async def test_reload_sends_what_comes_later_over_the_new_route(outbox: MemoryOutbox, start: Start) -> None:
    event = asyncio.Event()
    async with NextHop(script={"DOT": Gate(event, "250 ok")}) as old, NextHop() as new:
        scheduler = await start(to_hop(old))
        outbox.commit(make_envelope())
        await old.until(lambda: old.at_gate == 1)
        scheduler.apply(make_settings(to_hop(new)))
        outbox.commit(make_envelope())
        await new.received(1)
        event.set()
        await outbox.settled(2)
        await old.until(lambda: old.open_now == 0)
    assert (len(old.messages), len(new.messages)) == (1, 1)


async def test_reload_gives_a_site_a_route_of_its_own_for_what_waits_as_well(
    outbox: MemoryOutbox, start: Start
) -> None:
    """Also for what was queued before sites waited apart: their lane is the domain alone."""
    async with NextHop(script={"RCPT": ["450 later", "450 later", "250 ok"]}) as old, NextHop() as new:
        scheduler = await start(to_hop(old))
        sent = [outbox.commit(make_envelope("to@example.net", site=site)) for site in ("a", "b")]
        await outbox.settled(2)
        for recipients in outbox.waiting.values():
            recipients[0] = replace(recipients[0], lane="example.net")
        scheduler.apply(make_settings(to_hop(old), to_hop(new, sites=("b",))))
        outbox.make_due()
        await outbox.settled(4)
        assert [type(outbox.of(each)["to@example.net"]) for each in sent] == [Delivered] * 2, outbox.history
        assert [len(hop.messages) for hop in (old, new)] == [1, 1]


async def test_reload_lets_idle_connections_go(outbox: MemoryOutbox, start: Start) -> None:
    async with NextHop() as hop:
        scheduler = await start(to_hop(hop), idle_connection=600.0)
        outbox.commit(make_envelope())
        await outbox.settled(1)
        scheduler.apply(make_settings(to_hop(hop)))
        await hop.until(lambda: hop.open_now == 0)
        outbox.commit(make_envelope())
        await outbox.settled(2)
    assert hop.connections == 2
