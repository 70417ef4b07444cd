"""The cluster spool as a role uses it: there from the start, whether its cells can be reached or not.

    spool = Cells(settings.spool, "pillarbox submission 0", "submission")
    await spool.start()                        # a cell that is weaker than promised: CannotStart

One watch for each cell. At the start a weaker cell stops everything, although others may be well: an administrator is
there, who has just changed something. Later it is left out, and what it holds is delivered all the same.

A cell that cannot be reached is waited for: until then it takes no commits and lends nothing. It is looked at again
all the time, for a fail-over may lead to a server with other settings: while the promise is not kept, no mail is
taken by it, whoever changed it. So it is while its database is as large as its limit. Delivery and the operator's
verbs go on, since they promise nothing new.

Two cells that are one PostgreSQL cluster are refused, and so is a cell that is another cluster than it was: a dsn
that leads elsewhere by now, which must not be taken for the cell that has our mail.

ERRORS
    CannotStart: no driver, no password, no tables, a weaker cell. Otherwise those of spool.base.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pillarbox.console.cells import CellUnusable, examine, open_store, refusal
from pillarbox.daemon.process import CannotStart
from pillarbox.doctor.cell import moved, same_cluster
from pillarbox.doctor.report import Finding
from pillarbox.message.envelope import Envelope
from pillarbox.spool.base import (
    CellState,
    ContentWriter,
    Depth,
    Full,
    Lease,
    Settlement,
    SpoolError,
    Unavailable,
)
from pillarbox.spool.cluster.composite import CompositeSpool
from pillarbox.spool.cluster.composite_ledger import CompositeLedger
from pillarbox.spool.operated import PagedLedger
from pillarbox.spool.settings import CellSettings, CellsSettings, Durability, Role
from pillarbox.store.errors import Denied, StoreError
from pillarbox.telemetry.events import get_logger

if TYPE_CHECKING:
    from pillarbox.spool.cluster.spool import ClusterSpool
    from pillarbox.store.postgresql import Store

FIRST_LOOK = 6.0
"""Seconds that a start waits for the cell."""
LOOK_FOR = 1.0
"""Seconds between two looks at a cell that is not in use."""
LOOK_AGAIN = 2.0
"""Seconds between two looks at one that is: for so long a cell that was weakened goes unnoticed."""

log = get_logger("daemon")


_SIZE = "SELECT pg_database_size(current_database())"


class CellSpool:
    """Intake, Outbox and Ledger over one cell; see the module's text. ``name``: what the server shows of us;
    ``role``: as whom it is asked; ``systems``: the identifiers of all cells' PostgreSQL clusters, by cell."""

    def __init__(
        self,
        cell: CellSettings,
        durability: Durability,
        name: str,
        role: Role,
        systems: dict[str, int] | None = None,
    ) -> None:
        self._cell = cell
        self._systems = {} if systems is None else systems
        self._durability = durability
        self._name, self._role = name, role
        self._store: Store | None = None
        self._spool: ClusterSpool | None = None
        self._refused: str | None = f"cell {self._cell.name} was not reached yet"
        self._said: str | None = None
        self._size: int | None = None
        self._over: str | None = None
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
            raise CellUnusable(refusal(self._cell.name, error)) from None
        except StoreError as error:
            if self._spool is None:
                self._wait(refusal(self._cell.name, error))
            return
        # tables that a newer program brought up meanwhile are no reason to stop: migrations are safe while serving
        looked_at = [*self._identity(found.system), *(found.findings if self._spool is None else found.promise)]
        refusals = [f"{one.subject}: {one.message}; {one.advice}" for one in looked_at if one.blocks]
        if refusals:
            raise CellUnusable("; ".join(refusals))
        if self._spool is None:
            self._open(self._store)
        if self._said is not None:
            log.info("cell.accepted", cell=self._store.where)
        self._refused = self._said = None
        await self._look_for_room(self._store)

    def _identity(self, system: int) -> list[Finding]:
        """Whether it is the PostgreSQL cluster that it was, and no other cell's."""
        known = self._systems.get(self._cell.name)
        if known is not None:
            return moved(self._cell.name, known, system)
        found = same_cluster([*self._systems.items(), (self._cell.name, system)])
        if not found:
            self._systems[self._cell.name] = system
        return found

    async def _look_for_room(self, store: "Store") -> None:
        """How large its database is: the files' lengths, so a cheap question."""
        try:
            (((self._size,),),) = await store.read((_SIZE, ()))
        except StoreError:  # the next look finds out why
            return
        limit = self._cell.max_size
        if limit is None or self._size < limit:
            if self._over is not None:
                log.info("cell.recovered", cell=self._cell.name)
            self._over = None
            return
        if self._over is None:
            self._over = f"cell {self._cell.name}: its database has {self._size} octets, max_size is {limit}"
            log.error("cell.full", cell=self._cell.name, reason=self._over)

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
        return self._spool.unhealthy_reason() or self._over

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
            refusal = self._accepting().refusal(size)
        except Unavailable as error:
            return error
        return Full(self._over) if refusal is None and self._over is not None else refusal

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
    def ledger(self) -> PagedLedger:
        """The operator's verbs. Raises Unavailable."""
        return self._opened().ledger

    async def depth(self, now: float) -> Depth:
        """See Ledger.depth."""
        depth = await self._opened().depth(now)
        return with_sizes(depth, [self.sized(CellState(self._cell.name, depth.messages, self.unhealthy_reason()))])

    def sized(self, state: CellState) -> CellState:
        """With the size of its database as it was last seen, and its limit."""
        return replace(state, size=self._size, max_size=self._cell.max_size)


def with_sizes(depth: Depth, states: Sequence[CellState]) -> Depth:
    """``free``: what is left to the limits, if all cells have one and can be asked."""
    room = [
        max(state.max_size - state.size, 0)
        for state in states
        if state.max_size is not None and state.size is not None and state.messages is not None
    ]
    return replace(depth, free=sum(room) if len(room) == len(states) else None, cells=tuple(states))


class CellsLedger(CompositeLedger):
    """That of all cells, which knows how large they are."""

    def __init__(self, cells: Mapping[str, CellSpool]) -> None:
        super().__init__(cells)
        self._all = cells

    async def depth(self, now: float) -> Depth:
        """See CompositeLedger.depth."""
        depth = await super().depth(now)
        return with_sizes(depth, [self._all[state.name].sized(state) for state in depth.cells])


class Cells(CompositeSpool):
    """All cells of the configuration as one spool; see the module's text."""

    def __init__(self, settings: CellsSettings, name: str, role: Role) -> None:
        systems: dict[str, int] = {}
        self._all = {cell.name: CellSpool(cell, settings.durability, name, role, systems) for cell in settings.cells}
        closed = [cell.name for cell in settings.cells if not cell.accepts]
        super().__init__(self._all, ledger=CellsLedger(self._all), closed=closed)

    async def start(self, *, strict: bool = True) -> None:
        """Looks at each cell; see CellSpool.start. Raises CannotStart."""
        started = await asyncio.gather(
            *(cell.start(strict=strict) for cell in self._all.values()), return_exceptions=True
        )
        failures = [failure for failure in started if isinstance(failure, BaseException)]
        if failures:
            await self.close()
            raise failures[0]

    def takes_mail(self) -> bool:
        """Whether one of them does."""
        return self.refusal(0) is None
