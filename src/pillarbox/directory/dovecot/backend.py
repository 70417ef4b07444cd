"""Asks Dovecot's authentication service about a password, and who that is (upstream.Backend).

Dovecot knows each person by one name, however it was typed: addresses come from that (naming.py). It tells nobody
apart who is unknown and whose password is wrong, so everybody is known until the password is tried. It does tell who
is disabled or expired, in part only to whom the password is right.

One connection for all questions; it is made anew when Dovecot was restarted. What it offers besides PLAIN (tokens,
SCRAM) is used by directory.py.

ERRORS
    Unavailable: no Dovecot can say.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from pillarbox.directory.base import Denied, Identity, Reason
from pillarbox.directory.dovecot.client import Answer, Client, Exchange, connect
from pillarbox.directory.dovecot.settings import DovecotSettings
from pillarbox.directory.naming import Naming
from pillarbox.directory.servers import NotJudged, ServerFailed, Servers
from pillarbox.directory.turns import Turns
from pillarbox.directory.upstream import Narrate, Person, silent
from pillarbox.directory.wire import Place
from pillarbox.sasl.scram import is_signature

CONNECT_PART = 0.75
"""Of a server's share of the time, so that what is not connected is known not to have had the password."""

_REASONS = {
    "user_disabled": Reason.DISABLED,
    "authz_fail": Reason.DISABLED,
    "pass_expired": Reason.EXPIRED,
}
_CANNOT_SAY = frozenset({"auth_mech_invalid", "auth_mech_ssl_required", "invalid_base64"})
_SHOWN = ("user", "code", "reason", "nologin", "temp", "authz", "user_disabled", "pass_expired")
_OLD_CODES = {
    "temp": "temp_fail",
    "authz": "authz_fail",
    "user_disabled": "user_disabled",
    "pass_expired": "pass_expired",
}
"""Of Dovecot before 2.3: fields of their own."""


TOKEN_MECHANISMS = ("OAUTHBEARER", "XOAUTH2")
SCRAM = "SCRAM-SHA-256"
PASSED_ON = ("PLAIN", SCRAM, *TOKEN_MECHANISMS)


@dataclass(frozen=True, slots=True)
class Opened:
    """An exchange, and the server that plays it: its first message was said, and answered with a challenge."""

    place: Place
    exchange: Exchange
    challenge: bytes


class DovecotBackend:
    """Satisfies upstream.Backend."""

    opaque = True

    def __init__(self, settings: DovecotSettings, narrate: Narrate = silent) -> None:
        self._narrate = narrate
        self._naming = Naming("{login}", settings.domains)
        self._servers = Servers(settings.servers, settings.timeout, directory=settings.name)
        self._turns = Turns(settings.connections, settings.timeout)
        self._timeout = settings.timeout
        self._connect_time = CONNECT_PART * settings.timeout / len(settings.servers)
        self._offered: dict[Place, frozenset[str]] = {}
        self._clients: dict[Place, Client] = {}
        self._connecting = {place: asyncio.Lock() for place in settings.servers}

    async def find(self, login: str) -> Person | None:
        meant = self._naming.meant(login)
        if meant is None:
            self._narrate("the login is of a domain that is not among domains: nobody here, and not asked for")
            return None
        return Person(meant.name, Identity(meant.name, meant.addresses), handle=meant.sent)

    async def check(self, person: Person, password: str) -> Identity | Denied:
        login = str(person.handle)
        if "\0" in login + password:
            return Denied(Reason.WRONG)
        message = f"\0{login}\0{password}".encode()
        async with self._turns.turn():
            return await self._servers.ask(lambda place: self._ask(place, "PLAIN", message), again=False)

    async def prepare(self) -> None:
        """Connects (upstream.Reachable)."""
        await self._servers.ask(self._client)

    # -- other mechanisms than PLAIN

    @property
    def connected(self) -> bool:
        """Whether some server is there now, as far as is known."""
        return any(client.usable for client in self._clients.values())

    @property
    def offered(self) -> frozenset[str]:
        """The mechanisms that all servers offered that have been asked yet. No I/O."""
        each = list(self._offered.values())
        return each[0].intersection(*each[1:]) if each else frozenset()

    async def check_token(self, login: str, token: str) -> Identity | Denied:
        """Whose bearer token is this, by the mechanism that it takes. Raises Unavailable."""
        async with self._turns.turn():
            return await self._servers.ask(lambda place: self._ask_token(place, login, token), again=False)

    async def begin(self, message: bytes) -> Opened | Denied:
        """The answer to a client-first-message of SCRAM. Raises Unavailable."""
        async with self._turns.turn():
            return await self._servers.ask(lambda place: self._begin(place, message), again=True)

    async def finish(self, opened: Opened, message: bytes) -> tuple[Identity, bytes] | Denied:
        """The answer to the client-final-message: who it is, and the server's signature. Raises ServerFailed,
        TimeoutError and NotReached."""
        async with self._turns.turn(), asyncio.timeout(self._timeout):
            answer = await opened.exchange.say(message)
        self._narrate(f"{opened.place}: answered {_told(answer)}")
        verdict = self._verdict(answer)
        if isinstance(verdict, Denied):
            return verdict
        if answer.message is None or not is_signature(answer.message):
            raise ServerFailed("said yes without its signature", reached=True)
        return verdict, answer.message

    async def _begin(self, place: Place, message: bytes) -> Opened | Denied:
        client = await self._client(place)
        exchange = client.open(SCRAM)
        try:
            answer = await exchange.say(message)
            if answer.word == "OK":
                raise ServerFailed("said yes without a proof", reached=True)
            if answer.word != "CONT":
                return self._denial(answer)
            if answer.message is None:
                raise ServerFailed("made a challenge that is not base64", reached=True)
            opened = Opened(place, exchange, answer.message)
        except BaseException:
            exchange.close()
            raise
        return opened

    async def _ask_token(self, place: Place, login: str, token: str) -> Identity | Denied:
        client = await self._client(place)
        name = next((name for name in TOKEN_MECHANISMS if name in client.mechanisms), TOKEN_MECHANISMS[0])
        self._narrate(f"{place}: asked AUTH {name}")
        exchange = client.open(name)
        try:
            answer = await exchange.say(_token_message(name, login, token))
            if answer.word == "CONT":  # the error document (RFC 7628 3.2.2), which asks for nothing
                answer = await exchange.say(b"\x01" if name == "OAUTHBEARER" else b"")
                if answer.word == "OK":
                    raise ServerFailed("said yes after its refusal", reached=True)
        finally:
            exchange.close()
        self._narrate(f"{place}: answered {_told(answer)}")
        return self._verdict(answer)

    # -- how it is asked

    async def _ask(self, place: Place, mechanism: str, message: bytes) -> Identity | Denied:
        try:
            client = await self._client(place)
            self._narrate(f"{place}: asked AUTH {mechanism}")
            answer = await client.ask(mechanism, message)
            self._narrate(f"{place}: answered {_told(answer)}")
            return self._verdict(answer)
        except ServerFailed as error:
            self._narrate(f"{place}: {error}")
            raise

    async def _client(self, place: Place) -> Client:
        """The one there is, or a new one. Raises ServerFailed, reached=False."""
        try:
            async with asyncio.timeout(self._connect_time), self._connecting[place]:
                client = self._clients.get(place)
                if client is None or not client.usable:
                    client = self._clients[place] = await connect(place)
                    self._offered[place] = client.mechanisms
                    self._narrate(f"{place}: connected; offers {', '.join(sorted(client.mechanisms))}")
                    self._narrate(f"{place}: {_used(client.mechanisms)}")
                return client
        except TimeoutError:
            raise ServerFailed(f"not connected within {self._connect_time:g} s") from None

    @staticmethod
    def _denial(answer: Answer) -> Denied:
        """What a FAIL means. Raises ServerFailed."""
        code = answer.fields.get("code") or next((new for old, new in _OLD_CODES.items() if old in answer.fields), "")
        if code == "temp_fail":
            raise NotJudged(f"could not say: {_told(answer)}")
        if code in _CANNOT_SAY:
            raise ServerFailed(f"could not say: {_told(answer)}", reached=True)
        user = answer.fields.get("user", "")
        return Denied(_REASONS.get(code, Reason.OPAQUE), user or None, {"cause": _told(answer)})

    def _verdict(self, answer: Answer) -> Identity | Denied:
        """Raises ServerFailed."""
        if answer.word == "FAIL":
            return self._denial(answer)
        if answer.word == "CONT":
            raise ServerFailed(f"could not say: {_told(answer)}", reached=True)
        user = answer.fields.get("user", "")
        if "nologin" in answer.fields:
            return Denied(Reason.DISABLED, user, {"cause": _told(answer)})
        meant = self._naming.owner(user) if user else None
        if meant is None:
            return Denied(Reason.ELSEWHERE, user, {"cause": "right, and of a domain that is not among domains"})
        self._narrate(f"addresses by domains: {', '.join(sorted(meant.addresses)) or 'none, so nothing can be sent'}")
        return Identity(meant.name, meant.addresses)

    def whose(self, login: str) -> str | None:
        """The one name that wrong tries of this login are counted by; None: it is nobody's here."""
        meant = self._naming.meant(login)
        return None if meant is None else meant.name

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


def _told(answer: Answer) -> str:
    """What may be shown of it: where Dovecot is a proxy, the password is among its fields."""
    told = (f" {name}={answer.fields[name]}".rstrip("=") for name in _SHOWN if name in answer.fields)
    return answer.word + "".join(told)


def _used(mechanisms: Iterable[str]) -> str:
    """What of it is passed on."""
    return "passed on to it here: " + (", ".join(name for name in PASSED_ON if name in mechanisms) or "nothing")


def _token_message(mechanism: str, login: str, token: str) -> bytes:
    """RFC 7628 3.1, or XOAUTH2's form."""
    if mechanism == "XOAUTH2":
        return f"user={login}\x01auth=Bearer {token}\x01\x01".encode()
    escaped = login.replace("=", "=3D").replace(",", "=2C")
    return f"n,a={escaped},\x01auth=Bearer {token}\x01\x01".encode()
