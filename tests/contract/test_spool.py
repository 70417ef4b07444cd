"""What spool.base promises, over each implementation."""

import asyncio
from dataclasses import replace

import pytest
from tests.spool.messages import LATER, NOW, Clock, bounce, envelope, lanes, read_all, settlement

from pillarbox.spool.base import (
    INLINE_LIMIT,
    Deferred,
    Delivered,
    Failed,
    Filter,
    LeaseLost,
    QueueIdTaken,
    Settlement,
    Spool,
    State,
    UnknownQueueId,
)


async def test_a_message_comes_back_from_lease_as_it_was_committed(spool: Spool) -> None:
    sent = envelope("bob@Example.NET", "carol@example.com", "Postmaster")
    content = bytes(range(256)) * 20
    await spool.commit(sent, content)
    (lease,) = await spool.lease(NOW, 10)
    assert lease.envelope == sent
    assert lease.content == content
    assert [(r.key, r.forward_path, r.domain) for r in lease.recipients] == [
        (0, "bob@Example.NET", "example.net"),
        (1, "carol@example.com", "example.com"),
        (2, "Postmaster", ""),
    ]
    assert {r.state for r in lease.recipients} == {State.DUE}
    assert await read_all(spool.open(sent.queue_id)) == content


async def test_text_that_looks_like_lines_or_sql_is_kept_as_it_is(spool: Spool) -> None:
    sent = envelope(
        '"a\r\nb\x00"@example.net', "x'); DROP TABLE message; --@example.net", reverse_path="%_*\\@ü.example"
    )
    await spool.commit(sent, b"")
    assert (await spool.show(sent.queue_id)).envelope == sent


async def test_committing_the_same_again_is_success_and_not_a_second_message(spool: Spool) -> None:
    sent = envelope()
    await spool.commit(sent, b"hello")
    await spool.commit(sent, b"hello")
    assert len(await spool.lease(NOW, 10)) == 1
    assert (await spool.depth(NOW)).messages == 1


async def test_another_message_under_a_taken_queue_id_is_refused_and_changes_nothing(spool: Spool) -> None:
    sent = envelope()
    await spool.commit(sent, b"hello")
    neighbours = [envelope() for _ in range(20)]
    others = [replace(sent, reverse_path="mallory@example.org"), replace(sent, forward_paths=("eve@example.net",))]
    results = await asyncio.gather(
        *(spool.commit(each, b"other") for each in others),
        *(spool.commit(each, b"fine") for each in neighbours),
        return_exceptions=True,
    )
    assert [type(result) for result in results[:2]] == [QueueIdTaken, QueueIdTaken]
    assert results[2:] == [None] * 20, "the neighbours in the same transaction are committed"
    assert (await spool.show(sent.queue_id)).envelope == sent
    assert await read_all(spool.open(sent.queue_id)) == b"hello"


async def test_a_commit_repeated_after_the_message_left_does_not_bring_it_back(spool: Spool) -> None:
    sent = envelope()
    await spool.commit(sent, b"hello")
    (lease,) = await spool.lease(NOW, 10)
    await spool.settle(lease, settlement(lease, Delivered("250 ok", "hop")))
    await spool.commit(sent, b"hello")
    assert await spool.lease(NOW, 10) == []
    assert (await spool.depth(NOW)).messages == 0


@pytest.mark.parametrize("size", [0, 1, INLINE_LIMIT, INLINE_LIMIT + 1, 3 * INLINE_LIMIT + 17])
async def test_streamed_content_is_kept_octet_by_octet(spool: Spool, size: int) -> None:
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    sent = envelope(size=size)
    writer = spool.writer(sent.queue_id)
    for start in range(0, size, 50_000):
        await writer.write(content[start : start + 50_000])
    await writer.commit(sent)
    (lease,) = await spool.lease(NOW, 10)
    assert lease.content == (content if size <= INLINE_LIMIT else None)
    assert await read_all(spool.open(sent.queue_id)) == content
    await spool.settle(lease, settlement(lease, Delivered("250 ok", "hop")))
    with pytest.raises(UnknownQueueId):
        await read_all(spool.open(sent.queue_id))


async def test_abandoned_content_is_forgotten(spool: Spool) -> None:
    sent = envelope()
    writer = spool.writer(sent.queue_id)
    await writer.write(b"x" * (2 * INLINE_LIMIT))
    await writer.abandon()
    await writer.abandon()
    assert await spool.lease(NOW, 10) == []
    with pytest.raises(UnknownQueueId):
        await spool.show(sent.queue_id)


async def test_a_large_message_repeated_under_its_queue_id_is_one_message(spool: Spool) -> None:
    sent = envelope(size=INLINE_LIMIT + 1)
    for _ in range(2):
        writer = spool.writer(sent.queue_id)
        await writer.write(b"x" * (INLINE_LIMIT + 1))
        await writer.commit(sent)
    assert (await spool.depth(NOW)).messages == 1
    assert await read_all(spool.open(sent.queue_id)) == b"x" * (INLINE_LIMIT + 1)


async def test_open_of_an_unknown_queue_id_says_so(spool: Spool) -> None:
    with pytest.raises(UnknownQueueId):
        await read_all(spool.open("01NOSUCHMESSAGE"))


async def test_a_leased_message_is_not_lent_again(spool: Spool) -> None:
    await spool.commit(envelope(), b"")
    assert len(await spool.lease(NOW, 10)) == 1
    assert await spool.lease(NOW, 10) == []


async def test_a_lease_given_back_is_lent_again(spool: Spool) -> None:
    await spool.commit(envelope(), b"")
    (lease,) = await spool.lease(NOW, 10)
    assert spool.extend(lease)
    await spool.release_lease(lease)
    assert not spool.extend(lease)
    assert [again.envelope for again in await spool.lease(NOW, 10)] == [lease.envelope]


async def test_oldest_due_comes_first_and_limit_holds(spool: Spool, clock: Clock) -> None:
    sent = []
    for number in range(6):
        clock.now = NOW - 100 + number
        sent.append(envelope(f"x@{'abc'[number % 3]}.example"))
        await spool.commit(sent[-1], b"")
    assert [lease.envelope for lease in await spool.lease(NOW, 4)] == sent[:4]
    assert [lease.envelope for lease in await spool.lease(NOW, 4)] == sent[4:]


async def test_skipped_domains_stay_and_the_others_of_the_message_go(spool: Spool) -> None:
    sent = envelope("a@slow.example", "b@quick.example", "c@slow.example")
    await spool.commit(sent, b"hello")
    await spool.commit(envelope("d@slow.example"), b"")
    (lease,) = await spool.lease(NOW, 10, lanes("slow.example"))
    assert [r.key for r in lease.recipients] == [1]
    assert lease.envelope == sent, "the envelope is whole, whoever of its recipients is due"
    # The rest of the same message can be lent meanwhile, and only that.
    rest = await spool.lease(NOW, 10)
    assert sorted([r.key for r in lease.recipients] for lease in rest) == [[0], [0, 2]]
    await spool.settle(lease, settlement(lease, Delivered("250 ok", "hop")))
    assert [r.key for r in (await spool.show(sent.queue_id)).recipients] == [0, 2]


async def test_a_dead_domain_does_not_fill_a_batch(spool: Spool) -> None:
    await asyncio.gather(*(spool.commit(envelope("x@dead.example"), b"") for _ in range(50)))
    live = envelope("x@live.example")
    await spool.commit(live, b"")
    assert [lease.envelope for lease in await spool.lease(NOW, 5, lanes("dead.example"))] == [live]


async def test_a_deferred_recipient_is_due_at_its_time_and_keeps_its_history(spool: Spool) -> None:
    await spool.commit(envelope("a@example.net", "b@example.net"), b"")
    (lease,) = await spool.lease(NOW, 10)
    outcomes = settlement(lease, Deferred("451 later", "hop", LATER), Delivered("250 ok", "hop"))
    await spool.settle(lease, replace(outcomes, warned=frozenset({0}), messages=(bounce(),)))
    (warning,) = await spool.lease(LATER - 1, 10)
    assert warning.envelope.is_bounce
    (again,) = await spool.lease(LATER, 10)
    (recipient,) = again.recipients
    assert (recipient.key, recipient.attempts, recipient.last_reply, recipient.last_attempt_at) == (
        0,
        1,
        "451 later",
        NOW,
    )
    assert recipient.delay_warned
    assert again.envelope.forward_paths == ("a@example.net", "b@example.net")


async def test_what_was_put_off_without_a_try_counts_no_attempt(spool: Spool) -> None:
    await spool.commit(envelope("a@example.net"), b"")
    (lease,) = await spool.lease(NOW, 10)
    await spool.settle(lease, settlement(lease, Deferred("421 down", "hop", LATER, tried=False)))
    (lease,) = await spool.lease(LATER, 10)
    (recipient,) = lease.recipients
    assert (recipient.attempts, recipient.last_reply, recipient.last_attempt_at) == (0, "421 down", None)
    await spool.settle(lease, settlement(lease, Deferred("421 down", "hop", LATER + 1)))
    (lease,) = await spool.lease(LATER + 1, 10)
    await spool.settle(lease, settlement(lease, Deferred("still", "hop", LATER + 2, tried=False)))
    (lease,) = await spool.lease(LATER + 2, 10)
    (recipient,) = lease.recipients
    assert (recipient.attempts, recipient.last_reply, recipient.last_attempt_at) == (1, "still", NOW)


async def test_recipients_with_different_due_times_are_lent_each_at_its_own(spool: Spool) -> None:
    await spool.commit(envelope("a@example.net", "b@example.net"), b"")
    (lease,) = await spool.lease(NOW, 10)
    first = settlement(lease, Deferred("", "", LATER), Deferred("", "", LATER + 60))
    await spool.settle(lease, first)
    (lease,) = await spool.lease(LATER, 10)
    assert [r.key for r in lease.recipients] == [0]
    assert await spool.lease(LATER + 59, 10) == []
    (other,) = await spool.lease(LATER + 60, 10)
    assert [r.key for r in other.recipients] == [1]


async def test_settlement_and_its_bounce_are_one(spool: Spool) -> None:
    await spool.commit(envelope("a@example.net", "b@example.net"), b"")
    (lease,) = await spool.lease(NOW, 10)
    told = bounce()
    await spool.settle(lease, settlement(lease, Failed("550 no", "hop", "5.1.1"), messages=(told,)))
    (next_lease,) = await spool.lease(NOW, 10)
    assert next_lease.envelope == told.envelope
    assert next_lease.content == told.content
    assert (await spool.depth(NOW)).messages == 1


async def test_repeating_a_settlement_changes_nothing(spool: Spool) -> None:
    await spool.commit(envelope("a@example.net", "b@example.net"), b"")
    (lease,) = await spool.lease(NOW, 10)
    told = settlement(lease, Failed("550 no", "hop", "5.1.1"), Deferred("451 x", "hop", LATER), messages=(bounce(),))
    await spool.settle(lease, told)
    (notice,) = await spool.lease(NOW, 10)
    await spool.settle(notice, settlement(notice, Delivered("250 ok", "hop")))
    await spool.settle(lease, told)
    assert await spool.lease(NOW, 10) == [], "the bounce that was delivered does not come back"
    (recipient,) = (await spool.show(lease.envelope.queue_id)).recipients
    assert (recipient.key, recipient.attempts) == (1, 1)


async def test_a_report_of_success_is_in_the_settlement_that_delivered(spool: Spool) -> None:
    await spool.commit(envelope("a@example.net"), b"")
    (lease,) = await spool.lease(NOW, 10)
    told = bounce()
    await spool.settle(lease, settlement(lease, Delivered("250 ok", "hop"), messages=(told,)))
    (report,) = await spool.lease(NOW, 10)
    assert (report.envelope, report.content) == (told.envelope, told.content)
    with pytest.raises(UnknownQueueId):
        await spool.show(lease.envelope.queue_id)


@pytest.mark.parametrize("others", [Deferred("451 x", "hop", LATER), Failed("550 no", "hop", "5.1.1")])
async def test_a_repeated_settlement_does_not_tell_of_a_success_twice(
    spool: Spool, others: Deferred | Failed
) -> None:
    await spool.commit(envelope("a@example.net", "b@example.net"), b"")
    (lease,) = await spool.lease(NOW, 10)
    reports = (bounce(), bounce()) if isinstance(others, Failed) else (bounce(),)
    told = settlement(lease, Delivered("250 ok", "hop"), others, messages=reports)
    await spool.settle(lease, told)
    sent = await spool.lease(NOW, 10)
    assert {each.envelope.queue_id for each in sent} == {each.envelope.queue_id for each in reports}
    for each in sent:
        await spool.settle(each, settlement(each, Delivered("250 ok", "hop")))
    await spool.settle(lease, told)
    assert await spool.lease(NOW, 10) == [], "the report that was delivered does not come back"


async def test_settling_under_a_lease_that_is_void_is_refused(spool: Spool) -> None:
    await spool.commit(envelope(), b"")
    (lease,) = await spool.lease(NOW, 10)
    await spool.release_lease(lease)
    (other,) = await spool.lease(NOW, 10)
    with pytest.raises(LeaseLost):
        await spool.settle(lease, settlement(lease, Delivered("250 ok", "hop")))
    await spool.settle(other, settlement(other, Delivered("250 ok", "hop")))


async def test_a_settlement_for_another_message_than_the_lease_is_refused(spool: Spool) -> None:
    one, two = envelope(), envelope()
    await spool.commit(one, b"")
    (lease,) = await spool.lease(NOW, 10)
    await spool.commit(two, b"")
    with pytest.raises(LeaseLost):
        await spool.settle(lease, Settlement(two.queue_id, {0: Delivered("250 ok", "hop")}))
    assert (await spool.show(two.queue_id)).envelope == two


async def test_a_bounce_that_fails_is_dead_and_stays(spool: Spool) -> None:
    sent = bounce().envelope
    await spool.commit(sent, b"it failed")
    (lease,) = await spool.lease(NOW, 10)
    await spool.settle(lease, settlement(lease, Failed("550 no", "hop", "5.1.1")))
    assert await spool.lease(LATER, 10) == []
    (recipient,) = (await spool.show(sent.queue_id)).recipients
    assert (recipient.state, recipient.last_reply) == (State.DEAD, "550 no")
    assert (await spool.depth(NOW)).recipients == {"due": 0, "held": 0, "dead": 1}
    assert await spool.release(Filter(), NOW) == [sent.queue_id]
    assert len(await spool.lease(NOW, 10)) == 1


async def test_wait_due_returns_at_once_when_something_is_due(spool: Spool) -> None:
    await spool.commit(envelope(), b"")
    async with asyncio.timeout(20):
        await spool.wait_due(100)


async def test_wait_due_wakes_at_a_commit(spool: Spool) -> None:
    waiting = asyncio.create_task(spool.wait_due(100))
    await asyncio.sleep(0)
    assert await spool.lease(NOW, 10) == []
    assert not waiting.done()
    await spool.commit(envelope(), b"")
    async with asyncio.timeout(20):
        await waiting


async def test_wait_due_wakes_when_the_next_time_comes(spool: Spool, clock: Clock) -> None:
    await spool.commit(envelope(), b"")
    (lease,) = await spool.lease(NOW, 10)
    await spool.settle(lease, settlement(lease, Deferred("", "", NOW + 0.3)))
    loop = asyncio.get_running_loop()
    loop.call_later(0.2, setattr, clock, "now", NOW + 1)
    async with asyncio.timeout(20):
        await spool.wait_due(100)
    assert clock.now > NOW


async def test_wait_due_does_not_return_for_what_is_lent_or_skipped(spool: Spool) -> None:
    await spool.commit(envelope("a@slow.example"), b"")
    await spool.commit(envelope("a@quick.example"), b"")
    assert len(await spool.lease(NOW, 10, lanes("slow.example"))) == 1
    waiting = asyncio.create_task(spool.wait_due(100))
    await spool.depth(NOW)  # a round trip: the wait has begun
    await spool.commit(envelope("b@slow.example"), b"")
    await spool.depth(NOW)
    assert not waiting.done()
    await spool.commit(envelope("b@quick.example"), b"")
    async with asyncio.timeout(20):
        await waiting


async def test_wait_due_ends_with_its_timeout(spool: Spool) -> None:
    async with asyncio.timeout(20):
        await spool.wait_due(0.01)


async def test_hold_keeps_from_delivery_until_release(spool: Spool) -> None:
    sent = envelope()
    await spool.commit(sent, b"")
    assert await spool.hold(Filter(), NOW) == [sent.queue_id]
    assert await spool.lease(LATER, 10) == []
    assert await spool.hold(Filter(), NOW) == []
    assert await spool.release(Filter(), NOW) == [sent.queue_id]
    assert len(await spool.lease(NOW, 10)) == 1


async def test_verbs_leave_what_is_lent_alone(spool: Spool) -> None:
    sent = envelope()
    await spool.commit(sent, b"")
    (lease,) = await spool.lease(NOW, 10)
    assert (await spool.show(sent.queue_id)).leased
    assert await spool.hold(Filter(), NOW) == []
    assert await spool.retry(Filter(), NOW) == []
    with pytest.raises(LeaseLost):
        await spool.expunge(sent.queue_id)
    await spool.release_lease(lease)
    await spool.expunge(sent.queue_id)
    with pytest.raises(UnknownQueueId):
        await spool.show(sent.queue_id)


async def test_retry_makes_due_now(spool: Spool) -> None:
    await spool.commit(envelope("a@example.net"), b"")
    (lease,) = await spool.lease(NOW, 10)
    await spool.settle(lease, settlement(lease, Deferred("", "", LATER)))
    assert await spool.lease(NOW, 10) == []
    assert await spool.retry(Filter(domain="example.net"), NOW) == [lease.envelope.queue_id]
    assert len(await spool.lease(NOW, 10)) == 1


async def test_a_verb_by_recipient_changes_only_those_recipients(spool: Spool) -> None:
    sent = envelope("a@one.example", "b@two.example")
    await spool.commit(sent, b"")
    assert await spool.hold(Filter(domain="two.example"), NOW) == [sent.queue_id]
    states = [r.state for r in (await spool.show(sent.queue_id)).recipients]
    assert states == [State.DUE, State.HELD]


async def test_expunge_puts_its_bounce_in_the_queue(spool: Spool) -> None:
    sent, told = envelope(), bounce()
    await spool.commit(sent, b"")
    await spool.expunge(sent.queue_id, (told,))
    assert [lease.envelope for lease in await spool.lease(NOW, 10)] == [told.envelope]
    with pytest.raises(UnknownQueueId):
        await spool.expunge(sent.queue_id)


async def test_show_of_an_unknown_queue_id_says_so(spool: Spool) -> None:
    with pytest.raises(UnknownQueueId):
        await spool.show("01NOSUCHMESSAGE")


@pytest.mark.parametrize(
    ("which", "found"),
    [
        (Filter(), {0, 1, 2}),
        (Filter(sender="alice@example.org"), {0}),
        (Filter(sender="ALICE@*"), {0}),
        (Filter(sender="*@example.org"), {0, 1, 2}),
        (Filter(sender="a%@example.org"), set()),
        (Filter(sender="bo_@example.org"), set()),
        (Filter(sender="bob@example.org", recipient="y@two.example"), {1}),
        (Filter(sender="bob@example.org", recipient="x@one.example"), set()),
        (Filter(recipient="*@ONE.example"), {0, 2}),
        (Filter(domain="two.example"), {1, 2}),
        (Filter(login="app*"), {2}),
        (Filter(state=State.HELD), {1}),
        (Filter(state=State.DEAD), set()),
        (Filter(state=State.HELD, domain="one.example"), set()),
        (Filter(age=500.0), {0, 1}),
    ],
)
async def test_filters_mean_what_they_say(spool: Spool, which: Filter, found: set[int]) -> None:
    sent = [
        envelope("x@one.example", received_at=NOW - 1000),
        envelope("y@two.example", reverse_path="bob@example.org", received_at=NOW - 600),
        envelope("x@one.example", "y@two.example", reverse_path="carol@example.org", login="app-1", received_at=NOW),
    ]
    for each in sent:
        await spool.commit(each, b"")
    await spool.hold(Filter(queue_ids=(sent[1].queue_id,)), NOW)
    listed = [message.envelope for message in await spool.list(which, NOW, 10)]
    assert listed == [sent[number] for number in sorted(found)]


async def test_list_goes_on_after_the_last_one(spool: Spool) -> None:
    sent = [envelope() for _ in range(7)]
    await asyncio.gather(*(spool.commit(each, b"") for each in sent))
    listed: list[str] = []
    while page := await spool.list(Filter(), NOW, 3, listed[-1] if listed else ""):
        assert len(page) <= 3
        listed += [message.envelope.queue_id for message in page]
    assert listed == [each.queue_id for each in sent]


async def test_a_verb_reaches_more_messages_than_one_page_or_frame_holds(spool: Spool) -> None:
    sent = [envelope() for _ in range(1_200)]
    await asyncio.gather(*(spool.commit(each, b"") for each in sent))
    names = [each.queue_id for each in sent]
    assert await spool.hold(Filter(), NOW) == names
    assert await spool.lease(NOW, 10) == []
    assert [message.envelope.queue_id for message in await spool.list(Filter(), NOW, 1_100)] == names[:1_100]
    assert await spool.release(Filter(), NOW) == names
    assert len(await spool.lease(NOW, 1_200)) == 1_200


async def test_messages_with_many_recipients_are_listed_whole(spool: Spool) -> None:
    paths = tuple(f"{'x' * 50}{number}@{'y' * 50}.example" for number in range(6_000))
    sent = [envelope(*paths) for _ in range(6)]
    for each in sent:
        await spool.commit(each, b"")
    listed = await spool.list(Filter(), NOW, 10)
    assert [(message.envelope, len(message.recipients)) for message in listed] == [(each, 6_000) for each in sent]


async def test_depth_counts(spool: Spool) -> None:
    empty = await spool.depth(NOW)
    assert (empty.messages, empty.recipients, empty.oldest_at) == (0, {"due": 0, "held": 0, "dead": 0}, None)
    await spool.commit(envelope("a@example.net", "b@example.net", received_at=100.0), b"")
    await spool.commit(envelope("a@example.net", received_at=200.0), b"")
    await spool.hold(Filter(age=NOW - 150), NOW)
    depth = await spool.depth(NOW)
    assert (depth.messages, depth.recipients, depth.oldest_at) == (2, {"due": 1, "held": 2, "dead": 0}, 100.0)
    assert depth.free is None or depth.free > 0


async def test_a_healthy_spool_refuses_nothing(spool: Spool) -> None:
    assert spool.refusal(1000) is None
    assert spool.unhealthy_reason() is None


@pytest.mark.usefixtures("in_one_cell")
async def test_oldest_due_comes_first_also_after_a_retry_made_another_domain_younger(
    spool: Spool, clock: Clock
) -> None:
    await spool.commit(envelope("x@a.example"), b"")
    older = envelope("x@b.example")
    clock.now = NOW + 1
    await spool.commit(older, b"")
    assert len(await spool.retry(Filter(domain="a.example"), NOW + 100)) == 1
    assert [lease.envelope for lease in await spool.lease(NOW + 200, 1)] == [older]
    assert len(await spool.lease(NOW + 200, 1)) == 1
