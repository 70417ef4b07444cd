"""The cluster spool as a role uses it: there from the start, whether its cell can be reached or not.

    spool = CellSpool(settings.spool, "pillarbox submission 0", "submission")
    await spool.start()                        # a cell that is weaker than promised: CannotStart

A cell that cannot be reached is waited for: until then commits are refused (451) and nothing is lent. It is looked at
again all the time, for a fail-over may lead to a server with other settings: while the promise is not kept, no mail
is taken, whoever changed it. Delivery and the operator's verbs go on, since they promise nothing new.

ERRORS
    CannotStart: no driver, no password, no tables, a weaker cell. Otherwise those of spool.base.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from pillarbox.console.cells import CellUnusable, examine, open_store
from pillarbox.daemon.process import CannotStart
from pillarbox.message.envelope import Envelope
from pillarbox.spool.base import ContentWriter, Depth, Lease, Settlement, SpoolError, Unavailable
from pillarbox.spool.settings import CellsSettings, Role
from pillarbox.store.errors import Denied, StoreError
from pillarbox.telemetry.events import get_logger

if TYPE_CHECKING:
    from pillarbox.spool.cluster.ledger import ClusterLedger
    from pillarbox.spool.cluster.spool import ClusterSpool
    from pillarbox.store.postgresql import Store

FIRST_LOOK = 6.0
"""Seconds that a start waits for the cell."""
LOOK_FOR = 1.0
"""Seconds between two looks at a cell that is not in use."""
LOOK_AGAIN = 2.0
"""Seconds between two looks at one that is: for so long a cell that was weakened goes unnoticed."""

log = get_logger("daemon")


class CellSpool:
    """Intake, Outbox and Ledger over one cell; see the module's text. ``name``: what the server shows of us;
    ``role``: as whom it is asked."""

    def __init__(self, settings: CellsSettings, name: str, role: Role) -> None:
        (self._cell, *_) = settings.cells
        self._durability = settings.durability
        self._name, self._role = name, role
        self._store: Store | None = None
        self._spool: ClusterSpool | None = None
        self._refused: str | None = f"cell {self._cell.name} was not reached yet"
        self._said: str | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self, *, strict: bool = True) -> None:
        """Looks at the cell, for a moment at most. Raises CannotStart when it is there and not as promised, if
        ``strict``."""
        try:
            self._store = open_store(self._cell, self._role, name=self._name)
            self._store.quorum = self._durability == "quorum"  # looked at around each commit, too
        except CellUnusable as error:
            self._refused = str(error)
            if strict:
                raise CannotStart(self._refused) from None
            return
        try:
            async with asyncio.timeout(FIRST_LOOK):
                await self._look()
        except TimeoutError:
            self._wait(f"cell {self._cell.name}: no answer within {FIRST_LOOK:g} s")
        except CellUnusable as error:
            self._refused = str(error)
            if strict:
                await self._store.close()
                raise CannotStart(self._refused) from None
        self._watching = asyncio.create_task(self._watch(), name=f"promise of cell {self._cell.name}")

    async def close(self) -> None:
        """Finishes what was asked and closes the connections."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        if self._spool is not None:
            await self._spool.close()
        elif self._store is not None:
            await self._store.close()

    # -- the promise

    async def _look(self) -> None:
        """Raises CellUnusable when the cell is there and not as promised."""
        assert self._store is not None  # noqa: S101  (start() made it; tells the type checker)
        try:
            found = await examine(self._store, self._cell, self._durability, role=self._role)
        except Denied as error:
            raise CellUnusable(f"cell {self._cell.name}: {error}") from None
        except StoreError as error:
            if self._spool is None:
                self._wait(f"cell {self._cell.name}: {error}")
            return
        # tables that a newer program brought up meanwhile are no reason to stop: migrations are safe while serving
        looked_at = found.findings if self._spool is None else found.promise
        refusals = [f"{one.subject}: {one.message}; {one.advice}" for one in looked_at if one.blocks]
        if refusals:
            raise CellUnusable("; ".join(refusals))
        if self._spool is None:
            self._open(self._store)
        if self._said is not None:
            log.info("cell.accepted", cell=self._store.where)
        self._refused = self._said = None

    def _open(self, store: "Store") -> None:
        from pillarbox.spool.cluster.cell import Cell
        from pillarbox.spool.cluster.spool import ClusterSpool

        self._spool = ClusterSpool(Cell(store, time.time), self._name, leases=self._role == "delivery")

    def _wait(self, reason: str) -> None:
        self._refused = reason
        if self._said is None:
            log.error("cell.awaited", cell=self._cell.name, reason=reason)
            self._said = reason

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AGAIN if self._refused is None else LOOK_FOR)
            try:
                await self._look()
            except CellUnusable as error:
                self._refused = str(error)
                if self._said != self._refused:
                    log.error("cell.refused", cell=self._cell.name, reason=self._refused)
                    self._said = self._refused
            except Exception:  # our bug: the watch must go on all the same
                log.exception("cell.refused", cell=self._cell.name, reason="the look at it failed")

    def unhealthy_reason(self) -> str | None:
        """See Spool.unhealthy_reason."""
        if self._refused is not None or self._spool is None:
            return self._refused
        return self._spool.unhealthy_reason()

    def _opened(self) -> "ClusterSpool":
        if self._spool is None:
            raise Unavailable(self._refused or "")
        return self._spool

    def _accepting(self) -> "ClusterSpool":
        if self._refused is not None:
            raise Unavailable(self._refused)
        return self._opened()

    # -- Intake

    def tag(self) -> str:
        """See Intake.tag."""
        return self._cell.name

    def refusal(self, size: int) -> SpoolError | None:
        """See Intake.refusal."""
        try:
            return self._accepting().refusal(size)
        except Unavailable as error:
            return error

    async def commit(self, envelope: Envelope, content: bytes) -> None:
        """See Intake.commit."""
        await self._accepting().commit(envelope, content)

    def writer(self, queue_id: str) -> ContentWriter:
        """See Intake.writer; after refusal() said that there is a spool."""
        return self._opened().writer(queue_id)

    # -- Outbox

    async def lease(self, now: float, limit: int, skip: frozenset[str] = frozenset()) -> list[Lease]:
        """See Outbox.lease. Raises Unavailable."""
        return [] if self._spool is None else await self._spool.lease(now, limit, skip)

    async def wait_due(self, timeout: float) -> None:
        """See Outbox.wait_due. Raises Unavailable."""
        if self._spool is None:
            await asyncio.sleep(min(timeout, LOOK_FOR))
        else:
            await self._spool.wait_due(timeout)

    def extend(self, lease: Lease) -> bool:
        """See Outbox.extend."""
        return self._opened().extend(lease)

    def open(self, queue_id: str) -> AsyncIterator[bytes]:
        """See Outbox.open."""
        return self._opened().open(queue_id)

    async def settle(self, lease: Lease, settlement: Settlement) -> None:
        """See Outbox.settle."""
        await self._opened().settle(lease, settlement)

    async def release_lease(self, lease: Lease) -> None:
        """See Outbox.release_lease."""
        await self._opened().release_lease(lease)

    # -- the operator's

    @property
    def ledger(self) -> "ClusterLedger":
        """The operator's verbs. Raises Unavailable."""
        return self._opened().ledger

    async def depth(self, now: float) -> Depth:
        """See Ledger.depth."""
        return await self._opened().depth(now)
