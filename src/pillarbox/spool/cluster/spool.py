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
from collections.abc import Callable

from pillarbox.spool.assembled import AssembledSpool
from pillarbox.spool.base import SpoolError
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


class ClusterSpool(AssembledSpool):
    """See the module's text. ``leases``: this process lends. Others are no worker of the cell: without a heartbeat
    they need no right to tell one, and only who finishes messages removes them."""

    def __init__(self, cell: Cell, name: str, *, leases: bool = True) -> None:
        self.cell = cell
        self.removal = Removal(cell)
        self.intake = ClusterIntake(cell)
        self.ledger = ClusterLedger(cell, self.removal)
        self._outbox = ClusterOutbox(cell, self.removal, name) if leases else None
        super().__init__(self.intake, self._outbox, self.ledger)

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
