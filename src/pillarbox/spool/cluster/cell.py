"""One cell: the way to its database, and what is known of its health.

Whether the cell takes mail is known without asking: every write that was confirmed says yes, every one that failed
says no, and when nothing was written for a second a probe is: a write of no meaning that the standbys must confirm.
A transaction that wrote nothing says nothing, for PostgreSQL asked no standby. A probe that takes longer than PATIENT
means that there is no quorum now. It is left waiting rather than made anew, for each one given up leaves a process of
the server that waits on.

ERRORS
    Unavailable, Full, for what the store raises (spool_error).
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pillarbox.spool.base import Full, SpoolError, Unavailable
from pillarbox.store.errors import Denied, DiskFull, SchemaTooOld, StoreError, Transient, Undone
from pillarbox.store.postgresql import Rows, Store, Transaction, Values
from pillarbox.telemetry.events import get_logger

T = TypeVar("T")

ATTEMPT = 10.0
"""Seconds for one transaction. Then its connection is given up, for its server may be one that was a primary."""
TICK = 1.0
PATIENT = 3.0
"""Seconds that a probe may take before the cell counts as one without a quorum."""
FULL_FOR = 10.0
"""Seconds for which a server whose disk was full is not asked to take more: a probe needs no room."""
_PROBE_DEADLINES = (10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
"""Seconds: the first is short, for the server may be one that stopped, and another has taken its place."""

log = get_logger("spool")


class Cell:
    """See the module's text. ``clock`` gives seconds since the epoch."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self.store, self.clock = store, clock
        self.loop = asyncio.get_running_loop()
        self.trouble: str | None = None
        self.full: str | None = None
        self.recovered_at = float("-inf")
        self._full_until = 0.0
        self._confirmed_at = self.loop.time()
        self._probing: asyncio.Task[None] | None = None
        self._probe_began = 0.0
        self._hung = 0
        self._ticker = asyncio.create_task(self._tick(), name=f"cell {store.where}")

    async def close(self) -> None:
        """Ends the watch and closes the connections."""
        for task in (self._ticker, self._probing):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        await self.store.close()

    # -- asking

    async def write(self, work: Callable[[Transaction], Awaitable[T]], *, deadline: float = ATTEMPT) -> T:
        """Store.write, which says how the cell is. Raises StoreError."""
        transactions: list[Transaction] = []

        async def noted(transaction: Transaction) -> T:
            transactions.append(transaction)
            return await work(transaction)

        try:
            result = await self.store.write(noted, deadline=deadline)
        except StoreError as error:
            self.note(error)
            raise
        if transactions[-1].waited:
            self.confirm()
        return result

    async def change(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """write() with this room's errors; not begun while the cell is in trouble. Raises Unavailable, Full."""
        if self.trouble is not None:
            raise Unavailable(self.trouble)
        try:
            return await self.write(work)
        except StoreError as error:
            raise spool_error(error) from error

    async def read(self, *statements: tuple[str, Values]) -> list[Rows]:
        """Store.read with this room's errors. Raises Unavailable."""
        try:
            return await self.store.read(*statements)
        except StoreError as error:
            self.note(error)
            raise Unavailable(str(error)) from error

    # -- health

    def refusal(self) -> SpoolError | None:
        """Why a message is not taken now; no I/O."""
        if self.trouble is not None:
            return Unavailable(self.trouble)
        return None if self.full is None else Full(self.full)

    def reason(self) -> str | None:
        """The same, in words."""
        return self.trouble or self.full

    def confirm(self) -> None:
        """A write was confirmed."""
        self._confirmed_at = self.loop.time()
        if self.full is not None and self._confirmed_at >= self._full_until:
            self.full = None
        if self.trouble is not None:
            log.info("cell.recovered", cell=self.store.where)
            self.trouble = None
            self.recovered_at = self._confirmed_at

    def note(self, error: StoreError) -> None:
        """Something failed: says so once, not for each message."""
        if isinstance(error, DiskFull):
            self._full_until = self.loop.time() + FULL_FOR
            if self.full is None:
                self.full = str(error)
                log.error("cell.full", cell=self.store.where, reason=self.full)
        elif isinstance(error, Undone):  # a deadlock, or a connection: the next probe tells
            self._confirmed_at = min(self._confirmed_at, self.loop.time() - TICK)
        elif isinstance(error, Transient | Denied | SchemaTooOld):
            self.fail(str(error))

    def fail(self, reason: str) -> None:
        """The cell is not to be relied on until a write is confirmed."""
        if self.trouble is None:
            log.error("cell.failed", cell=self.store.where, reason=reason)
        self.trouble = reason

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            now = self.loop.time()
            if self._probing is not None:
                if now - self._probe_began > PATIENT:
                    self.fail(f"{self.store.where}: no commit was confirmed for {now - self._confirmed_at:.0f} s")
            elif now - self._confirmed_at >= TICK or self.reason() is not None:
                self._probe_began = now
                self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        deadline = _PROBE_DEADLINES[min(self._hung, len(_PROBE_DEADLINES) - 1)]
        try:
            await self.write(_mark, deadline=deadline)
            self._hung = 0
        except StoreError as error:
            self.fail(str(error))
            hung = self.loop.time() - self._probe_began >= deadline
            self._hung = self._hung + 1 if hung else 0
        except Exception:  # our bug: the watch must go on all the same
            log.exception("cell.failed", cell=self.store.where, reason="the probe failed")
        finally:
            self._probing = None


async def _mark(transaction: Transaction) -> None:
    transaction.mark()


def spool_error(error: StoreError) -> SpoolError:
    """This room's error for one of the store's."""
    return Full(str(error)) if isinstance(error, DiskFull) else Unavailable(str(error))
