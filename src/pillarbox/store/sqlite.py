"""SQLite through apsw: one writer thread with group commit per file, readers, numbered forward migrations.

    store = await Store.open(path, migrations)            # makes or upgrades; refuses a newer schema
    value = await store.write(lambda db: ...)             # runs in the writer; many share one transaction and fsync
    rows = await store.read(lambda db: ...)               # a reader connection in its own thread

``write`` returns only after the transaction that holds it is on stable storage (WAL, synchronous=FULL). A function
that raises fails alone: its own savepoint is rolled back, its neighbours commit. Checkpoints run off the commit
path (PASSIVE in a thread, a last one inside the writer above 16 MiB of WAL).

ERRORS
    SchemaTooNew(path, found, known), TooOld (SQLite below 3.51.3), Corrupt(path, reason), DiskFull, StoreError.
"""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import apsw

T = TypeVar("T")

Database = apsw.Connection
"""What work functions get; the rooms above name it by this alias and never import the driver."""


class StoreError(Exception):
    """Base: the file could not be used; ``str()`` names it and says why."""


class SchemaTooNew(StoreError):
    """Written by a newer Pillarbox."""


class TooOld(StoreError):
    """The SQLite here has the WAL-reset bug."""


class Corrupt(StoreError):
    """The file is damaged."""


class DiskFull(StoreError):
    """No room left."""


class StoreLike(Protocol):
    """What the rooms hold."""

    def write(self, work: Callable[[Database], T]) -> Awaitable[T]: ...

    def read(self, work: Callable[[Database], T]) -> Awaitable[T]: ...


async def open_store(path: Path, migrations: Sequence[str]) -> StoreLike:
    """``migrations``: SQL scripts, number 1 first; ``PRAGMA user_version`` holds how many were applied."""
    raise NotImplementedError
