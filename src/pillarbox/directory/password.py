"""Password hashes: Argon2id, in threads of their own, strangers apart.

    passwords = Passwords(settings)
    stored = await passwords.hash("correct horse")
    right = await passwords.verify(stored, "correct horse", known_place=True)

Known places share a few threads. Everybody else waits in one line for a single thread: one hash at a time per
worker, so an attack costs one core at most and never delays a known place. The line has a ceiling.

Passwords come prepared (preparation.py). An empty one is never right and never hashed.

A stored hash whose parameters are not today's still verifies (it carries its own). It is renewed with the next change
of the password. One of another scheme (schemes/), which an import brought, is renewed at the first sign-in that it
verifies: by the spool process, since a submission worker may read accounts, never write them.

STANDARDS
    RFC 9106 (Argon2). The default of 19 MiB, 2 passes, 1 lane is OWASP's.

ERRORS
    Unavailable: the line is full, or the stored hash cannot be read.
"""

import asyncio
import base64
import contextlib
import os
import secrets
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pillarbox.directory.base import Unavailable
from pillarbox.directory.schemes.argon import is_current, make_hasher, verify_argon2
from pillarbox.directory.schemes.stored import BadStored, read_stored
from pillarbox.directory.settings import LocalSettings
from pillarbox.telemetry.counters import counter

HASHES = counter("password_hashes_total", "Passwords verified by a hash (not remembered)", ("place",))

KNOWN_THREADS = max(2, os.cpu_count() or 1)
KNOWN_CEILING = 1_000
STRANGERS_CEILING = 100
"""Hashes of strangers that wait at most; at 17 ms each the last of them waits under two seconds."""

Verify = Callable[[str, str], bool]
"""(stored hash, password) -> right; blocks."""


class _Line:
    """A named pool of threads whose queue is first come, first served, and bounded."""

    def __init__(self, name: str, threads: int, ceiling: int, *, gives_way: bool = False) -> None:
        self._name = name
        self._ceiling = ceiling
        self._waiting = 0
        self._threads = ThreadPoolExecutor(
            threads, thread_name_prefix=name, initializer=_give_way if gives_way else None
        )

    async def run(self, verify: Verify, stored: str, password: str) -> bool:
        if self._waiting >= self._ceiling:
            raise Unavailable(f"{self._name}: {self._waiting} hashes are waiting")
        self._waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, verify, stored, password)
        future.add_done_callback(self._left)
        return await future

    def _left(self, _future: object) -> None:
        self._waiting -= 1

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _give_way() -> None:
    """On Linux niceness is a thread's own: whoever else wants the processor has it before this one."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox may forbid it: then it hashes as fast as the others
            ours = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), ours + 10)


class Passwords:
    """See the module's text. ``verify`` replaces Argon2's verification in tests."""

    def __init__(self, settings: LocalSettings, verify: Verify | None = None) -> None:
        self._hasher = make_hasher(settings)
        self._verify = verify or _verify
        self._known = _Line("password-known", KNOWN_THREADS, KNOWN_CEILING)
        self._strangers = _Line("password-stranger", 1, STRANGERS_CEILING, gives_way=True)
        self._hashing = ThreadPoolExecutor(1, thread_name_prefix="password-hash")
        self._nobody = _hash_of_nobody(settings)

    async def hash(self, password: str) -> str:
        """The hash in PHC form, with a fresh salt."""
        return await asyncio.get_running_loop().run_in_executor(self._hashing, self._hasher.hash, password)

    async def verify(self, stored: str | None, password: str, *, known_place: bool) -> bool:
        """Whether the password is the stored one. None: there is no account; costs the same and is never right."""
        line = self._known if known_place else self._strangers
        HASHES.add(1, "known" if known_place else "stranger")
        if stored is None:
            await line.run(self._verify, self._nobody, password)
            return False
        return await line.run(self._verify, stored, password)

    def is_current(self, stored: str) -> bool:
        """Whether the hash has today's parameters."""
        return is_current(self._hasher, stored)

    def close(self) -> None:
        """Stops the threads; what is waiting is dropped."""
        self._known.close()
        self._strangers.close()
        self._hashing.shutdown(wait=False, cancel_futures=True)


def is_foreign(stored: str) -> bool:
    """Whether the hash is of a scheme that Pillarbox does not make."""
    return not stored.startswith("$argon2id$")


def _verify(stored: str, password: str) -> bool:
    try:
        return read_stored(stored).verify(password) if is_foreign(stored) else verify_argon2(stored, password)
    except BadStored as error:
        raise Unavailable(str(error)) from error


def _hash_of_nobody(settings: LocalSettings) -> str:
    """A hash of today's cost that no password has: 32 random octets in the digest's place."""
    salt, digest = (base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (16, 32))
    cost = f"m={settings.argon2_memory},t={settings.argon2_time},p={settings.argon2_parallelism}"
    return f"$argon2id$v=19${cost}${salt}${digest}"
