"""Mailboxes and paths as SMTP carries them.

Parsing lives in ``syntax.py``: a Mailbox is what is left when quotes, brackets and source routes are gone.

STANDARDS
    RFC 5321 4.1.2 (Mailbox, Reverse-path, Forward-path), RFC 6531 3.3 (internationalised mailboxes).

It must not import anything but the protocol core.
"""

import re
from dataclasses import dataclass

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\x80-\U0010ffff]+"
_DOT_STRING = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*")
_NEEDS_BACKSLASH = re.compile(r'(["\\])')


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
        local_part = self.local_part
        if _DOT_STRING.fullmatch(local_part) is None:
            local_part = '"' + _NEEDS_BACKSLASH.sub(r"\\\1", local_part) + '"'
        return f"{local_part}@{self.domain}" if self.domain else local_part


ReversePath = Mailbox | None
"""What MAIL carries; None is the null reverse-path ``<>``."""

ForwardPath = Mailbox
"""What RCPT carries."""
