"""A server that says what a test tells it to, line by line, on loopback; and remembers what it heard.

    async with line_server(talk) as server:      # async def talk(peer: Peer) -> None
        ... server.port, server.heard, server.connections ...

A ``talk`` that returns ends its connection; one that hangs is ended with the server.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field


@dataclass
class Peer:
    """One connection, as the server sees it. ``number`` counts from 1."""

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    heard: list[bytes]

    async def say(self, octets: bytes) -> None:
        """Sends them as they are; does not wait for whoever does not read."""
        self.writer.write(octets)

    async def line(self) -> bytes:
        """The next line without its end; remembered. At the end of the connection the talk is over."""
        line = await self.reader.readline()
        if not line:
            raise EOFError
        self.heard.append(line.rstrip(b"\r\n"))
        return self.heard[-1]

    async def pour(self, octets: bytes, times: int = 4_000) -> None:
        """Says the same again and again, as long as somebody reads, ``times`` at most."""
        for _ in range(times):
            self.writer.write(octets)
            await self.writer.drain()

    async def hang(self) -> None:
        """Says nothing more, and hears until the other end goes."""
        while await self.reader.read(65_536):
            pass


Talk = Callable[[Peer], Awaitable[None]]


@dataclass
class LineServer:
    """See the module's text."""

    port: int = 0
    heard: list[bytes] = field(default_factory=list)
    connections: int = 0


@contextlib.asynccontextmanager
async def line_server(talk: Talk, context: ssl.SSLContext | None = None) -> AsyncIterator[LineServer]:
    """See the module's text. ``context``: TLS from the first octet on."""
    server = LineServer()
    tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(peer: Peer) -> None:
        with contextlib.suppress(EOFError, OSError):
            await talk(peer)
        peer.writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        tasks[asyncio.create_task(serve(Peer(server.connections, reader, writer, server.heard)))] = writer

    listening = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await asyncio.sleep(0)  # what was accepted has its task now
        for task, writer in tasks.items():
            task.cancel()
            with contextlib.suppress(AttributeError):  # of a transport of TLS that has ended already (3.11.2)
                writer.transport.abort()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        for writer in tasks.values():
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        broken = [error for error in found if isinstance(error, AssertionError)]
        assert not broken, broken
