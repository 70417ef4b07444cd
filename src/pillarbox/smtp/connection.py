"""One SMTP connection in either role: octets in, events out; events in, octets out.

    connection.receive_data(octets)        # b"" means that the peer closed its side
    connection.next_event()                # an Event, NEED_DATA, or PAUSED
    octets = connection.send(event)        # what to write to the peer

The server is PAUSED after each command until its reply was sent; pipelined octets stay buffered, so that
back-pressure is by construction. ``send`` moves the state: 220 to STARTTLS makes ``start_tls`` due, 235 signs
in, 354 opens the content. The state and parameter tables decide; this module obeys them.

ERRORS
    ``next_event`` raises RemoteProtocolError when the peer broke the protocol; in the server role its
    ``reply_hint`` is the reply that is due, and after sending it the connection goes on, unless ``fatal``.
    ``send`` and ``start_tls`` raise LocalProtocolError: a bug of the caller, or STARTTLS with octets left over.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from pillarbox.smtp.events import Challenge, Command, Content, EndOfContent, Event
from pillarbox.smtp.reply import Reply


class Role(Enum):
    """Which side of the conversation this is."""

    CLIENT = auto()
    SERVER = auto()


class Signal(Enum):
    """What ``next_event`` returns when there is no event."""

    NEED_DATA = auto()
    PAUSED = auto()


NEED_DATA: Final = Signal.NEED_DATA
PAUSED: Final = Signal.PAUSED


class RemoteProtocolError(Exception):
    """The peer broke the protocol.

    Attributes:
        reply_hint: the reply due (server role); None in the client role.
        fatal: the session cannot go on: send the hint and close.
        octets: what was received, for the log; redacted (never a line of a SASL exchange).
    """

    def __init__(
        self, message: str, reply_hint: Reply | None = None, *, fatal: bool = False, octets: bytes = b""
    ) -> None:
        super().__init__(message)
        self.reply_hint = reply_hint
        self.fatal = fatal
        self.octets = octets


class LocalProtocolError(Exception):
    """We broke the protocol, or STARTTLS found octets in the buffer (plaintext injection): close the connection."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Ceilings of one connection (DESIGN rule: every buffer has an owner and a ceiling). All in octets.

    Attributes:
        command_line: a command line with CRLF, before parameters (RFC 5321 4.5.3.1.4).
        auth_line: a line of AUTH and its exchange (RFC 4954 4).
        text_line: a line of content with CRLF; longer is Defect.LINE_TOO_LONG.
        content: the whole content; longer is Defect.TOO_BIG and a SIZE that exceeds it is refused at MAIL. 0: none.
        content_chunk: the largest Content event.
        bad_commands: how many errors in a row before the hint becomes 421 and fatal.
    """

    command_line: int = 512
    auth_line: int = 12_288
    text_line: int = 65_536
    content: int = 52_428_800
    content_chunk: int = 262_144
    bad_commands: int = 10


class Connection:
    """See the module's text. One object a TCP connection, kept over STARTTLS."""

    def __init__(
        self,
        role: Role,
        *,
        limits: Limits = Limits(),
        tls: bool = False,
        offer_starttls: bool = True,
        mechanisms: Iterable[str] = (),
        authenticated: bool = False,
    ) -> None:
        """``tls``: the transport is encrypted from the start. Server role: ``mechanisms`` are offered inside TLS
        only; an AUTH with another one is 504 5.5.4. Client role ignores the last three."""
        raise NotImplementedError

    @property
    def tls(self) -> bool:
        """Whether the transport is encrypted now."""
        raise NotImplementedError

    @property
    def extensions(self) -> dict[str, str]:
        """Client role: what the peer's last EHLO reply offered, keyword in upper case to its arguments."""
        raise NotImplementedError

    def receive_data(self, octets: bytes) -> None:
        """Takes what the transport read; b"" for the peer's end."""
        raise NotImplementedError

    def next_event(self) -> Event | Signal:
        """The next event, NEED_DATA, or (server) PAUSED while a reply is due."""
        raise NotImplementedError

    def send(self, event: Reply | Challenge | Command | Content | EndOfContent) -> bytes:
        """The octets that say ``event``. Server: Reply, Challenge. Client: a command, Content (dot-stuffed here),
        EndOfContent. A client may send several commands before their replies (PIPELINING); next_event yields the
        replies in order."""
        raise NotImplementedError

    def hello_reply(self, host: str) -> Reply:
        """Server: the 250 to the last EHLO or HELO with the extensions that the state allows (STARTTLS only
        outside TLS, AUTH only inside and before sign-in)."""
        raise NotImplementedError

    def start_tls(self) -> None:
        """Call after the 220 was written and before the handshake. Forgets what was said before (RFC 3207 4.2).

        Raises:
            LocalProtocolError: octets are left in the buffer (STARTTLS injection), or STARTTLS was not agreed.
        """
        raise NotImplementedError
