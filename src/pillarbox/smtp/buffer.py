"""The receive buffer: octets as they came, lines and content taken out of it.

Only CRLF ends a line. A line over its ceiling is thrown away as it arrives, so memory stays bounded and the next
line is found where it truly begins.

ERRORS
    take_line raises LineTooLong after the true end of a line over its ceiling; feed raises LocalProtocolError when
    a transport reads on although nobody takes what is here.

It must not import anything but the protocol core.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pillarbox.smtp.errors import LocalProtocolError

CEILING: Final = 1_048_576
"""Octets that may wait here before another read is a bug of the transport (it must pause while we are PAUSED)."""

UPPER: Final = bytes.maketrans(b"abcdefghijklmnopqrstuvwxyz", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
"""For bytes.translate: ASCII letters to upper case, and nothing else."""


class LineTooLong(Exception):
    """A line was over its ceiling; it is gone up to and with its CRLF. ``verb``: its first four octets, in upper
    case, which tell whose ceiling it was; ``length``: octets that it had before its CRLF."""

    def __init__(self, verb: bytes = b"", length: int = 0) -> None:
        super().__init__()
        self.verb = verb
        self.length = length


@dataclass(frozen=True, slots=True)
class Ceilings:
    """How long a line may be, CRLF included: ``base``, or more for a line whose first four octets, in upper case,
    are in ``verbs``."""

    base: int
    verbs: Mapping[bytes, int] = field(default_factory=dict)


class ReceiveBuffer:
    """What was received and not yet taken. ``octets[start:]`` is valid after ``joined()``; ``thrown_away``: octets of
    a line over its ceiling that were dropped so far, while ``skipping``."""

    __slots__ = ("_more", "_searched", "_skipping", "closed", "octets", "skipped_verb", "start", "thrown_away")

    def __init__(self) -> None:
        self.octets = b""
        self.start = 0
        self.closed = False
        self._more: list[bytes] = []
        self._searched = 0  # no CRLF begins before here
        self._skipping = False  # inside a line over its ceiling
        self.skipped_verb = b""  # how that line began
        self.thrown_away = 0

    def __len__(self) -> int:
        return len(self.octets) - self.start + sum(map(len, self._more))

    def feed(self, octets: bytes) -> None:
        """Adds what was received; b"" is the peer's end.

        Raises:
            LocalProtocolError: octets after the end, or on top of CEILING octets that wait.
        """
        if self.closed:
            raise LocalProtocolError("octets after the peer's end")
        if not octets:
            self.closed = True
        elif self.start == len(self.octets) and not self._more:
            self.octets = octets
            self.start = self._searched = 0
        elif len(self) > CEILING:
            raise LocalProtocolError("the transport reads on although nobody takes what is in the buffer")
        else:
            self._more.append(octets)

    @property
    def skipping(self) -> bool:
        """Whether what came last is part of a line over its ceiling, whose end has not come."""
        return self._skipping

    def joined(self) -> bytes:
        """``octets`` with all that was fed; look at it from ``start`` on."""
        if self._more:
            self._searched = max(self._searched - self.start, 0)
            self.octets = b"".join((self.octets[self.start :], *self._more))
            self.start = 0
            self._more = []
        return self.octets

    def begins_with(self, octet: int) -> bool:
        """Whether a line begins here, and with ``octet``."""
        return self.octets != b"" and self.octets[self.start] == octet and not self._skipping

    def advance(self, position: int) -> None:
        """Everything before ``octets[position]`` was taken."""
        self.start = self._searched = position
        if position == len(self.octets):
            self.octets = b""
            self.start = self._searched = 0

    def clear(self) -> None:
        """Forgets all octets."""
        self.octets = b""
        self.start = self._searched = 0
        self._more = []
        self._skipping = False

    def take_line(self, ceilings: Ceilings) -> bytes | None:
        """The next line without its CRLF, or None while its end has not come.

        Raises:
            LineTooLong: the line was over its ceiling.
        """
        octets = self.joined() if self._more else self.octets
        start = self.start
        end = octets.find(b"\r\n", self._searched)
        if end < 0:
            self._keep_part(octets, start, ceilings)
            return None
        self.advance(end + 2)
        length = end + 2 - start
        if self._skipping:
            self._skipping = False
            raise LineTooLong(self.skipped_verb, self.thrown_away + length - 2)
        if length > ceilings.base and length > _ceiling(octets, start, ceilings):
            raise LineTooLong(_verb(octets, start), length - 2)
        return octets[start:end]

    def _keep_part(self, octets: bytes, start: int, ceilings: Ceilings) -> None:
        """Remembers how far was searched; throws away what can only be part of a line over its ceiling."""
        end = len(octets)
        ends_with_cr = octets.endswith(b"\r")
        length = end - start
        if self._skipping or (length >= ceilings.base and length >= _ceiling(octets, start, ceilings)):
            if not self._skipping:
                self.skipped_verb = _verb(octets, start)
                self.thrown_away = 0
            self._skipping = True
            self.thrown_away += length - ends_with_cr
            self.octets = b"\r" if ends_with_cr else b""
            self.start = self._searched = 0
        else:
            self._searched = max(start, end - 1 if ends_with_cr else end)


def _ceiling(octets: bytes, start: int, ceilings: Ceilings) -> int:
    return ceilings.verbs.get(_verb(octets, start), ceilings.base)


def _verb(octets: bytes, start: int) -> bytes:
    return octets[start : start + 4].translate(UPPER)
