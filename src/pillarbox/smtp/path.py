"""Mailboxes and paths as SMTP carries them.

STANDARDS
    RFC 5321 4.1.2 (Mailbox, Reverse-path, Forward-path), RFC 6531 3.3 (internationalised mailboxes).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One address, decoded: the local part without its quotes, the domain as written.

    ``domain`` is empty only for the forward path ``<Postmaster>`` (RFC 5321 4.1.1.3); an address literal keeps
    its brackets. Both are text; non-ASCII appears only where SMTPUTF8 was given.
    """

    local_part: str
    domain: str

    def __str__(self) -> str:
        """The address in wire form: the local part quoted where RFC 5321 4.1.2 requires it."""
        raise NotImplementedError

    @property
    def is_ascii(self) -> bool:
        """Whether the address can travel without SMTPUTF8."""
        return self.local_part.isascii() and self.domain.isascii()


ReversePath = Mailbox | None
"""What MAIL carries; None is the null reverse-path ``<>``."""

ForwardPath = Mailbox
"""What RCPT carries."""
