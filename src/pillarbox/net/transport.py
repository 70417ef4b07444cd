"""Where transports come from: plain ones, and TLS over them.

aiofastnet's transports hold small, fixed TLS buffers (42 KiB a connection after 1 MiB has passed, where the event
loop's own keep 458); but they talk to OpenSSL past Python's ssl objects, so an ``sni_callback`` would be called
without its object and crash the process. Therefore a context with an ``sni_callback`` is only ever given to the
loop's own TLS, and this module is the one place that decides (docs/adr/0006-tls-transports.md).

A transport that may be upgraded by either is made by the loop or by aiofastnet accordingly: ``switches`` says
whether the contexts it will meet switch certificates.

uvloop begins to read as soon as ``connection_made`` has returned, whatever was said inside; a ClientHello that came
before the session asked for its handshake would then be taken for clear text, and the handshake would wait for ever.
So where certificates are switched and TLS comes first (``hold``), connections are accepted here: the protocol gets
the bare socket as a ``Doorstep``, which reads nothing, and ``start_tls`` makes the loop's transport of it.

Connections are accepted here, a few at a time. Where load balancers are listed, the PROXY header is read off the
socket (preface.py) before a transport, a Doorstep or TLS is made of it; and before that the ``porch`` is asked, where
a flood waits as bare sockets.

ERRORS
    OSError: a socket that cannot listen; ConnectionResetError: the peer was gone before its handshake began. What a
    handshake raises (ssl.SSLError, TimeoutError) passes through.

MUST NOT IMPORT anything of ours but preface.
"""

import asyncio
import errno
import os
import select
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, Protocol

import aiofastnet

from pillarbox.net.preface import Origin, Porter, Proxies

SHUTDOWN_TIME = 2.0
"""Seconds for the peer to answer our close_notify before the connection is cut."""

TLS_BUFFER = 16_384
"""Octets of each of the two TLS buffers of a connection, the smallest that there are: each page of them that a
handshake touches is paid for by every idle session. A busy peer is read several buffers at a time all the same."""

BACKLOG = 1024
"""Connections that may wait to be accepted."""


def switches_certificates(context: ssl.SSLContext) -> bool:
    """Whether the context picks a certificate by the name asked for (SNI)."""
    return context.sni_callback is not None


class Listening(Protocol):
    """What accepts connections until it is closed."""

    def close(self) -> None:
        """Accepts no more; connections that were made go on."""
        ...


Porch = Callable[[str, socket.socket, Callable[[], None]], None]
"""Where a connection waits before anything is made of it: called with the peer's address (behind a load balancer that
of the origin), the socket, and what goes on with it; calls that now or later, or closes the socket."""


async def listen(
    sock: socket.socket,
    factory: Callable[[Origin | None], asyncio.Protocol],
    *,
    hold: bool,
    switches: bool,
    proxies: Proxies | None = None,
    porch: Porch = lambda _peer, _sock, go: go(),
) -> Listening:
    """Accepts plain connections on a bound stream socket. ``hold``: nothing is read before start_tls; ``proxies``:
    who must send a PROXY header, whose origin the factory is given; ``porch``: see Porch."""
    loop = asyncio.get_running_loop()
    arrivals = _Arrivals(loop, factory, hold=hold, switches=switches, porch=porch)
    if proxies is not None:
        return _Doorkeeper(loop, sock, Porter(loop, proxies, arrivals.take).take)
    return _Doorkeeper(loop, sock, lambda sock, peer: arrivals.take(sock, peer[0], None))


async def open_connection(
    factory: Callable[[], asyncio.Protocol], host: str, port: int, local_address: str | None
) -> None:
    """Connects, plain; tries each address the name has. Raises OSError."""
    loop = asyncio.get_running_loop()
    local = (local_address, 0) if local_address is not None else None
    await aiofastnet.create_connection(
        loop, factory, host, port, local_addr=local, happy_eyeballs_delay=None if local else 0.25
    )


async def start_tls(
    transport: asyncio.Transport,
    protocol: asyncio.Protocol,
    context: ssl.SSLContext,
    *,
    server_side: bool,
    server_hostname: str | None,
    timeout: float,
) -> asyncio.Transport:
    """Shakes hands on an open transport and returns the encrypted one.

    Raises ssl.SSLError, ConnectionError, OSError; the transport is closed then.
    """
    loop = asyncio.get_running_loop()
    if isinstance(transport, Doorstep):
        made, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            transport.leave(),
            ssl=context,
            ssl_handshake_timeout=timeout,
            ssl_shutdown_timeout=SHUTDOWN_TIME,
        )
        return made
    if switches_certificates(context):
        upgraded = await loop.start_tls(
            transport,
            protocol,
            context,
            server_side=server_side,
            server_hostname=server_hostname,
            ssl_handshake_timeout=timeout,
            ssl_shutdown_timeout=SHUTDOWN_TIME,
        )
        if upgraded is None:  # the peer was gone before the handshake began
            raise ConnectionResetError("closed during the TLS handshake")
        return upgraded
    return await aiofastnet.start_tls(
        loop,
        transport,
        protocol,
        context,
        server_side=server_side,
        server_hostname=server_hostname,
        ssl_handshake_timeout=timeout,
        ssl_shutdown_timeout=SHUTDOWN_TIME,
        ssl_incoming_bio_size=TLS_BUFFER,
        ssl_outgoing_bio_size=TLS_BUFFER,
    )


async def wait_readable(transport: asyncio.Transport, timeout: float) -> None:
    """Returns when something has come that was not read, be it the peer's end: for a transport that is paused, or a
    Doorstep. Raises TimeoutError, OSError (it is closed)."""
    number = transport.get_extra_info("socket").fileno()
    poll = select.poll()
    poll.register(number, select.POLLIN)
    if poll.poll(0):
        return
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    own = os.dup(number)  # the transport's own descriptor is the transport's to watch
    try:
        loop.add_reader(own, came.set)
        async with asyncio.timeout(timeout):
            await came.wait()
    finally:
        loop.remove_reader(own)
        os.close(own)


class Doorstep(asyncio.Transport):
    """An accepted connection of which nothing is read or written until TLS is made of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, protocol: asyncio.Protocol) -> None:
        names = {"peername": _name_of(sock.getpeername), "sockname": _name_of(sock.getsockname)}
        super().__init__({**names, "socket": sock})
        self._loop = loop
        self._sock: socket.socket | None = sock
        self._protocol = protocol

    def leave(self) -> socket.socket:
        """The socket, which is the caller's from now on. Raises ConnectionResetError when it was closed."""
        sock, self._sock = self._sock, None
        if sock is None:
            raise ConnectionResetError(errno.ECONNRESET, "closed before the TLS handshake")
        return sock

    def pause_reading(self) -> None:
        """Nothing is read anyway."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is written."""

    def write(self, data: Any) -> None:
        """There is nothing that may be said in the clear where TLS comes first."""

    def is_closing(self) -> bool:
        """Whether the socket is closed or with somebody else."""
        return self._sock is None

    def close(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()
            self._loop.call_soon(self._protocol.connection_lost, None)

    abort = close


def _put_on_doorstep(loop: asyncio.AbstractEventLoop, sock: socket.socket, protocol: asyncio.Protocol) -> None:
    protocol.connection_made(Doorstep(loop, sock, protocol))


class _Arrivals:
    """Makes of sockets whose header was read what the other kinds of listener make of theirs."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        factory: Callable[[Origin | None], asyncio.Protocol],
        *,
        hold: bool,
        switches: bool,
        porch: Porch,
    ) -> None:
        self._loop = loop
        self._porch = porch
        self._factory = factory
        self._hold = hold
        self._switches = switches
        self._making: set[asyncio.Task[Any]] = set()

    def take(self, sock: socket.socket, peer: str, origin: Origin | None) -> None:
        """The socket is ours; it ends as a transport or closed."""
        self._porch(peer, sock, lambda: self._let_in(sock, origin))

    def _let_in(self, sock: socket.socket, origin: Origin | None) -> None:
        if self._switches and self._hold:
            _put_on_doorstep(self._loop, sock, self._factory(origin))
            return
        task = self._loop.create_task(self._make(sock, origin))
        self._making.add(task)
        task.add_done_callback(self._making.discard)

    async def _make(self, sock: socket.socket, origin: Origin | None) -> None:
        protocol = self._factory(origin)
        try:
            if self._switches:
                await self._loop.connect_accepted_socket(lambda: protocol, sock)
            else:
                await aiofastnet.connect_accepted_socket(self._loop, lambda: protocol, sock)
        except OSError:  # the peer is gone already
            sock.close()


def _name_of(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except OSError:  # the peer is gone already
        return None


_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_AT_ONCE = 4
"""Connections that are accepted before the loop turns to what else there is."""
_PAUSE = 1.0
"""Seconds without accepting when there are no descriptors left (as asyncio does)."""


class _Doorkeeper:
    """Accepts, and hands each connection's socket on; it is its taker's."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        take: Callable[[socket.socket, tuple[str, int]], None],
    ) -> None:
        sock.setblocking(False)
        sock.listen(BACKLOG)
        self._loop = loop
        self._sock = sock
        self._take = take
        self._again: asyncio.TimerHandle | None = None
        self._closed = False
        self._watch()

    def _watch(self) -> None:
        self._again = None
        self._loop.add_reader(self._sock, self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):  # the others have something to say meanwhile
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                self._loop.remove_reader(self._sock)
                self._again = self._loop.call_later(_PAUSE, self._watch)
                return
            sock.setblocking(False)
            self._take(sock, (peer[0], peer[1]))

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._again is not None:
            self._again.cancel()
        else:
            self._loop.remove_reader(self._sock)
        self._sock.close()
