"""Server's streams on a loopback port, and the contexts for both ends of their TLS."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.certs import Authority

from pillarbox.net.preface import Proxies
from pillarbox.net.stream import SmtpStream, listen
from pillarbox.net.tls import ListenerTls, server_context
from pillarbox.smtp.connection import Connection, Role
from pillarbox.smtp.reply import Reply

GREETING = Reply(220, ("test ESMTP",))
OK = Reply(250, ("Ok",), "2.0.0")


class Served:
    """What one listening socket took: its port, and the server's stream of the connection last made."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: asyncio.Queue[SmtpStream] = asyncio.Queue()


@asynccontextmanager
async def served(
    *,
    hold: bool = False,
    switches: bool = False,
    tls: bool = False,
    authenticated: bool = True,
    proxies: Proxies | None = None,
) -> AsyncIterator[Served]:
    sock = socket.create_server(("127.0.0.1", 0))
    found = Served(sock.getsockname()[1])
    streams: list[SmtpStream] = []

    def keep(stream: SmtpStream) -> None:
        streams.append(stream)
        found.streams.put_nowait(stream)

    def connection() -> Connection:
        return Connection(Role.SERVER, tls=tls, authenticated=authenticated, mechanisms=("PLAIN",))

    server = await listen(sock, connection, keep, hold=hold, switches=switches, proxies=proxies)
    try:
        yield found
    finally:
        server.close()
        for stream in streams:
            stream.abort()
        await asyncio.sleep(0)


def contexts(directory: Path, *names: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(server's, client's)."""
    authority = Authority(directory)
    issued = authority.issue(*(names or ("localhost", "127.0.0.1")))
    return (
        server_context(issued.certificate, issued.key, ListenerTls()),
        ssl.create_default_context(cafile=str(authority.ca)),
    )
