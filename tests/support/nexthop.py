"""A scripted next hop: an SMTP server on loopback that collects messages and misbehaves on demand.

It shares no code with the server under test (plain asyncio streams, its own reading of the protocol), so that it
can judge it. What it collects is exact: ``content`` is what came over the wire, dot-unstuffed, octet by octet.

    async with NextHop() as hop:                                   # takes everything
        ...deliver to 127.0.0.1, hop.port...
        await hop.received(1)
        assert hop.messages[0].content == b"..."

What it answers is a script: per point of the conversation one Answer, or a sequence of them, one for each time the
point is reached; the last one is repeated.

    NextHop(script={"MAIL": ["451 4.3.0 later", "250 2.1.0 ok"]})  # the first MAIL is deferred
    NextHop(script={"DOT": DROP})                                  # takes the content, then breaks the connection
    NextHop(rcpt={"no@example.org": "550 5.1.1 nobody here"})      # by forward path, before script["RCPT"]

Points: CONNECT (the greeting), EHLO, HELO, STARTTLS, AUTH, MAIL, RCPT, DATA (354 or a refusal), BDAT (not the last),
DOT (the final reply, that to the last BDAT too), RSET, NOOP, QUIT. An Answer is
    "250 2.0.0 ok"       these lines ("\\n" between lines, each with its code)
    DROP                 closes the connection without an answer
    HANG                 never answers
    Last("421 bye")      answers, then closes
    Gate(event, answer)  answers once the asyncio.Event is set; ``hop.at_gate`` counts who waits
    Break(octets)        DATA only: 354, reads at least so many octets of content, then closes
Refusals at MAIL and RCPT are remembered: DATA without a valid recipient is 354 when ``lenient_data``, else 554.

Other arguments
    keywords      what EHLO offers; AUTH and STARTTLS are added by themselves
    tls           a server-side ssl.SSLContext: STARTTLS is offered, or, with implicit_tls, spoken from the start
    users         {login: secret}: AUTH is offered (mechanisms), MAIL before it is 530
    single_octets every answer is written octet by octet, each flushed on its own
What it saw: messages, commands (connection number, line), connections, open_now, most_open, most_in_transaction,
sign_ins, violations (commands pipelined without PIPELINING, content before 354, a bare CR or LF, ...).
"""

import asyncio
import base64
import binascii
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from tests.support.scram_server import prove

DEFAULT_KEYWORDS = ("PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")


class _Silence:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


DROP = _Silence("DROP")
HANG = _Silence("HANG")


@dataclass(frozen=True)
class Last:
    """Answers, then closes the connection."""

    answer: str


@dataclass(frozen=True)
class Gate:
    """Answers once ``event`` is set."""

    event: asyncio.Event
    answer: "Answer"


@dataclass(frozen=True)
class Break:
    """At DATA: says 354, reads at least ``octets`` of content and closes."""

    octets: int


Answer = str | _Silence | Last | Gate | Break


@dataclass
class Message:
    """One message as it arrived. Paths without brackets; parameters upper case, in the order received."""

    reverse_path: str
    mail_parameters: tuple[str, ...]
    forward_paths: list[str] = field(default_factory=list)
    rcpt_parameters: list[tuple[str, ...]] = field(default_factory=list)
    content: bytes = b""
    connection: int = 0
    tls: bool = False
    login: str = ""


class _Closed(Exception):
    """This conversation is over."""


class NextHop:
    """See the module's text. An async context manager; everything it started has ended when it is left."""

    def __init__(
        self,
        *,
        keywords: Sequence[str] = DEFAULT_KEYWORDS,
        script: Mapping[str, Answer | Sequence[Answer]] | None = None,
        rcpt: Mapping[str, Answer | Sequence[Answer]] | None = None,
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        users: Mapping[str, str] | None = None,
        mechanisms: Sequence[str] = ("PLAIN", "LOGIN", "SCRAM-SHA-256", "XOAUTH2", "OAUTHBEARER"),
        single_octets: bool = False,
        lenient_data: bool = False,
        name: str = "hop.test",
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.keywords = tuple(keywords)
        self.script = dict(script or {})
        self.rcpt = dict(rcpt or {})
        self.tls = tls
        self.implicit_tls = implicit_tls
        self.users = users
        self.mechanisms = tuple(mechanisms)
        self.single_octets = single_octets
        self.lenient_data = lenient_data
        self.proves_itself = True  # SCRAM: False says yes without its signature
        self.name = name
        self.host = host
        self.port = port
        self.messages: list[Message] = []
        self.commands: list[tuple[int, str]] = []
        self.violations: list[str] = []
        self.sign_ins: list[tuple[str, str, bool]] = []
        self.connections = 0
        self.open_now = 0
        self.most_open = 0
        self.in_transaction = 0
        self.most_in_transaction = 0
        self.at_gate = 0
        self._reached: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "NextHop":
        context = self.tls if self.implicit_tls else None
        self._server = await asyncio.start_server(self._serve, self.host, self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Closes the listener and every connection."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def received(self, count: int, seconds: float = 20.0) -> None:
        """Waits until ``count`` messages arrived; raises TimeoutError when they do not."""
        await self.until(lambda: len(self.messages) >= count, seconds)

    async def until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        """Waits until the condition holds; it is looked at whenever something happened here."""
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def verbs(self, connection: int | None = None) -> list[str]:
        """The verbs received, in order, of one connection (numbered from 1) or of all."""
        return [
            line.partition(" ")[0].upper()
            for number, line in self.commands
            if connection is None or number == connection
        ]

    def note(self) -> None:
        """Something happened: wakes ``until``."""
        self._changed.set()

    def answer_at(self, point: str, path: str = "") -> Answer | None:
        """What the script says now, None: nothing."""
        for key, table in ((path, self.rcpt), (point, self.script)):
            if not key or key not in table:
                continue
            found = table[key]
            if isinstance(found, str | _Silence | Last | Gate | Break):
                return found
            times = self._reached.get(f"{point} {key}", 0)
            self._reached[f"{point} {key}"] = times + 1
            return found[min(times, len(found) - 1)]
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        raw = writer.transport
        self._tasks.add(task)
        self.connections += 1
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        conversation = _Conversation(self, reader, writer, self.connections)
        try:
            await conversation.run()
        except (_Closed, ConnectionError, ssl.SSLError, TimeoutError, asyncio.CancelledError):
            pass  # over, whichever way; what was collected is judged by the test
        finally:
            conversation.leave_transaction()
            self.open_now -= 1
            self._tasks.discard(task)
            # not wait_closed: after a failed handshake nobody tells the writer that its transport is gone
            writer.transport.abort()
            raw.abort()
            for _ in range(3):
                await asyncio.sleep(0)
            self.note()


class _Conversation:
    """One connection."""

    def __init__(self, hop: NextHop, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self._hop = hop
        self._reader = reader
        self._writer = writer
        self._number = number
        self._buffer = bytearray()
        self._tls = hop.implicit_tls
        self._login = ""
        self._message: Message | None = None

    async def run(self) -> None:
        await self._answer("CONNECT", f"220 {self._hop.name} ESMTP")
        while True:
            line = await self._read_line()
            self._hop.commands.append((self._number, line))
            verb = line.partition(" ")[0].upper()
            if self._buffer and not self._may_pipeline(verb):
                self._hop.violations.append(f"pipelined after {verb}")
            handler = getattr(self, f"_on_{verb.lower()}", None)
            if handler is None:
                await self._write("500 5.5.1 unknown command")
            else:
                await handler(line)
            self._hop.note()

    def leave_transaction(self) -> None:
        if self._message is not None:
            self._message = None
            self._hop.in_transaction -= 1

    # -- reading and writing --

    async def _more(self) -> None:
        if not (octets := await self._reader.read(65_536)):
            raise _Closed
        self._buffer += octets

    async def _read_line(self) -> str:
        while (end := self._buffer.find(b"\n")) < 0:
            await self._more()
        octets = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        if not octets.endswith(b"\r\n") or b"\r" in octets[:-2]:
            self._hop.violations.append(f"line end {octets!r}")
        return octets.decode("utf-8", "surrogateescape").rstrip("\r\n")

    async def _write(self, answer: str) -> None:
        octets = b"".join(line.encode() + b"\r\n" for line in answer.split("\n"))
        if self._hop.single_octets:
            for value in octets:
                self._writer.write(bytes([value]))
                await self._writer.drain()
                await asyncio.sleep(0)
        else:
            self._writer.write(octets)
        await self._writer.drain()

    async def _answer(self, point: str, otherwise: str, path: str = "") -> str:
        """Answers as the script says, else ``otherwise``; returns the code said."""
        return await self._perform(self._hop.answer_at(point, path) or otherwise)

    async def _perform(self, answer: Answer) -> str:
        if isinstance(answer, Gate):
            self._hop.at_gate += 1
            self._hop.note()
            await answer.event.wait()
            self._hop.at_gate -= 1
            return await self._perform(answer.answer)
        if answer is HANG:
            while True:
                await self._more()
        if isinstance(answer, Last):
            await self._write(answer.answer)
            raise _Closed
        if isinstance(answer, Break):
            await self._write("354 go on")
            while len(self._buffer) < answer.octets:
                await self._more()
            raise _Closed
        if not isinstance(answer, str):
            raise _Closed
        await self._write(answer)
        return answer[:3]

    def _may_pipeline(self, verb: str) -> bool:
        offered = any(keyword.upper() == "PIPELINING" for keyword in self._hop.keywords)
        return verb == "BDAT" or (offered and verb in ("MAIL", "RCPT", "RSET", "NOOP"))

    # -- commands --

    async def _on_ehlo(self, line: str) -> None:
        self.leave_transaction()
        keywords = [self._hop.name, *self._hop.keywords]
        if self._hop.tls is not None and not self._tls:
            keywords.append("STARTTLS")
        if self._hop.users is not None:
            keywords.append("AUTH " + " ".join(self._hop.mechanisms))
        lines = [f"250-{keyword}" for keyword in keywords[:-1]] + [f"250 {keywords[-1]}"]
        await self._answer("EHLO", "\n".join(lines))

    async def _on_helo(self, line: str) -> None:
        self.leave_transaction()
        await self._answer("HELO", f"250 {self._hop.name}")

    async def _on_starttls(self, line: str) -> None:
        if self._hop.tls is None or self._tls:
            await self._write("503 5.5.1 no TLS here")
            return
        if await self._answer("STARTTLS", "220 2.0.0 go on") != "220":
            return
        if self._buffer:
            self._hop.violations.append("octets before the TLS handshake")
        await self._writer.start_tls(self._hop.tls)
        self._tls = True

    async def _on_auth(self, line: str) -> None:
        scripted = self._hop.answer_at("AUTH")
        words = line.split(" ")
        mechanism = words[1].upper() if len(words) > 1 else ""
        if mechanism not in self._hop.mechanisms or self._hop.users is None:
            await self._write("504 5.5.4 unknown mechanism")
            return
        initial = words[2] if len(words) > 2 else None
        try:
            login, secret = await self._exchange(mechanism, initial)
        except (ValueError, binascii.Error):
            await self._write("501 5.5.2 malformed")
            return
        right = self._hop.users.get(login) == secret
        self._hop.sign_ins.append((mechanism, login, right))
        if scripted is not None:
            code = await self._perform(scripted)
            right = code == "235"
        elif right:
            await self._write("235 2.7.0 welcome")
        else:
            if mechanism in ("XOAUTH2", "OAUTHBEARER"):
                await self._ask(b'{"status":"400"}')
            await self._write("535 5.7.8 wrong")
        if right:
            self._login = login

    async def _exchange(self, mechanism: str, initial: str | None) -> tuple[str, str]:
        if mechanism == "LOGIN":
            first = self._decode(initial) if initial is not None else await self._ask(b"Username:")
            return first.decode(), (await self._ask(b"Password:")).decode()
        response = self._decode(initial) if initial is not None else await self._ask(b"")
        if mechanism == "SCRAM-SHA-256":
            return await prove(response, self._ask, self._hop.users or {}, proves_itself=self._hop.proves_itself)
        if mechanism == "OAUTHBEARER":
            header, _, response = response.partition(b"\1")
            response = b"user=" + header.removeprefix(b"n,a=").removesuffix(b",") + b"\1" + response
        if mechanism == "PLAIN":
            _, login, secret = response.split(b"\0")
            return login.decode(), secret.decode()
        fields = dict(part.split(b"=", 1) for part in response.split(b"\1") if part)
        scheme, _, token = fields[b"auth"].partition(b" ")
        if scheme != b"Bearer" or not response.endswith(b"\1\1"):
            raise ValueError(scheme)
        return fields[b"user"].decode(), token.decode()

    async def _ask(self, challenge: bytes) -> bytes:
        await self._write("334 " + base64.b64encode(challenge).decode())
        return self._decode(await self._read_line())

    @staticmethod
    def _decode(text: str) -> bytes:
        return b"" if text == "=" else base64.b64decode(text, validate=True)

    async def _on_mail(self, line: str) -> None:
        if self._message is not None:
            await self._write("503 5.5.1 a transaction is open")
            return
        if self._hop.users is not None and not self._login:
            await self._write("530 5.7.0 sign in first")
            return
        path, parameters = _split_path(line, "MAIL FROM:")
        code = await self._answer("MAIL", "250 2.1.0 ok")
        if code.startswith("2"):
            self._message = Message(path, parameters, connection=self._number, tls=self._tls, login=self._login)
            self._hop.in_transaction += 1
            self._hop.most_in_transaction = max(self._hop.most_in_transaction, self._hop.in_transaction)

    async def _on_rcpt(self, line: str) -> None:
        path, parameters = _split_path(line, "RCPT TO:")
        if self._message is None:
            await self._write("503 5.5.1 MAIL first")
            return
        if (await self._answer("RCPT", "250 2.1.5 ok", path)).startswith("2"):
            self._message.forward_paths.append(path)
            self._message.rcpt_parameters.append(parameters)

    async def _on_bdat(self, line: str) -> None:
        _, size, *last = line.upper().split()
        while len(self._buffer) < int(size):
            await self._more()
        message = self._message
        assert message is not None and message.forward_paths, line
        message.content += bytes(self._buffer[: int(size)])
        del self._buffer[: int(size)]
        taken = await self._answer("DOT" if last else "BDAT", f"250 2.0.0 taken as {len(self._hop.messages) + 1}")
        if last and taken.startswith("2"):  # a refused one leaves the transaction open until RSET
            self.leave_transaction()
            self._hop.messages.append(message)

    async def _on_data(self, line: str) -> None:
        if self._message is None:
            await self._write("503 5.5.1 MAIL first")
            return
        if not self._message.forward_paths and not self._hop.lenient_data:
            await self._write("554 5.5.1 no valid recipients")
            return
        if await self._answer("DATA", "354 go on") != "354":
            return
        content = await self._read_content()
        message = self._message
        if not message.forward_paths:
            self.leave_transaction()
            await self._write("554 5.5.1 no valid recipients")
            if content:
                self._hop.violations.append("content without a recipient")
            return
        code = await self._answer("DOT", f"250 2.0.0 taken as {len(self._hop.messages) + 1}")
        self.leave_transaction()
        if code.startswith("2"):
            message.content = content
            self._hop.messages.append(message)
            self._hop.note()

    async def _read_content(self) -> bytes:
        searched = 0
        octets = bytearray(b"\r\n") + self._buffer  # the CRLF of the command before, so that a lone dot is an end
        self._buffer.clear()
        while (end := octets.find(b"\r\n.\r\n", searched)) < 0:
            searched = max(len(octets) - 4, 0)
            await self._more()
            octets += self._buffer
            self._buffer.clear()
        self._buffer += octets[end + 5 :]
        if self._buffer and not self._may_pipeline("MAIL"):
            self._hop.violations.append("pipelined after the final dot")
        wire = bytes(octets[: end + 2])
        bare = wire.replace(b"\r\n", b"")
        if b"\r" in bare or b"\n" in bare:
            self._hop.violations.append("bare CR or LF in the content")
        return wire.replace(b"\r\n.", b"\r\n")[2:]

    async def _on_rset(self, line: str) -> None:
        self.leave_transaction()
        await self._answer("RSET", "250 2.0.0 ok")

    async def _on_noop(self, line: str) -> None:
        await self._answer("NOOP", "250 2.0.0 ok")

    async def _on_quit(self, line: str) -> None:
        await self._answer("QUIT", "221 2.0.0 bye")
        raise _Closed


def _split_path(line: str, prefix: str) -> tuple[str, tuple[str, ...]]:
    rest = line[len(prefix) :].strip()
    if not line.upper().startswith(prefix) or not rest.startswith("<"):
        return f"malformed: {line}", ()
    path, _, parameters = rest[1:].rpartition(">")
    return path, tuple(word.upper() for word in parameters.split())
