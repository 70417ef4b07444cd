"""Replies: a code, an enhanced status and text.

STANDARDS
    RFC 5321 4.2 (replies), RFC 2034 and RFC 3463 (enhanced status codes).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply, sent by a server or received by a client.

    Attributes:
        code: three digits, 200 to 599.
        text: one element a line, without line ends, without code and enhanced status.
        enhanced: ``"5.7.1"`` or None. The greeting, 334, 354 and the replies to EHLO and HELO have none; it is
            written on each line of a multi-line reply.
    """

    code: int
    text: tuple[str, ...]
    enhanced: str | None = None

    @property
    def is_positive(self) -> bool:
        """2yz or 3yz."""
        return self.code < 400

    @property
    def is_transient(self) -> bool:
        """4yz: the same command may succeed later."""
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        """5yz."""
        return self.code >= 500
