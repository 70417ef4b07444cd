"""What the parts of the embedded spool share: the store, the content files, room, due times and leases.

One owner per directory (a lock file sees to it), one event loop. The parts (embedded, lending, ledger) keep nothing
of their own that outlives a call.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from pillarbox.spool.base import Full, SpoolError, Unavailable
from pillarbox.spool.content import ContentFiles
from pillarbox.spool.due import DueIndex
from pillarbox.spool.leases import Held, LeaseTable, Worker
from pillarbox.spool.space import Space
from pillarbox.store.sqlite import Closed, Conflict, Corrupt, Database, DiskFull, Store, StoreError
from pillarbox.telemetry.events import get_logger

T = TypeVar("T")

VOID_AFTER = 30.0
"""Seconds after which a worker that was not heard of loses its leases."""
_REMEMBERED_FOR = 15.0
_REMEMBERED = 100_000

log = get_logger("spool")


class Owner:
    """See the module's text. ``clock`` gives seconds since the epoch."""

    def __init__(
        self,
        store: Store,
        files: ContentFiles,
        space: Space,
        due: DueIndex,
        *,
        last_number: int,
        suspect: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store, self.files, self.space, self.due = store, files, space, due
        self.clock = clock
        self.loop = asyncio.get_running_loop()
        self.leases = LeaseTable(int(time.time() * 1e6))
        self.lending = asyncio.Lock()
        """Held by whoever reads rows in order to lend them, and by who changes rows that could be lent."""
        self.workers: set[Worker] = set()
        self.broken: str | None = None
        self.trouble: str | None = None
        self._suspect = suspect
        self._number = max(last_number, int(time.time() * 1e6))
        self._left: set[str] = set()
        self._left_before: set[str] = set()
        self._rotate_at = self.loop.time() + _REMEMBERED_FOR

    def next_number(self) -> int:
        """A message number that was not used in this process's life."""
        self._number += 1
        return self._number

    # -- writing

    async def write(self, work: Callable[[Database], T]) -> T:
        """Store.write with this room's errors: Full, Unavailable."""
        future = self.store.write(work)
        future.add_done_callback(self.note)
        try:
            return await asyncio.shield(future)
        except StoreError as error:
            raise spool_error(error) from error

    async def read(self, work: Callable[[Database], T]) -> T:
        """Store.read with this room's errors: Unavailable."""
        try:
            return await self.store.read(work)
        except StoreError as error:
            self._note_failure(error)
            raise Unavailable(str(error)) from error

    def note(self, future: "asyncio.Future[T]") -> None:
        """A done-callback: remembers what a write's failure says of the file or the disk."""
        error = None if future.cancelled() else future.exception()
        if isinstance(error, StoreError):
            self._note_failure(error)
        elif self.trouble is not None:
            log.info("spool.recovered", free=self.space.free, min_free=self.space.min_free)
            self.trouble = None

    def _note_failure(self, error: StoreError) -> None:
        if isinstance(error, DiskFull):
            self.space.exhaust()
        elif isinstance(error, Corrupt):
            if self.broken is None:
                self.broken = str(error)
                log.error("spool.corrupted", reason=str(error))
                self._suspect.touch()
        elif not isinstance(error, Closed | Conflict) and self.trouble is None:
            self.trouble = str(error)
            log.error("spool.failed", reason=str(error))

    @property
    def paused(self) -> bool:
        """Whether nothing should be lent, since its outcome could not be recorded."""
        return self.space.exhausted or self.broken is not None or self.trouble is not None

    # -- messages that left

    def remember(self, queue_id: str) -> None:
        """In the writer's thread: the message leaves. A commit that is repeated now must not bring it back."""
        self._left.add(queue_id)

    def has_left(self, queue_id: str) -> bool:
        """In the writer's thread: whether a message was here a moment ago and has its outcome."""
        return queue_id in self._left or queue_id in self._left_before

    # -- leases

    def free(self, held: Held, but: frozenset[int] | set[int] = frozenset()) -> None:
        """What a lease held is due again, except these keys."""
        for key, lane, due_at in held.recipients:
            if key not in but:
                self.due.touch((lane, held.priority), due_at)

    def void(self, worker: Worker) -> None:
        """Ends what a worker holds."""
        for held in self.leases.void(worker):
            self.free(held)

    def dismiss(self, worker: Worker) -> None:
        """The worker is gone for good."""
        self.workers.discard(worker)
        self.void(worker)

    # -- once a second

    async def tick(self) -> None:
        """Looks at the disk and at the workers' heartbeats, and forgets what left long ago."""
        self.space.learn(await asyncio.to_thread(self.space.look))
        if self.space.full:
            self.space.inside = await self.store.read(_free_inside)
        if self.paused and self.broken is None and self.space.free >= self.space.floor:
            await self._probe()
        now = self.loop.time()
        for worker in tuple(self.workers):
            if worker.seen is not None and now - worker.seen > VOID_AFTER and worker.leases:
                log.warning("worker.lost", who=worker.name, leases=len(worker.leases))
                self.void(worker)
        if now >= self._rotate_at or len(self._left) > _REMEMBERED:
            self._left, self._left_before = set(), self._left
            self._rotate_at = now + _REMEMBERED_FOR

    async def _probe(self) -> None:
        """Whether the file takes a write again."""
        try:
            await self.write(partial(_write_something, value=self.clock()))
        except SpoolError:
            return
        self.space.recover()
        self.due.wake_all()


def spool_error(error: StoreError) -> SpoolError:
    """This room's error for one of the store's."""
    return Full(str(error)) if isinstance(error, DiskFull) else Unavailable(str(error))


def _free_inside(db: Database) -> int:
    return int(db.pragma("freelist_count")) * int(db.pragma("page_size"))


def _write_something(db: Database, value: float) -> None:
    db.execute("INSERT INTO probe (id, at) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET at = excluded.at", (value,))
