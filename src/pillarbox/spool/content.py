"""Files for content too large for a row: ``content/QUEUEID.RANDOM``, written as ``.part`` and renamed when complete.

A file is on stable storage, and so is its name in the directory, before the row that names it commits; what no row
names is swept at the next start. Blocking calls run in threads of this module, never on the loop.

ERRORS
    OSError as the system gives it; the owner tells a full disk from the rest.
"""

import asyncio
import contextlib
import os
import re
import secrets
from collections.abc import Callable, Container
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pillarbox.store.sqlite import sync_directory

T = TypeVar("T")

CHUNK = 262_144
"""Octets that are read or written at once."""

_PART = ".part"
_QUEUE_ID = re.compile(r"[0-9A-Za-z]{1,64}")


class ContentFiles:
    """The directory of content files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="content")

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """``work(*arguments)`` in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def create(self, queue_id: str) -> tuple[str, int]:
        """A new file's final name, and a descriptor to write it with."""
        if not _QUEUE_ID.fullmatch(queue_id):  # it comes from another process and becomes a file's name
            raise ValueError("not a queue id")
        name = f"{queue_id}.{secrets.token_hex(6)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return name, os.open(self.directory / (name + _PART), flags, 0o600)

    def write(self, descriptor: int, octets: bytes) -> None:
        """Writes all of it."""
        rest = memoryview(octets)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    def finish(self, name: str, descriptor: int, octets: bytes) -> None:
        """Writes the last octets; then the file and its final name are durable. Closes the descriptor."""
        try:
            self.write(descriptor, octets)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(self.directory / (name + _PART), self.directory / name)
        sync_directory(self.directory)

    def discard(self, name: str, descriptor: int | None = None) -> None:
        """Closes and removes; what is not there is no error, and what stays is swept later."""
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        for path in (self.directory / name, self.directory / (name + _PART)):
            with contextlib.suppress(OSError):
                path.unlink()

    def discard_soon(self, name: str) -> None:
        """discard() in a thread; nobody waits for it."""
        self._threads.submit(self.discard, name)

    def read(self, name: str, offset: int) -> bytes:
        """Up to CHUNK octets from ``offset``; none at the end."""
        descriptor = os.open(self.directory / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(descriptor, CHUNK, offset)
        finally:
            os.close(descriptor)

    def names(self) -> set[str]:
        """What lies in the directory."""
        return set(os.listdir(self.directory))

    def sweep(self, named: Container[str]) -> int:
        """Removes every file that is not in ``named``; how many."""
        orphans = [name for name in self.names() if name not in named]
        for name in orphans:
            self.discard(name)
        return len(orphans)

    async def close(self) -> None:
        """Finishes what runs in the threads."""
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)
