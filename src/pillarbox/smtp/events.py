"""What a connection reads and writes: frozen values, one class per thing that can be said.

A server receives the command events and sends ``Reply`` or ``Challenge``; a client sends the command events and
receives ``Reply``. A table in ``state.py`` says which may come when; nothing here decides anything.

STANDARDS
    RFC 5321, RFC 3207 (STARTTLS), RFC 4954 (AUTH), RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8).
"""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from pillarbox.smtp.path import ForwardPath, ReversePath
from pillarbox.smtp.reply import Reply


class Signal(Enum):
    """What ``next_event`` returns when there is no event."""

    NEED_DATA = auto()
    PAUSED = auto()


NEED_DATA: Final = Signal.NEED_DATA
PAUSED: Final = Signal.PAUSED


class Body(Enum):
    """The BODY parameter of MAIL (RFC 6152, RFC 3030). BINARYMIME joins with its extension."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT_MIME = "8BITMIME"


class Defect(Enum):
    """What is wrong with a content; known only after its true end, where the whole message is refused."""

    BARE_CR = auto()
    BARE_LF = auto()
    LEADING_NUL = auto()  # a line begins with NUL: what strips it may find an end of content
    LINE_TOO_LONG = auto()
    TOO_BIG = auto()


@dataclass(frozen=True, slots=True)
class MailParameters:
    """The ESMTP parameters of MAIL. ``size`` in octets as declared (RFC 1870), None when absent."""

    size: int | None = None
    body: Body | None = None
    smtputf8: bool = False


@dataclass(frozen=True, slots=True)
class RcptParameters:
    """The ESMTP parameters of RCPT; DSN's join with their extension."""


@dataclass(frozen=True, slots=True)
class Hello:
    """EHLO (``esmtp``) or HELO with its argument as received, any octets but CR, LF and NUL, decoded as
    latin-1: it is written to the Received field and the log, and is never a reason to refuse (R2)."""

    argument: str
    esmtp: bool


@dataclass(frozen=True, slots=True)
class StartTls:
    """STARTTLS (RFC 3207)."""


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH (RFC 4954): the mechanism in upper case; the initial response decoded from base64, b"" for ``=``.

    Its repr shows no response: it may be a password."""

    mechanism: str
    initial_response: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class AuthResponse:
    """A line of the SASL exchange, decoded from base64. Its repr shows no octets: it may be a password."""

    response: bytes


@dataclass(frozen=True, slots=True)
class AuthCancelled:
    """``*`` in place of a response (RFC 4954 4): answered 501 5.7.0 by the session."""


@dataclass(frozen=True, slots=True)
class Mail:
    """MAIL FROM."""

    reverse_path: ReversePath
    parameters: MailParameters = MailParameters()


@dataclass(frozen=True, slots=True)
class Rcpt:
    """RCPT TO."""

    forward_path: ForwardPath
    parameters: RcptParameters = RcptParameters()


@dataclass(frozen=True, slots=True)
class Data:
    """DATA: the content follows once 354 was sent; any other reply refuses it."""


@dataclass(frozen=True, slots=True)
class Content:
    """A chunk of content, dot-unstuffed, line ends included; chunks join to the exact content.

    Once a defect was seen or the size limit passed, no further chunks come: what is refused is not carried.
    """

    octets: bytes


@dataclass(frozen=True, slots=True)
class EndOfContent:
    """The true end of the content (CRLF.CRLF and nothing else). The final reply is due.

    Attributes:
        size: octets of the whole content, dot-unstuffed, also of what was not carried.
        defects: empty when the content is well-formed.
        eight_bit: whether an octet above 127 was seen.
    """

    size: int
    defects: frozenset[Defect]
    eight_bit: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """RSET."""


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP, its argument ignored (RFC 5321 4.1.1.9)."""


@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT."""


@dataclass(frozen=True, slots=True)
class Help:
    """HELP with its argument, upper case, "" when absent."""

    topic: str


@dataclass(frozen=True, slots=True)
class Verify:
    """VRFY with its argument."""

    argument: str


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """The peer ended its side; nothing more will be received."""


@dataclass(frozen=True, slots=True, repr=False)
class Challenge:
    """334 with the server's octets (sent base64-encoded)."""

    challenge: bytes


Command = (
    Hello | StartTls | Auth | AuthResponse | AuthCancelled | Mail | Rcpt | Data | Reset | Noop | Quit | Help | Verify
)
ServerEvent = Command | Content | EndOfContent | ConnectionClosed
"""What ``next_event`` yields in the server role."""

ClientEvent = Reply | Challenge | ConnectionClosed
"""What ``next_event`` yields in the client role; a 334 arrives as ``Challenge``."""

Event = ServerEvent | Reply | Challenge
