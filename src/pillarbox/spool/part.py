"""Large content on its way in: ``incoming/QUEUEID.part``, written by the process that takes the mail.

    incoming = Incoming(directory)
    writer = PartWriter(incoming, intake, queue_id)      # a base.ContentWriter

The octets never cross the channel: the writer's process puts them into the drop directory and the owner of the spool
adopts the file (content.py). Up to INLINE_LIMIT stays in memory and goes with the commit. Writes run in threads of
this module, so that a slow disk does not stop the loop; one is in flight while the next octets are gathered.

ERRORS
    As base.ContentWriter: Full for ENOSPC and EDQUOT, Unavailable for any other OSError.

Must not import the store: the process that faces the internet has no use for a database.
"""

import asyncio
import contextlib
import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from pillarbox.message.envelope import Envelope, is_queue_id
from pillarbox.spool.base import INLINE_LIMIT, Full, SpoolError, Unavailable

GATHERED = 262_144
"""Octets that are written at once, about."""
_FEW = 64  # chunks that go to the system as they are; more are joined first (IOV_MAX is 1,024)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_SUFFIX = ".part"


class Adopter(Protocol):
    """What a writer needs of its intake."""

    def refusal(self, size: int) -> SpoolError | None: ...

    async def commit(self, envelope: Envelope, content: bytes) -> object: ...

    async def adopt(self, envelope: Envelope) -> object:
        """Makes the part of the envelope's queue id a message; see base.Intake.commit."""
        ...


def file_name(queue_id: str) -> str:
    """The queue id as the name of a file: it may come from another process. Raises ValueError."""
    if not is_queue_id(queue_id):
        raise ValueError("not a queue id")
    return queue_id


def part_of(incoming: Path, queue_id: str) -> Path:
    """Where a message's content is written. Raises ValueError."""
    return incoming / (file_name(queue_id) + _SUFFIX)


class Incoming:
    """The drop directory as its writers see it, with the threads that write."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="incoming")

    def run(self, work: Callable[..., None], *arguments: object) -> "asyncio.Future[None]":
        """``work(*arguments)`` in a thread."""
        return asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    async def close(self) -> None:
        """Finishes what runs in the threads."""
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)


class _Part:
    """One file. Its methods block, and one waits for the other: what is removed may still be being written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._made = self._over = False

    def append(self, chunks: list[bytes]) -> None:
        """Writes all of it; makes the file when it is the first. Nothing once the part is removed."""
        with self._lock:
            if not self._over:
                _write(self._open(), chunks)

    def finish(self, chunks: list[bytes]) -> None:
        """Writes the last octets and closes."""
        with self._lock:
            if not self._over:
                _write(self._open(), chunks)
                self._close()

    def remove(self) -> None:
        """Closes and unlinks what this object made; the owner may have adopted it by now. Never raises."""
        with self._lock:
            self._over = True
            with contextlib.suppress(OSError):
                self._close()
            if self._made:
                with contextlib.suppress(OSError):
                    self._path.unlink()

    def _open(self) -> int:
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(self._path, flags, 0o600)
            self._made = True
            if self._path.parent.stat().st_mode & 0o010:  # the group's: the owner of the spool is another user
                os.fchmod(self._descriptor, 0o640)  # whatever the umask is
        return self._descriptor

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _write(descriptor: int, chunks: list[bytes]) -> None:
    if not chunks:
        return
    if len(chunks) > _FEW:
        chunks = [b"".join(chunks)]
    written = os.writev(descriptor, chunks)
    if written < sum(map(len, chunks)):  # the disk's end, most likely: the next call says so
        rest = memoryview(b"".join(chunks))[written:]
        while rest:
            rest = rest[os.write(descriptor, rest) :]


class PartWriter:
    """ContentWriter over the drop directory."""

    def __init__(self, incoming: Incoming, intake: Adopter, queue_id: str) -> None:
        self._incoming, self._intake, self._queue_id = incoming, intake, queue_id
        self._chunks: list[bytes] = []
        self._held = 0
        self._part: _Part | None = None
        self._writing: asyncio.Future[None] | None = None
        self._ended = False

    async def write(self, octets: bytes) -> None:
        """See ContentWriter.write. What a write met is said by the call after it."""
        if self._ended:
            raise self._ended_before()
        self._chunks.append(octets)
        self._held += len(octets)
        if self._held > (INLINE_LIMIT if self._part is None else GATHERED):
            await self._spill()

    async def _spill(self) -> None:
        refusal = self._intake.refusal(max(self._held, INLINE_LIMIT + 1))
        if isinstance(refusal, Full):  # an owner that restarts is no reason to stop: the commit waits for it
            await self.abandon()
            raise refusal
        if self._part is None:
            self._part = _Part(part_of(self._incoming.directory, self._queue_id))
        await self._written()
        self._writing = self._incoming.run(self._part.append, self._take())

    def _take(self) -> list[bytes]:
        chunks, self._chunks = self._chunks, []
        self._held = 0
        return chunks

    async def _written(self) -> None:
        """Waits for the write in flight. Raises Full, Unavailable; then the content is given up."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            await writing
        except OSError as error:
            await self.abandon()
            kind = Full if error.errno in _NO_ROOM else Unavailable
            raise kind(f"{self._incoming.directory}: {error.strerror or error}") from error

    async def commit(self, envelope: Envelope) -> None:
        """See ContentWriter.commit."""
        if envelope.queue_id != self._queue_id:
            raise ValueError(f"content of {self._queue_id} with an envelope of {envelope.queue_id}")
        if self._part is None and not self._ended:
            self._ended = True
            await self._intake.commit(envelope, b"".join(self._take()))
            return
        await self.finish()
        try:
            await self._intake.adopt(envelope)
        except BaseException:
            await self.abandon()
            raise
        self._part = None

    async def finish(self) -> None:
        """The first half of commit(): all of a large content is in its file."""
        if self._ended or self._part is None:
            raise self._ended_before()
        self._ended = True
        try:
            await self._written()
            self._writing = self._incoming.run(self._part.finish, self._take())
            await self._written()
        except asyncio.CancelledError:
            await self.abandon()
            raise

    def _ended_before(self) -> Unavailable:
        return Unavailable(f"the content of {self._queue_id} was ended before")

    async def abandon(self) -> None:
        """See ContentWriter.abandon."""
        self._ended = True
        self._take()
        part, self._part = self._part, None
        if self._writing is not None:
            self._writing.add_done_callback(_heard)
            self._writing = None
        if part is not None:
            with contextlib.suppress(RuntimeError):  # the threads have ended: the part is swept when it is old
                await asyncio.shield(self._incoming.run(part.remove))


def _heard(writing: "asyncio.Future[None]") -> None:
    """Nobody waits for this write any more: its failure is no news."""
    if not writing.cancelled():
        writing.exception()
