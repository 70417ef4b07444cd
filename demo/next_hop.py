"""A next hop for the demo: a small SMTP server that takes every message and writes it into a folder.

    with NextHop(folder) as next_hop:
        next_hop.port           # on 127.0.0.1
        next_hop.caught()       # the files, oldest first

It runs in a thread of its own. It speaks as much SMTP as a relay needs (EHLO, MAIL, RCPT, DATA, RSET, NOOP, QUIT),
accepts whatever comes and delivers it nowhere else: do not use it for anything but a demo.

ERRORS
    OSError when it cannot listen or the folder cannot be made. A message that cannot be written is answered 451.
"""

import asyncio
import contextlib
import os
import threading
from pathlib import Path

HOST = "127.0.0.1"
NAME = "next-hop.example"
MAX_MESSAGE = 60 * 1024 * 1024
"""Octets; above it a message is refused after its end."""

_START_TIME = 10.0
_EXTENSIONS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", f"SIZE {MAX_MESSAGE}")
_REPLIES = {
    b"HELO": f"250 {NAME}",
    b"EHLO": "\r\n".join([f"250-{NAME}", *(f"250-{each}" for each in _EXTENSIONS[:-1]), f"250 {_EXTENSIONS[-1]}"]),
    b"MAIL": "250 2.1.0 Ok",
    b"RCPT": "250 2.1.5 Ok",
    b"RSET": "250 2.0.0 Ok",
    b"NOOP": "250 2.0.0 Ok",
    b"DATA": "354 Go on",
    b"QUIT": "221 2.0.0 Bye",
}


class NextHop:
    """See the module's text. A context manager; ``port`` is set once it is entered."""

    def __init__(self, folder: Path) -> None:
        self.port = 0
        self._folder = folder
        self._number = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._error: BaseException | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="next hop", daemon=True)

    def __enter__(self) -> "NextHop":
        self._folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        self._ready.wait(_START_TIME)
        if self._error is not None:
            raise self._error
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._end is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(_START_TIME)

    def caught(self) -> list[Path]:
        """The messages that arrived, oldest first."""
        return sorted(self._folder.glob("*.eml"))

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._converse(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, HOST, 0, limit=MAX_MESSAGE)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection; a peer that goes away in the middle is nothing to speak of."""
        try:
            writer.write(f"220 {NAME} ESMTP\r\n".encode())
            verb = b""
            while verb != b"QUIT":
                line = await reader.readuntil(b"\r\n")
                verb = line[:4].upper()
                writer.write(_REPLIES.get(verb, "502 5.5.1 Not here").encode() + b"\r\n")
                await writer.drain()
                if verb == b"DATA":
                    writer.write(self._keep(await _read_content(reader)).encode() + b"\r\n")
                    await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    def _keep(self, content: bytes | None) -> str:
        """Writes a message, whole or not at all; returns the reply."""
        if content is None:
            return "552 5.3.4 Too big"
        self._number += 1
        path = self._folder / f"{self._number:04d}.eml"
        part = path.with_suffix(".part")
        try:
            part.write_bytes(content)
            os.replace(part, path)
        except OSError:
            return "451 4.3.0 Cannot write it"
        return f"250 2.0.0 Caught as {path.name}"


async def _read_content(reader: asyncio.StreamReader) -> bytes | None:
    """Content up to its final dot, dot-unstuffed (RFC 5321 4.5.2); None when it was too big."""
    lines: list[bytes] = []
    size = 0
    while (line := await reader.readuntil(b"\r\n")) != b".\r\n":
        size += len(line)
        if size <= MAX_MESSAGE:
            lines.append(line.removeprefix(b"."))
        else:
            lines.clear()
    return b"".join(lines) if size <= MAX_MESSAGE else None
