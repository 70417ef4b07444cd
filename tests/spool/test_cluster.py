"""The spool over PostgreSQL when the cell, a connection or another worker fails."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from tests.spool.cells import empty_cell
from tests.spool.messages import NOW, Clock, envelope, read_all, settlement, soon
from tests.support.administrator import Administrator
from tests.support.postgres import Postgres, running_postgres

import pillarbox.spool.cluster.cell
import pillarbox.spool.cluster.outbox
from pillarbox.spool.base import (
    INLINE_LIMIT,
    Deferred,
    Delivered,
    Filter,
    Full,
    LeaseLost,
    SpoolError,
    Unavailable,
    UnknownQueueId,
)
from pillarbox.spool.cluster import taking
from pillarbox.spool.cluster.removal import LINGER
from pillarbox.spool.cluster.spool import ClusterSpool, make_tables, open_cluster
from pillarbox.spool.settings import ClusterSettings
from pillarbox.store.errors import DiskFull, StoreError
from pillarbox.store.postgresql import Store, Transaction


@pytest.fixture(scope="module")
def node() -> Iterator[Postgres]:
    """A node of this module's own: it is killed, and told to wait for standbys that are not there."""
    with running_postgres() as running:
        yield running


@pytest.fixture
async def dsn(node: Postgres) -> str:
    return await empty_cell(node)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def spool(dsn: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ClusterSpool]:
    """With a watch that loses its patience soon."""
    monkeypatch.setattr(pillarbox.spool.cluster.cell, "PATIENT", 0.3)
    monkeypatch.setattr(pillarbox.spool.cluster.cell, "TICK", 0.1)
    monkeypatch.setattr(pillarbox.spool.cluster.outbox, "GRACE", 0.0)
    opened = await open_cluster(ClusterSettings(dsn, "pillarbox test"), clock=clock)
    yield opened
    await opened.close()


@pytest.fixture
async def other(dsn: str, spool: ClusterSpool, clock: Clock) -> AsyncIterator[ClusterSpool]:
    """Another process's."""
    opened = await open_cluster(ClusterSettings(dsn, "pillarbox other"), clock=clock)
    yield opened
    await opened.close()


@pytest.fixture
async def administrator(dsn: str, spool: ClusterSpool) -> AsyncIterator[Administrator]:
    opened = Administrator(dsn)
    yield opened
    await opened.demand_nothing()
    opened.close()


def say_no_more(spool: ClusterSpool) -> None:
    """As of a process that was stopped: its heartbeat ends."""
    spool.outbox._heart.cancel()


async def age_workers(administrator: Administrator) -> None:
    administrator.ask("UPDATE pillarbox.worker SET seen = seen - interval '31 seconds'")


# -- the promise


async def test_a_connection_that_ends_in_a_commit_is_no_second_message(
    spool: ClusterSpool, administrator: Administrator
) -> None:
    """Unknown is asked for again under the queue id, until it is known."""
    sent = envelope()
    await administrator.demand_a_standby()
    committing = asyncio.create_task(spool.commit(sent, b"hello"))
    await administrator.end_waits("pg_terminate_backend", "SELECT count(*) FROM pillarbox.message")
    await administrator.until_a_commit_waits_for_a_standby()
    assert not committing.done(), "the row is there, and no standby has it"
    await administrator.demand_nothing()
    await committing
    assert [lease.envelope for lease in await spool.lease(NOW, 10)] == [sent]


async def test_a_row_that_is_found_is_not_success_while_nothing_is_confirmed(
    spool: ClusterSpool, other: ClusterSpool, administrator: Administrator
) -> None:
    sent = envelope()
    await administrator.demand_a_standby()
    spool.intake._patience = 1.0
    committing = asyncio.create_task(spool.commit(sent, b"hello"))
    await administrator.end_waits("pg_cancel_backend", "SELECT count(*) FROM pillarbox.message")
    with pytest.raises(Unavailable):
        await committing
    other.cell.trouble = None
    other.intake._patience = 1.0
    with pytest.raises(Unavailable):
        await other.commit(sent, b"hello")
    assert administrator.ask("SELECT count(*) FROM pillarbox.message") == [(1,)]
    await administrator.demand_nothing()
    await soon(lambda: other.refusal(0) is None)
    await other.commit(sent, b"hello")
    assert (await other.depth(NOW)).messages == 1


async def test_a_settlement_that_is_repeated_is_not_success_while_nothing_is_confirmed(
    spool: ClusterSpool, administrator: Administrator
) -> None:
    await spool.commit(envelope(), b"")
    (lease,) = await spool.lease(NOW, 10)
    told = settlement(lease, Deferred("451", "hop", NOW + 60))
    await administrator.demand_a_standby()
    settling = asyncio.create_task(spool.settle(lease, told))
    await administrator.end_waits("pg_cancel_backend", "SELECT bool_and(due_at = 5060) FROM pillarbox.recipient")
    with pytest.raises(Unavailable):
        await settling
    spool.cell.trouble = None
    settling = asyncio.create_task(spool.settle(lease, told))
    await administrator.until_a_commit_waits_for_a_standby()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await asyncio.shield(settling)
    await administrator.demand_nothing()
    await settling
    (recipient,) = (await spool.show(lease.envelope.queue_id)).recipients
    assert recipient.attempts == 1


async def test_without_a_quorum_mail_is_refused_at_once_and_all_goes_on_by_itself_later(
    spool: ClusterSpool, administrator: Administrator
) -> None:
    sent = envelope()
    await spool.commit(sent, b"hello")
    (lease,) = await spool.lease(NOW, 10)
    await administrator.demand_a_standby()
    await soon(lambda: spool.refusal(0) is not None)
    assert isinstance(spool.refusal(0), Unavailable)
    assert spool.unhealthy_reason() is not None
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable):
            await spool.commit(envelope(), b"")
        with pytest.raises(Unavailable):
            await spool.settle(lease, settlement(lease, Delivered("250 ok", "hop")))
        assert await spool.lease(NOW, 10) == [], "what is tried now could not be recorded"
        with pytest.raises(Unavailable):
            await spool.hold(Filter(), NOW)
        assert len(await spool.list(Filter(), NOW, 10)) == 1, "it can be looked at all the same"
    await administrator.demand_nothing()
    await soon(lambda: spool.refusal(0) is None)
    await spool.settle(lease, settlement(lease, Delivered("250 ok", "hop")))
    await spool.commit(envelope(), b"")
    assert (await spool.depth(NOW)).messages == 1


async def test_a_probe_that_hangs_is_not_joined_by_others(spool: ClusterSpool, administrator: Administrator) -> None:
    """Each would leave a process of the server that waits for a standby."""
    await administrator.demand_a_standby()
    await soon(lambda: spool.refusal(0) is not None)
    for _ in range(10):
        await asyncio.sleep(0.1)
        assert administrator.ask("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == [(1,)]


async def test_messages_in_hand_outlive_a_server_that_is_killed_and_comes_back(
    node: Postgres, spool: ClusterSpool
) -> None:
    """As in a fail-over: what was being committed is committed once, what was confirmed is there."""
    confirmed: list[str] = []
    stop = asyncio.Event()

    async def produce() -> None:
        while not stop.is_set():
            each = envelope()
            try:
                await spool.commit(each, b"hello")
            except Unavailable:  # refused, nothing begun
                await asyncio.sleep(0.05)
                continue
            confirmed.append(each.queue_id)

    producers = [asyncio.create_task(produce()) for _ in range(4)]
    await soon(lambda: len(confirmed) > 20)
    await asyncio.to_thread(node.kill9)
    await asyncio.to_thread(node.start)
    before = len(confirmed)
    await soon(lambda: len(confirmed) > before + 20)
    stop.set()
    await asyncio.gather(*producers)
    found = [message.envelope.queue_id for message in await spool.list(Filter(), NOW, 100_000)]
    assert len(found) == len(set(found))
    assert set(confirmed) <= set(found)


async def test_one_message_that_cannot_be_stored_does_not_fail_its_neighbours(spool: ClusterSpool) -> None:
    sent = [envelope() for _ in range(20)]
    bad = [
        replace(envelope(), size=1 << 70),
        replace(envelope(), received_at=float("nan")),
        replace(envelope(), login="\ud800"),
        replace(envelope(), forward_paths=()),
        replace(envelope(), priority=40_000),
    ]
    results = await asyncio.gather(
        *(spool.commit(each, b"fine") for each in sent[:10]),
        *(spool.commit(each, b"bad") for each in bad),
        *(spool.commit(each, b"fine") for each in sent[10:]),
        return_exceptions=True,
    )
    assert results[:10] == results[15:] == [None] * 10
    kinds = [type(result) for result in results[10:15]]
    assert kinds == [Unavailable, ValueError, UnicodeEncodeError, ValueError, Unavailable]
    assert spool.refusal(0) is None, "the cell is well"
    assert [message.envelope for message in await spool.list(Filter(), NOW, 100)] == sent


async def test_a_full_disk_refuses_mail_as_full_and_settles_on(
    spool: ClusterSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await spool.commit(envelope(), b"")
    (lease,) = await spool.lease(NOW, 10)

    async def full(work: object, *, deadline: float) -> None:
        raise DiskFull("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(spool.cell.store, "write", full)
        with pytest.raises(Full):
            await spool.commit(envelope(), b"")
    assert isinstance(spool.refusal(0), Full)
    await spool.settle(lease, settlement(lease, Delivered("250 ok", "hop")))
    spool.cell._full_until = 0.0
    await soon(lambda: spool.refusal(0) is None)


# -- large contents


async def large(spool: ClusterSpool, queue_id: str, size: int) -> None:
    """Writes and commits."""
    writer = spool.writer(queue_id)
    await writer.write(b"x" * size)
    await writer.commit(envelope(queue_id=queue_id, size=size))


async def test_a_message_whose_chunks_a_fail_over_took_is_not_accepted(
    spool: ClusterSpool, administrator: Administrator
) -> None:
    sent = envelope(size=3 * INLINE_LIMIT)
    writer = spool.writer(sent.queue_id)
    await writer.write(b"x" * 3 * INLINE_LIMIT)
    await administrator.until("SELECT count(*) >= 2 FROM pillarbox.content_chunk")
    administrator.ask("DELETE FROM pillarbox.content_chunk WHERE seq = 1")
    with pytest.raises(Unavailable, match="not whole"):
        await writer.commit(sent)
    with pytest.raises(UnknownQueueId):
        await spool.show(sent.queue_id)


async def test_content_of_another_size_than_announced_is_refused_and_leaves_nothing(
    spool: ClusterSpool, administrator: Administrator
) -> None:
    sent = envelope(size=2 * INLINE_LIMIT + 1)
    writer = spool.writer(sent.queue_id)
    await writer.write(b"x" * 2 * INLINE_LIMIT)
    with pytest.raises(Unavailable):
        await writer.commit(sent)
    with pytest.raises(Unavailable):
        await writer.write(b"x")
    assert administrator.ask("SELECT count(*) FROM pillarbox.content_chunk") == [(0,)]


async def test_only_one_copy_of_a_repeated_content_stays(spool: ClusterSpool, administrator: Administrator) -> None:
    sent = envelope(size=2 * INLINE_LIMIT)
    for _ in range(2):
        writer = spool.writer(sent.queue_id)
        await writer.write(b"x" * sent.size)
        await writer.commit(sent)
    assert administrator.ask("SELECT count(DISTINCT content_id), count(*) FROM pillarbox.content_chunk") == [(1, 2)]
    assert await read_all(spool.open(sent.queue_id)) == b"x" * sent.size


async def test_an_abandoned_content_leaves_no_chunk(spool: ClusterSpool, administrator: Administrator) -> None:
    writer = spool.writer(envelope().queue_id)
    await writer.write(b"x" * 3 * INLINE_LIMIT)
    await writer.abandon()
    assert administrator.ask("SELECT count(*) FROM pillarbox.content_chunk") == [(0,)]


# -- workers


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
        (one,) = await spool.lease(NOW, 10, frozenset({"two.example"}))
        (two,) = await other.lease(NOW, 10)
        await asyncio.gather(
            spool.settle(one, settlement(one, Delivered("250 ok", "hop"))),
            other.settle(two, settlement(two, Delivered("250 ok", "hop"))),
        )
        assert administrator.ask("SELECT count(*) FROM pillarbox.recipient") == [(0,)]


# -- a long queue


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
            "skip": "ARRAY['dead.example']",
        }
        administrator.ask("SET search_path = pillarbox")
        ((plan,),) = administrator.ask(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}")
        administrator.ask("UPDATE pillarbox.recipient SET leased_by = NULL WHERE leased_by = 1")
        assert isinstance(plan, list)
        return int(plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"])

    alone = read()
    administrator.ask(
        "INSERT INTO pillarbox.recipient (queue_id, key, forward_path, domain, priority, state, due_at, notify, "
        "original_recipient) SELECT 'X' || n, 0, 'x@dead.example', 'dead.example', 0, "
        "CASE WHEN n % 2 = 0 THEN 'due' ELSE 'later' END, n / 1e6, '', '' FROM generate_series(1, 40000) n"
    )
    administrator.ask("ANALYZE pillarbox.recipient")
    assert read() <= 4 * alone + 40
    assert [lease.envelope for lease in await spool.lease(NOW, 10, frozenset({"dead.example"}))] == [live]


async def test_more_lanes_than_one_taking_looks_at_have_each_their_turn(
    spool: ClusterSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = [envelope(f"x@d{number}.example") for number in range(taking.LANES + 250)]
    await asyncio.gather(*(spool.commit(each, b"") for each in sent))
    leased: list[str] = []
    while leases := await spool.lease(NOW, 100):
        leased += [lease.envelope.queue_id for lease in leases]
    assert sorted(leased) == sorted(each.queue_id for each in sent)


# -- leaving


async def test_a_finished_message_lingers_and_then_leaves_every_table(
    spool: ClusterSpool, administrator: Administrator
) -> None:
    sent = envelope(size=2 * INLINE_LIMIT)
    await large(spool, sent.queue_id, sent.size)
    (lease,) = await spool.lease(NOW, 10)
    await spool.settle(lease, settlement(lease, Delivered("250 ok", "hop")))
    now = spool.cell.loop.time()
    await spool.removal.tick(now + LINGER / 2)
    assert administrator.ask("SELECT count(*) FROM pillarbox.message") == [(1,)]
    await spool.removal.tick(now + LINGER + 1)
    for table in ("message", "recipient", "content_chunk"):
        assert administrator.ask(f"SELECT count(*) FROM pillarbox.{table}") == [(0,)]  # noqa: S608  # one of three


async def test_what_a_dead_process_finished_is_found_by_two_searches_and_no_sooner(
    spool: ClusterSpool, dsn: str, clock: Clock, administrator: Administrator
) -> None:
    await spool.commit(envelope(), b"")
    (lease,) = await spool.lease(NOW, 10)
    await spool.settle(lease, settlement(lease, Delivered("250 ok", "hop")))
    await spool.commit(envelope(), b"")
    spool.removal._finished.clear()  # as if this process had died
    now = spool.cell.loop.time() + 1
    await spool.removal.tick(now)
    assert administrator.ask("SELECT count(*) FROM pillarbox.message") == [(2,)]
    await spool.removal.tick(now + LINGER + 1)
    assert administrator.ask("SELECT count(*) FROM pillarbox.message") == [(1,)]


# -- opening


async def test_a_cell_without_tables_or_with_those_of_a_newer_program_is_refused(node: Postgres) -> None:
    dsn = await asyncio.to_thread(node.create_database)
    with pytest.raises(SpoolError, match="schema 0 of spool"):
        await open_cluster(ClusterSettings(dsn))
    assert await make_tables(ClusterSettings(dsn)) == 0
    store = Store(dsn)

    async def newer(transaction: Transaction) -> None:
        transaction.add("INSERT INTO migration (room, number) VALUES ('spool', 99)")

    await store.write(newer)
    await store.close()
    for opening in (open_cluster(ClusterSettings(dsn)), make_tables(ClusterSettings(dsn))):
        with pytest.raises(SpoolError, match="newer Pillarbox"):
            await opening


async def test_a_server_that_is_not_there_is_said_with_its_name() -> None:
    with pytest.raises(SpoolError, match=r"127\.0\.0\.1:1/mail"):
        await open_cluster(ClusterSettings("host=127.0.0.1 port=1 dbname=mail"))


def test_without_the_driver_all_but_the_cluster_can_be_imported() -> None:
    program = (
        "import json, pkgutil, importlib, sys; sys.modules['psycopg'] = None; import pillarbox; failed = []\n"
        "for module in pkgutil.walk_packages(pillarbox.__path__, 'pillarbox.'):\n"
        "    if module.name.endswith('__main__'): continue\n"
        "    try: importlib.import_module(module.name)\n"
        "    except ImportError: failed.append(module.name)\n"
        "print(json.dumps(failed))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    failed = json.loads(done.stdout.splitlines()[-1])
    allowed = ("pillarbox.spool.cluster.", "pillarbox.store.postgresql", "pillarbox.store.migrations")
    assert [name for name in failed if not name.startswith(allowed)] == []
    assert failed, "the driver was there after all"


def test_no_module_but_one_imports_the_driver() -> None:
    sources = Path(pillarbox.spool.cluster.cell.__file__).parents[2].rglob("*.py")
    importing = [path.name for path in sources if "import psycopg" in path.read_text()]
    assert importing == ["postgresql.py"]
    assert issubclass(psycopg.Error, Exception)
    assert issubclass(DiskFull, StoreError)
