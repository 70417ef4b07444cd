"""How many wrong passwords of one person may still go to the server behind: counted in the spool process, for all
workers of this machine, and kept in directories.db.

    try_ = await tries.reserve("corp", person.key, allowed=5, window=1800.0)     # None: no more
    tries.give_back(try_)                                                        # it was right, or never got there

Within any ``window`` seconds no more than ``allowed`` tries are handed out for one person, less those that were given
back. For that a try is counted before it is made, so that a thousand at once are no more; what happened to the
worker, or to the answer, gives none back. And it is on stable storage before it is made: neither kill -9 nor a
power cut makes room for more. So a password that goes to a server waits for one fsync, which all that ask at the time
share. What is refused costs none, nor does giving back, which is written behind: what a crash loses of it counts as
wrong until its window ends. While the file cannot be written, memory alone counts; a restart then forgets.

The file has wall-clock times, memory monotonic ones: a machine's clock that is set forward while the process is away
makes windows end early, and only that.

In a cluster each machine counts its own, and hands out its share: ``allowed`` divided by the machines that were seen
in the last hour, rounded down, but one at least; one while it does not know how many there are. So all together hand
out no more, unless they are more than ``allowed``. One that joins is known to the others after some seconds, and what
they had handed out before stays handed out: within that window its share comes on top.

    upstream.reserve    [directory, person, allowed, window] -> number of the try or None
    upstream.give_back  [directory, person, number]

ERRORS
    StoreError from open().
"""

import asyncio
import itertools
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pillarbox.control.channel import Channel, Handlers
from pillarbox.control.frames import from_body
from pillarbox.directory.budget import Try
from pillarbox.store.sqlite import Database, StoreError, StoreLike, open_store
from pillarbox.telemetry.events import get_logger

log = get_logger("directory")

PEOPLE_CEILING = 100_000
"""People whose tries are remembered; beyond, one of the OLDEST is left out: who has the fewest tries."""
OLDEST = 64
LOAD_CEILING = 500_000
EXPIRE_EVERY = 60.0
MIGRATIONS = (
    """
    CREATE TABLE tries (
        number INTEGER PRIMARY KEY NOT NULL,
        directory TEXT NOT NULL,
        person TEXT NOT NULL,
        at REAL NOT NULL,
        until REAL NOT NULL
    ) STRICT;
    CREATE INDEX tries_by_end ON tries (until);
    """,
)


def alone() -> int:
    """How many machines count: this one."""
    return 1


class Tries:
    """The counts themselves; satisfies Budget. ``clock`` is monotonic, ``wall`` seconds since the epoch;
    ``machines``: how many count, None: not known. Without a store it counts in memory only."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        store: StoreLike | None = None,
        wall: Callable[[], float] = time.time,
        machines: Callable[[], int | None] = alone,
    ) -> None:
        self._clock = clock
        self._store = store
        self._wall = wall
        self._machines = machines
        self._people: OrderedDict[tuple[str, str], deque[tuple[float, int]]] = OrderedDict()
        self._writing: set[asyncio.Future[Any]] = set()
        self._expired_at = 0.0
        self._failing = False

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        machines: Callable[[], int | None] = alone,
    ) -> "Tries":
        """Opens or makes the file and goes on where it was. Raises StoreError."""
        store = await open_store(path, MIGRATIONS)
        tries = cls(clock, store=store, wall=wall, machines=machines)
        now, moment = clock(), wall()
        try:
            rows = await store.read(lambda db: _load(db, moment))
        except BaseException:
            await store.close()
            raise
        for number, directory, person, at in rows:
            age = max(0.0, moment - at)  # a clock that was set back: as if it were now
            tries._people.setdefault((directory, person), deque()).append((now - age, number))
        return tries

    async def close(self) -> None:
        """Writes what is left and closes the file."""
        if self._writing:
            await asyncio.wait(tuple(self._writing))
        if self._store is not None:
            await self._store.close()

    async def reserve(self, directory: str, person: str, allowed: int, window: float) -> Try | None:
        now = self._clock()
        key = (directory, person)
        made = self._people.get(key, deque())
        while made and made[0][0] <= now - window:
            made.popleft()
        machines = self._machines()
        if len(made) >= (1 if machines is None else max(1, allowed // machines)):
            return None
        try_ = Try(directory, person, secrets.randbits(62))
        made.append((now, try_.number))
        self._people[key] = made
        self._people.move_to_end(key)
        if len(self._people) > PEOPLE_CEILING:
            self._make_room()
        if self._store is not None:
            at = self._wall()
            self._expire(self._store, at)
            await self._written(self._store.write(lambda db: _insert(db, try_, at, at + window)))
        return try_

    def _make_room(self) -> None:
        """Forgets somebody with few tries: made-up names push out each other, and no count that is spent."""
        oldest = itertools.islice(self._people, OLDEST)
        del self._people[min(oldest, key=lambda key: len(self._people[key]))]

    def give_back(self, try_: Try) -> None:
        key = (try_.directory, try_.person)
        left = deque(each for each in self._people.get(key, ()) if each[1] != try_.number)
        if left:
            self._people[key] = left
        else:
            self._people.pop(key, None)
        if self._store is not None:
            self._behind(self._store.write(lambda db: _delete(db, try_)))

    def _expire(self, store: StoreLike, now: float) -> None:
        if abs(now - self._expired_at) >= EXPIRE_EVERY:
            self._expired_at = now
            self._behind(store.write(lambda db: _delete_expired(db, now)))

    def _behind(self, write: Awaitable[None]) -> None:
        """Not waited for."""
        writing = asyncio.ensure_future(self._written(write))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)

    async def _written(self, write: Awaitable[None]) -> None:
        """On stable storage when it returns, if that is possible at all."""
        try:
            await write
        except StoreError as error:
            if not self._failing:
                log.error("directory.tries_unwritten", reason=str(error))
            self._failing = True
        else:
            if self._failing:
                log.info("directory.tries_written")
            self._failing = False


def _load(db: Database, now: float) -> list[tuple[int, str, str, float]]:
    """Those whose window has not ended, the oldest first."""
    query = "SELECT number, directory, person, at FROM tries WHERE until > ? ORDER BY at DESC LIMIT ?"
    return list(reversed(list(db.execute(query, (now, LOAD_CEILING)))))


def _insert(db: Database, try_: Try, at: float, until: float) -> None:
    values = (try_.number, try_.directory, try_.person, at, until)
    db.execute("INSERT INTO tries (number, directory, person, at, until) VALUES (?, ?, ?, ?, ?)", values)


def _delete(db: Database, try_: Try) -> None:
    db.execute("DELETE FROM tries WHERE number = ?", (try_.number,))


def _delete_expired(db: Database, now: float) -> None:
    db.execute("DELETE FROM tries WHERE until <= ?", (now,))


def budget_handlers(tries: Tries) -> Handlers:
    """What a submission worker may ask of the spool process."""

    async def reserve(_channel: Channel, body: Any) -> int | None:
        directory, person, allowed, window = from_body(tuple[str, str, int, float], body)
        try_ = await tries.reserve(directory, person, allowed, window)
        return None if try_ is None else try_.number

    def give_back(_channel: Channel, body: Any) -> None:
        tries.give_back(Try(*from_body(tuple[str, str, int], body)))

    return {"upstream.reserve": reserve, "upstream.give_back": give_back}
