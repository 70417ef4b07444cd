"""SQLite through apsw: one writer thread with group commit per file, readers, numbered forward migrations.

    store = await open_store(path, migrations)            # makes or upgrades; refuses a newer schema
    value = await store.write(lambda db: ...)             # runs in the writer; many share one transaction and fsync
    rows = await store.read(lambda db: ...)               # a reader connection in its own thread, one snapshot
    await store.close()                                   # what was asked is finished first

``write`` returns only after the transaction that holds it is on stable storage (WAL, synchronous=FULL). A function
that raises fails alone, its neighbours commit: the batch is rolled back and run again with a savepoint each, so a
function may be run twice and must not change anything but the database. Writes are carried out, and their futures
resolved, in the order in which they were asked.

Checkpoints run off the commit path (PASSIVE in a thread, a last one inside the writer above 16 MiB of WAL): what
SQLite would do by itself at a commit triples the slowest one in a hundred.

One store belongs to one event loop and its file to one process: nothing here locks others out.

ERRORS
    SchemaTooNew, TooOld (SQLite below 3.51.3), Corrupt, DiskFull, Conflict (a constraint), Closed; all are StoreError
    and say which file. What a work function raises itself passes through as it is.
"""

import asyncio
import contextlib
import errno
import os
import queue
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

import apsw

from pillarbox.store.errors import Closed as Closed
from pillarbox.store.errors import Conflict as Conflict
from pillarbox.store.errors import DiskFull as DiskFull
from pillarbox.store.errors import SchemaTooNew as SchemaTooNew
from pillarbox.store.errors import StoreError as StoreError
from pillarbox.store.errors import TooOld as TooOld
from pillarbox.telemetry.advice import upgrade

T = TypeVar("T")

Database = apsw.Connection
"""What work functions get; the rooms above name it by this alias and never import the driver."""

OLDEST_SQLITE = (3, 51, 3)
PAGE_SIZE = 8192
BATCH = 512
"""Operations that share one transaction at most."""
CHECKPOINT_PAGES = 16 * 1024 * 1024 // PAGE_SIZE
"""Pages of WAL above which a checkpoint begins."""
READERS = 2

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_PRAGMAS = (
    "PRAGMA synchronous=FULL",
    "PRAGMA wal_autocheckpoint=0",
    "PRAGMA secure_delete=OFF",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA foreign_keys=OFF",
    "PRAGMA cache_size=-4096",
)


class Corrupt(StoreError):
    """The file is damaged."""


class StoreLike(Protocol):
    """What the rooms hold; Store in this module implements it."""

    def write(self, work: Callable[[Database], T]) -> Awaitable[T]: ...

    def read(self, work: Callable[[Database], T]) -> Awaitable[T]: ...

    async def close(self) -> None: ...


_Job = tuple[Callable[[Database], Any], "asyncio.Future[Any]"]
_Result = tuple["asyncio.Future[Any]", Any, Exception | None]


class Store:
    """See the module's text. Made by open_store() only."""

    def __init__(self, path: Path, writer: Database) -> None:
        self.path = path
        self._loop = asyncio.get_running_loop()
        self._db = writer
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._wal_pages = 0
        self._checkpoint_at = CHECKPOINT_PAGES
        self._checkpoint_prepared = False
        self._checkpoint_due = threading.Event()
        self._stopping = False
        self._local = threading.local()
        self._reading: list[Database] = []
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix=f"{path.name}-read")
        self._writer_thread = threading.Thread(target=self._write_all, name=f"{path.name}-write", daemon=True)
        self._checkpointer = threading.Thread(
            target=self._checkpoint_all, name=f"{path.name}-checkpoint", daemon=True
        )
        writer.set_wal_hook(self._committed)
        self._writer_thread.start()
        self._checkpointer.start()

    def write(self, work: Callable[[Database], T]) -> "asyncio.Future[T]":
        """Runs ``work`` in the writer's transaction; done when that is durable.

        Cancelling the future does not take the work back.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        if self._closed:
            future.set_exception(Closed(f"{self.path}: closed"))
        else:
            self._jobs.put((work, future))
        return future

    def read(self, work: Callable[[Database], T]) -> "asyncio.Future[T]":
        """Runs ``work`` over one snapshot, which has every write whose future was resolved before."""
        if self._closed:
            future: asyncio.Future[T] = self._loop.create_future()
            future.set_exception(Closed(f"{self.path}: closed"))
            return future
        return self._loop.run_in_executor(self._readers, self._run_reading, work)

    async def close(self) -> None:
        """Finishes what was asked, writes the WAL back into the file and closes it. Repeatable."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        await self._loop.run_in_executor(None, self._join)

    # -- in the writer's thread

    def _write_all(self) -> None:
        while (job := self._jobs.get()) is not None:
            batch = [job]
            with contextlib.suppress(queue.Empty):
                while len(batch) < BATCH:
                    following = self._jobs.get_nowait()
                    if following is None:
                        self._jobs.put(None)  # nothing can follow it: the store takes no more work
                        break
                    batch.append(following)
            results = self._commit(batch)
            with contextlib.suppress(RuntimeError):  # the loop was closed over our head: nobody waits any more
                self._loop.call_soon_threadsafe(_resolve, results)
            if self._checkpoint_prepared:
                self._finish_checkpoint()

    def _commit(self, batch: list[_Job]) -> list[_Result]:
        """The whole batch in one transaction; each with its savepoint when one of them fails."""
        try:
            return self._transact(batch, self._unguarded)
        except Exception as error:
            failure = self._give_up(error)
            if isinstance(failure, DiskFull | Corrupt):
                return [(future, None, failure) for _, future in batch]
        try:
            return self._transact(batch, self._guarded)
        except Exception as error:
            failure = self._give_up(error)
            return [(future, None, failure) for _, future in batch]

    def _transact(self, batch: list[_Job], run: Callable[[_Job], _Result]) -> list[_Result]:
        self._db.execute("BEGIN IMMEDIATE")
        results = [run(job) for job in batch]
        self._db.execute("COMMIT")
        return results

    def _unguarded(self, job: _Job) -> _Result:
        return job[1], job[0](self._db), None

    def _guarded(self, job: _Job) -> _Result:
        work, future = job
        self._db.execute("SAVEPOINT one")
        try:
            result: _Result = (future, work(self._db), None)
        except Exception as error:
            if not self._db.in_transaction:  # SQLite gave the whole transaction up
                raise
            self._db.execute("ROLLBACK TO one")
            result = (future, None, translate(error, self.path, self._db))
        self._db.execute("RELEASE one")
        return result

    def _give_up(self, error: Exception) -> Exception:
        failure = translate(error, self.path, self._db)
        if self._db.in_transaction:
            with contextlib.suppress(apsw.Error):
                self._db.execute("ROLLBACK")
        return failure

    def _committed(self, db: Database, name: str, pages: int) -> int:
        """SQLite's WAL hook: ``pages`` are in the WAL now."""
        if pages < self._wal_pages:  # it began anew
            self._checkpoint_at = CHECKPOINT_PAGES
        self._wal_pages = pages
        if pages >= self._checkpoint_at:
            self._checkpoint_at = pages + CHECKPOINT_PAGES // 4  # a reader may keep the WAL: ask again later
            self._checkpoint_due.set()
        return apsw.SQLITE_OK

    def _finish_checkpoint(self) -> None:
        """The last of it, where nobody commits meanwhile: the next transaction then starts the WAL anew."""
        self._checkpoint_prepared = False
        self._checkpoint(self._db)

    # -- in the checkpoint's thread

    def _checkpoint_all(self) -> None:
        """Twice here, so that little is left for the writer."""
        db = connect(self.path)
        try:
            while self._checkpoint_due.wait() and not self._stopping:
                self._checkpoint_due.clear()
                self._checkpoint(db)
                self._checkpoint(db)
                self._checkpoint_prepared = True
        finally:
            db.close()

    @staticmethod
    def _checkpoint(db: Database) -> None:
        with contextlib.suppress(apsw.Error):  # a full disk, a busy moment: a later commit asks again
            db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    # -- in a reader's thread

    def _run_reading(self, work: Callable[[Database], T]) -> T:
        db: Database | None = getattr(self._local, "db", None)
        try:
            if db is None:
                db = self._local.db = connect(self.path)
                db.execute("PRAGMA query_only=ON")
                self._reading.append(db)
            db.execute("BEGIN")
            try:
                return work(db)
            finally:
                db.execute("ROLLBACK")
        except apsw.Error as error:
            raise translate(error, self.path, db) from error

    # -- closing

    def _join(self) -> None:
        self._readers.shutdown(wait=True)
        self._writer_thread.join()
        self._stopping = True
        self._checkpoint_due.set()
        self._checkpointer.join()
        for db in self._reading:
            db.close()
        with contextlib.suppress(apsw.Error):  # a full disk: the WAL stays and is read at the next start
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        self._db.close()


def _resolve(results: list[_Result]) -> None:
    for future, value, error in results:
        if future.done():  # cancelled by who asked
            continue
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)


def translate(error: Exception, path: Path, db: Database | None = None) -> Exception:
    """Our error for one of the driver's; any other as it is."""
    if not isinstance(error, apsw.Error):
        return error
    text = f"{path}: {error}"
    if isinstance(error, apsw.FullError):
        return DiskFull(text)
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return Corrupt(text)
    if isinstance(error, apsw.ConstraintError):
        return Conflict(text)
    if isinstance(error, apsw.CantOpenError):
        return StoreError(f"{path}: cannot be opened: {os.strerror(db.system_errno) if db else error}")
    # The driver says only "disk I/O error"; the system's number tells a full disk (or quota) from a broken one.
    if isinstance(error, apsw.IOError) and db is not None and db.system_errno in _NO_ROOM:
        return DiskFull(text)
    return StoreError(text)


def translate_os(error: OSError, path: Path) -> StoreError:
    """Our error for a failed call on a file beside the database."""
    kind = DiskFull if error.errno in _NO_ROOM else StoreError
    return kind(f"{path}: {error.strerror or error}")


def check_version(version: str) -> None:
    """Raises TooOld for a SQLite before 3.51.3: 3.7.0 to 3.51.2 can lose rows when checkpoints meet commits."""
    if tuple(int(part) for part in version.split(".")[:3]) < OLDEST_SQLITE:
        wanted = ".".join(map(str, OLDEST_SQLITE))
        raise TooOld(f"SQLite {version} has the WAL-reset bug; {wanted} or newer is needed: {upgrade('apsw')}")


def connect(path: Path) -> Database:
    """A connection with our settings to a file that is in WAL mode or empty."""
    db = apsw.Connection(str(path))
    try:
        db.set_busy_timeout(10_000)
        db.execute(f"PRAGMA page_size={PAGE_SIZE}")
        if db.pragma("journal_mode", "wal") != "wal":
            raise StoreError(f"{path}: cannot use a write-ahead log here (a network file system?)")
        for pragma in _PRAGMAS:
            db.execute(pragma)
    except Exception as error:
        failure = translate(error, path, db)
        db.close()
        raise failure from error
    return db


@contextlib.contextmanager
def reading(db: Database) -> Iterator[None]:
    """One snapshot of a file that another process may be writing. Raises StoreError."""
    try:
        db.execute("BEGIN")
        try:
            yield
        finally:
            db.execute("ROLLBACK")
    except apsw.Error as error:
        raise translate(error, Path(db.filename), db) from error


def migrate(db: Database, path: Path, migrations: Sequence[str]) -> None:
    """Applies what is missing, each script in a transaction with its number. Raises SchemaTooNew."""
    applied = int(db.pragma("user_version"))
    if applied > len(migrations):
        raise SchemaTooNew(
            f"{path}: schema {applied}, written by a newer Pillarbox; this one knows {len(migrations)}"
        )
    for number, script in enumerate(migrations[applied:], applied + 1):
        db.execute("BEGIN IMMEDIATE")
        try:
            db.execute(script)
            db.execute(f"PRAGMA user_version={number}")
            db.execute("COMMIT")
        except Exception:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


def _open(path: Path, migrations: Sequence[str]) -> Database:
    check_version(apsw.sqlite_lib_version())
    db: Database | None = None
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # the log takes its mode from it
        db = connect(path)
        migrate(db, path, migrations)
        sync_directory(path.parent)  # a commit syncs the file, not the name by which it is found
        db.execute("PRAGMA cache_size=-16384")  # a whole batch of small messages fits before it is written
        return db
    except Exception as error:
        failure = translate_os(error, path) if isinstance(error, OSError) else translate(error, path, db)
        if db is not None:
            db.close()
        raise failure from error


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Damaged:
    """A file that is Corrupt, opened to read what can still be read."""

    def __init__(self, path: Path) -> None:
        """Raises StoreError when not even that works."""
        self.path = path
        self._db: Database | None = None
        try:
            self._db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        except apsw.Error as error:
            raise translate(error, path) from error

    def rows(self, query: str, values: tuple[Any, ...] = ()) -> Iterator[dict[str, Any]]:
        """Rows by column name, up to the damage: then Corrupt or another StoreError is raised."""
        db = self._db
        if db is None:
            raise Closed(f"{self.path}: closed")
        try:
            cursor = db.execute(query, values)
            for row in cursor:
                yield dict(zip((column[0] for column in cursor.get_description()), row, strict=True))
        except apsw.Error as error:
            raise translate(error, self.path, db) from error

    def close(self) -> None:
        """Never raises."""
        if self._db is not None:
            self._db.close(True)
            self._db = None


async def open_store(path: Path, migrations: Sequence[str]) -> Store:
    """``migrations``: SQL scripts, number 1 first; ``PRAGMA user_version`` holds how many were applied.

    Raises StoreError and its kinds.
    """
    loop = asyncio.get_running_loop()
    return Store(path, await loop.run_in_executor(None, _open, path, migrations))
