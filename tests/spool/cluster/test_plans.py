"""Plans that a session made over empty tables, when the queue has grown under them; and how much one step reads."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
from tests.spool.messages import Clock, envelope, lanes
from tests.support.postgres import Postgres

import pillarbox.spool.cluster.outbox
import pillarbox.spool.cluster.removal
from pillarbox.spool.base import Deferred, Delivered, Filter, Outcome, Settlement
from pillarbox.spool.cluster.spool import ClusterSpool, make_tables, open_cluster
from pillarbox.spool.settings import ClusterSettings
from pillarbox.store.postgresql import Rows, Transaction

GROWN = 20_000
_GROW = (
    "INSERT INTO message (queue_id, reverse_path, received_at, size, eight_bit, smtputf8, login, site, session_id, "
    'is_bounce, "binary", ret, envid, hold_until, deliver_by, deliver_by_mode, priority, require_tls, tls_optional, '
    "digest, weight, content, chunks) SELECT 'grown' || i, 's@example.org', 0, 1, false, false, '', '', '', false, "
    "false, '', '', 0, 0, '', 0, false, false, '', 1, 'x', 0 FROM generate_series(1, %(grown)s) AS s(i)",
    "INSERT INTO recipient (queue_id, key, forward_path, domain, priority, state, due_at, notify, "
    "original_recipient) SELECT 'grown' || i, 0, 'r@away.example', 'away.example mail.example.org', 0, 'due', 0, '', "
    "'' FROM generate_series(1, %(grown)s) AS s(i)",
    "INSERT INTO content_chunk (content_id, seq, length, octets) SELECT i / 2, i %% 2, 1, 'x' "
    "FROM generate_series(0, %(grown)s - 1) AS s(i)",
)
_READ = (
    "SELECT sum(seq_tup_read)::int8 FROM pg_stat_user_tables "
    "WHERE schemaname = 'pillarbox' AND relname IN ('message', 'recipient', 'content_chunk')"
)
_FOUND = "SELECT sum(idx_tup_read)::int8 FROM pg_stat_user_indexes WHERE schemaname = 'pillarbox'"


@pytest.fixture
async def spool(node: Postgres, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ClusterSpool]:
    """One session, and tables of which no statistics are ever made."""
    monkeypatch.setattr(pillarbox.spool.cluster.outbox, "GRACE", 0.0)
    settings = ClusterSettings(await asyncio.to_thread(node.create_database), connections=1)
    await make_tables(settings)
    opened = await open_cluster(settings, clock=clock)

    async def leave_alone(transaction: Transaction) -> None:
        for table in ("message", "recipient", "content_chunk"):
            transaction.add(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")

    await opened.cell.write(leave_alone)
    yield opened
    await opened.close()


async def rows_read_with_their_tables(spool: ClusterSpool) -> int:
    """So far, by reading a table from its beginning to its end."""
    return await _counted(spool, _READ)


async def entries_read(spool: ClusterSpool) -> int:
    """So far, of indexes."""
    return await _counted(spool, _FOUND)


async def _counted(spool: ClusterSpool, query: str) -> int:
    await spool.cell.read(("SELECT pg_stat_force_next_flush()", ()))
    rows: Rows = (await spool.cell.read((query, ())))[0]
    return int(rows[0][0])


async def grow(spool: ClusterSpool) -> None:
    async def work(transaction: Transaction) -> None:
        transaction.add("ALTER TABLE recipient DISABLE TRIGGER recipient_added")
        for statement in _GROW:
            transaction.add(statement, {"grown": GROWN})

    await spool.cell.write(work)


async def search(spool: ClusterSpool) -> None:
    while not await spool.removal.look():
        pass


async def a_day_of_one_message(spool: ClusterSpool, clock: Clock) -> None:
    """Whatever names the rows that it wants, once."""
    sent = envelope("a@here.example", "b@here.example")
    await spool.commit(sent, b"x")
    one = Filter(queue_ids=(sent.queue_id,))
    await spool.hold(one, clock.now)
    await spool.release(one, clock.now)
    await spool.show(sent.queue_id)
    skip = lanes("away.example")
    for outcome in (Deferred("450 later", "mx", clock.now - 1), Delivered("250 ok", "mx")):
        (lease,) = await spool.lease(clock.now, 10, skip)
        await spool.release_lease(lease)
        (lease,) = await spool.lease(clock.now, 10, skip)
        outcomes: dict[int, Outcome] = {recipient.key: outcome for recipient in lease.recipients}
        await spool.settle(lease, Settlement(sent.queue_id, outcomes))
    await spool.removal.remove([sent.queue_id])
    deleted = envelope("c@here.example")
    await spool.commit(deleted, b"x")
    await spool.expunge(deleted.queue_id)
    await search(spool)


async def test_plans_made_over_empty_tables_do_not_read_all_of_a_queue_that_has_grown(
    spool: ClusterSpool, clock: Clock
) -> None:
    for _ in range(7):  # then the server keeps a plan
        await a_day_of_one_message(spool, clock)

    await grow(spool)
    before = await rows_read_with_their_tables(spool)
    await a_day_of_one_message(spool, clock)
    assert await rows_read_with_their_tables(spool) - before < GROWN // 10


async def test_a_step_of_a_search_for_what_is_finished_reads_a_step_s_worth_and_no_step_is_left_out(
    spool: ClusterSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = 1_000
    monkeypatch.setattr(pillarbox.spool.cluster.removal, "MESSAGES", step)
    monkeypatch.setattr(pillarbox.spool.cluster.removal, "CHUNKS", step)
    for _ in range(7):
        await search(spool)
    await grow(spool)
    read = [await entries_read(spool)]
    while not await spool.removal.look():
        read.append(await entries_read(spool))
    each = [after - before for before, after in itertools.pairwise(read)]
    assert max(each) < 6 * step
    assert len(each) == 2 * GROWN // step + 1, "and one each that finds the end, the last of which is not counted"
