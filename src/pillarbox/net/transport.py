"""Where transports come from: plain ones, and TLS over them.

aiofastnet's transports hold small, fixed TLS buffers (42 KiB a connection after 1 MiB has passed, where the event
loop's own keep 458); but they talk to OpenSSL past Python's ssl objects, so an ``sni_callback`` would be called
without its object and crash the process. Therefore a context with an ``sni_callback`` is only ever given to the
loop's own TLS, and this module is the one place that decides (docs/adr/0006-tls-transports.md).

A transport that may be upgraded by either is made by the loop or by aiofastnet accordingly: ``switches`` says
whether the contexts it will meet switch certificates.

MUST NOT IMPORT anything of ours.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable

import aiofastnet

SHUTDOWN_TIME = 2.0
"""Seconds for the peer to answer our close_notify before the connection is cut."""

TLS_BUFFER = 16_384
"""Octets of each of the two TLS buffers of a connection, the smallest that there are: each page of them that a
handshake touches is paid for by every idle session. A busy peer is read several buffers at a time all the same."""

BACKLOG = 1024


def switches_certificates(context: ssl.SSLContext) -> bool:
    """Whether the context picks a certificate by the name asked for (SNI)."""
    return context.sni_callback is not None


async def listen(
    sock: socket.socket, factory: Callable[[], asyncio.Protocol], *, switches: bool
) -> asyncio.AbstractServer:
    """Accepts plain connections on a bound stream socket."""
    loop = asyncio.get_running_loop()
    if switches:
        return await loop.create_server(factory, sock=sock, backlog=BACKLOG)
    return await aiofastnet.create_server(loop, factory, sock=sock, backlog=BACKLOG)


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
