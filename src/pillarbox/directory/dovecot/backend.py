"""Asks Dovecot's authentication service about a password, and who that is (upstream.Backend).

Dovecot knows each person by one name, however it was typed: addresses come from that (naming.py). It tells nobody
apart who is unknown and whose password is wrong, so everybody is known until the password is tried. It does tell who
is disabled or expired, in part only to whom the password is right.

One connection for all questions; it is made anew when Dovecot was restarted.

ERRORS
    Unavailable: no Dovecot can say.
"""

import asyncio

from pillarbox.directory.base import Denied, Identity, Reason
from pillarbox.directory.dovecot.client import Answer, Client, connect
from pillarbox.directory.dovecot.settings import DovecotSettings
from pillarbox.directory.naming import Naming
from pillarbox.directory.servers import NotJudged, ServerFailed, Servers
from pillarbox.directory.turns import Turns
from pillarbox.directory.upstream import Narrate, Person, silent
from pillarbox.directory.wire import Place

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


class DovecotBackend:
    """Satisfies upstream.Backend."""

    opaque = True

    def __init__(self, settings: DovecotSettings, narrate: Narrate = silent) -> None:
        self._narrate = narrate
        self._naming = Naming("{login}", settings.domains)
        self._servers = Servers(settings.servers, settings.timeout, directory=settings.name)
        self._turns = Turns(settings.connections, settings.timeout)
        self._connect_time = CONNECT_PART * settings.timeout / len(settings.servers)
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
                    self._narrate(f"{place}: connected; offers {', '.join(sorted(client.mechanisms))}")
                return client
        except TimeoutError:
            raise ServerFailed(f"not connected within {self._connect_time:g} s") from None

    def _verdict(self, answer: Answer) -> Identity | Denied:
        """Raises ServerFailed."""
        code = answer.fields.get("code") or next((new for old, new in _OLD_CODES.items() if old in answer.fields), "")
        if code == "temp_fail":
            raise NotJudged(f"could not say: {_told(answer)}")
        if answer.word == "CONT" or code in _CANNOT_SAY:
            raise ServerFailed(f"could not say: {_told(answer)}", reached=True)
        user = answer.fields.get("user", "")
        details = {"cause": _told(answer)}
        if answer.word == "FAIL":
            return Denied(_REASONS.get(code, Reason.OPAQUE), user or None, details)
        if "nologin" in answer.fields:
            return Denied(Reason.DISABLED, user, details)
        meant = self._naming.owner(user) if user else None
        if meant is None:
            return Denied(Reason.ELSEWHERE, user, {"cause": "right, and of a domain that is not among domains"})
        self._narrate(f"addresses by domains: {', '.join(sorted(meant.addresses)) or 'none, so nothing can be sent'}")
        return Identity(meant.name, meant.addresses)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


def _told(answer: Answer) -> str:
    """What may be shown of it: where Dovecot is a proxy, the password is among its fields."""
    told = (f" {name}={answer.fields[name]}".rstrip("=") for name in _SHOWN if name in answer.fields)
    return answer.word + "".join(told)
