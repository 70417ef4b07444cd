"""Workers that share a cell: leases, silence, and who may settle."""

import asyncio

import pytest
from tests.spool.messages import NOW, Clock, envelope, lanes, settlement, soon
from tests.support.administrator import Administrator

import pillarbox.spool.cluster.cell
import pillarbox.spool.cluster.outbox
from pillarbox.spool.base import (
    Deferred,
    Delivered,
    Filter,
    Lease,
    LeaseLost,
    Unavailable,
    UnknownQueueId,
)
from pillarbox.spool.cluster import taking
from pillarbox.spool.cluster.cell import ATTEMPT
from pillarbox.spool.cluster.schema import VOID_AFTER
from pillarbox.spool.cluster.spool import ClusterSpool, open_cluster
from pillarbox.spool.cluster.workers import Beat, Worker
from pillarbox.spool.settings import ClusterSettings
from pillarbox.store.postgresql import Transaction


def say_no_more(spool: ClusterSpool) -> None:
    """As of a process that was stopped: its heartbeat ends."""
    spool.outbox._heart.cancel()


async def age_workers(administrator: Administrator) -> None:
    administrator.ask("UPDATE pillarbox.worker SET seen = seen - interval '31 seconds'")


async def test_two_workers_share_what_is_due_and_none_is_lent_twice(spool: ClusterSpool, other: ClusterSpool) -> None:
    sent = [envelope(f"x@{'abc'[number % 3]}.example") for number in range(200)]
    await asyncio.gather(*(spool.commit(each, b"") for each in sent))
    leased: list[str] = []

    async def drain(worker: ClusterSpool) -> int:
        count = 0
        while leases := await worker.lease(NOW, 7):
            count += len(leases)
            leased.extend(lease.envelope.queue_id for lease in leases)
        return count

    counts = await asyncio.gather(drain(spool), drain(other), drain(spool), drain(other))
    assert sorted(leased) == sorted(each.queue_id for each in sent)
    assert counts[0] + counts[2] > 0 < counts[1] + counts[3]


async def test_a_worker_that_is_silent_for_30_seconds_loses_its_leases_and_knows_it(
    spool: ClusterSpool, other: ClusterSpool, administrator: Administrator
) -> None:
    sent = envelope("a@example.net", "b@example.com")
    await spool.commit(sent, b"")
    (lease,) = await spool.lease(NOW, 10)
    say_no_more(spool)
    assert await other.lease(NOW, 10) == []
    await age_workers(administrator)
    (again,) = await other.lease(NOW, 10)
    assert again.envelope == sent
    assert spool.extend(lease), "it cannot know before its heartbeat is answered, or FRESH is over"
    await spool.outbox._beat_once()
    assert not spool.extend(lease)
    with pytest.raises(LeaseLost):
        await spool.settle(lease, settlement(lease, Delivered("250 ok", "hop")))
    await other.settle(again, settlement(again, Deferred("451", "hop", NOW)))
    assert len(await spool.lease(NOW, 10)) == 1, "it goes on under another identity"


async def test_a_heartbeat_keeps_leases_and_names_no_row_of_the_dead(
    spool: ClusterSpool, other: ClusterSpool, administrator: Administrator
) -> None:
    await spool.commit(envelope(), b"")
    (lease,) = await spool.lease(NOW, 10)
    administrator.ask("UPDATE pillarbox.worker SET seen = seen - interval '29 seconds'")
    await spool.outbox._beat_once()
    administrator.ask("UPDATE pillarbox.worker SET seen = seen - interval '5 seconds'")
    assert await other.lease(NOW, 10) == []
    assert spool.extend(lease)
    administrator.ask("INSERT INTO pillarbox.worker VALUES (1, 'dead', now() - interval '1 day')")
    await spool.outbox._beat_once()
    assert administrator.ask("SELECT count(*) FROM pillarbox.worker WHERE id = 1") == [(0,)]


async def test_what_a_void_lease_delivered_counts_if_nobody_took_it_meanwhile(
    spool: ClusterSpool, administrator: Administrator
) -> None:
    sent = envelope()
    await spool.commit(sent, b"")
    (lease,) = await spool.lease(NOW, 10)
    await age_workers(administrator)
    await spool.outbox._beat_once()
    await spool.settle(lease, settlement(lease, Delivered("250 ok", "hop")))
    with pytest.raises(UnknownQueueId):
        await spool.show(sent.queue_id)


async def test_a_taking_whose_outcome_is_unknown_is_lent_again_when_its_identity_is_over(
    spool: ClusterSpool, other: ClusterSpool, administrator: Administrator
) -> None:
    """The recipients may be ours, and we do not know which: they must not stay with us for ever."""
    first, second = envelope(), envelope()
    await spool.commit(first, b"")
    (lease,) = await spool.lease(NOW, 10)
    await spool.commit(second, b"")
    await administrator.demand_a_standby()
    spool.cell.trouble = None
    leasing = asyncio.create_task(spool.lease(NOW, 10))
    taken = "SELECT count(*) = 2 FROM pillarbox.recipient WHERE leased_by IS NOT NULL"
    await administrator.end_waits("pg_terminate_backend", taken)
    with pytest.raises(Unavailable):
        await leasing
    await administrator.demand_nothing()
    await soon(lambda: spool.refusal(0) is None and other.refusal(0) is None)
    assert await other.lease(NOW, 10) == [], "an attempt could be under way"
    await spool.outbox._beat_once()
    assert await other.lease(NOW, 10) == [], "the first lease keeps the identity alive"
    await spool.settle(lease, settlement(lease, Delivered("250 ok", "hop")))
    await spool.outbox._beat_once()
    assert [again.envelope for again in await other.lease(NOW, 10)] == [second]


async def test_after_trouble_nothing_is_lent_before_the_others_could_say_that_they_live(
    spool: ClusterSpool, other: ClusterSpool, administrator: Administrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fail-over takes about as long as a worker may be silent."""
    await spool.commit(envelope(), b"")
    (lease,) = await spool.lease(NOW, 10)
    for each in (spool, other):
        each.cell.fail("no primary")
    await age_workers(administrator)
    administrator.ask("UPDATE pillarbox.worker SET seen = seen + interval '2 seconds'")
    monkeypatch.setattr(pillarbox.spool.cluster.outbox, "GRACE", 1.5)
    await soon(lambda: spool.refusal(0) is None and other.refusal(0) is None)
    assert await other.lease(NOW, 10) == []
    await administrator.until("SELECT seen > now() - interval '20 seconds' FROM pillarbox.worker")
    async with asyncio.timeout(20):
        await other.wait_due(1.0)
    assert await other.lease(NOW, 10) == [], "the lease outlived it"
    assert spool.extend(lease)


async def test_an_end_during_trouble_waits_for_nobody(dsn: str, clock: Clock, administrator: Administrator) -> None:
    ending = await open_cluster(ClusterSettings(dsn), clock=clock)
    await ending.commit(envelope(), b"")
    await administrator.demand_a_standby()
    await soon(lambda: ending.refusal(0) is not None)
    async with asyncio.timeout(15):
        await ending.close()


async def test_a_lease_whose_caller_went_away_is_given_back(spool: ClusterSpool) -> None:
    await spool.commit(envelope(), b"")
    leasing = asyncio.create_task(spool.lease(NOW, 10))
    await asyncio.sleep(0)
    leasing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leasing
    async with asyncio.timeout(20):
        while not await spool.lease(NOW, 10):  # noqa: ASYNC110  # giving back sets no event
            await asyncio.sleep(0.01)


async def test_a_worker_that_ends_frees_its_leases_at_once(spool: ClusterSpool, dsn: str, clock: Clock) -> None:
    await spool.commit(envelope(), b"")
    ending = await open_cluster(ClusterSettings(dsn), clock=clock)
    assert len(await ending.lease(NOW, 10)) == 1
    await ending.close()
    assert len(await spool.lease(NOW, 10)) == 1


async def test_two_that_settle_the_last_recipients_of_a_message_at_once_let_it_leave(
    spool: ClusterSpool, other: ClusterSpool, administrator: Administrator
) -> None:
    for _ in range(10):
        sent = envelope("a@one.example", "b@two.example")
        await spool.commit(sent, b"")
        (one,) = await spool.lease(NOW, 10, lanes("two.example"))
        (two,) = await other.lease(NOW, 10)
        await asyncio.gather(
            spool.settle(one, settlement(one, Delivered("250 ok", "hop"))),
            other.settle(two, settlement(two, Delivered("250 ok", "hop"))),
        )
        assert administrator.ask("SELECT count(*) FROM pillarbox.recipient") == [(0,)]


async def test_a_long_queue_for_a_dead_domain_costs_the_others_lease_nothing(
    spool: ClusterSpool, administrator: Administrator
) -> None:
    """By what the server reads, which does not depend on how busy the machine is."""
    live = envelope("x@live.example")
    await spool.commit(live, b"")

    def read() -> int:
        values = {"now": NOW, "limit": 100, "octets": 1 << 20, "worker": 1, "lease": 1, "priority": -32_768}
        query = taking._TAKE % {
            **{name: str(value) for name, value in values.items()},
            "domain": "''",
            "skip": "ARRAY['dead.example mail.example.org']",
        }
        administrator.ask("SET search_path = pillarbox")
        ((plan,),) = administrator.ask(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}")
        administrator.ask("UPDATE pillarbox.recipient SET leased_by = NULL WHERE leased_by = 1")
        assert isinstance(plan, list)
        return int(plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"])

    alone = read()
    administrator.ask("ALTER TABLE pillarbox.recipient DISABLE TRIGGER recipient_added")  # they have no messages
    administrator.ask(
        "INSERT INTO pillarbox.recipient (queue_id, key, forward_path, domain, priority, state, due_at, notify, "
        "original_recipient) SELECT 'X' || n, 0, 'x@dead.example', 'dead.example mail.example.org', 0, "
        "CASE WHEN n % 2 = 0 THEN 'due' ELSE 'later' END, n / 1e6, '', '' FROM generate_series(1, 40000) n"
    )
    administrator.ask("ALTER TABLE pillarbox.recipient ENABLE TRIGGER recipient_added")
    administrator.ask("ANALYZE pillarbox.recipient")
    assert read() <= 4 * alone + 40
    assert [lease.envelope for lease in await spool.lease(NOW, 10, lanes("dead.example"))] == [live]


async def test_what_a_machine_of_before_queued_is_skipped_lent_and_found(
    spool: ClusterSpool, administrator: Administrator
) -> None:
    """Its lanes are domains alone."""
    sent = envelope("x@old.example")
    await spool.commit(sent, b"")
    administrator.ask("UPDATE pillarbox.recipient SET domain = 'old.example'")
    assert await spool.lease(NOW, 10, frozenset({"old.example"})) == []
    for domain in ("OLD.example", "old.*"):
        assert [each.envelope for each in await spool.list(Filter(domain=domain), NOW, 10)] == [sent]
    (lease,) = await spool.lease(NOW, 10, lanes("old.example"))
    assert (lease.envelope, lease.recipients[0].lane) == (sent, "old.example")
    await spool.settle(lease, settlement(lease, Delivered("250 ok", "hop")))


async def test_more_lanes_than_one_taking_looks_at_have_each_their_turn(
    spool: ClusterSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = [envelope(f"x@d{number}.example") for number in range(taking.LANES + 250)]
    await asyncio.gather(*(spool.commit(each, b"") for each in sent))
    leased: list[str] = []
    while leases := await spool.lease(NOW, 100):
        leased += [lease.envelope.queue_id for lease in leases]
    assert sorted(leased) == sorted(each.queue_id for each in sent)


async def test_an_identity_that_the_cell_hears_of_during_a_heartbeat_is_not_given_up(spool: ClusterSpool) -> None:
    say_no_more(spool)
    worker = spool.outbox._worker
    await spool.commit(envelope("a@example.net"), b"")
    leases: list[Lease] = []

    async def beat(transaction: Transaction) -> Beat:
        answer = await worker.beat(transaction)
        leases.extend(await spool.lease(NOW, 10))
        return answer

    asked_at = spool.cell.loop.time()
    assert worker.heard(asked_at, await spool.cell.write(beat)) == []
    (lease,) = leases
    assert spool.extend(lease)


def test_an_identity_takes_no_more_once_its_taking_could_end_after_it_is_void() -> None:
    worker = Worker("test")
    identity = worker.ready(0.0)
    identity.takings, identity.asked_at = 1, 0.0
    longest = VOID_AFTER - ATTEMPT
    assert worker.ready(10.0) is identity
    assert worker.ready(longest - 1) is not identity, "clocks differ a little"
