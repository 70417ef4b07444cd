"""A sink: an SMTP server that accepts every message, counts it and keeps nothing. For testing what relays to it.

    async with serve("127.0.0.1", 2525) as sink: ... sink.accepted, sink.octets

No TLS, no sign-in, so it belongs on a loopback address or a network of one's own.

STANDARDS
    RFC 5321, RFC 2920 (PIPELINING), RFC 1870 (SIZE), RFC 6152 (8BITMIME).

ERRORS
    OSError: the address cannot be listened on.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pillarbox.net.stream import ConnectionLost, DeadlineExceeded, SmtpStream, listen
from pillarbox.smtp.connection import Connection, RemoteProtocolError, Role
from pillarbox.smtp.events import ConnectionClosed, Content, Data, EndOfContent, Event, Hello, Quit
from pillarbox.smtp.reply import Reply

HOST = "sink.invalid"
PATIENCE = 300.0
"""Seconds that a client may be silent."""

_GREETING = Reply(220, (f"{HOST} ESMTP sink: accepts everything, keeps nothing",))
_GO_AHEAD = Reply(354, ("go ahead",))
_OK = Reply(250, ("OK",), "2.0.0")
_TAKEN = Reply(250, ("taken and thrown away",), "2.0.0")
_BYE = Reply(221, ("bye",), "2.0.0")
_DEFECTIVE = Reply(554, ("bare CR or LF, or a line too long",), "5.6.0")
_UNCLEAR = Reply(500, ("not understood",), "5.5.2")


class Sink:
    """What came so far."""

    def __init__(self) -> None:
        self.accepted = 0
        self.octets = 0
        self.sessions = 0
        self.tasks: set[asyncio.Task[None]] = set()

    def receive(self, stream: SmtpStream) -> None:
        """A client has connected."""
        self.sessions += 1
        task = asyncio.get_running_loop().create_task(self._converse(stream))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _converse(self, stream: SmtpStream) -> None:
        stream.send(_GREETING)
        try:
            while True:
                stream.set_deadline(PATIENCE)
                try:
                    event = await stream.next_event()
                except RemoteProtocolError as error:
                    stream.send(error.reply_hint or _UNCLEAR)
                    if error.fatal:
                        break
                    continue
                if isinstance(event, ConnectionClosed):
                    break
                if not isinstance(event, Content):
                    stream.send(self._answer(stream.connection, event))
                    if isinstance(event, Quit):
                        break
            await stream.close()
        except (ConnectionLost, DeadlineExceeded):
            pass
        finally:
            stream.abort()

    def _answer(self, connection: Connection, event: Event) -> Reply:
        if isinstance(event, EndOfContent):
            if event.defects:
                return _DEFECTIVE
            self.accepted += 1
            self.octets += event.size
            return _TAKEN
        if isinstance(event, Hello):
            return connection.hello_reply(HOST)
        if isinstance(event, Data):
            return _GO_AHEAD
        return _BYE if isinstance(event, Quit) else _OK


@asynccontextmanager
async def serve(host: str, port: int) -> AsyncIterator[tuple[Sink, int]]:
    """Listens while the context lasts; yields the sink and the port (chosen when 0 was given). Raises OSError."""
    sink = Sink()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.create_server((host, port), family=family, backlog=1024)
    server = await listen(
        sock,
        lambda: Connection(Role.SERVER, offer_starttls=False, authenticated=True),
        sink.receive,
        hold=False,
        switches=False,
    )
    try:
        yield sink, sock.getsockname()[1]
    finally:
        server.close()
        for task in sink.tasks:
            task.cancel()
        await asyncio.gather(*sink.tasks, return_exceptions=True)
