"""A stream: one transport that drives one smtp.Connection, in either role.

    event = await stream.next_event()      # replies said with send() leave in one write before it waits
    stream.send(reply)

Deadlines are set by the caller in seconds from now: a peer that is late raises DeadlineExceeded from next_event.
Reading is paused when more than ``read_ahead`` octets came while nobody waited for an event, and never resumed
after TLS was closed. A peer that does not take our replies is not read from either.

ERRORS
    smtp.RemoteProtocolError as raised by the connection; ConnectionLost when the transport ended (reset,
    TLS failure); DeadlineExceeded; Interrupted when the owner asked for it. smtp.LocalProtocolError from
    start_tls: octets were left in the buffer (STARTTLS injection): close.

MUST NOT IMPORT sessions or policies; it knows no reply but those handed to it.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from typing import Protocol, cast

from pillarbox.net import transport as transports
from pillarbox.net.preface import Origin, Proxies
from pillarbox.smtp.connection import NEED_DATA, Connection, Limits, LocalProtocolError, Role, Signal
from pillarbox.smtp.events import Challenge, Command, Content, EndOfContent, Event
from pillarbox.smtp.reply import Reply

READ_AHEAD = 65_536
"""Octets that may lie unread before the transport is paused."""

READ_AHEAD_BEFORE_SIGN_IN = 4_096
"""The same for a server's peer that has not shown who it is; what one read brings comes on top."""

WRITE_HIGH_WATER = 65_536
"""Octets that may wait to be taken by the peer before we wait for it."""

CLOSE_TIME = 3.0
"""Seconds that close() waits for the peer at most."""

CLIENT_LIMITS = Limits()
"""Ceilings of a client's connection unless the caller says otherwise."""

HANDSHAKE_TIME = 30.0
"""Seconds for a TLS handshake unless the caller says otherwise."""


class ConnectionLost(Exception):
    """The transport ended under us; ``str()`` says how, in words."""


class DeadlineExceeded(Exception):
    """The peer was not fast enough for the deadline set."""


class Interrupted(Exception):
    """``interrupt`` was called while waiting for an event."""


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

    async def start_tls(
        self, context: ssl.SSLContext, *, server_hostname: str | None = None, timeout: float = HANDSHAKE_TIME
    ) -> None:
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


class SmtpStream(asyncio.Protocol):
    """See the module's text. Made by ``connect`` or by a listener's accept; the transport calls the protocol's
    methods, the owner the Stream's."""

    __slots__ = (
        "_deadline", "_expired", "_failure", "_hold", "_loop", "_on_made", "_output", "_output_size", "_read_paused",
        "_timer", "_tls", "_transport", "_unread", "_waiter", "_write_paused", "connection", "local", "origin",
        "peer", "read_ahead",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        *,
        on_made: "Callable[[SmtpStream], None] | None" = None,
        hold: bool = False,
        origin: Origin | None = None,
    ) -> None:
        """``on_made`` is called once the transport is there; ``hold``: nothing is read before shake_hands;
        ``origin``: what a listed proxy said, whose client is our peer."""
        self.connection = connection
        self.origin = origin
        self._on_made = on_made
        self._hold = hold
        self.peer: tuple[str, int] = ("", 0)
        self.local: tuple[str, int] = ("", 0)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._output: list[bytes] = []
        self._output_size = 0
        self.read_ahead = READ_AHEAD
        self._unread = 0
        self._waiter: asyncio.Future[None] | None = None
        self._failure: ConnectionLost | None = None
        self._deadline: float | None = None
        self._expired = False
        self._timer: asyncio.TimerHandle | None = None
        self._read_paused = False
        self._write_paused = False
        self._tls = False

    # --- called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # aiofastnet's transports have all the methods of asyncio.Transport, but are no subclass of it
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        local = transport.get_extra_info("sockname")
        peer = transport.get_extra_info("peername") if self.origin is None else self.origin.peer
        self.peer = (peer[0], peer[1]) if peer else ("", 0)
        self.local = (local[0], local[1]) if local else ("", 0)
        if self._hold:
            self._hold = False  # a Doorstep's stream is made a second time, inside TLS
            transport.pause_reading()
        if self._on_made is not None:
            self._on_made(self)
            self._on_made = None

    def data_received(self, data: bytes) -> None:
        self.connection.receive_data(data)
        self._unread += len(data)
        if self._waiter is not None:
            self._wake()
        elif self._unread > self.read_ahead and not self._read_paused and self._transport is not None:
            self._read_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self.connection.receive_data(b"")
        self._wake()
        # A plain peer that closed its side may still read our replies; after a close_notify nothing goes on.
        return not self._tls

    def connection_lost(self, exc: BaseException | None) -> None:
        self._lose(_in_words(exc))
        self._transport = None

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._wake()

    # --- called by the owner

    async def next_event(self) -> Event:
        """Writes what is waiting, then returns the next event; see the module for what it raises."""
        if self._output_size > WRITE_HIGH_WATER:  # commands that came in one piece may have answers without bound
            self._write()
            while self._write_paused and self._failure is None:
                await self._wait()
        while True:
            event = self.connection.next_event()
            if not isinstance(event, Signal):
                return event
            if event is not NEED_DATA:
                raise LocalProtocolError("next_event before the reply that is due")
            if self._output:
                self._write()
            while self._write_paused and self._failure is None:
                await self._wait()
            self._unread = 0
            if self._read_paused and self._transport is not None:
                self._read_paused = False
                self._transport.resume_reading()
            await self._wait()

    def send(self, event: Reply | Challenge | Command | Content | EndOfContent) -> None:
        """Queues the octets that say ``event``."""
        octets = self.connection.send(event)
        self._output.append(octets)
        self._output_size += len(octets)

    async def flush(self) -> None:
        """Writes what was sent; waits while more than WRITE_HIGH_WATER octets lie with the transport."""
        self._write()
        while self._write_paused:
            await self._wait()
        if self._failure is not None:
            raise self._failure

    @property
    def pending_output(self) -> int:
        """Octets queued by send and not yet written."""
        return self._output_size

    def set_deadline(self, seconds: float | None) -> None:
        """From now; None: none. One timer is kept and moved when it fires, so this costs next to nothing."""
        self._expired = False
        if seconds is None:
            self._deadline = None
            return
        self._deadline = deadline = self._loop.time() + seconds
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._on_timer)
        elif self._timer.when() > deadline:
            self._timer.cancel()
            self._timer = self._loop.call_at(deadline, self._on_timer)

    def interrupt(self) -> None:
        """Makes a next_event that is waiting raise Interrupted; nothing when nobody waits."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(Interrupted())

    async def start_tls(
        self, context: ssl.SSLContext, *, server_hostname: str | None = None, timeout: float = HANDSHAKE_TIME
    ) -> None:
        """STARTTLS, either role: after the server's 220 was queued by send(), or was received from the peer."""
        server_side = self.connection.role is Role.SERVER
        if self._transport is not None:
            # Paused before the 220 is written: an honest ClientHello must not land in the clear-text protocol.
            self._transport.pause_reading()
        self._write()
        self.connection.start_tls()
        await self.shake_hands(context, server_side=server_side, server_hostname=server_hostname, timeout=timeout)

    async def wait_for_hello(self, timeout: float) -> None:
        """Implicit TLS: until the first octet of a handshake has come. Raises ConnectionLost."""
        if self._transport is None:
            raise self._failure or ConnectionLost("closed before the TLS handshake")
        try:
            await transports.wait_readable(self._transport, timeout)
        except (OSError, ValueError) as error:  # ValueError: the descriptor is gone
            text = "the TLS handshake never began" if isinstance(error, TimeoutError) else "closed before TLS"
            self._lose(text)
            raise ConnectionLost(text) from error

    async def shake_hands(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        timeout: float = HANDSHAKE_TIME,
    ) -> None:
        """TLS on the transport, without a word of SMTP: implicit TLS, or the second half of start_tls."""
        if self._transport is None:
            raise self._failure or ConnectionLost("closed before the TLS handshake")
        self._tls = True
        try:
            self._transport = await transports.start_tls(
                self._transport,
                self,
                context,
                server_side=server_side,
                server_hostname=server_hostname,
                timeout=timeout,
            )
        except ssl.SSLError:
            self._lose("the TLS handshake failed")
            raise
        except (OSError, asyncio.IncompleteReadError) as error:
            text = _in_words(error) if not isinstance(error, TimeoutError) else "the TLS handshake took too long"
            self._lose(text)
            raise ConnectionLost(text) from error
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)

    @property
    def tls_facts(self) -> tuple[str, str] | None:
        """("TLSv1.3", "TLS_AES_256_GCM_SHA384") or None."""
        cipher = self._transport.get_extra_info("cipher") if self._transport is not None else None
        if not cipher or self._transport is None:
            return None
        # beside a cipher stands the oldest version that has it, which need not be the one that is spoken
        return self._transport.get_extra_info("ssl_object").version() or cipher[1], cipher[0]

    @property
    def tls_context(self) -> ssl.SSLContext | None:
        """The context that an SNI switch chose; None without TLS and where certificates are not switched."""
        tls_object = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        context = getattr(tls_object, "context", None)
        return context if isinstance(context, ssl.SSLContext) else None

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's certificate in DER, None when there is none."""
        tls_object = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        certificate = tls_object.getpeercert(True) if tls_object is not None else None
        return certificate if isinstance(certificate, bytes) else None

    async def close(self) -> None:
        """Writes what was sent, ends TLS and closes; after CLOSE_TIME seconds the connection is cut."""
        self._write()
        if self._transport is not None:
            self._transport.close()
        self.set_deadline(CLOSE_TIME)
        try:
            while self._failure is None:
                await self._wait()
        except (ConnectionLost, DeadlineExceeded, Interrupted):
            pass  # closing is what we wanted
        finally:
            self.abort()

    def hang_up(self) -> None:
        """Writes what was sent and closes, without waiting: for peers that are turned away."""
        self._write()
        if self._transport is not None:
            # Not at once: this is called while the connection is made, after which aiofastnet begins to read whatever
            # happened; the next connection that got the same descriptor would then never be heard.
            self._loop.call_soon(self._transport.close)

    def abort(self) -> None:
        """Closes at once."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._output.clear()

    # --- inside

    def _write(self) -> None:
        if self._output and self._transport is not None and not self._transport.is_closing():
            output = self._output
            self._transport.write(output[0] if len(output) == 1 else b"".join(output))
        self._output.clear()
        self._output_size = 0

    async def _wait(self) -> None:
        """Until something happened on the transport; raises what ended the waiting."""
        if self._failure is not None:
            raise self._failure
        if self._expired:
            raise DeadlineExceeded
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _lose(self, text: str) -> None:
        if self._failure is None:
            self._failure = ConnectionLost(text)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(self._failure)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._on_timer)
            return
        self._expired = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(DeadlineExceeded())


def _in_words(exc: BaseException | None) -> str:
    if exc is None:
        return "the peer closed the connection"
    if isinstance(exc, ConnectionResetError):
        return "the peer reset the connection"
    if isinstance(exc, OSError) and exc.errno and exc.errno > 0:
        return os.strerror(exc.errno).lower()  # the loop's own strerror says only which call failed
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    return str(exc) or type(exc).__name__


async def connect(
    host: str,
    port: int,
    *,
    limits: Limits = CLIENT_LIMITS,
    tls: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    local_address: str | None = None,
    timeout: float,
) -> SmtpStream:
    """A client's stream to ``host`` (a name or an address): connected, and inside TLS when ``tls`` is given.

    ``timeout``: seconds for all of it. Raises ConnectionLost (refused, unreachable, no such host), ssl.SSLError
    (certificate and handshake), DeadlineExceeded.
    """
    stream = SmtpStream(Connection(Role.CLIENT, limits=limits, tls=tls is not None))
    try:
        async with asyncio.timeout(timeout):
            try:
                await transports.open_connection(lambda: stream, host, port, local_address)
            except TimeoutError:
                raise
            except OSError as error:
                raise ConnectionLost(_in_words(error)) from error
            if tls is not None:
                await stream.shake_hands(tls, server_side=False, server_hostname=server_hostname or host)
    except TimeoutError:
        stream.abort()
        raise DeadlineExceeded from None
    except BaseException:
        stream.abort()
        raise
    return stream


async def listen(
    sock: socket.socket,
    connection: Callable[[], Connection],
    on_stream: Callable[[SmtpStream], None],
    *,
    hold: bool,
    switches: bool,
    proxies: Proxies | None = None,
    porch: transports.Porch = lambda _peer, _sock, go: go(),
) -> transports.Listening:
    """Accepts on a bound socket; ``on_stream`` gets each new stream, and owns it.

    ``connection`` makes each one's protocol state; ``hold``: read nothing until shake_hands (implicit TLS);
    ``switches``: the TLS contexts to come pick their certificate by name; ``proxies``: who must send a PROXY header;
    ``porch``: where a connection waits before it is made a stream.
    """

    def make(origin: Origin | None) -> SmtpStream:
        return SmtpStream(connection(), on_made=on_stream, hold=hold, origin=origin)

    return await transports.listen(sock, make, hold=hold, switches=switches, proxies=proxies, porch=porch)
