"""An IMAP server for measurements: it takes one password after a fixed time, refuses all others, and counts.

    with running_imap(delay=2.0) as server:        # server.port; in a thread of its own
        ...
    server.wrong                                   # {login: wrong passwords that came}

Not encrypted: for loopback. RFC 3501, 4959 (SASL-IR), as far as signing in goes.
"""

import asyncio
import base64
import binascii
import contextlib
import threading
from collections import Counter
from collections.abc import Iterator

RIGHT = "right"


class ScriptedImap:
    """See the module's text."""

    def __init__(self, delay: float) -> None:
        self.port = 0
        self.wrong: Counter[str] = Counter()
        self.right = 0
        self._delay = delay

    async def serve(self, ready: threading.Event, end: asyncio.Event) -> None:
        """Until the end."""
        server = await asyncio.start_server(self._session, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await end.wait()
        server.close()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, binascii.Error):
            writer.write(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n")
            while line := await reader.readline():
                tag, verb, *rest = line.split()
                match verb.upper():
                    case b"CAPABILITY":
                        writer.write(b"* CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN\r\n" + tag + b" OK\r\n")
                    case b"AUTHENTICATE":
                        if len(rest) < 2:
                            writer.write(b"+ \r\n")
                            rest.append((await reader.readline()).strip())
                        await self._judge(tag, rest[1], writer)
                    case b"LOGOUT":
                        writer.write(b"* BYE\r\n" + tag + b" OK\r\n")
                        break
                    case _:
                        writer.write(tag + b" OK\r\n")
        writer.close()

    async def _judge(self, tag: bytes, response: bytes, writer: asyncio.StreamWriter) -> None:
        _, login, password = base64.b64decode(response).decode().split("\0")
        await asyncio.sleep(self._delay)
        if password == RIGHT:
            self.right += 1
            writer.write(tag + b" OK signed in\r\n")
        else:
            self.wrong[login] += 1
            writer.write(tag + b" NO [AUTHENTICATIONFAILED] no\r\n")


@contextlib.contextmanager
def running_imap(delay: float = 0.0) -> Iterator[ScriptedImap]:
    """It answers until the context is left."""
    server, ready = ScriptedImap(delay), threading.Event()
    loop, end = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(server.serve(ready, end)), daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(10)
