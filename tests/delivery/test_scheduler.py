"""The loop as a whole: leases in, outcomes and bounces out, over real sockets and an outbox in memory."""

import asyncio
import email
import email.policy
import time
from email.message import EmailMessage
from pathlib import Path
from typing import cast

import pytest
from tests.delivery.conftest import Start, make_settings, to_hop
from tests.delivery.memory import CONTENT, MemoryOutbox, make_envelope
from tests.support.nexthop import DROP, Gate, Last, NextHop

from pillarbox.delivery import pool as pools
from pillarbox.delivery import scheduler as schedulers
from pillarbox.delivery.scheduler import Scheduler
from pillarbox.delivery.settings import MaildirRoute, SmarthostRoute, TlsMode
from pillarbox.spool.base import Deferred, Delivered, Failed, LeaseLost, State, Unavailable

HOUR = 3600.0


def parse(content: bytes) -> EmailMessage:
    return email.message_from_bytes(content, policy=email.policy.SMTP)


async def dead_port() -> int:
    """A port that refuses connections."""
    async with NextHop() as hop:
        return hop.port


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
        assert frozenset({"dead.test"}) in outbox.skips


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


# -- deferred, expired, told


async def test_reply_and_schedule_of_a_deferral(outbox: MemoryOutbox, start: Start) -> None:
    async with NextHop(rcpt={"busy@example.net": "450 4.2.1 busy"}) as hop:
        ident = outbox.commit(make_envelope("busy@example.net", "ok@example.net"))
        await start(to_hop(hop), retry=(100.0, 5000.0))
        for attempt, (least, most) in enumerate([(99, 111), (4999, 5501), (4999, 5501)]):
            await outbox.settled(attempt + 1)
            outcome = outbox.of(ident)["busy@example.net"]
            assert isinstance(outcome, Deferred)
            assert outcome.reason == "450 4.2.1 busy"
            assert least < outcome.due_at - time.time() < most
            outbox.make_due()
        assert len(hop.messages) == 1
    assert outbox.bounces() == []


async def test_failed_recipients_share_one_bounce(outbox: MemoryOutbox, start: Start) -> None:
    rcpt = {"no@example.net": "550 5.1.1 nobody", "full@example.net": "552 5.2.2 full"}
    async with NextHop(rcpt=rcpt) as hop:
        original = make_envelope("no@example.net", "yes@example.net", "full@example.net", site="example")
        ident = outbox.commit(original)
        await start(to_hop(hop), postmaster="postmaster@pillar.test")
        await outbox.settled(2)
    assert isinstance(outbox.of(ident)["yes@example.net"], Delivered)
    ((envelope, content),) = outbox.bounces()
    assert envelope.reverse_path == ""
    assert envelope.is_bounce
    assert envelope.forward_paths == ("sender@example.org",)
    assert envelope.size == len(content)
    assert envelope.site == "example"
    report = parse(content)
    assert report["From"] == "Mail Delivery System <postmaster@pillar.test>"
    assert report.get_content_type() == "multipart/report"
    words, status, header = report.iter_parts()
    blocks = cast(list[EmailMessage], status.get_payload())
    assert [block["Final-Recipient"] for block in blocks[1:]] == [
        "rfc822; no@example.net",
        "rfc822; full@example.net",
    ]
    assert [block["Status"] for block in blocks[1:]] == ["5.1.1", "5.2.2"]
    assert "550 5.1.1 nobody" in words.get_content()
    assert "Subject: hello" in header.get_content()
    # and it is delivered like any other message
    assert [message.reverse_path for message in hop.messages] == ["sender@example.org", ""]
    assert hop.messages[1].content == content


async def test_bounce_that_fails_is_dead_and_makes_no_bounce(
    outbox: MemoryOutbox, start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    async with NextHop(script={"RCPT": "550 5.1.1 nobody"}) as hop:
        outbox.commit(make_envelope())
        await start(to_hop(hop))
        await outbox.settled(2)
        ((envelope, _),) = outbox.bounces()
        assert isinstance(outbox.of(envelope.queue_id)["sender@example.org"], Failed)
        assert outbox.waiting[envelope.queue_id][0].state is State.DEAD
    assert len(outbox.settlements) == 2
    assert "bounce.died" in capfd.readouterr().out


async def test_read_receipt_that_fails_is_dropped_and_the_log_says_so(
    outbox: MemoryOutbox, start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    async with NextHop(script={"RCPT": "550 5.1.1 nobody"}) as hop:
        ident = outbox.commit(make_envelope(reverse_path=""))
        await start(to_hop(hop))
        await outbox.settled(1)
    assert outbox.waiting[ident] == {}
    assert outbox.bounces() == []
    said = [line for line in capfd.readouterr().out.splitlines() if "delivery.dropped" in line]
    assert len(said) == 1
    assert ident in said[0]


async def test_expired_recipient_fails_with_the_last_reason(outbox: MemoryOutbox, start: Start) -> None:
    async with NextHop(rcpt={"a@example.net": "450 4.2.1 busy"}) as hop:
        ident = outbox.commit(make_envelope("a@example.net", received_at=time.time() - 6 * 24 * HOUR))
        await start(to_hop(hop))
        await outbox.settled(1)
        outcome = outbox.of(ident)["a@example.net"]
        assert isinstance(outcome, Failed)
        assert outcome.status == "4.4.7"
        assert outcome.reason == "4.4.7 delivery time expired; the last try: 450 4.2.1 busy"
        assert len(outbox.bounces()) == 1


async def test_delay_warning_is_sent_once(outbox: MemoryOutbox, start: Start) -> None:
    rcpt = {"slow@example.net": "450 4.2.1 busy", "slow2@example.net": "450 4.2.1 busy"}
    async with NextHop(rcpt=rcpt) as hop:
        paths = ("slow@example.net", "ok@example.net", "slow2@example.net")
        outbox.commit(make_envelope(*paths, received_at=time.time() - 5 * HOUR))
        await start(to_hop(hop))
        await outbox.settled(2)  # the message, then its warning
        assert outbox.settlements[0].warned == {0, 2}
        ((envelope, content),) = outbox.bounces()
        assert envelope.is_bounce
        report = parse(content)
        status = list(report.iter_parts())[1]
        blocks = cast(list[EmailMessage], status.get_payload())
        assert [block["Action"] for block in blocks[1:]] == ["delayed", "delayed"]
        assert [block["Status"] for block in blocks[1:]] == ["4.2.1", "4.2.1"]
        outbox.make_due()
        await outbox.settled(3)
        assert outbox.settlements[2].warned == frozenset()
    assert len(outbox.bounces()) == 1


@pytest.mark.parametrize("changes", [{"reverse_path": ""}, {"reverse_path": "", "is_bounce": True}])
async def test_no_delay_warning_where_nobody_can_be_told(
    outbox: MemoryOutbox, start: Start, changes: dict[str, object]
) -> None:
    async with NextHop(script={"RCPT": "450 4.2.1 busy"}) as hop:
        outbox.commit(make_envelope(received_at=time.time() - 5 * HOUR, **changes))  # type: ignore[arg-type]  # shorthand
        await start(to_hop(hop))
        await outbox.settled(1)
    assert outbox.settlements[0].warned == frozenset()
    assert outbox.bounces() == []


async def test_bounce_of_a_large_message_returns_its_header_only(start: Start, outbox: MemoryOutbox) -> None:
    outbox.inline = False
    content = b"Subject: large\r\nX-Long: " + b"y" * 500 + b"\r\n\r\n" + b"body secret line\r\n" * 50_000
    async with NextHop(script={"RCPT": ["550 5.1.1 nobody", "250 ok"]}) as hop:
        outbox.commit(make_envelope(content=content), content)
        await start(to_hop(hop))
        await outbox.settled(2)
    ((_, report),) = outbox.bounces()
    assert b"Subject: large" in report
    assert b"body secret line" not in report


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


# -- maildir


async def test_maildir_gets_the_message_and_nothing_is_left_behind(
    outbox: MemoryOutbox, start: Start, tmp_path: Path
) -> None:
    for inline in (True, False):
        outbox.inline = inline
        folder = tmp_path / str(inline)
        ident = outbox.commit(make_envelope("a@example.net", "b@example.net"))
        scheduler = await start(MaildirRoute(("*",), folder))
        await outbox.until(lambda ident=ident: len(outbox.of(ident)) == 2)  # type: ignore[misc]  # bound per round
        await scheduler.drain(5.0)
        (path,) = (folder / "new").iterdir()
        assert path.read_bytes() == b"Return-Path: <sender@example.org>\r\n" + CONTENT
        assert path.stat().st_mode & 0o777 == 0o600
        assert list((folder / "tmp").iterdir()) == []
        outcome = outbox.of(ident)["b@example.net"]
        assert outcome == Delivered(f"250 2.0.0 written as {path.name}", f"maildir:{folder}")


async def test_maildir_that_cannot_be_written_defers(outbox: MemoryOutbox, start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    ident = outbox.commit(make_envelope())
    await start(MaildirRoute(("*",), tmp_path / "file"))
    await outbox.settled(1)
    outcome = outbox.of(ident)["to@example.net"]
    assert isinstance(outcome, Deferred)
    assert outcome.reason == f"4.3.0 maildir:{tmp_path}/file: Not a directory"


async def test_maildir_delivers_nothing_when_the_lease_is_lost(
    outbox: MemoryOutbox, start: Start, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    outbox.holds = False
    outbox.commit(make_envelope())
    await start(MaildirRoute(("*",), tmp_path))
    await outbox.until(lambda: bool(outbox.released))
    assert list((tmp_path / "new").iterdir()) == []
    assert list((tmp_path / "tmp").iterdir()) == []
    outbox.holds = True
    await outbox.settled(1)
    assert "delivery.stopped" in capfd.readouterr().out


async def test_domains_of_one_route_share_its_connections(outbox: MemoryOutbox, start: Start) -> None:
    async with NextHop() as hop:
        await start(to_hop(hop, "one.test", "two.test"))
        for number, domain in enumerate(("one.test", "two.test", "one.test")):
            outbox.commit(make_envelope(f"a@{domain}"))
            await outbox.settled(number + 1)
    assert hop.connections == 1
