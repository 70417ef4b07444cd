"""One SMTP connection in either role: octets in, events out; events in, octets out.

    connection.receive_data(octets)        # b"" means that the peer closed its side
    connection.next_event()                # an Event, NEED_DATA, or PAUSED
    octets = connection.send(event)        # what to write to the peer

The server is PAUSED before its greeting, and after each command until its reply was sent; pipelined octets stay
buffered, so that back-pressure is by construction. ``send`` moves the state: 220 to STARTTLS makes ``start_tls``
due, 235 signs in, 354 opens the content, 221 to QUIT, 421 and the hint of a fatal error close: after them the only
event is ConnectionClosed. A 421 may be said at any time, every other reply when one is due. The state and parameter
tables decide; ``server.py`` and ``client.py`` obey them.

STANDARDS
    RFC 5321, RFC 2920 (PIPELINING), RFC 3207 (STARTTLS), RFC 4954 (AUTH).

ERRORS
    ``next_event`` raises RemoteProtocolError when the peer broke the protocol; in the server role its
    ``reply_hint`` is the reply that is due, and after sending it the connection goes on, unless ``fatal``.
    ``send`` and ``start_tls`` raise LocalProtocolError: a bug of the caller, or STARTTLS with octets left over.
    ``receive_data`` raises it when a transport reads on although a mebioctet waits here.

It must not import anything but the protocol core.
"""

from collections.abc import Iterable
from enum import Enum, auto
from typing import Any

from pillarbox.smtp.client import Client
from pillarbox.smtp.errors import LocalProtocolError, RemoteProtocolError
from pillarbox.smtp.events import (
    NEED_DATA,
    PAUSED,
    Challenge,
    Command,
    Content,
    EndOfContent,
    Event,
    Signal,
)
from pillarbox.smtp.limits import Limits
from pillarbox.smtp.reader import Facts
from pillarbox.smtp.reply import Reply
from pillarbox.smtp.server import Server

__all__ = [
    "NEED_DATA",
    "PAUSED",
    "Connection",
    "Limits",
    "LocalProtocolError",
    "RemoteProtocolError",
    "Role",
    "Signal",
]

_DEFAULT_LIMITS = Limits()


class Role(Enum):
    """Which side of the conversation this is."""

    CLIENT = auto()
    SERVER = auto()


class Connection:
    """See the module's text. One object a TCP connection, kept over STARTTLS."""

    __slots__ = ("_side", "role")

    def __init__(
        self,
        role: Role,
        *,
        limits: Limits = _DEFAULT_LIMITS,
        tls: bool = False,
        offer_starttls: bool = True,
        mechanisms: Iterable[str] = (),
        authenticated: bool = False,
    ) -> None:
        """``tls``: the transport is encrypted from the start. Server role: ``mechanisms`` are offered inside TLS
        only (``Limits.plaintext_sign_in``: outside too); an AUTH with another one is 504 5.5.4. Client role ignores
        the last three."""
        self.role = role
        self._side: Server | Client
        if role is Role.SERVER:
            facts = Facts(limits, tuple(mechanisms), offer_starttls, tls, authenticated)
            self._side = Server(facts)
        else:
            self._side = Client(tls=tls)

    @property
    def tls(self) -> bool:
        """Whether the transport is encrypted now."""
        side = self._side
        return side.tls if isinstance(side, Client) else side.facts.tls

    @property
    def authenticated(self) -> bool:
        """Server role: whether 235 was said, or sign-in was by certificate. False in the client role."""
        return isinstance(self._side, Server) and self._side.facts.authenticated

    @property
    def unfinished(self) -> str:
        """Server role: what of the peer's has begun and not ended, in words for the log: "the content", "a chunk", "a
        command line" or "". A bare LF ends none of them."""
        return self._side.unfinished if isinstance(self._side, Server) else ""

    @property
    def extensions(self) -> dict[str, str]:
        """Client role: what the peer's last EHLO reply offered, keyword in upper case to its arguments."""
        return self._side.extensions if isinstance(self._side, Client) else {}

    def receive_data(self, octets: bytes) -> None:
        """Takes what the transport read; b"" for the peer's end."""
        self._side.receive_data(octets)

    def next_event(self) -> Event | Signal:
        """The next event, NEED_DATA, or (server) PAUSED while a reply is due."""
        return self._side.next_event()

    def send(self, event: Reply | Challenge | Command | Content | EndOfContent) -> bytes:
        """The octets that say ``event``. Server: Reply, Challenge. Client: a command, Content (dot-stuffed here),
        EndOfContent. A client may send several commands before their replies (PIPELINING); next_event yields the
        replies in order."""
        side: Any = self._side  # each side refuses what it cannot say
        octets: bytes = side.send(event)
        return octets

    def hello_reply(self, host: str, now: float | None = None) -> Reply:
        """Server: the 250 to the last EHLO or HELO with the extensions that the state allows (STARTTLS only
        outside TLS, AUTH only inside, or with ``Limits.plaintext_sign_in`` anywhere, and before sign-in). ``now``,
        seconds since the epoch, is for FUTURERELEASE, which is left out without it."""
        if isinstance(self._side, Client):
            raise LocalProtocolError("a client does not answer EHLO")
        return self._side.hello_reply(host, now)

    def start_tls(self) -> None:
        """Call after the 220 was written and before the handshake. Forgets what was said before (RFC 3207 4.2).

        Raises:
            LocalProtocolError: octets are left in the buffer (STARTTLS injection), or STARTTLS was not agreed.
        """
        self._side.start_tls()

    def serve_as(self, limits: Limits, mechanisms: Iterable[str]) -> None:
        """Server: other ceilings and mechanisms from here on. For a handshake in which the client asked for another
        name than the default (SNI), so before the greeting of implicit TLS or before the EHLO after STARTTLS.

        Raises:
            LocalProtocolError: the client, or anywhere else.
        """
        if isinstance(self._side, Client):
            raise LocalProtocolError("a client serves nobody")
        self._side.serve_as(limits, tuple(mechanisms))

    def offer(self, mechanisms: Iterable[str]) -> None:
        """Server: the mechanisms of the hello_reply to come, and of AUTH after it. Raises LocalProtocolError in the
        client role."""
        if isinstance(self._side, Client):
            raise LocalProtocolError("a client offers nothing")
        self._side.offer(tuple(mechanisms))

    def sign_in(self) -> None:
        """Server: the peer is signed in by what it showed in the handshake; AUTH is neither offered nor taken.

        Raises:
            LocalProtocolError: the client, outside TLS, or after the first command.
        """
        if isinstance(self._side, Client):
            raise LocalProtocolError("a client signs nobody in")
        self._side.sign_in()
