"""IMAP up to the sign-in, and no further: nothing is selected, listed or read.

AUTHENTICATE PLAIN where it is offered, LOGIN else. LOGIN's arguments are quoted where that can be said in ASCII, and
literals otherwise: what somebody typed never becomes a command.

A NO is the person's unless its response code says that the server cannot say now. A BYE or an end before the tagged
reply is the server's. So is a BAD to what has nothing of the person's in it; once the login was told, be it only the
length of its literal, it may be about what this person typed, and keeps nobody else from the server.

STANDARDS
    RFC 9051 and 3501 (6.2: STARTTLS, AUTHENTICATE, LOGIN; 7.1: status responses; LOGINDISABLED), RFC 4959 (SASL-IR),
    RFC 5530 (response codes).

ERRORS
    ServerFailed: the server cannot say. NotJudged: not about this person now.
"""

import re
from typing import Final

from pillarbox.directory.base import Denied, Reason
from pillarbox.directory.mailbox.connection import REPLY_LINES, opaque, plain_message
from pillarbox.directory.servers import NotJudged
from pillarbox.directory.upstream import Narrate
from pillarbox.directory.wire import Wire, shown

_UNTAGGED: Final = re.compile(rb"\* (OK|NO|BAD|BYE|PREAUTH|CAPABILITY)(?: (.*))?", re.IGNORECASE | re.DOTALL)
_TAGGED: Final = re.compile(rb"(OK|NO|BAD)(?: (.*))?", re.IGNORECASE | re.DOTALL)
_CODE: Final = re.compile(rb"\[([!-Z^-~]+)(?: ([^\]]*))?\]")
_QUOTABLE: Final = re.compile(r"[ -~]*")
_LONGEST_QUOTED = 1_000

_CANNOT_SAY: Final = frozenset({b"UNAVAILABLE", b"SERVERBUG", b"INUSE", b"LIMIT", b"PRIVACYREQUIRED"})
_REASONS: Final = {b"EXPIRED": Reason.EXPIRED, b"CONTACTADMIN": Reason.DISABLED}


class Imap:
    """Satisfies Connection."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._capabilities: frozenset[bytes] | None = None
        self._count = 0

    async def greet(self, *, secure: bool) -> None:
        """RFC 9051 7.1."""
        line = await self.wire.read_line()
        word, rest = self._untagged(line)
        if word != b"OK":
            raise self.wire.failed(f"greeted with: {shown(line)}")
        if secure:  # what came in the clear counts nothing (RFC 9051 6.2.1)
            self._learn_from(rest)

    async def ask_for_tls(self) -> None:
        await self.learn()
        if b"STARTTLS" not in (self._capabilities or ()):
            raise self.wire.failed("does not offer STARTTLS")
        word, rest = await self._command(b"STARTTLS")
        if word != b"OK":
            raise self.wire.failed(f"STARTTLS was refused: {shown(rest)}")
        self._capabilities = None

    async def learn(self) -> None:
        if self._capabilities is not None:
            return
        word, rest = await self._command(b"CAPABILITY")
        if word != b"OK" or self._capabilities is None:
            raise self.wire.failed(f"CAPABILITY was refused: {shown(rest)}")

    async def sign_in(self, login: str, password: str, narrate: Narrate) -> Denied | None:
        offered = self._capabilities or frozenset()
        if b"AUTH=PLAIN" in offered:
            narrate("asked AUTHENTICATE PLAIN")
            word, rest = await self._authenticate(plain_message(login, password), at_once=b"SASL-IR" in offered)
        elif b"LOGINDISABLED" in offered:
            raise self.wire.failed("offers neither AUTHENTICATE PLAIN nor LOGIN")
        else:
            narrate("asked LOGIN")
            word, rest = await self._login(login, password)
        narrate(f"answered {word.decode('ascii')}: {shown(rest)}")
        return self._verdict(word, rest)

    def leave(self) -> None:
        self.wire.close(self._tag() + b" LOGOUT\r\n")

    # -- signing in

    async def _authenticate(self, message: bytes, *, at_once: bool) -> tuple[bytes, bytes]:
        if at_once:
            self.wire.told = self.wire.reached = True
            return await self._command(b"AUTHENTICATE PLAIN " + message)
        tag = self._tag()
        self.wire.write(tag + b" AUTHENTICATE PLAIN\r\n")
        refused = await self._continued(tag)
        if refused is not None:
            return refused
        self.wire.told = self.wire.reached = True
        self.wire.write(message + b"\r\n")
        return await self._reply(tag)

    async def _login(self, login: str, password: str) -> tuple[bytes, bytes]:
        """Each literal waits until the server asks for it: RFC 9051 4.3."""
        tag = self._tag()
        line = tag + b" LOGIN"
        self.wire.told = True
        for argument in (login, password):
            if _QUOTABLE.fullmatch(argument) and len(argument) <= _LONGEST_QUOTED:
                line += b' "' + argument.replace("\\", "\\\\").replace('"', '\\"').encode("ascii") + b'"'
                continue
            octets = argument.encode()
            self.wire.write(line + b" {%d}\r\n" % len(octets))
            refused = await self._continued(tag)
            if refused is not None:
                return refused
            line = octets
        self.wire.reached = True
        self.wire.write(line + b"\r\n")
        return await self._reply(tag)

    def _verdict(self, word: bytes, rest: bytes) -> Denied | None:
        if word == b"OK":
            if not self.wire.reached:
                raise self.wire.failed("said yes before it was told a password")
            return None
        found = _CODE.match(rest)
        code = found[1].upper() if found else b""
        if word != b"NO":
            cause = f"could not say: {word.decode('ascii')} {shown(rest)}"
            raise NotJudged(cause, reached=self.wire.reached) if self.wire.told else self.wire.failed(cause)
        if code in _CANNOT_SAY:
            raise NotJudged(f"could not say: {shown(rest)}")
        if code in _REASONS:
            return Denied(_REASONS[code], None, {"cause": shown(rest)})
        return opaque(shown(rest))

    # -- commands and replies

    def _tag(self) -> bytes:
        self._count += 1
        return b"a%d" % self._count

    async def _command(self, command: bytes) -> tuple[bytes, bytes]:
        tag = self._tag()
        self.wire.write(tag + b" " + command + b"\r\n")
        return await self._reply(tag)

    async def _continued(self, tag: bytes) -> tuple[bytes, bytes] | None:
        """None: go on; else the tagged reply that came instead."""
        reply = await self._reply(tag, goes_on=True)
        return None if reply[0] == b"+" else reply

    async def _reply(self, tag: bytes, *, goes_on: bool = False) -> tuple[bytes, bytes]:
        """OK, NO or BAD, and its text; b"+" where a continuation is awaited."""
        for _ in range(REPLY_LINES):
            line = await self.wire.read_line()
            if goes_on and line[:1] == b"+":
                return b"+", line[1:]
            if line.startswith(tag + b" "):
                found = _TAGGED.fullmatch(line[len(tag) + 1 :])
                if found is None:
                    break
                rest = found[2] or b""
                self._learn_from(rest)
                return found[1].upper(), rest
            word, rest = self._untagged(line)
            if word == b"BYE":
                raise self.wire.failed(f"said goodbye: {shown(rest)}")
            if word == b"CAPABILITY":
                self._capabilities = _words(rest)
        raise self.wire.failed("does not speak IMAP")

    def _untagged(self, line: bytes) -> tuple[bytes, bytes]:
        found = _UNTAGGED.fullmatch(line)
        if found is not None:
            return found[1].upper(), found[2] or b""
        if not line.startswith(b"* "):
            raise self.wire.failed(f"does not speak IMAP: {shown(line)}")
        return b"", line

    def _learn_from(self, rest: bytes) -> None:
        found = _CODE.match(rest)
        if found is not None and found[1].upper() == b"CAPABILITY":
            self._capabilities = _words(found[2] or b"")


def _words(listed: bytes) -> frozenset[bytes]:
    return frozenset(word.upper() for word in listed.split(b" "))
