"""One connection to Dovecot's authentication service: many questions at a time, told apart by number.

    client = await connect(Place(path="/run/dovecot/auth-client"))
    answer = await client.ask("PLAIN", b"\\0anna\\0secret")

    C: VERSION 1 1    CPID pid
    S: VERSION 1 n    MECH name ...    SPID    CUID    COOKIE    DONE
    C: AUTH 1 PLAIN service=smtp nologin no-penalty secured resp=base64
    S: OK 1 user=anna@example.org          or FAIL 1 [user=...] [temp] [code=...]          or CONT 1 base64

Of a mechanism with several messages:

    exchange = client.open("SCRAM-SHA-256")
    answer = await exchange.say(client_first)           # CONT: answer.message
    answer = await exchange.say(client_final)           # OK: answer.message is the server's last word
    exchange.close()

    C: CONT 1 base64

Of the client's address nothing is said: answers are remembered here, and hold for all addresses.

Fields stand between tabs; each line ends with LF. Version 1 of the protocol: Dovecot 2.0 to 2.4.

STANDARDS
    Dovecot Authentication Protocol 1.1 to 1.4; RFC 4422 (what mechanisms say).

ERRORS
    ServerFailed: it is not there, speaks another version, lacks the mechanism, or is gone before it answered.
"""

import asyncio
import base64
import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pillarbox.directory import wire as lines
from pillarbox.directory.servers import ServerFailed
from pillarbox.directory.wire import Place, Wire, shown

HANDSHAKE_LINES = 128
LINE_CEILING = 8_192
"""Octets of a question; Dovecot ends the connection of whoever sends more than it takes."""

WITH_LAST_WORD = frozenset({"SCRAM-SHA-256"})
"""Mechanisms whose server ends with a message: it comes with the OK, so that we know who it is before it is told."""

_ESCAPE = re.compile(r"\x01(.)", re.DOTALL)
_ESCAPED = {"0": "\0", "1": "\x01", "t": "\t", "r": "\r", "n": "\n", "l": "\n"}


@dataclass(frozen=True, slots=True)
class Answer:
    """OK, FAIL or CONT, and its fields by name ("": the challenge of a CONT); one without a value has ""."""

    word: str
    fields: Mapping[str, str]

    @property
    def message(self) -> bytes | None:
        """The server's message of the mechanism: a CONT's challenge, or what came with OK or FAIL; None: none, or
        not base64."""
        text = self.fields.get("" if self.word == "CONT" else "resp")
        try:
            return None if text is None else base64.b64decode(text, validate=True)
        except ValueError:
            return None


async def connect(place: Place) -> "Client":
    """Connected, hands shaken. Cancelled when it takes too long. Raises ServerFailed."""
    wire = await lines.connect(place)
    try:
        wire.write(b"VERSION\t1\t1\nCPID\t%d\n" % os.getpid())
        return Client(wire, await _shake_hands(wire))
    except BaseException:
        wire.abort()
        raise


async def _shake_hands(wire: Wire) -> frozenset[str]:
    """The mechanisms that are offered."""
    mechanisms = set()
    version = False
    for _ in range(HANDSHAKE_LINES):
        line = await wire.read_line()
        match line.split(b"\t"):
            case [b"VERSION", major, *_]:
                if major != b"1":
                    raise wire.failed(f"speaks another version of the protocol: {shown(line)}")
                version = True
            case [b"MECH", name, *_]:
                mechanisms.add(shown(name).upper())
            case [b"DONE"] if version:
                return frozenset(mechanisms)
            case [b"SPID" | b"CUID" | b"COOKIE", *_]:
                pass
            case _ if not version:
                raise wire.failed(f"is no authentication socket of Dovecot: {shown(line)}")
    raise wire.failed(f"sent more than {HANDSHAKE_LINES} lines and no DONE")


class Client:
    """See the module's text."""

    def __init__(self, wire: Wire, mechanisms: frozenset[str]) -> None:
        self.mechanisms = mechanisms
        self._wire = wire
        self._asked: dict[int, asyncio.Future[Answer]] = {}
        self._last = 0
        self._failure: ServerFailed | None = None
        self._reading = asyncio.create_task(self._read())

    @property
    def usable(self) -> bool:
        """Whether it can be asked."""
        return self._failure is None

    async def ask(self, mechanism: str, response: bytes) -> Answer:
        """The answer to a mechanism's only response. Raises ServerFailed, reached=True once it was sent."""
        exchange = self.open(mechanism)
        try:
            return await exchange.say(response)
        finally:
            exchange.close()

    def open(self, mechanism: str) -> "Exchange":
        """One exchange. Raises ServerFailed."""
        if self._failure is not None:
            raise ServerFailed(str(self._failure))
        if mechanism not in self.mechanisms:
            raise ServerFailed(f"does not offer {mechanism}")
        self._last = self._last % 0x7FFF_FFFF + 1
        return Exchange(self, self._last, mechanism)

    async def answered(self, number: int, line: bytes) -> Answer:
        """Sends a line of this exchange and waits for the answer. Raises ServerFailed."""
        if self._failure is not None:
            raise ServerFailed(str(self._failure))
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[number] = answered
        try:
            self._wire.write(line)
            return await answered
        finally:
            self._asked.pop(number, None)

    def cancel(self, number: int) -> None:
        """Whoever asked has gone."""
        with contextlib.suppress(ServerFailed):
            self._wire.write(b"CANCEL\t%d\n" % number)

    def close(self) -> None:
        """Ends the connection, and whoever waits."""
        self._reading.cancel()
        self._fail(ServerFailed("closed by us"))

    async def _read(self) -> None:
        try:
            while True:
                self._take(await self._wire.read_line())
        except ServerFailed as error:
            self._fail(error)

    def _take(self, line: bytes) -> None:
        word, number, *fields = [*line.split(b"\t"), b""]
        if word not in {b"OK", b"FAIL", b"CONT"}:
            return  # of a later version; to be ignored
        answered = self._asked.pop(int(number), None) if re.fullmatch(rb"[0-9]{1,10}", number) else None
        if answered is not None and not answered.done():
            named = {"": fields[0].decode("utf-8", "replace")} if word == b"CONT" else dict(map(_field, fields))
            answered.set_result(Answer(word.decode("ascii"), named))

    def _fail(self, error: ServerFailed) -> None:
        self._failure = self._failure or error
        self._wire.abort()
        asked, self._asked = self._asked, {}
        for answered in asked.values():
            if not answered.done():
                answered.set_exception(ServerFailed(str(error), reached=True))


class Exchange:
    """One exchange of a mechanism; made by Client.open."""

    def __init__(self, client: Client, number: int, mechanism: str) -> None:
        self._client = client
        self._number = number
        self._mechanism = mechanism
        self._begun = self._ended = False

    async def say(self, response: bytes) -> Answer:
        """The answer to the client's next message. Raises ServerFailed, reached=True once it was sent."""
        encoded, line = base64.b64encode(response), b"CONT\t%d\t%b\n"
        if self._begun:
            line %= (self._number, encoded)
        else:
            more = b"\tfinal-resp-ok" if self._mechanism in WITH_LAST_WORD else b""
            line = b"AUTH\t%d\t%b\tservice=smtp\tnologin\tno-penalty\tsecured%b\tresp=%b\n" % (
                self._number,
                self._mechanism.encode("ascii"),
                more,
                encoded,
            )
        if self._ended or len(line) > LINE_CEILING:
            raise ServerFailed("what was typed is longer than it takes")
        self._begun = True
        answer = await self._client.answered(self._number, line)
        self._ended = answer.word != "CONT"
        return answer

    def close(self) -> None:
        """Takes back what has no end yet."""
        if self._begun and not self._ended:
            self._ended = True
            self._client.cancel(self._number)


def _field(field: bytes) -> tuple[str, str]:
    name, _, value = field.decode("utf-8", "replace").partition("=")
    return name, _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), value)
