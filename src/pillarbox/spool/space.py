"""How much room is left, and what that means: below the reserve new mail is refused, near zero delivery pauses too.

The reserve (``min_free``) is for settling: SQLite can neither delete nor checkpoint on a full disk, so what was
delivered could not be taken out of the queue and would be delivered again. Octets that the spool's file has free
inside count for messages that become rows, since the file never shrinks; the disk itself must have ``floor`` left
for the log. Says each change once, not per message.
"""

import os
from pathlib import Path

from pillarbox.spool.base import INLINE_LIMIT
from pillarbox.telemetry.counters import gauge
from pillarbox.telemetry.events import get_logger

GIBIBYTE = 1 << 30
_FLOOR = 16 * 1024 * 1024

_FREE = gauge("spool_free_bytes", "Octets left on the spool's file system")
log = get_logger("spool")


class Space:
    """The file system of ``directory``; ``look`` asks it, the rest only remembers."""

    def __init__(self, directory: Path, min_free: int | None) -> None:
        self._directory = directory
        numbers = os.statvfs(directory)
        if min_free is None:
            min_free = max(GIBIBYTE, numbers.f_blocks * numbers.f_frsize // 20)
        self.min_free = min_free
        self.floor = min(min_free // 4, _FLOOR)
        self.free = 0
        self.inside = 0
        """Octets free inside the spool's file; told by the owner."""
        self.full = False
        self.exhausted = False
        self.learn(self.look())

    def look(self) -> int:
        """Octets left on the file system. Blocks: a file system can hang."""
        numbers = os.statvfs(self._directory)
        return numbers.f_bavail * numbers.f_frsize

    def learn(self, free: int) -> None:
        """What look() saw."""
        self.free = free
        _FREE.set(free)
        # A little more than the reserve before mail is taken again, so that it does not flap.
        was, self.full = self.full, not self.has_room(0, self.min_free // 32 if self.full else 0)
        if self.full and not was:
            log.warning("spool.full", free=self.free, min_free=self.min_free)
        elif was and not self.full:
            log.info("spool.recovered", free=self.free, min_free=self.min_free)
        if self.free < self.floor:
            self.exhaust()

    def has_room(self, size: int, margin: int = 0) -> bool:
        """Whether a message of ``size`` octets leaves the reserve alone."""
        needed = self.min_free + size + margin
        if self.free >= needed:
            return True
        return size <= INLINE_LIMIT and self.free >= 2 * self.floor > 0 and self.free + self.inside >= needed

    def exhaust(self) -> None:
        """A write failed for want of room, or the next one would."""
        if not self.exhausted:
            self.exhausted = True
            self.free = self.look()
            log.error("spool.exhausted", free=self.free)

    def recover(self) -> None:
        """A write went through."""
        if self.exhausted:
            self.exhausted = False
            log.info("spool.recovered", free=self.free, min_free=self.min_free)

    def reason(self) -> str | None:
        """What is wrong, in words for an operator."""
        if self.exhausted:
            return f"the disk is full ({self.free} octets free): delivery pauses, since it could not be recorded"
        if self.full:
            return f"{self.free} octets free, less than the reserve of {self.min_free}: new mail is refused"
        return None
