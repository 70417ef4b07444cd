"""Next hops: their connections, kept and counted, and what happens when one fails; over real sockets."""

import asyncio
import time

import pytest
from tests.delivery.conftest import Start, make_settings, to_hop
from tests.delivery.memory import MemoryOutbox, make_envelope
from tests.support.nexthop import DROP, Gate, Last, NextHop

from pillarbox.delivery import pool as pools
from pillarbox.delivery.settings import SmarthostRoute, TlsMode
from pillarbox.spool.base import Deferred, Delivered


async def dead_port() -> int:
    """A port that refuses connections."""
    async with NextHop() as hop:
        return hop.port


# -- connections


async def test_connection_is_reused(outbox: MemoryOutbox, start: Start) -> None:
    async with NextHop() as hop:
        await start(to_hop(hop, concurrency=1))
        for _ in range(30):
            outbox.commit(make_envelope())
        await outbox.settled(30)
        outbox.commit(make_envelope())
        await outbox.settled(31)
    assert len(hop.messages) == 31
    assert hop.connections == 1
    assert hop.verbs().count("EHLO") == 1
    assert "RSET" not in hop.verbs()


async def test_connection_is_left_after_so_many_messages(outbox: MemoryOutbox, start: Start) -> None:
    async with NextHop() as hop:
        for _ in range(10):
            outbox.commit(make_envelope())
        await start(to_hop(hop, concurrency=1), messages_per_connection=4)
        await outbox.settled(10)
        await hop.until(lambda: hop.verbs().count("QUIT") >= 2)
    assert hop.connections == 3
    assert hop.verbs(1).count("MAIL") == 4
    assert hop.verbs(1)[-1] == "QUIT"


async def test_idle_connection_is_closed_politely(outbox: MemoryOutbox, start: Start) -> None:
    async with NextHop() as hop:
        outbox.commit(make_envelope())
        await start(to_hop(hop), idle_connection=0.05)
        await outbox.settled(1)
        await hop.until(lambda: hop.open_now == 0)
        assert hop.verbs()[-1] == "QUIT"
        outbox.commit(make_envelope())
        await outbox.settled(2)
    assert hop.connections == 2


async def test_concurrency_of_a_next_hop_is_kept_and_used(outbox: MemoryOutbox, start: Start) -> None:
    event = asyncio.Event()
    async with NextHop(script={"DOT": Gate(event, "250 2.0.0 ok")}) as hop:
        for _ in range(40):
            outbox.commit(make_envelope())
        await start(to_hop(hop, concurrency=3))
        await hop.until(lambda: hop.at_gate == 3)
        event.set()
        await outbox.settled(40)
    assert hop.most_in_transaction == 3
    assert hop.most_open == 3
    assert len(hop.messages) == 40


async def test_connections_of_all_next_hops_together_are_limited_and_idle_ones_make_room(
    outbox: MemoryOutbox, start: Start
) -> None:
    async with NextHop() as one, NextHop() as two, NextHop() as three:
        hops = {"one.test": one, "two.test": two, "three.test": three}
        await start(*(to_hop(hop, domain) for domain, hop in hops.items()), concurrency=2, idle_connection=600.0)
        for number, domain in enumerate((*hops, *hops)):
            outbox.commit(make_envelope(f"a@{domain}"))
            await outbox.settled(number + 1)
            assert sum(hop.open_now for hop in hops.values()) <= 3  # one may still be saying goodbye
    assert [len(hop.messages) for hop in hops.values()] == [2, 2, 2]


async def test_busy_next_hop_gives_a_connection_up_for_another(outbox: MemoryOutbox, start: Start) -> None:
    async with NextHop() as busy, NextHop() as other:
        for _ in range(300):
            outbox.commit(make_envelope("a@busy.test"))
        outbox.commit(make_envelope("a@other.test"))
        await start(to_hop(busy, "busy.test", concurrency=4), to_hop(other), concurrency=4)
        await other.received(1)
        await outbox.settled(301)
    assert len(busy.messages) == 300


async def test_connection_that_was_closed_while_idle_costs_no_attempt(outbox: MemoryOutbox, start: Start) -> None:
    for how in (DROP, Last("421 4.4.2 idle for too long")):
        before = len(outbox.settlements)
        async with NextHop(script={"MAIL": ["250 ok", how, "250 ok"]}) as hop:
            scheduler = await start(to_hop(hop, concurrency=1))
            for number in range(2):
                outbox.commit(make_envelope())
                await outbox.settled(before + number + 1)
            await scheduler.drain(5.0)
            assert hop.connections == 2
            assert len(hop.messages) == 2
    assert all(isinstance(outcome, Delivered) for _, _, outcome in outbox.history)


async def test_fresh_connection_that_ends_at_mail_defers(outbox: MemoryOutbox, start: Start) -> None:
    async with NextHop(script={"MAIL": DROP}) as hop:
        ident = outbox.commit(make_envelope())
        await start(to_hop(hop))
        await outbox.settled(1)
    assert isinstance(outbox.of(ident)["to@example.net"], Deferred)
    assert hop.connections == 1


# -- next hops that fail


async def test_dead_next_hop_is_tried_once_not_by_each_message(outbox: MemoryOutbox, start: Start) -> None:
    async with NextHop(script={"CONNECT": Last("421 4.3.2 closed")}) as hop:
        idents = [outbox.commit(make_envelope()) for _ in range(50)]
        await start(to_hop(hop))
        await outbox.settled(50)
        idents += [outbox.commit(make_envelope()) for _ in range(20)]
        await outbox.settled(70)
    assert hop.connections == 1
    now = time.time()
    due = []
    for ident in idents:
        outcome = outbox.of(ident)["to@example.net"]
        assert isinstance(outcome, Deferred)
        assert outcome.reason == "4.3.2 the next hop does not greet: 421 4.3.2 closed"
        assert outcome.due_at > now + pools.FIRST_PAUSE - 10
        due.append(outcome.due_at)
    assert len(set(due)) > 50  # spread


async def test_deferral_is_not_due_before_the_pause_of_its_next_hop_ends(outbox: MemoryOutbox, start: Start) -> None:
    route = SmarthostRoute(("*",), "127.0.0.1", await dead_port(), tls=TlsMode.NONE)
    ident = outbox.commit(make_envelope())
    began = time.time()
    await start(route, retry=(1.0,))
    await outbox.settled(1)
    outcome = outbox.of(ident)["to@example.net"]
    assert isinstance(outcome, Deferred)
    assert outcome.reason.startswith("4.4.1 connecting: ")
    assert began + pools.FIRST_PAUSE <= outcome.due_at <= time.time() + pools.FIRST_PAUSE + 10


async def test_next_hop_that_comes_back_is_used_after_its_pause(
    outbox: MemoryOutbox, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "FIRST_PAUSE", 0.0)
    async with NextHop(script={"CONNECT": [DROP, DROP, "220 back"]}) as hop:
        ident = outbox.commit(make_envelope())
        await start(to_hop(hop))
        for number in range(2):
            await outbox.settled(number + 1)
            assert isinstance(outbox.of(ident)["to@example.net"], Deferred)
            outbox.make_due()
        await outbox.settled(3)
    assert isinstance(outbox.of(ident)["to@example.net"], Delivered)


async def test_lifted_suspension_is_a_connection_at_once_and_a_failure_then_begins_with_the_first_pause(
    outbox: MemoryOutbox, start: Start
) -> None:
    async with NextHop(script={"CONNECT": [DROP, DROP, "220 back"]}) as hop:
        ident = outbox.commit(make_envelope())
        scheduler = await start(to_hop(hop), retry=(1.0,))
        for number in range(1, 3):
            await outbox.settled(number)
            assert hop.connections == number
            assert outbox.waiting[ident][0].due_at <= time.time() + pools.FIRST_PAUSE + 10
            scheduler.lift_suspensions()
            outbox.make_due()
        await outbox.settled(3)
    assert isinstance(outbox.of(ident)["to@example.net"], Delivered)


async def test_what_a_suspension_answers_was_not_tried_and_waits_no_longer_the_next_time(
    outbox: MemoryOutbox, start: Start
) -> None:
    async with NextHop(script={"CONNECT": DROP}) as hop:
        tried = outbox.commit(make_envelope())
        await start(to_hop(hop))
        await outbox.settled(1)
        new = outbox.commit(make_envelope())
        await outbox.settled(2)
        for settled in (4, 6, 8):
            outbox.make_due()
            await outbox.settled(settled)
    assert hop.connections == 1
    assert outbox.waiting[tried][0].attempts == 1
    assert outbox.waiting[new][0].attempts == 0
    for ident in (tried, new):
        outcome = outbox.of(ident)["to@example.net"]
        assert isinstance(outcome, Deferred)
        assert not outcome.tried
        assert outcome.due_at < time.time() + 1.1 * 60 + 1  # as after the first failure


async def test_dead_next_hop_does_not_delay_another(outbox: MemoryOutbox, start: Start) -> None:
    event = asyncio.Event()
    async with NextHop(script={"CONNECT": Gate(event, "220 at last")}) as dead, NextHop() as alive:
        for _ in range(500):
            outbox.commit(make_envelope("a@dead.test"))
        for _ in range(50):
            outbox.commit(make_envelope("a@alive.test"))
        await start(to_hop(dead, "dead.test", concurrency=2), to_hop(alive))
        await alive.received(50)
        assert dead.messages == []
        assert dead.connections == 1
        event.set()
        await outbox.settled(550)
    assert len(dead.messages) == 500


async def test_domains_of_a_suspended_next_hop_come_last(outbox: MemoryOutbox, start: Start) -> None:
    async with NextHop() as alive:
        dead = SmarthostRoute(("dead.test",), "127.0.0.1", await dead_port(), tls=TlsMode.NONE)
        outbox.commit(make_envelope("a@dead.test"))
        await start(dead, to_hop(alive))
        await outbox.settled(1)
        for _ in range(150):
            outbox.commit(make_envelope("a@dead.test"))
        last = outbox.commit(make_envelope("a@alive.test"))
        await outbox.settled(152)
        assert outbox.lent.index(last) == 1  # committed behind 150 others, lent before them
        assert len(alive.messages) == 1
        assert frozenset({"dead.test example"}) in outbox.skips


async def test_a_site_whose_own_next_hop_is_dead_holds_no_other_up(outbox: MemoryOutbox, start: Start) -> None:
    """The same domain, by routes of two sites."""
    async with NextHop() as alive:
        dead = SmarthostRoute(("*",), "127.0.0.1", await dead_port(), tls=TlsMode.NONE, sites=("a",))
        outbox.commit(make_envelope("x@big.test", site="a"))
        await start(dead, to_hop(alive, sites=("b",)))
        await outbox.settled(1)
        for _ in range(150):
            outbox.commit(make_envelope("x@big.test", site="a"))
        last = outbox.commit(make_envelope("x@big.test", site="b"))
        nobody_s = outbox.commit(make_envelope("x@big.test", site="c"))
        await outbox.settled(153)
        assert outbox.lent.index(last) < 3, "committed behind 150 others, lent before them"
        assert isinstance(outbox.of(last)["x@big.test"], Delivered)
        outcome = outbox.of(nobody_s)["x@big.test"]
        assert isinstance(outcome, Deferred) and "no route" in outcome.reason
        assert len(alive.messages) == 1
        assert frozenset({"big.test a"}) in outbox.skips


async def test_next_hop_that_takes_no_more_connections_is_used_with_those_it_takes(
    outbox: MemoryOutbox, start: Start
) -> None:
    async with NextHop(script={"CONNECT": ["220 one", "220 two", Last("421 4.7.0 too many connections")]}) as hop:
        for _ in range(60):
            outbox.commit(make_envelope())
        await start(to_hop(hop, concurrency=10))
        await outbox.settled(60)
    assert all(isinstance(outcome, Delivered) for _, _, outcome in outbox.history)
    assert len(hop.messages) == 60
    assert 3 <= hop.connections <= 12


async def test_domain_without_a_route_waits_for_one(outbox: MemoryOutbox, start: Start) -> None:
    async with NextHop() as hop:
        ident = outbox.commit(make_envelope("a@nowhere.test", "b@one.test"))
        scheduler = await start(to_hop(hop, "one.test"))
        await outbox.settled(1)
        outcome = outbox.of(ident)["a@nowhere.test"]
        assert isinstance(outcome, Deferred)
        assert outcome.reason == "4.4.4 no route leads to this domain"
        assert isinstance(outbox.of(ident)["b@one.test"], Delivered)
        scheduler.apply(make_settings(to_hop(hop)))
        outbox.make_due()
        await outbox.settled(2)
        assert isinstance(outbox.of(ident)["a@nowhere.test"], Delivered)
