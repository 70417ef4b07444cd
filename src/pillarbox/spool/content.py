"""Files for content too large for a row: adopted from ``incoming/QUEUEID.part`` (part.py) as ``content/QUEUEID``.

A file is on stable storage, and so is its name in the directory, before the row that names it commits. What is in
incoming/ was written by a process that is not trusted: adopt() takes a regular file of the announced size with one
name, and nothing else. Blocking calls run in threads of this module, never on the loop.

ERRORS
    OSError as the system gives it; the owner tells a full disk from the rest. Unfit: what lies there is not what was
    announced.
"""

import asyncio
import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Container
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pillarbox.spool.part import file_name, part_of
from pillarbox.store.sqlite import sync_directory

T = TypeVar("T")

CHUNK = 262_144
"""Octets that are read at once."""
PART_AGE = 24 * 3600.0
"""Seconds without a write after which a part belongs to nobody."""
_AWAITED = 600.0
"""Seconds for which a worker may still ask for what a crash left behind; it has patience for a few."""


class Unfit(Exception):
    """A part that is not what was announced; ``str()`` says what it is."""


class ContentFiles:
    """The directory of content files, and the one from which they are adopted."""

    def __init__(self, directory: Path, incoming: Path) -> None:
        self.directory, self.incoming = directory, incoming
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="content")

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """``work(*arguments)`` in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def adopt(self, queue_id: str, size: int) -> None:
        """Makes the part durable under its final name; the same again is success. No row may name it yet, and nobody
        else adopt it at the time. What fails is removed: after a failed sync nobody knows what is on the disk.

        Raises OSError, Unfit, ValueError.
        """
        part, final = part_of(self.incoming, queue_id), self.directory / file_name(queue_id)
        try:
            self._adopt(part, final, size)
        except (OSError, Unfit):
            self.discard(queue_id)
            raise

    def _adopt(self, part: Path, final: Path, size: int) -> None:
        try:
            descriptor, adopted_before = _open(part), False
        except FileNotFoundError:
            descriptor, adopted_before = _open(final), True  # by a commit that did not get to its end
        try:
            status = os.fstat(descriptor)
            _check(status, size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if not adopted_before:
            os.rename(part, final)
            if not os.path.samestat(status, os.lstat(final)):
                self._put_back(final, part)
                raise Unfit("another file by the time it was taken")
        sync_directory(self.directory)
        sync_directory(self.incoming)

    @staticmethod
    def _put_back(final: Path, part: Path) -> None:
        """Takes away what took the part's place: whatever it is, it does not stay among our files."""
        try:
            final.unlink()
        except OSError:  # a directory
            with contextlib.suppress(OSError):
                os.rename(final, part)

    def discard(self, name: str) -> None:
        """Removes a content file or its part; what is not there is no error, and what stays is swept later."""
        for path in (self.directory / name, self.incoming / f"{name}.part"):
            with contextlib.suppress(OSError):
                path.unlink()

    def discard_soon(self, name: str) -> None:
        """discard() in a thread; nobody waits for it."""
        self._threads.submit(self.discard, name)

    def discard_part(self, queue_id: str) -> None:
        """Removes a part whose message is here already."""
        part_of(self.incoming, queue_id).unlink(missing_ok=True)

    def read(self, name: str, offset: int) -> bytes:
        """Up to CHUNK octets from ``offset``; none at the end."""
        descriptor = os.open(self.directory / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(descriptor, CHUNK, offset)
        finally:
            os.close(descriptor)

    def names(self) -> set[str]:
        """What lies in the directory of content files."""
        return set(os.listdir(self.directory))

    def sweep(self, named: Container[str]) -> int:
        """Removes every content file that is not in ``named``; how many. One that was adopted a moment ago goes back
        to incoming/: its worker may be about to ask again."""
        orphans = [name for name in self.names() if name not in named]
        return sum(not self._give_back(name) for name in orphans)

    def _give_back(self, name: str) -> bool:
        path = self.directory / name
        with contextlib.suppress(OSError, ValueError):
            part = part_of(self.incoming, name)
            if path.stat().st_mtime > time.time() - _AWAITED and not part.exists():
                os.rename(path, part)
                return True
        with contextlib.suppress(OSError):
            path.unlink()
        return False

    def sweep_parts(self) -> int:
        """Removes what was not written to for PART_AGE; how many. Younger ones may have a writer that outlived a
        restart of this process."""
        removed = 0
        before = time.time() - PART_AGE
        with os.scandir(self.incoming) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # gone meanwhile; or a directory that is not empty
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        (os.rmdir if entry.is_dir(follow_symlinks=False) else os.unlink)(entry.path)
                        removed += 1
        return removed

    async def close(self) -> None:
        """Finishes what runs in the threads."""
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)


def _open(path: Path) -> int:
    """Opens without following a link or waiting for the other end of a pipe."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Unfit("a symbolic link") from None
        raise


def _check(status: os.stat_result, size: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Unfit("not a regular file")
    if status.st_nlink != 1:  # somebody else's file, linked here, has a second name that the worker cannot remove
        raise Unfit(f"a file with {status.st_nlink} names")
    if status.st_size != size:
        raise Unfit(f"{status.st_size} octets, not {size}")
