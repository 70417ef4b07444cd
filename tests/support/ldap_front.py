"""What may stand between us and an LDAP server: a relay that counts, hangs, hangs up, and what slapd is not.

    front = await Front.start(slapd.port)
    front.uri                      # ldap://127.0.0.1:..., clear text
    front.asked                    # the operations that passed, as "bind DN" and "search BASE"
    front.hang()                   # from now on nothing is answered; resume() lets it go on
    front.drop()                   # ends what is open

A bind as a name in ``codes`` is answered with that result code.

With ``windows`` it answers as a domain controller does where slapd cannot: a refused bind gets the diagnostic text
of Active Directory, with the number that ``numbers`` has for the name; a search by the rule that follows groups in
groups is answered from ``groups``. A bind as a name in ``accounts``, which is no DN, is passed on as that DN.

It reads just enough BER (X.690 8.1) for that.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

IN_CHAIN = b"1.2.840.113556.1.4.1941"
BIND, BIND_ANSWER, SEARCH, ENTRY, DONE, EXTENDED = 0x60, 0x61, 0x63, 0x64, 0x65, 0x77
_NAMES = {BIND: "bind", SEARCH: "search", EXTENDED: "extended", 0x42: "unbind"}


@dataclass(frozen=True, slots=True)
class Part:
    """One element of BER."""

    tag: int
    value: bytes

    @property
    def parts(self) -> list["Part"]:
        """What it is made of."""
        found, rest = [], self.value
        while rest:
            part, rest = take(rest)
            found.append(part)
        return found


def take(octets: bytes) -> tuple[Part, bytes]:
    """The first element, and what comes after it. Raises IndexError when it is not whole."""
    tag, length, start = octets[0], octets[1], 2
    if length & 0x80:
        start = 2 + (length & 0x7F)
        if len(octets) < start:
            raise IndexError
        length = int.from_bytes(octets[2:start], "big")
    if len(octets) < start + length:
        raise IndexError
    return Part(tag, octets[start : start + length]), octets[start + length :]


def make(tag: int, *values: bytes) -> bytes:
    """An element."""
    value = b"".join(values)
    size = len(value)
    if size < 0x80:
        return bytes((tag, size)) + value
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + value


@dataclass
class Front:
    """See the module's text."""

    server_port: int
    windows: bool = False
    numbers: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    accounts: dict[str, str] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    connections: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _going: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    hung: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> "Front":
        """Listens."""
        self._going.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def stop(self) -> None:
        """Ends everything."""
        assert self._server is not None
        self._server.close()
        self.drop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def uri(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"ldap://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def hang(self) -> None:
        """Nothing is passed on any more; ``hung`` is set when there was something."""
        self._going.clear()

    def resume(self) -> None:
        """What waits goes on."""
        self._going.set()

    def drop(self) -> None:
        """Hangs up on everybody."""
        for writer in self._writers:
            writer.close()

    async def quiet(self) -> None:
        """Returns when no connection is left."""
        async with asyncio.timeout(10):
            await asyncio.gather(*self._tasks)

    def count(self, word: str) -> int:
        """How many operations that begin so have passed."""
        return sum(asked.startswith(word) for asked in self.asked)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        behind_reader, behind = await asyncio.open_connection("127.0.0.1", self.server_port)
        self._writers |= {writer, behind}
        names: dict[bytes, str] = {}
        there = asyncio.create_task(self._pass(reader, behind, lambda part: self._request(part, names, writer)))
        back = asyncio.create_task(self._pass(behind_reader, writer, lambda part: self._answer(part, names)))
        try:
            await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        finally:
            there.cancel()
            back.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
            self._writers -= {writer, behind}
            writer.close()
            behind.close()
            self._tasks.discard(task)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change: Callable[[Part], bytes | None]
    ) -> None:
        waiting = b""
        while octets := await reader.read(65_536):
            if not self._going.is_set():
                self.hung.set()
                await self._going.wait()
            waiting += octets
            with suppress(IndexError):
                while waiting:
                    message, waiting = take(waiting)
                    changed = change(message)
                    if changed is not None:
                        writer.write(changed)
            await writer.drain()

    def _request(self, message: Part, names: dict[bytes, str], back: asyncio.StreamWriter) -> bytes | None:
        number, operation = message.parts[:2]
        word = _NAMES.get(operation.tag, hex(operation.tag))
        if operation.tag == BIND:
            names[number.value] = operation.parts[1].value.decode()
            word = f"bind {names[number.value]}"
            dn = self.accounts.get(names[number.value].lower())
            if dn is not None:
                version, _, proof = operation.parts
                name = make(0x04, dn.encode())
                changed = make(BIND, make(version.tag, version.value), name, make(proof.tag, proof.value))
                message = Part(message.tag, make(number.tag, number.value) + changed)
        elif operation.tag == SEARCH:
            word = f"search {operation.parts[0].value.decode()}"
        self.asked.append(word)
        if self.windows and operation.tag == SEARCH and IN_CHAIN in operation.value:
            back.write(self._in_chain(number, operation))
            return None
        return make(message.tag, message.value)

    def _in_chain(self, number: Part, operation: Part) -> bytes:
        """(member:1.2.840.113556.1.4.1941:=DN) with a group as the base."""
        base = operation.parts[0].value.decode()
        filter_ = {part.tag: part.value.decode() for part in operation.parts[6].parts}
        assert filter_[0x82] == "member", filter_
        head = make(0x02, number.value)
        if base.lower() not in {group.lower() for group in self.groups}:
            return make(0x30, head, make(DONE, make(0x0A, b"\x20"), make(0x04), make(0x04)))
        found = b""
        if filter_[0x83].lower() in self._members(base):
            found = make(0x30, head, make(ENTRY, make(0x04, base.encode()), make(0x30)))
        return found + make(0x30, head, make(DONE, make(0x0A, b"\0"), make(0x04), make(0x04)))

    def _members(self, group: str) -> set[str]:
        direct = next((members for name, members in self.groups.items() if name.lower() == group.lower()), ())
        found = {member.lower() for member in direct}
        for member in direct:
            found |= self._members(member)
        return found

    def _answer(self, message: Part, names: dict[bytes, str]) -> bytes:
        number, operation = message.parts[:2]
        whole = make(message.tag, message.value)
        code = self.codes.get(names.get(number.value, "").lower())
        if operation.tag == BIND_ANSWER and code is not None:
            answer = make(BIND_ANSWER, make(0x0A, bytes((code,))), make(0x04), make(0x04, b"not today"))
            return make(0x30, make(0x02, number.value), answer)
        if not self.windows or operation.tag != BIND_ANSWER or operation.parts[0].value != b"\x31":
            return whole
        data = self.numbers.get(names.get(number.value, "").lower(), "52e")
        text = f"80090308: LdapErr: DSID-0C090439, comment: AcceptSecurityContext error, data {data}, v4563\0"
        answer = make(BIND_ANSWER, make(0x0A, b"\x31"), make(0x04), make(0x04, text.encode()))
        return make(0x30, make(0x02, number.value), answer)
