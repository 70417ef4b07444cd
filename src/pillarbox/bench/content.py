"""The messages of a load: a small header, each with its own Message-ID, and lines of text up to the size wanted.

STANDARDS
    RFC 5322 3.6 (the fields), 2.1.1 (lines of 78).

ERRORS
    None.
"""

from collections.abc import Sequence

from pillarbox.smtp.path import Mailbox

_LINE = b"The quick brown fox jumps over the lazy dog, and the dog sleeps on as before.\r\n"
CHUNK = 262_144
"""Octets of the largest chunk."""


class Messages:
    """Makes the contents of one load. ``run`` tells this load's Message-IDs from any other's."""

    def __init__(self, sender: Mailbox, recipients: Sequence[Mailbox], size: int, date: str, run: str) -> None:
        fields = (
            f"From: <{sender}>",
            f"To: <{recipients[0]}>",
            "Subject: load test, please ignore",
            f"Date: {date}",
            "MIME-Version: 1.0",
            "Content-Type: text/plain; charset=us-ascii",
        )
        self._header = "".join(f"{line}\r\n" for line in fields).encode()
        self._domain = sender.domain.encode()
        self._run = run.encode()
        self._number = 0
        self._size = size
        self._body: list[bytes] = []
        self._body = self._lines(size - len(self._head(0)))

    def next(self) -> list[bytes]:
        """The chunks of the next message."""
        self._number += 1
        head = self._head(self._number)
        return [head + self._body[0], *self._body[1:]] if self._body else [head]

    def _head(self, number: int) -> bytes:
        return b"Message-ID: <%010d.%s@%s>\r\n%s\r\n" % (number, self._run, self._domain, self._header)

    @staticmethod
    def _lines(size: int) -> list[bytes]:
        """Text of ``size`` octets in chunks, ending in CRLF where there is room for one."""
        if size <= 0:
            return []
        whole, rest = divmod(size, len(_LINE))
        # a shorter last line, which a CR alone must not end
        text = _LINE * whole + (b"x" * (rest - 2) + b"\r\n" if rest >= 2 else b"x" * rest)
        return [text[start : start + CHUNK] for start in range(0, len(text), CHUNK)]
