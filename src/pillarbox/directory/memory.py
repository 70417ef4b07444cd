"""A bounded memory of what was found not long ago: each entry has an end, and the longest unused leaves first.

    memory = Memory(lifetime=300.0, ceiling=32_768)
    memory.add(entry, value, now)
    memory.get(entry, now)              # None: not there, or its time is over

Entries are keyed hashes: what is remembered of a password is worth nothing outside this process.

ERRORS
    None.
"""

import hashlib
import secrets
from collections import OrderedDict
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Memory(Generic[Value]):
    """See the module's text. ``lifetime`` in seconds (0 or less: nothing is remembered)."""

    def __init__(self, lifetime: float, ceiling: int) -> None:
        self._lifetime = lifetime
        self._ceiling = ceiling
        self._entries: OrderedDict[bytes, tuple[float, Value]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, entry: bytes, now: float) -> Value | None:
        """What was added, until its end."""
        found = self._entries.get(entry)
        if found is None:
            return None
        until, value = found
        if now >= until:
            del self._entries[entry]
            return None
        self._entries.move_to_end(entry)
        return value

    def add(self, entry: bytes, value: Value, now: float, lifetime: float | None = None) -> None:
        """Remembers it for the lifetime, or a shorter one, from now."""
        lasts = self._lifetime if lifetime is None else min(lifetime, self._lifetime)
        if lasts <= 0:
            self._entries.pop(entry, None)
            return
        self._entries[entry] = (now + lasts, value)
        self._entries.move_to_end(entry)
        if len(self._entries) > self._ceiling:
            self._entries.popitem(last=False)

    def replace(self, entry: bytes, value: Value) -> None:
        """Another value until the same end; nothing when it is gone."""
        found = self._entries.get(entry)
        if found is not None:
            self._entries[entry] = (found[0], value)

    def drop(self, entry: bytes) -> None:
        """Forgets it."""
        self._entries.pop(entry, None)


class EntryKey:
    """Makes entries: hashes under a random key that never leaves this process."""

    __slots__ = ("_key",)

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def of(self, *parts: str) -> bytes:
        """One entry for these parts, none of which holds NUL."""
        return hashlib.blake2b("\0".join(parts).encode(), key=self._key, digest_size=16).digest()
