"""A cell's spool as one process uses it: all of spool.base.Spool.

    spool = await open_cluster(ClusterSettings(dsn))
    await spool.commit(envelope, content)
    await spool.close()

Every process has connections of its own; nothing of ours stands between it and the cell. ``make_tables`` makes them
or brings them up to this program's.

ERRORS
    open_cluster raises SpoolError with a text for the administrator: no such server, tables missing, too old or made
    by a newer Pillarbox, PostgreSQL too old. Later trouble is no error: it is waited out (cell.py).
"""

import time
from collections.abc import AsyncIterator, Callable, Sequence

from pillarbox.message.envelope import Envelope
from pillarbox.spool.base import (
    ContentWriter,
    Depth,
    Filter,
    Lease,
    NewMessage,
    QueuedMessage,
    Settlement,
    SpoolError,
)
from pillarbox.spool.cluster.cell import Cell
from pillarbox.spool.cluster.intake import ClusterIntake
from pillarbox.spool.cluster.ledger import ClusterLedger
from pillarbox.spool.cluster.outbox import ClusterOutbox
from pillarbox.spool.cluster.removal import Removal
from pillarbox.spool.cluster.schema import MIGRATIONS, ROOM
from pillarbox.spool.settings import ClusterSettings
from pillarbox.store.errors import StoreError
from pillarbox.store.migrations import check, migrate
from pillarbox.store.postgresql import Store


class ClusterSpool:
    """See the module's text. ``leases``: this process lends. Others are no worker of the cell: without a heartbeat
    they need no right to tell one, and only who finishes messages removes them."""

    def __init__(self, cell: Cell, name: str, *, leases: bool = True) -> None:
        self.cell = cell
        self.removal = Removal(cell)
        self.intake = ClusterIntake(cell)
        self.ledger = ClusterLedger(cell, self.removal)
        self._outbox = ClusterOutbox(cell, self.removal, name) if leases else None

    @property
    def outbox(self) -> ClusterOutbox:
        """The worker's part. Raises LookupError in a process that does not lend."""
        if self._outbox is None:
            raise LookupError("this process lends nothing")
        return self._outbox

    async def close(self) -> None:
        """Finishes what was asked and closes the connections."""
        await self.intake.close()
        if self._outbox is not None:
            await self._outbox.close()
        await self.removal.close()
        await self.cell.close()

    def unhealthy_reason(self) -> str | None:
        """See Spool.unhealthy_reason."""
        return self.cell.reason()

    # -- Intake

    async def commit(self, envelope: Envelope, content: bytes) -> None:
        """See Intake.commit."""
        await self.intake.commit(envelope, content)

    def writer(self, queue_id: str) -> ContentWriter:
        """See Intake.writer."""
        return self.intake.writer(queue_id)

    def tag(self) -> str:
        """See Intake.tag."""
        return ""

    def refusal(self, size: int) -> SpoolError | None:
        """See Intake.refusal."""
        return self.intake.refusal(size)

    # -- Outbox

    async def lease(self, now: float, limit: int, skip: frozenset[str] = frozenset()) -> list[Lease]:
        """See Outbox.lease."""
        return await self.outbox.lease(now, limit, skip)

    async def wait_due(self, timeout: float) -> None:
        """See Outbox.wait_due."""
        await self.outbox.wait_due(timeout)

    def extend(self, lease: Lease) -> bool:
        """See Outbox.extend."""
        return self.outbox.extend(lease)

    def open(self, queue_id: str) -> AsyncIterator[bytes]:
        """See Outbox.open."""
        return self.outbox.open(queue_id)

    async def settle(self, lease: Lease, settlement: Settlement) -> None:
        """See Outbox.settle."""
        await self.outbox.settle(lease, settlement)

    async def release_lease(self, lease: Lease) -> None:
        """See Outbox.release_lease."""
        await self.outbox.release_lease(lease)

    # -- Ledger

    async def list(self, which: Filter, now: float, limit: int, after: str = "") -> Sequence[QueuedMessage]:
        """See Ledger.list."""
        return await self.ledger.list(which, now, limit, after)

    async def show(self, queue_id: str) -> QueuedMessage:
        """See Ledger.show."""
        return await self.ledger.show(queue_id)

    async def hold(self, which: Filter, now: float) -> Sequence[str]:
        """See Ledger.hold."""
        return await self.ledger.hold(which, now)

    async def release(self, which: Filter, now: float, early: bool = False) -> Sequence[str]:
        """See Ledger.release."""
        return await self.ledger.release(which, now, early)

    async def retry(self, which: Filter, now: float, early: bool = False) -> Sequence[str]:
        """See Ledger.retry."""
        return await self.ledger.retry(which, now, early)

    async def expunge(self, queue_id: str, bounces: tuple[NewMessage, ...] = ()) -> None:
        """See Ledger.expunge."""
        await self.ledger.expunge(queue_id, bounces)

    async def depth(self, now: float) -> Depth:
        """See Ledger.depth."""
        return await self.ledger.depth(now)


async def open_cluster(
    settings: ClusterSettings, *, clock: Callable[[], float] = time.time, leases: bool = True
) -> ClusterSpool:
    """The spool in the cell of ``settings.dsn``. ``clock``: seconds since the epoch. Raises SpoolError."""
    try:
        store = Store(settings.dsn, name=settings.name, size=settings.connections)
        try:
            await check(store, ROOM, len(MIGRATIONS))
        except BaseException:
            await store.close()
            raise
    except StoreError as error:
        raise SpoolError(str(error)) from error
    return ClusterSpool(Cell(store, clock), settings.name, leases=leases)


async def make_tables(settings: ClusterSettings) -> int:
    """Makes the tables, or brings them up to this program's; the number of migrations that there were. Raises
    SpoolError."""
    try:
        store = Store(settings.dsn, name=settings.name)
        try:
            return await migrate(store, ROOM, MIGRATIONS)
        finally:
            await store.close()
    except StoreError as error:
        raise SpoolError(str(error)) from error
