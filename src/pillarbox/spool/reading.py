"""Every message of an embedded spool, read beside the process that owns it, or without one.

    reader = await open_reader(EmbeddedSettings(directory))
    async for stored in reader.messages(): ...      # base.Stored
    await reader.close()

A message is read in one snapshot, its recipients' states and its content at the same moment. It changes nothing: the
spool's log lets it read whatever the owner does meanwhile, and a large content that leaves stays readable while it is
open.

ERRORS
    open_reader raises SpoolError: no spool there, its tables are another Pillarbox's, not readable.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from pillarbox.spool.base import Filter, QueuedMessage, SpoolError, Stored, Unavailable
from pillarbox.spool.content import CHUNK
from pillarbox.spool.schema import MIGRATIONS
from pillarbox.spool.settings import EmbeddedSettings
from pillarbox.spool.verbs import find, load
from pillarbox.store.sqlite import Database, StoreError, connect, reading

_PAGE = 500


class _Row(NamedTuple):
    """One message: its content as octets, or as the descriptor of its file; neither: the file is not there."""

    message: QueuedMessage
    octets: bytes | None
    descriptor: int | None


class EmbeddedReader:
    """Reader over the files. Made by open_reader() only."""

    def __init__(self, directory: Path, db: Database, thread: ThreadPoolExecutor) -> None:
        self._directory, self._db, self._thread = directory, db, thread

    async def close(self) -> None:
        """Closes the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._db.close)
        self._thread.shutdown()

    async def messages(self) -> AsyncIterator[Stored]:
        """See Reader.messages."""
        loop = asyncio.get_running_loop()
        after = ""
        while True:
            page = await loop.run_in_executor(self._thread, self._page, after)
            for _, number in page:
                row = await loop.run_in_executor(self._thread, self._read, number)
                if row is None:
                    continue
                try:
                    size = row.message.envelope.size if row.octets is None else len(row.octets)
                    yield Stored(row.message, size, _content(row))
                finally:
                    if row.descriptor is not None:
                        os.close(row.descriptor)
            if len(page) < _PAGE:
                return
            after = page[-1][0]

    # -- in the thread

    def _page(self, after: str) -> list[tuple[str, int]]:
        try:
            with reading(self._db):
                return find(self._db, Filter(), 0.0, after, _PAGE)
        except StoreError as error:
            raise Unavailable(str(error)) from error

    def _read(self, number: int) -> _Row | None:
        try:
            with reading(self._db):
                found = load(self._db, [number])
                if not found or not found[0].recipients:
                    return None
                name = self._db.execute("SELECT content_file FROM message WHERE number = ?", (number,)).get
                octets = self._db.execute("SELECT octets FROM content WHERE number = ?", (number,)).get
        except StoreError as error:
            raise Unavailable(str(error)) from error
        message = QueuedMessage(found[0].envelope, found[0].recipients, leased=False)
        if name is None:
            return _Row(message, octets, None)
        try:
            descriptor = os.open(self._directory / "content" / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # it left, or it is damage
            return _Row(message, None, None) if self._is_there(number) else None
        return _Row(message, None, descriptor)

    def _is_there(self, number: int) -> bool:
        with reading(self._db):
            return self._db.execute("SELECT 1 FROM message WHERE number = ?", (number,)).get is not None


async def _content(row: _Row) -> AsyncIterator[bytes]:
    queue_id = row.message.envelope.queue_id
    if row.octets is not None:
        yield row.octets
        return
    if row.descriptor is None:
        raise Unavailable(f"the content of {queue_id} is not there")
    loop, offset = asyncio.get_running_loop(), 0
    while True:
        try:
            octets = await loop.run_in_executor(None, os.pread, row.descriptor, CHUNK, offset)
        except OSError as error:
            raise Unavailable(f"the content of {queue_id}: {error.strerror or error}") from error
        if not octets:
            return
        yield octets
        offset += len(octets)


async def open_reader(settings: EmbeddedSettings) -> EmbeddedReader:
    """The spool in ``settings.directory``, which is there already. Raises SpoolError."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="spool-read")
    try:
        db = await asyncio.get_running_loop().run_in_executor(thread, _open, settings.directory / "spool.db")
    except BaseException as error:
        thread.shutdown(wait=False)
        if isinstance(error, StoreError | OSError):
            raise SpoolError(str(error)) from error
        raise
    return EmbeddedReader(settings.directory, db, thread)


def _open(path: Path) -> Database:
    if not path.exists():  # connect() would make it
        raise SpoolError(f"{path}: there is no spool")
    db = connect(path)
    try:
        with reading(db):
            number = int(db.pragma("user_version"))
        if number != len(MIGRATIONS):
            raise SpoolError(
                f"{path}: schema {number}, and this Pillarbox knows {len(MIGRATIONS)}: "
                + ("upgrade this one" if number > len(MIGRATIONS) else "start the server once, which brings it up")
            )
        db.execute("PRAGMA query_only=ON")
    except BaseException:
        db.close()
        raise
    return db
