"""What a connection reads and writes: frozen values, one class per thing that can be said.

A server receives the command events and sends ``Reply`` or ``Challenge``; a client sends the command events and
receives ``Reply``. A table in ``state.py`` says which may come when; nothing here decides anything.

STANDARDS
    RFC 5321, RFC 3207 (STARTTLS), RFC 4954 (AUTH), RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8),
    RFC 3030 (CHUNKING, BINARYMIME), RFC 3461 (DSN), RFC 4865 (FUTURERELEASE), RFC 2852 (DELIVERBY),
    RFC 6710 (MT-PRIORITY), RFC 8689 (REQUIRETLS).
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
    """The BODY parameter of MAIL (RFC 6152, RFC 3030)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT_MIME = "8BITMIME"
    BINARY_MIME = "BINARYMIME"


class Defect(Enum):
    """What is wrong with a content; known only after its true end, where the whole message is refused."""

    BARE_CR = auto()
    BARE_LF = auto()
    LEADING_NUL = auto()  # a line begins with NUL: what strips it may find an end of content
    LINE_TOO_LONG = auto()
    TOO_BIG = auto()


@dataclass(frozen=True, slots=True)
class MailParameters:
    """The ESMTP parameters of MAIL.

    Attributes:
        size: octets as declared (RFC 1870), None when absent.
        ret: "FULL" or "HDRS", "" when absent (RFC 3461 4.3).
        envid: decoded from xtext, "" when absent (RFC 3461 4.4).
        hold_for: seconds (RFC 4865 4.1), None when absent; never together with hold_until.
        hold_until: seconds since the epoch (RFC 4865 4.2), None when absent.
        deliver_by: seconds from now, may be negative or 0 with mode N (RFC 2852 4); None when absent.
        deliver_by_mode: "R" or "N", "RT" or "NT" when a trace is asked; "" when absent.
        priority: -9 to 9 (RFC 6710 4), None when absent.
        require_tls: REQUIRETLS (RFC 8689 2).
    """

    size: int | None = None
    body: Body | None = None
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    hold_for: int | None = None
    hold_until: float | None = None
    deliver_by: int | None = None
    deliver_by_mode: str = ""
    priority: int | None = None
    require_tls: bool = False


@dataclass(frozen=True, slots=True)
class RcptParameters:
    """The ESMTP parameters of RCPT.

    Attributes:
        notify: "NEVER", or of SUCCESS, FAILURE, DELAY those wanted, with commas, in this order (RFC 3461 4.1);
            "" when absent.
        original_recipient: ORCPT decoded from xtext or utf-8-addr-xtext, "type;address" (RFC 3461 4.2, RFC 6533 3);
            "" when absent.
    """

    notify: str = ""
    original_recipient: str = ""


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
class Chunk:
    """BDAT (RFC 3030 2). Server: no reply is due yet, its octets follow as Content (maybe none), then EndOfChunk, or
    EndOfContent when it is the ``last``. Client: Content for exactly ``size`` octets is said behind it, as it is."""

    size: int
    last: bool = False


@dataclass(frozen=True, slots=True)
class EndOfChunk:
    """All octets of a chunk that is not the last were received; its reply is due. ``size`` as announced; ``defects``
    found so far: refuse it then, for nothing after it can mend the content."""

    size: int
    defects: frozenset[Defect] = frozenset()


@dataclass(frozen=True, slots=True)
class Content:
    """A chunk of content, dot-unstuffed, line ends included; chunks join to the exact content.

    Once a defect was seen or the size limit passed, no further chunks come: what is refused is not carried.
    """

    octets: bytes


@dataclass(frozen=True, slots=True)
class EndOfContent:
    """The true end of the content (CRLF.CRLF and nothing else, or the last chunk's). The final reply is due.

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
    Hello
    | StartTls
    | Auth
    | AuthResponse
    | AuthCancelled
    | Mail
    | Rcpt
    | Data
    | Chunk
    | Reset
    | Noop
    | Quit
    | Help
    | Verify
)
ServerEvent = Command | Content | EndOfChunk | EndOfContent | ConnectionClosed
"""What ``next_event`` yields in the server role."""

ClientEvent = Reply | Challenge | ConnectionClosed
"""What ``next_event`` yields in the client role; a 334 arrives as ``Challenge``."""

Event = ServerEvent | ClientEvent
