"""POP3 up to the sign-in, and no further: QUIT follows, so that nothing is read or deleted.

AUTH PLAIN where it is offered, USER and PASS else. These have no quoting: a name with a space or a control character,
and a password with a line end, cannot be said there and are nobody's.

[IN-USE] is said to whom the server has let in, and whose mailbox another program has open (RFC 2449); some say it of
a failure of their own as well, before they looked at the password. So it is no yes: the server could not say.

Where [AUTH] tells whose a no is (RFC 3206), one without it is not the person's. To AUTH alone it is the server's;
once the login was told it may be about what this person typed, and keeps nobody else from the server.

STANDARDS
    RFC 1939 (USER, PASS, QUIT), RFC 2449 (CAPA, response codes, lines of 255 octets), RFC 2595 (STLS), RFC 5034
    (AUTH), RFC 3206 (AUTH and SYS response codes).

ERRORS
    ServerFailed: the server cannot say. NotJudged: not about this person now.
"""

import re
from typing import Final

from pillarbox.directory.base import Denied
from pillarbox.directory.mailbox.connection import REPLY_LINES, opaque, plain_message
from pillarbox.directory.servers import NotJudged
from pillarbox.directory.upstream import Narrate
from pillarbox.directory.wire import Wire, shown

_REPLY: Final = re.compile(rb"(\+OK|-ERR)(?: (.*))?", re.DOTALL)
_CODE: Final = re.compile(rb"\[([!-Z^-~]+)\]")
_COMMAND_CEILING = 255
"""Octets with CRLF: RFC 2449 4."""
_USER: Final = re.compile(r"[^\x00-\x20\x7f]+")
_PASS: Final = re.compile(r"[^\x00-\x1f\x7f]+")

_CANNOT_SAY: Final = frozenset({b"SYS/TEMP", b"SYS/PERM", b"LOGIN-DELAY", b"IN-USE"})


class Pop3:
    """Satisfies Connection."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._capabilities: dict[bytes, frozenset[bytes]] = {}

    async def greet(self, *, secure: bool) -> None:
        """RFC 1939 4."""
        sign, rest = await self._reply()
        if sign != b"+OK":
            raise self.wire.failed(f"greeted with: {shown(sign + b' ' + rest)}")

    async def ask_for_tls(self) -> None:
        await self.learn()
        if b"STLS" not in self._capabilities:
            raise self.wire.failed("does not offer STLS")
        sign, rest = await self._command(b"STLS")
        if sign != b"+OK":
            raise self.wire.failed(f"STLS was refused: {shown(rest)}")

    async def learn(self) -> None:
        """A server that does not know CAPA knows USER and PASS."""
        self._capabilities = {}
        sign, _ = await self._command(b"CAPA")
        if sign != b"+OK":
            return
        for _ in range(REPLY_LINES):
            line = await self.wire.read_line()
            if line == b".":
                return
            name, *values = line.upper().split(b" ")
            self._capabilities[name] = frozenset(values)
        raise self.wire.failed(f"sent more than {REPLY_LINES} capabilities")

    async def sign_in(self, login: str, password: str, narrate: Narrate) -> Denied | None:
        if b"PLAIN" in self._capabilities.get(b"SASL", ()):
            narrate("asked AUTH PLAIN")
            sign, rest = await self._auth(plain_message(login, password))
        else:
            user, password_line = f"USER {login}".encode(), f"PASS {password}".encode()
            longest = max(len(user), len(password_line)) + 2
            if not _USER.fullmatch(login) or not _PASS.fullmatch(password) or longest > _COMMAND_CEILING:
                return opaque("what was typed cannot be said by USER and PASS")
            narrate("asked USER and PASS")
            sign, rest = await self._user_pass(user, password_line)
        narrate(f"answered {shown(sign + b' ' + rest)}")
        return self._verdict(sign, rest)

    def leave(self) -> None:
        self.wire.close(b"QUIT\r\n")

    # -- signing in

    async def _auth(self, message: bytes) -> tuple[bytes, bytes]:
        """The initial response only where the line may be as long (RFC 5034 4)."""
        at_once = b"AUTH PLAIN " + message
        if len(at_once) + 2 <= _COMMAND_CEILING:
            self.wire.told = self.wire.reached = True
            return await self._command(at_once)
        self.wire.write(b"AUTH PLAIN\r\n")
        line = await self.wire.read_line()
        if line[:1] != b"+" or line[:3] == b"+OK":
            return self._parse(line)
        self.wire.told = self.wire.reached = True
        return await self._command(message)

    async def _user_pass(self, user: bytes, password: bytes) -> tuple[bytes, bytes]:
        self.wire.told = True
        sign, rest = await self._command(user)
        if sign != b"+OK":
            return sign, rest
        self.wire.reached = True
        return await self._command(password)

    def _verdict(self, sign: bytes, rest: bytes) -> Denied | None:
        if sign == b"+OK":
            if not self.wire.reached:
                raise self.wire.failed("said yes before it was told a password")
            return None
        found = _CODE.match(rest)
        code = found[1].upper() if found else b""
        tells = b"AUTH-RESP-CODE" in self._capabilities  # then a no that is the person's has [AUTH]: RFC 3206 6
        if code in _CANNOT_SAY:
            raise NotJudged(f"could not say: {shown(rest)}")
        if tells and code != b"AUTH":
            cause = f"could not say: {shown(rest)}"
            raise NotJudged(cause, reached=self.wire.reached) if self.wire.told else self.wire.failed(cause)
        return opaque(shown(rest))

    # -- commands and replies

    async def _command(self, command: bytes) -> tuple[bytes, bytes]:
        self.wire.write(command + b"\r\n")
        return await self._reply()

    async def _reply(self) -> tuple[bytes, bytes]:
        return self._parse(await self.wire.read_line())

    def _parse(self, line: bytes) -> tuple[bytes, bytes]:
        found = _REPLY.fullmatch(line)
        if found is None:
            raise self.wire.failed(f"does not speak POP3: {shown(line)}")
        return found[1], found[2] or b""
