"""Mail programs that send through the machines, a next hop that takes it, and the books of both.

    async with Load(addresses, ca, password, rate=25) as load: ...
    load.books.lost()

Each message carries a mark of the client's own in a field X-Load. A client sends a message again under the same mark
until it is accepted: after a 4yz, a lost connection or silence. So a message may be there twice
``by the client``    another submission of the same mark: what came of the one before was unknown to the client
``by a delivery``    the same submission (queue id) twice at the next hop: its settlement was lost or unknown
``unexplained``      anything else; there must be none.
Lost is a queue id that a 250 named and that was neither delivered, nor came back in a bounce, nor is in the queue.
One message in 20 is to somebody whom the next hop refuses; one in 50 is large enough to be uploaded in chunks.
"""

import asyncio
import base64
import itertools
import random
import re
import ssl
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.nexthop import NextHop

LOGIN, SENDER = "ada@example.org", "ada@example.org"
NOBODY = "nobody@elsewhere.example"
PATIENCE = 60.0
"""Seconds without a reply after which a client gives up its connection."""

AGAIN = 1.0
"""Seconds before a client tries again."""

_MARK = re.compile(rb"^X-Load: (\S+)\r?$", re.MULTILINE)
_QUEUE_ID = re.compile(rb"\bid ([0-9A-Z]{26}(?:-[a-z0-9]+)?)\b")
_NAMED = re.compile(r"\b([0-9A-Z]{26}(?:-[a-z0-9]+)?)\b")


class Lost(OSError):
    """The connection ended; ``after_dot``: the server may have the message."""

    def __init__(self, *, after_dot: bool) -> None:
        super().__init__("lost")
        self.after_dot = after_dot


@dataclass(slots=True)
class Books:
    """What clients and the next hop have seen. Times are of time.monotonic()."""

    accepted: dict[str, float] = field(default_factory=dict)
    """Queue ids that a 250 named, and when."""
    seconds: list[tuple[float, float]] = field(default_factory=list)
    """(when, how long MAIL to 250 took) of each acceptance."""
    put_off: list[tuple[float, str, float]] = field(default_factory=list)
    """(when, reply, how long it took) of each 4yz."""
    unknown: Counter[str] = field(default_factory=Counter)
    """By mark: connections lost, or 4yz, after the final dot."""
    lost_connections: list[float] = field(default_factory=list)
    arrivals: dict[str, list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))
    """By mark: (when, queue id) of each copy at the next hop."""
    bounces: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """By the bounced message's queue id."""
    there: set[str] = field(default_factory=set)
    """Queue ids that were delivered or bounced."""
    delivered: int = 0

    def accept(self, reply: str, when: float) -> str:
        """Enters what a 250 named; returns its queue id. Raises AssertionError for another reply."""
        named = _NAMED.search(reply)
        assert reply.startswith("250") and named is not None, f"not accepted: {reply}"
        self.accepted[named[1]] = when
        return named[1]

    def collect(self, hop: NextHop) -> None:
        """Enters what the next hop took, and forgets it there."""
        messages, hop.messages = hop.messages, []
        hop.commands.clear()
        for message in messages:
            mark = _MARK.search(message.content)
            ids = [found.decode() for found in _QUEUE_ID.findall(message.content)]
            if message.reverse_path == "":
                for queue_id in ids[1:] or ids:  # the first is the bounce's own
                    self.bounces[queue_id] += 1
                self.there.update(ids)
            elif mark and ids:
                self.arrivals[mark[1].decode()].append((time.monotonic(), ids[0]))
                self.there.add(ids[0])
                self.delivered += 1

    def outstanding(self) -> set[str]:
        """Accepted, and neither delivered nor bounced yet."""
        return self.accepted.keys() - self.there

    def doubles(self, since: float = 0.0, until: float = float("inf")) -> Counter[str]:
        """Copies beyond the first, by explanation, of those that arrived in that time."""
        found: Counter[str] = Counter()
        for mark, copies in self.arrivals.items():
            seen: set[str] = set()
            for number, (when, queue_id) in enumerate(copies):
                if number and since <= when < until:
                    if queue_id in seen:
                        found["by a delivery"] += 1
                    else:
                        found["by the client" if self.unknown[mark] else "unexplained"] += 1
                seen.add(queue_id)
        return found

    def pause(self, since: float, until: float) -> float:
        """The longest time without an acceptance in that span, seconds."""
        times = [since, *(when for when, _ in self.seconds if since <= when < until), until]
        return max(later - earlier for earlier, later in itertools.pairwise(times))

    def took(self, since: float, until: float) -> list[float]:
        """Seconds of each acceptance in that span, sorted."""
        return sorted(took for when, took in self.seconds if since <= when < until)


class Load:
    """See the module's text. ``rate``: messages per second of all clients together."""

    def __init__(
        self, addresses: Sequence[tuple[str, int]], ca: Path, password: str, *, rate: float, clients: int = 8
    ) -> None:
        self.books = Books()
        self.addresses = list(addresses)
        self.hop = NextHop(rcpt={NOBODY: "550 5.1.1 nobody here"})
        self.context = ssl.create_default_context(cafile=str(ca))
        self.response = base64.b64encode(f"\0{LOGIN}\0{password}".encode()).decode()
        self._gap = clients / rate
        self._clients = clients
        self._numbers = itertools.count()
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._collecting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.hop.__aenter__()
        self._collecting = asyncio.create_task(self._collect())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop(0.0)
        if self._collecting is not None:
            self._collecting.cancel()
            await asyncio.gather(self._collecting, return_exceptions=True)
        await self.hop.stop()

    def begin(self) -> None:
        """Lets the clients send, also again after ``stop``."""
        if not all(task.done() for task in self._tasks):
            return
        self._stopping.clear()
        self._tasks = [asyncio.create_task(self._client(number)) for number in range(self._clients)]

    async def stop(self, patience: float = 30.0) -> None:
        """No new message; what is in hand is finished, or given up after ``patience`` seconds."""
        self._stopping.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _collect(self) -> None:
        while True:
            self.books.collect(self.hop)
            await asyncio.sleep(0.2)

    async def _client(self, number: int) -> None:
        chance = random.Random(number)
        session: Session | None = None
        place = number
        while True:
            mark = f"{number}-{next(self._numbers)}"
            path = NOBODY if chance.random() < 0.05 else "bob@elsewhere.example"
            octets = content(mark, 300_000 if chance.random() < 0.02 else 4_000)
            await asyncio.sleep(chance.uniform(0.5, 1.5) * self._gap)
            while True:
                if self._stopping.is_set():
                    if session is not None:
                        session.close()
                    return
                try:
                    if session is None:
                        place += 1  # as behind a load balancer: the next one
                        session = await open_session(
                            *self.addresses[place % len(self.addresses)], self.context, self.response
                        )
                    if await self._try(session, mark, path, octets):
                        break
                except Lost as error:
                    self.books.lost_connections.append(time.monotonic())
                    self.books.unknown[mark] += error.after_dot
                    session = None
                await asyncio.sleep(AGAIN)

    async def _try(self, session: "Session", mark: str, path: str, octets: bytes) -> bool:
        """Whether it was accepted. Raises Lost."""
        began = time.monotonic()
        reply, after_dot = await session.transaction(path, octets)
        ended = time.monotonic()
        if reply.startswith("250"):
            self.books.accept(reply, ended)
            self.books.seconds.append((ended, ended - began))
            return True
        self.books.put_off.append((ended, reply, ended - began))
        self.books.unknown[mark] += after_dot
        return False


def content(mark: str, size: int) -> bytes:
    """A message with its mark, about so many octets."""
    head = f"From: {SENDER}\r\nTo: bob@elsewhere.example\r\nSubject: {mark}\r\nX-Load: {mark}\r\n\r\n"
    return head.encode() + (b"x" * 70 + b"\r\n") * (size // 72)


class Session:
    """One client's connection, signed in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def transaction(self, path: str, octets: bytes) -> tuple[str, bool]:
        """(the final reply or the first bad one, whether the final dot was sent). Raises Lost."""
        for command in (f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{path}>", "DATA"):
            reply = await self.say(command.encode())
            if reply[:1] not in "23":
                if reply[:3] == "421":
                    self.close()
                    raise Lost(after_dot=False)
                return reply, False
        return await self.say(octets + b".", after_dot=True), True

    async def say(self, octets: bytes, *, after_dot: bool = False) -> str:
        """Raises Lost."""
        try:
            async with asyncio.timeout(PATIENCE):
                self._writer.write(octets + b"\r\n")
                await self._writer.drain()
                return await self.reply()
        except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError):
            self.close()
            raise Lost(after_dot=after_dot) from None

    async def reply(self) -> str:
        """Raises asyncio.IncompleteReadError and what streams raise."""
        lines = []
        while True:
            line = (await self._reader.readuntil(b"\r\n")).decode().rstrip()
            lines.append(line)
            if line[3:4] != "-":
                return "\n".join(lines)

    def close(self) -> None:
        """At once."""
        self._writer.transport.abort()


async def open_session(host: str, port: int, context: ssl.SSLContext, response: str) -> Session:
    """Greeting, EHLO, AUTH PLAIN. Raises Lost."""
    reply, session = await sign_in(host, port, context, response)
    if reply.startswith("235"):
        return session
    session.close()
    raise Lost(after_dot=False)


async def sign_in(host: str, port: int, context: ssl.SSLContext, response: str) -> tuple[str, Session]:
    """The reply to AUTH PLAIN, or the greeting that was a refusal. Raises Lost."""
    session = None
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname="localhost")
            session = Session(reader, writer)
            greeting = await session.reply()
    except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError):
        if session is not None:
            session.close()
        raise Lost(after_dot=False) from None
    if not greeting.startswith("220"):
        return greeting, session
    await session.say(b"EHLO client.example.org")
    return await session.say(f"AUTH PLAIN {response}".encode()), session


def percentile(sorted_values: Sequence[float], part: float) -> float:
    """Of sorted values; 0 when there are none."""
    return sorted_values[min(int(part * len(sorted_values)), len(sorted_values) - 1)] if sorted_values else 0.0


def replies(books: Books, since: float, until: float, codes: Collection[str] = ("451", "452")) -> int:
    """How many refusals with these codes in that span."""
    return sum(since <= when < until and reply[:3] in codes for when, reply, _ in books.put_off)
