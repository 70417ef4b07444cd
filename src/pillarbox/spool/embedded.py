"""The embedded spool: one SQLite file and a directory of large contents, owned by one process.

    spool = await open_spool(EmbeddedSettings(directory))
    await spool.commit(envelope, content)
    await spool.close()

Implements spool.base.Spool. Its own Outbox methods are those of a worker in this process, which never misses a
heartbeat; ``outbox(name)`` makes further workers (see service.py). docs/explanation/durability.md says what is on
stable storage when.

ERRORS
    open_spool raises SpoolError with a text for the administrator: not writable, used by another process, written by
    a newer Pillarbox, SQLite too old. A damaged file is no error: it is set aside and a fresh one is made.
"""

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from pillarbox.spool.assembled import AssembledSpool
from pillarbox.spool.base import SpoolError
from pillarbox.spool.content import ContentFiles
from pillarbox.spool.due import DueIndex, Lane
from pillarbox.spool.intake import EmbeddedIntake
from pillarbox.spool.ledger import EmbeddedLedger
from pillarbox.spool.lending import EmbeddedOutbox
from pillarbox.spool.owner import Owner
from pillarbox.spool.rows import due_lanes
from pillarbox.spool.salvage import salvage, set_aside
from pillarbox.spool.schema import MIGRATIONS
from pillarbox.spool.settings import EmbeddedSettings
from pillarbox.spool.space import Space
from pillarbox.store.sqlite import Corrupt, Database, Store, StoreError, open_store, sync_directory
from pillarbox.telemetry.events import get_logger

TICK = 1.0
"""Seconds between two looks at the disk and at the workers."""
SWEEP_EVERY = 3600.0
"""Seconds between two looks for parts that nobody writes any more."""

log = get_logger("spool")


class EmbeddedSpool(AssembledSpool):
    """See the module's text. Made by open_spool() only."""

    def __init__(self, owner: Owner, lock: int) -> None:
        self.owner = owner
        self.intake = EmbeddedIntake(owner)
        self.ledger = EmbeddedLedger(owner)
        super().__init__(self.intake, EmbeddedOutbox(owner, "", local=True), self.ledger)
        self._lock = lock
        self._sweep_at = owner.loop.time() + SWEEP_EVERY
        self._ticker = asyncio.create_task(self._tick(), name="spool")

    def outbox(self, name: str) -> EmbeddedOutbox:
        """Another worker; ``close()`` frees its leases. It must say ``heartbeat()`` every few seconds."""
        return EmbeddedOutbox(self.owner, name)

    async def close(self) -> None:
        """Finishes what was asked and closes the files."""
        self._ticker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._ticker
        await self.intake.close()
        await self.owner.files.close()
        await self.owner.store.close()
        os.close(self._lock)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            try:
                await self.owner.tick()
                if self.owner.loop.time() >= self._sweep_at:
                    self._sweep_at += SWEEP_EVERY
                    await _sweep_parts(self.owner.files)
            except (OSError, StoreError) as error:
                log.error("spool.failed", reason=str(error))
            except Exception:  # our bug: the heartbeats must be watched all the same
                log.exception("spool.failed", reason="the watch over disk and workers failed")

    def unhealthy_reason(self) -> str | None:
        """See Spool.unhealthy_reason."""
        return self.owner.broken or self.owner.trouble or self.owner.space.reason()


async def open_spool(settings: EmbeddedSettings, *, clock: Callable[[], float] = time.time) -> EmbeddedSpool:
    """Opens or makes the spool in ``settings.directory``. ``clock``: seconds since the epoch. Raises SpoolError."""
    try:
        lock = _claim(settings.directory, settings.incoming)
    except OSError as error:
        raise SpoolError(f"spool directory {settings.directory}: {error.strerror or error}") from error
    try:
        owner = await _own(settings, clock)
    except BaseException as error:
        os.close(lock)
        if isinstance(error, StoreError):
            raise SpoolError(str(error)) from error
        if isinstance(error, OSError):
            raise SpoolError(f"spool directory {settings.directory}: {error.strerror or error}") from error
        raise
    log.info("spool.opened", directory=str(settings.directory), domains=len(owner.due), free=owner.space.free)
    return EmbeddedSpool(owner, lock)


def _claim(directory: Path, incoming: Path) -> int:
    """Makes the directories and takes the lock that keeps a second owner out: leases are in the owner's memory."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    (directory / "content").mkdir(mode=0o700, exist_ok=True)
    with contextlib.suppress(FileExistsError):  # made before with a group that may write: it stays as it is
        incoming.mkdir(mode=0o700)
    sync_directory(directory)
    with contextlib.suppress(PermissionError):  # what we may not read was not made by us
        sync_directory(directory.parent)
    lock = os.open(directory / "spool.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise SpoolError(f"spool directory {directory}: in use by another process") from None
    except OSError:
        os.close(lock)
        raise
    return lock


async def _own(settings: EmbeddedSettings, clock: Callable[[], float]) -> Owner:
    database, content = settings.directory / "spool.db", settings.directory / "content"
    suspect = settings.directory / "spool.db.suspect"
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(clock()))
    files = ContentFiles(content, settings.incoming)
    store: Store | None = None
    try:
        if suspect.exists():
            raise Corrupt(f"{database}: found damaged while it was in use")
        if not database.exists() and files.names():
            raise Corrupt(f"{database}: missing, while there are content files")
        store = await open_store(database, MIGRATIONS)
        lanes, number = await store.read(_survey)
    except Corrupt as error:
        if store is not None:
            await store.close()
        moved = set_aside(database, content, when)
        store = await open_store(database, MIGRATIONS)
        taken, lost = await salvage(moved, store, content)
        suspect.unlink(missing_ok=True)
        log.error("spool.set_aside", reason=str(error), file=str(moved.database), salvaged=taken, unreadable=lost)
        lanes, number = await store.read(_survey)
    await _sweep(store, files)
    space = Space(settings.directory, settings.min_free)
    return Owner(store, files, space, DueIndex(lanes), last_number=number, suspect=suspect, clock=clock)


def _survey(db: Database) -> tuple[list[tuple[Lane, float]], int]:
    return due_lanes(db), db.execute("SELECT max(number) FROM message").get or 0


async def _sweep(store: Store, files: ContentFiles) -> None:
    """Removes content files that no row names; says which rows name a file that is not there."""
    there = await files.run(files.names)
    named = await store.read(_named)
    if there - named.keys():
        removed = await files.run(files.sweep, named)
        if removed:
            log.info("content.swept", files=removed)
    await _sweep_parts(files)
    for name, queue_id in named.items():
        if name not in there:
            log.error("content.missing", queue_id=queue_id, file=name)


async def _sweep_parts(files: ContentFiles) -> None:
    removed = await files.run(files.sweep_parts)
    if removed:
        log.info("content.swept", files=removed)


def _named(db: Database) -> dict[str, str]:
    query = "SELECT content_file, queue_id FROM message INDEXED BY message_file WHERE content_file IS NOT NULL"
    return {str(name): str(queue_id) for name, queue_id in db.execute(query)}
