"""What says that a cell is well: a write that its standbys confirmed, and nothing else."""

import asyncio
import contextlib

import pytest
from tests.spool.messages import NOW, envelope
from tests.support.administrator import Administrator

import pillarbox.spool.cluster.outbox
from pillarbox.spool.base import Unavailable
from pillarbox.spool.cluster.spool import ClusterSpool
from pillarbox.spool.cluster.taking import Wanted
from pillarbox.store.postgresql import Transaction


@pytest.fixture
async def without_quorum(
    spool: ClusterSpool, administrator: Administrator, monkeypatch: pytest.MonkeyPatch
) -> ClusterSpool:
    """It demands a quorum, and since its first taking there is none; its watch looks on and does nothing."""
    monkeypatch.setattr(pillarbox.spool.cluster.outbox, "HEARTBEAT", 600.0)
    await spool.commit(envelope(queue_id="01TEST0000000000000000000X"), b"")
    assert len(await spool.lease(NOW, 10)) == 1
    await administrator.demand_a_standby()
    spool.cell.store.quorum = True
    spool.cell._ticker.cancel()
    if spool.cell._probing is not None:
        spool.cell._probing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await spool.cell._probing
    spool.cell.fail("no quorum")
    return spool


async def test_a_taking_that_finds_nothing_confirms_nothing(without_quorum: ClusterSpool) -> None:
    cell = without_quorum.cell
    before = cell._confirmed_at
    assert await without_quorum.outbox._take(Wanted(NOW, 10, (), 1 << 20)) == ([], 0)
    assert (cell.trouble, cell._confirmed_at) == ("no quorum", before)


async def test_a_statement_that_changes_nothing_confirms_nothing(without_quorum: ClusterSpool) -> None:
    cell = without_quorum.cell

    async def nothing(transaction: Transaction) -> None:
        transaction.add("UPDATE recipient SET due_at = 0 WHERE queue_id = 'none'")

    await cell.write(nothing)
    assert cell.trouble == "no quorum"


async def test_a_repeated_commit_that_finds_its_row_confirms_nothing(without_quorum: ClusterSpool) -> None:
    """Its INSERT writes nothing, so that the server waits for nobody; what counts is the write after it."""
    cell = without_quorum.cell
    before = cell._confirmed_at
    cell.trouble = None
    without_quorum.intake._patience = 0.5
    with pytest.raises(Unavailable):
        await without_quorum.commit(envelope(queue_id="01TEST0000000000000000000X"), b"")
    assert cell._confirmed_at == before


async def test_a_write_that_a_standby_confirmed_says_that_the_cell_is_well(
    without_quorum: ClusterSpool,
) -> None:
    """As if one had: the setting names it, and this transaction does not wait."""
    cell = without_quorum.cell

    async def mark(transaction: Transaction) -> None:
        transaction.add("SET LOCAL synchronous_commit = local")
        transaction.mark()

    await cell.write(mark)
    assert cell.trouble is None
