"""A stream: one transport that drives one smtp.Connection, in either role.

    event = await stream.next_event()      # replies said with send() leave in one write before it waits
    stream.send(reply)

Deadlines are absolute loop times set by the caller: a peer that is late raises DeadlineExceeded from next_event.
Reading is paused while nobody waits for an event (back-pressure), and never resumed after TLS was closed.

ERRORS
    smtp.RemoteProtocolError as raised by the connection; ConnectionLost when the transport ended (reset,
    TLS failure); DeadlineExceeded. After the last two the transport is closed.
"""

import ssl
from typing import Protocol

from pillarbox.smtp.connection import Connection
from pillarbox.smtp.events import Challenge, Command, Content, EndOfContent, Event
from pillarbox.smtp.reply import Reply


class ConnectionLost(Exception):
    """The transport ended under us; ``str()`` says how, in words."""


class DeadlineExceeded(Exception):
    """The peer was not fast enough for the deadline set."""


class Stream(Protocol):
    """What sessions and attempts hold; SmtpStream in this module implements it."""

    connection: Connection
    peer: tuple[str, int]
    local: tuple[str, int]

    async def next_event(self) -> Event:
        """Writes what is waiting to be written, then returns the next event."""
        ...

    def send(self, event: Reply | Challenge | Command | Content | EndOfContent) -> None:
        """Queues the octets; they leave at the next next_event, flush or close."""
        ...

    async def flush(self) -> None:
        """Writes what was sent and waits while the peer is too slow to take it."""
        ...

    async def start_tls(self, context: ssl.SSLContext, *, server_hostname: str | None = None) -> None:
        """Upgrades. Server: call after send(220): pauses reading, writes, then shakes hands (DESIGN: the wire, 2).
        Raises smtp.LocalProtocolError, ConnectionLost, DeadlineExceeded, ssl.SSLError."""
        ...

    def set_deadline(self, seconds: float | None) -> None:
        """From now; None: none. Cheap: called at every command."""
        ...

    @property
    def tls_facts(self) -> tuple[str, str] | None:
        """("TLSv1.3", "TLS_AES_256_GCM_SHA384") or None."""
        ...

    async def close(self) -> None:
        """Writes what was sent, ends TLS and closes, waiting a moment at most."""
        ...

    def abort(self) -> None:
        """Closes at once."""
        ...
