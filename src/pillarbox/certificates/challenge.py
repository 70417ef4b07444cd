"""Answers an authority's http-01 challenges: a tiny HTTP server that knows the paths it was told, and no other.

    responder = Responder()
    await responder.listen([sock])
    responder.publish("/.well-known/acme-challenge/<token>", b"<key authorisation>")   # from any thread
    responder.withdraw("/.well-known/acme-challenge/<token>")

Anybody may connect. A request is read up to its empty line, within MAX_HEAD octets and TIME seconds; GET of a path
that is published now is answered, everything else is 404, what is no HTTP request 400. Each connection has one
request and is closed. Beyond MAX_CONNECTIONS the newest takes the place of the oldest: an authority has said all in
the moment that it is there, who only holds connections has not.

STANDARDS
    RFC 8555 8.3 (http-01), RFC 9112 (HTTP/1.1: request line, header section).

ERRORS
    OSError from listen. Peers raise nothing.
"""

import asyncio
import contextlib
import re
import socket
from collections.abc import Iterable

from pillarbox.telemetry.counters import counter

MAX_HEAD = 4096
"""Octets of a request line with its header section."""

MAX_CONNECTIONS = 128
"""At a time."""

TIME = 5.0
"""Seconds for the whole of a request, and again for taking the answer."""

_REQUEST = re.compile(rb"([A-Z]{1,16}) (/[\x21-\x7e]{0,1023}) HTTP/1\.[01]")

REQUESTS = counter("acme_requests_total", "Requests to the http-01 responder by status", ("status",))


class Responder:
    """See the module's text. One object; ``publish`` and ``withdraw`` may be called from other threads."""

    def __init__(self) -> None:
        self._answers: dict[str, bytes] = {}
        self._servers: list[asyncio.Server] = []
        self._open: dict[asyncio.StreamWriter, None] = {}  # the oldest first

    async def listen(self, sockets: Iterable[socket.socket]) -> None:
        """Serves on listening sockets, which are its own from now on."""
        for listening in sockets:
            self._servers.append(await asyncio.start_server(self._serve, sock=listening, limit=MAX_HEAD))

    def publish(self, path: str, content: bytes) -> None:
        """From now on GET of ``path`` is answered with ``content``."""
        self._answers[path] = content

    def withdraw(self, path: str) -> None:
        """``path`` is unknown again."""
        self._answers.pop(path, None)

    async def close(self) -> None:
        """Stops listening and closes what is open."""
        for server in self._servers:
            server.close()
        for writer in tuple(self._open):
            writer.transport.abort()
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = None
        try:
            async with asyncio.timeout(TIME):
                head = await reader.readuntil(b"\r\n\r\n")
            status, content = self._answer(head)
            await self._reply(writer, status, content)
        except asyncio.LimitOverrunError:
            await self._reply(writer, "400 Bad Request", b"")
        except (asyncio.IncompleteReadError, OSError, TimeoutError):
            REQUESTS.add(1, "none")
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()

    def _answer(self, head: bytes) -> tuple[str, bytes]:
        """Status and content for a request's line and header section."""
        line, _, _ = head.partition(b"\r\n")
        request = _REQUEST.fullmatch(line)
        if request is None:
            return "400 Bad Request", b""
        method, path = request.group(1), request.group(2).decode("ascii")
        content = self._answers.get(path) if method == b"GET" else None
        return ("404 Not Found", b"") if content is None else ("200 OK", content)

    @staticmethod
    async def _reply(writer: asyncio.StreamWriter, status: str, content: bytes) -> None:
        REQUESTS.add(1, status[:3])
        writer.write(
            f"HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nContent-Length: {len(content)}\r\n"
            "Cache-Control: no-store\r\nConnection: close\r\n\r\n".encode("ascii")
            + content
        )
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(TIME):
                await writer.drain()
                writer.write_eof()
                await writer.drain()
