"""Hostile clients from many loopback addresses, each doing one thing without end until it is stopped.

    async with attacking(ATTACKS["silent"], target, clients=60) as attack:
        ...                                       # attack.contacts counts the connections that were made

Every client has a loopback address of its own (127.66.x.y), so that limits per address alone do not help; when the
server ends its connection it comes again. They know no more of the server than a port scan and, where one needs an
account to do harm, the account EVE.
"""

import asyncio
import base64
import contextlib
import itertools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

EVE, EVES_PASSWORD = "eve", "let me in and be sorry"
"""An account of an attacker."""

GUESSES_A_SECOND = 200
PAUSE = 0.25
"""Seconds before a client comes again: a hundred of them make 400 connections a second."""


@dataclass
class Target:
    """Where to attack."""

    submission: int
    submissions: int
    ca: Path
    context: ssl.SSLContext = field(init=False)

    def __post_init__(self) -> None:
        self.context = ssl.create_default_context(cafile=str(self.ca))
        self.context.check_hostname = False


@dataclass
class Attack:
    """One that is going on."""

    target: Target
    contacts: int = 0
    _sources: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def source(self) -> str:
        """An address nobody had yet (of 65,000)."""
        number = next(self._sources) % 65_000
        return f"127.66.{number // 250}.{1 + number % 250}"

    async def connect(
        self, port: int, source: str, *, tls: bool = False
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """One more connection."""
        context = self.target.context if tls else None
        made = await asyncio.open_connection(
            "127.0.0.1", port, local_addr=(source, 0), ssl=context, server_hostname="localhost" if tls else None
        )
        self.contacts += 1
        return made


@contextmanager
def _aborted(writer: asyncio.StreamWriter) -> Iterator[None]:
    """Ends a connection at once, without a close_notify that somebody would have to answer."""
    try:
        yield
    finally:
        writer.transport.abort()


Client = Callable[[Attack, str], Awaitable[None]]
"""What one client does with one connection; it comes again when this has ended, however it ended."""


async def _silent(attack: Attack, source: str) -> None:
    reader, writer = await attack.connect(attack.target.submission, source)
    with _aborted(writer):
        await reader.read()


async def _one_octet_a_minute(attack: Attack, source: str) -> None:
    _, writer = await attack.connect(attack.target.submission, source)
    with _aborted(writer):
        for octet in itertools.cycle(b"EHLO x"):
            writer.write(bytes([octet]))
            await writer.drain()
            await asyncio.sleep(60)


async def _half_open(attack: Attack, source: str) -> None:
    """A whole ClientHello, so that the server has done its work, and nothing after it."""
    outgoing = ssl.MemoryBIO()
    hello = attack.target.context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        hello.do_handshake()
    reader, writer = await attack.connect(attack.target.submissions, source)
    with _aborted(writer):
        writer.write(outgoing.read())
        while await reader.read(65_536):
            pass


def _flood(line: bytes) -> Client:
    """The same commands as fast as the server answers them."""

    async def flood(attack: Attack, source: str) -> None:
        reader, writer = await attack.connect(attack.target.submission, source)
        with _aborted(writer):
            writer.write(b"EHLO x\r\n")
            while True:
                writer.write(line * 40)
                await writer.drain()
                if not await reader.read(65_536):
                    return

    return flood


async def _never_read(attack: Attack, source: str) -> None:
    reader, writer = await attack.connect(attack.target.submission, source)
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # what open_connection makes can read
    with _aborted(writer):
        while not reader.at_eof():
            writer.write(b"EHLO x\r\n" * 1_000)
            await writer.drain()


async def _past_auth(attack: Attack, source: str) -> None:
    reader, writer = await attack.connect(attack.target.submissions, source, tls=True)
    with _aborted(writer):
        mail = (
            b"MAIL FROM:<ada@example.org>\r\nRCPT TO:<bob@elsewhere.example>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n"
        )
        writer.write(b"EHLO x\r\nAUTH PLAIN " + _response("ada", "guess") + b"\r\n" + mail * 20)
        await reader.read()


async def _guess(attack: Attack, source: str) -> None:
    """One wrong password from an address that nobody had yet, in its turn."""
    reader, writer = await attack.connect(attack.target.submissions, attack.source(), tls=True)
    with _aborted(writer):
        writer.write(b"EHLO x\r\nAUTH PLAIN " + _response("ada", f"guess {attack.contacts}") + b"\r\nQUIT\r\n")
        reading = asyncio.ensure_future(reader.read())
        await asyncio.wait([reading], timeout=0.5)
        reading.cancel()


async def _recipients(attack: Attack, source: str) -> None:
    """Signed in, thousands of RCPT, again and again."""
    reader, writer = await attack.connect(attack.target.submissions, source, tls=True)
    with _aborted(writer):
        writer.write(b"EHLO x\r\nAUTH PLAIN " + _response(EVE, EVES_PASSWORD) + b"\r\n")
        writer.write(b"MAIL FROM:<eve@example.org>\r\n")
        for number in itertools.count():
            writer.writelines(b"RCPT TO:<r%d@elsewhere.example>\r\n" % (number * 100 + each) for each in range(100))
            await writer.drain()
            if not await reader.read(65_536):
                return


def _response(user: str, password: str) -> bytes:
    return base64.b64encode(f"\0{user}\0{password}".encode())


ATTACKS: dict[str, Client] = {
    "connections that never speak": _silent,
    "one octet a minute": _one_octet_a_minute,
    "half-open TLS handshakes": _half_open,
    "NOOP without end": _flood(b"NOOP\r\n"),
    "RSET without end": _flood(b"RSET\r\n"),
    "HELP without end": _flood(b"HELP\r\n"),
    "unknown commands": _flood(b"XYZZY plugh\r\n"),
    "thousands of RCPT": _recipients,
    "replies that are never read": _never_read,
    "pipelining past AUTH": _past_auth,
    "wrong passwords": _guess,
}


WAITING = ("connections that never speak", "one octet a minute", "half-open TLS handshakes")
"""Attacks that do nothing but be many."""


@asynccontextmanager
async def attacking(client: Client, target: Target, clients: int) -> AsyncIterator[Attack]:
    """So many clients attack until the context is left. Guessing keeps to GUESSES_A_SECOND in all."""
    attack = Attack(target)
    pause = clients / GUESSES_A_SECOND if client is _guess else PAUSE

    async def persist() -> None:
        source = attack.source()
        while True:
            with contextlib.suppress(OSError, ssl.SSLError, EOFError):
                await client(attack, source)
            await asyncio.sleep(pause)

    tasks = [asyncio.ensure_future(persist()) for _ in range(clients)]
    try:
        yield attack
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.05)  # their transports close
        for result in results:
            if not isinstance(result, asyncio.CancelledError):
                raise AssertionError("an attacker gave up") from result if isinstance(result, Exception) else None
