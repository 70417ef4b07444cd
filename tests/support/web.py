"""A tiny HTTP server for tests: says what it is told to, octet by octet, also what no server should.

async with WebServer() as web:
    web.answers["/jwks"] = json_answer({"keys": []})        # or octets, a status line first
    web.asked                                               # the requests: (method, path, headers, content)
        await web.heard.wait()                                  # until there is one
"""

import asyncio
import json
import ssl
from types import TracebackType
from typing import Any


def answer(content: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A whole HTTP answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


def json_answer(document: Any, *headers: str, status: str = "200 OK") -> bytes:
    """The same for a JSON document."""
    return answer(json.dumps(document).encode(), "Content-Type: application/json", *headers, status=status)


class WebServer:
    """See the module's text. What it has no answer for is a 404; ``None`` is no answer at all. ``drops``: at so many
    requests it ends the connection. While ``gate`` is not set nobody is answered."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, bytes | None] = {}
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.heard = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.drops = 0
        self._context = context
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"{'http' if self._context is None else 'https'}://localhost:{self.port}"

    def count(self, path: str) -> int:
        """How often it was asked for."""
        return sum(each[1] == path for each in self.asked)

    async def __aenter__(self) -> "WebServer":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := (await reader.readline()).decode():
                method, path, _ = line.split(" ")
                headers: dict[str, str] = {}
                while header := (await reader.readline()).decode().rstrip("\r\n"):
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                content = await reader.readexactly(int(headers.get("content-length", "0")))
                self.asked.append((method, path, headers, content))
                self.heard.set()
                if self.drops:
                    self.drops -= 1
                    return
                await self.gate.wait()
                said = self.answers.get(path, answer(b"", status="404 Not Found"))
                if said is not None:
                    writer.write(said)
                    await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()
            self._writers.discard(writer)
