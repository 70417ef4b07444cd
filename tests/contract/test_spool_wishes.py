"""What spool.base promises of an envelope's wishes, over each implementation: kept, and heeded in time and order."""

import asyncio
from dataclasses import fields, replace
from typing import Any

import pytest
from tests.spool.messages import LATER, NOW, Clock, envelope, lanes, read_all, settlement, wishful

from pillarbox.spool.base import (
    INLINE_LIMIT,
    Deferred,
    Delivered,
    Filter,
    Lease,
    NewMessage,
    QueueIdTaken,
    Spool,
    State,
    is_future,
)


def test_the_wishful_envelope_has_no_field_at_its_default() -> None:
    """A field that is added to the envelope must be added there, so that the tests here see it lost."""
    made = wishful()
    defaults = {field.name: field.default for field in fields(made)}
    assert [name for name, default in defaults.items() if getattr(made, name) == default] == []


@pytest.mark.parametrize("size", [5, INLINE_LIMIT + 1])
async def test_every_field_and_wish_comes_back_from_lease_list_and_show(spool: Spool, size: int) -> None:
    sent = wishful(size=size)
    content = b"x" * size
    writer = spool.writer(sent.queue_id)
    await writer.write(content)
    await writer.commit(sent)
    (lease,) = await spool.lease(NOW, 10)
    assert lease.envelope == sent
    assert tuple(r.notify for r in lease.recipients) == sent.notify
    assert tuple(r.original_recipient for r in lease.recipients) == sent.original_recipients
    assert await read_all(spool.open(sent.queue_id)) == content
    shown = await spool.show(sent.queue_id)
    assert (shown.envelope, shown.recipients) == (sent, lease.recipients)
    assert list(await spool.list(Filter(), NOW, 10)) == [shown]


async def test_every_wish_is_still_there_when_some_recipients_have_gone(spool: Spool) -> None:
    sent = wishful()
    await spool.commit(sent, b"hello")
    (lease,) = await spool.lease(NOW, 10)
    again = Deferred("451 later", "hop", LATER)
    await spool.settle(lease, settlement(lease, Delivered("250 ok", "hop"), again, Delivered("250 ok", "hop"), again))
    (rest,) = await spool.lease(LATER, 10)
    assert rest.envelope == sent
    assert [(r.key, r.notify, r.original_recipient) for r in rest.recipients] == [
        (key, sent.notify[key], sent.original_recipients[key]) for key in (1, 3)
    ]


async def test_a_report_that_is_settled_keeps_every_field(spool: Spool) -> None:
    sent, report = envelope(), NewMessage(replace(wishful(), hold_until=0.0), b"it failed")
    await spool.commit(sent, b"hello")
    (lease,) = await spool.lease(NOW, 10)
    await spool.settle(lease, settlement(lease, Delivered("250 ok", "hop"), messages=(report,)))
    (told,) = await spool.lease(NOW, 10)
    assert (told.envelope, told.content) == (report.envelope, report.content)


@pytest.mark.parametrize(
    "change",
    [{"notify": ("NEVER",)}, {"envid": "x"}, {"priority": 1}, {"hold_until": 1.0}, {"require_tls": True}],
)
async def test_a_commit_with_another_wish_under_the_same_queue_id_is_refused(
    spool: Spool, change: dict[str, Any]
) -> None:
    sent = envelope()
    await spool.commit(sent, b"hello")
    with pytest.raises(QueueIdTaken):
        await spool.commit(replace(sent, **change), b"hello")


async def test_higher_priority_comes_first_among_what_is_due(spool: Spool) -> None:
    sent = {}
    for number, priority in enumerate([0, -9, 9, 3, -1, 9]):
        sent[number] = envelope(f"x@{'ab'[number % 2]}.example", priority=priority)
        await spool.commit(sent[number], b"")
    leased = [lease.envelope for lease in await spool.lease(NOW, 4)] + [
        lease.envelope for lease in await spool.lease(NOW, 4)
    ]
    assert [each.priority for each in leased] == [9, 9, 3, 0, -1, -9]
    assert {each.queue_id for each in leased} == {each.queue_id for each in sent.values()}


@pytest.mark.usefixtures("in_one_cell")
async def test_no_flood_of_higher_priority_keeps_a_message_waiting_for_ever(spool: Spool, clock: Clock) -> None:
    """One message is delivered a minute and one of the highest priority comes in: the plain one has its turn."""
    plain = envelope("x@a.example")
    await spool.commit(plain, b"")
    waited = 0
    while True:
        await spool.commit(envelope("x@b.example", priority=9), b"")
        (lease,) = await spool.lease(clock.now, 1)
        await spool.settle(lease, settlement(lease, Delivered("250 ok", "hop")))
        if lease.envelope == plain:
            break
        waited += 1
        clock.now += 60.0
        assert waited < 200
    assert waited == 45, "nine steps of five minutes"


async def test_priority_does_not_make_due_what_is_not(spool: Spool) -> None:
    await spool.commit(envelope("x@a.example", priority=9), b"")
    (lease,) = await spool.lease(NOW, 10)
    await spool.settle(lease, settlement(lease, Deferred("451", "hop", LATER)))
    plain = envelope("x@a.example", priority=-9)
    await spool.commit(plain, b"")
    assert [each.envelope for each in await spool.lease(LATER - 1, 10)] == [plain]
    assert len(await spool.lease(LATER, 10)) == 1


async def test_a_skipped_domain_is_skipped_in_every_priority(spool: Spool) -> None:
    for priority in (9, 0, -9):
        await spool.commit(envelope("x@slow.example", priority=priority), b"")
    await spool.commit(envelope("x@quick.example", priority=-9), b"")
    leased = await spool.lease(NOW, 10, lanes("slow.example"))
    assert [r.domain for lease in leased for r in lease.recipients] == ["quick.example"]
    assert [lease.envelope.priority for lease in await spool.lease(NOW, 10)] == [9, 0, -9]


async def test_a_lease_of_some_priority_that_is_given_back_is_lent_again(spool: Spool) -> None:
    sent = envelope("x@a.example", priority=-4)
    await spool.commit(sent, b"")
    for _ in range(3):
        (lease,) = await spool.lease(NOW, 10)
        assert lease.envelope == sent
        await spool.release_lease(lease)


async def test_nothing_leaves_before_the_time_that_its_sender_asked_for(spool: Spool, clock: Clock) -> None:
    sent = envelope("a@one.example", "b@two.example", hold_until=LATER, priority=9)
    await spool.commit(sent, b"")
    waiting = asyncio.create_task(spool.wait_due(100))
    for clock.now in (NOW, NOW + 1, LATER - 0.001):
        assert await spool.lease(clock.now, 10) == []
    assert not waiting.done()
    clock.now = LATER
    async with asyncio.timeout(20):
        await spool.wait_due(100)
    (lease,) = await spool.lease(LATER, 10)
    assert (lease.envelope, len(lease.recipients)) == (sent, 2)
    await spool.release_lease(lease)
    await spool.commit(envelope(), b"")  # the first wait looked at the clock before it was later: this wakes it
    async with asyncio.timeout(20):
        await waiting


async def test_a_release_time_that_has_passed_is_now(spool: Spool) -> None:
    await spool.commit(envelope(hold_until=NOW - 1), b"")
    (lease,) = await spool.lease(NOW, 10)
    assert lease.recipients[0].due_at == NOW


async def test_a_sender_s_release_time_stays_unless_the_operator_says_early(spool: Spool) -> None:
    sent, other = envelope(hold_until=LATER), envelope()
    await spool.commit(sent, b"")
    await spool.commit(other, b"")
    assert await spool.retry(Filter(), NOW) == [other.queue_id]
    assert await spool.hold(Filter(), NOW) == [sent.queue_id, other.queue_id]
    assert await spool.release(Filter(), NOW) == [sent.queue_id, other.queue_id]
    assert [lease.envelope for lease in await spool.lease(LATER - 1, 10)] == [other]
    assert await spool.retry(Filter(), NOW, early=True) == [sent.queue_id]
    (lease,) = await spool.lease(NOW, 10)
    assert lease.envelope == sent, "what was asked for stays on record"
    assert not is_future(lease.envelope, lease.recipients[0], NOW)
    await spool.settle(lease, settlement(lease, Deferred("451", "hop", LATER + 60)))
    (recipient,) = (await spool.show(sent.queue_id)).recipients
    assert not is_future(sent, recipient, NOW), "it waits for another try"
    assert await spool.retry(Filter(queue_ids=(sent.queue_id,)), NOW) == [sent.queue_id]


async def test_a_held_message_is_released_early_when_the_operator_says_so(spool: Spool) -> None:
    sent = envelope(hold_until=LATER)
    await spool.commit(sent, b"")
    await spool.hold(Filter(), NOW)
    assert await spool.release(Filter(), NOW, early=True) == [sent.queue_id]
    assert [lease.envelope for lease in await spool.lease(NOW, 10)] == [sent]


async def test_what_waits_for_its_release_time_is_found_and_can_be_cancelled(spool: Spool) -> None:
    sent, later = envelope("x@a.example", hold_until=LATER), envelope("x@b.example", hold_until=LATER + 60)
    for each in (sent, later, envelope(hold_until=NOW - 1), envelope()):
        await spool.commit(each, b"")
    future = Filter(future=True)
    listed = await spool.list(future, NOW, 10)
    assert [message.envelope for message in listed] == [sent, later]
    assert all(is_future(message.envelope, message.recipients[0], NOW) for message in listed)
    assert [m.envelope for m in await spool.list(future, LATER, 10)] == [later]
    assert [m.envelope for m in await spool.list(Filter(future=True, domain="a.*"), NOW, 10)] == [sent]
    assert await spool.hold(future, NOW) == [sent.queue_id, later.queue_id]
    assert [m.envelope for m in await spool.list(Filter(state=State.HELD, future=True), NOW, 10)] == [sent, later]
    await spool.expunge(sent.queue_id)
    assert [m.envelope for m in await spool.list(future, NOW, 10)] == [later]
    assert await spool.retry(future, NOW, early=True) == []
    assert await spool.release(future, NOW, early=True) == [later.queue_id]
    assert await spool.list(future, NOW, 10) == []


async def test_addresses_do_not_make_a_lease_or_a_list_too_long_to_be_carried(spool: Spool) -> None:
    """100 recipients with the longest paths and ORCPT that are taken, in 80 messages: more than one frame holds."""
    paths = tuple(f"{'x' * 60}{number:04d}@{'y' * 180}.example" for number in range(100))
    wishes = tuple(f"rfc822;{'z' * 480}" for _ in paths)
    sent = [replace(envelope(*paths), original_recipients=wishes) for _ in range(80)]
    await asyncio.gather(*(spool.commit(each, b"hello") for each in sent))
    assert [message.envelope for message in await spool.list(Filter(), NOW, 100)] == sent
    leased: list[Lease] = []
    while some := await spool.lease(NOW, 100):
        leased += some
    assert {lease.envelope.queue_id for lease in leased} == {each.queue_id for each in sent}


async def test_what_its_sender_wants_sent_later_is_not_the_oldest_that_waits(spool: Spool) -> None:
    await spool.commit(envelope(received_at=100.0, hold_until=LATER), b"")
    assert (await spool.depth(NOW)).oldest_at is None
    assert (await spool.depth(LATER + 1)).oldest_at == LATER
    await spool.commit(envelope(received_at=NOW), b"")
    depth = await spool.depth(NOW)
    assert (depth.messages, depth.recipients["due"], depth.oldest_at) == (2, 2, NOW)
    assert (await spool.depth(LATER + 1)).oldest_at == NOW


async def test_a_retry_during_an_attempt_is_that_attempt_and_its_outcome_stands(spool: Spool) -> None:
    """Who asks is told of what was made due, and of nothing else."""
    sent = envelope("a@one.example", "b@two.example")
    await spool.commit(sent, b"")
    (lease,) = await spool.lease(NOW, 10)
    await spool.settle(lease, settlement(lease, Deferred("451", "hop", LATER)))
    assert await spool.retry(Filter(domain="one.example"), NOW) == [sent.queue_id]
    (lease,) = await spool.lease(NOW, 10)
    assert await spool.retry(Filter(domain="one.example"), NOW + 1) == []
    assert await spool.retry(Filter(), NOW + 1) == [sent.queue_id]
    await spool.settle(lease, settlement(lease, Deferred("451", "hop", LATER + 60)))
    due = [recipient.due_at for recipient in (await spool.show(sent.queue_id)).recipients]
    assert due == [LATER + 60, NOW + 1]
    assert await spool.retry(Filter(domain="one.example"), NOW + 2) == [sent.queue_id]


async def test_sites_wait_apart_for_the_same_domain(spool: Spool) -> None:
    """Each may have routes of its own: the one's next hop being away holds nothing of the other's back."""
    ours, theirs = envelope("a@Big.example", site="a.example"), envelope("b@big.example", site="b.example")
    for sent in (ours, theirs):
        await spool.commit(sent, b"hello")
    (lease,) = await spool.lease(NOW, 10, lanes("big.example", site="a.example"))
    assert lease.envelope == theirs
    (recipient,) = lease.recipients
    assert recipient.domain == "big.example"
    assert {recipient.lane} == lanes("big.example", site="b.example")
    (lease,) = await spool.lease(NOW, 10, lanes("big.example", site="b.example"))
    assert lease.envelope == ours
    found = await spool.list(Filter(domain="BIG.example"), NOW, 10)
    assert [each.recipients[0].domain for each in found] == ["big.example"] * 2
    assert len(await spool.list(Filter(domain="*.example"), NOW, 10)) == 2
    for nobody_s in ("big.example a.example", "a.example", "*a.example", "big.exampl"):
        assert await spool.list(Filter(domain=nobody_s), NOW, 10) == [], nobody_s
