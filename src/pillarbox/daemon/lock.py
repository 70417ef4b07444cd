"""One instance: the lock on data_directory/lock, held by whoever has the spool, the accounts and the guard open.

    lock = await take(path, patience=10.0)      # a predecessor that is still ending is waited for
    lock.release()

ERRORS
    InUse: another process holds it; ``str()`` names its pid.
"""

import asyncio
import contextlib
import fcntl
import os
from pathlib import Path


class InUse(OSError):
    """Another process has the data directory."""


class Lock:
    """A lock that is held; the kernel releases it with the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Lets the next one in."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


async def take(path: Path, patience: float = 0.0) -> Lock:
    """Takes the lock within ``patience`` seconds. Raises InUse, and OSError when the file cannot be made."""
    loop = asyncio.get_running_loop()
    until = loop.time() + patience
    while True:
        lock = _try(path)
        if lock is not None:
            return lock
        if loop.time() >= until:
            raise InUse(f"{path.parent} is in use by another process{_holder(path)}")
        await asyncio.sleep(0.05)


def _try(path: Path) -> Lock | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return Lock(descriptor)


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return f" (pid {int(path.read_text())})"
    return ""
