"""Signs in at the mailbox server, to see whether it lets the person in (upstream.Backend).

The server can only say yes or no, so everybody is known until the password is tried. Who it is and which addresses
are theirs comes from the login (naming.py).

Each connection is for one sign-in; pool.py makes the next one ahead. Several servers take over from each other
(servers.py), and none is tried after one that the password may have reached.

A server that ends the connection, or no longer speaks its protocol, after it was told an odd login or password (see
``_ORDINARY``) may do that to whoever types such: it fails for that one, and is not paused for all.

ERRORS
    Unavailable: no server can say.
    Unusable: the file of CA certificates.
"""

import asyncio
import re
from typing import Final

from pillarbox.directory.base import Denied, Identity, Reason
from pillarbox.directory.mailbox.connection import Connection
from pillarbox.directory.mailbox.imap import Imap
from pillarbox.directory.mailbox.pool import Pool
from pillarbox.directory.mailbox.pop3 import Pop3
from pillarbox.directory.mailbox.settings import MailboxSettings
from pillarbox.directory.naming import Naming
from pillarbox.directory.servers import NotJudged, ServerFailed, Servers
from pillarbox.directory.turns import Turns
from pillarbox.directory.upstream import Narrate, Person, silent
from pillarbox.directory.wire import Place, Wire, client_context, connect

CONNECT_PART = 0.75
"""Of a server's share of the time, so that what is not connected is known not to have had the password."""


_ORDINARY: Final = re.compile(r"[ !#-\[\]-~]{1,255}")
"""ASCII that can be printed, without the quotation mark and the backslash: what each server has seen many times."""


class MailboxBackend:
    """Satisfies upstream.Backend."""

    opaque = True

    def __init__(self, settings: MailboxSettings, narrate: Narrate = silent) -> None:
        self._settings = settings
        self._narrate = narrate
        self._naming = Naming(settings.login, settings.domains)
        self._context = client_context(settings.ca) if settings.tls != "none" else None
        self._servers = Servers(settings.servers, settings.timeout, directory=settings.name)
        self._connect_time = CONNECT_PART * settings.timeout / len(settings.servers)
        self._pool = Pool(self._open, spares=max(1, settings.connections // 2))
        self._turns = Turns(settings.connections, settings.timeout)

    async def find(self, login: str) -> Person | None:
        meant = self._naming.meant(login)
        if meant is None:
            self._narrate(
                "the login is of a domain that is not among domains, or has a * in it: nobody here, and not asked for"
            )
            return None
        addresses = ", ".join(sorted(meant.addresses)) or "none, so nothing can be sent"
        self._narrate(f'"{meant.sent}" is the login there; addresses by domains: {addresses}')
        return Person(meant.name, Identity(meant.name, meant.addresses), handle=meant.sent)

    async def check(self, person: Person, password: str) -> Identity | Denied:
        login = str(person.handle)
        if "\0" in login + password:
            return Denied(Reason.WRONG)
        async with self._turns.turn():
            denied = await self._servers.ask(lambda place: self._sign_in(place, login, password), again=False)
        return person.identity if denied is None else denied

    async def prepare(self) -> None:
        """Connects up to where a sign-in would begin (upstream.Reachable)."""

        async def work(place: Place) -> None:
            (await self._pool.take(place, self._narrate)).leave()

        await self._servers.ask(work)

    async def _sign_in(self, place: Place, login: str, password: str) -> Denied | None:
        connection = await self._pool.take(place, self._narrate)
        try:
            denied = await connection.sign_in(login, password, self._narrate)
        except BaseException as error:
            connection.wire.abort()
            if not isinstance(error, ServerFailed):
                raise
            self._narrate(f"{place}: {error}")
            if connection.wire.told and not (_ORDINARY.fullmatch(login) and _ORDINARY.fullmatch(password)):
                raise NotJudged(str(error), reached=error.reached) from error
            if not isinstance(error, NotJudged):
                self._pool.forget(place)
            raise
        connection.leave()
        return denied

    async def _open(self, place: Place, narrate: Narrate) -> Connection:
        """A connection that is ready. Raises ServerFailed, reached=False."""
        try:
            async with asyncio.timeout(self._connect_time):
                return await self._make_ready(place, narrate)
        except TimeoutError:
            cause = f"not ready for a sign-in within {self._connect_time:g} s"
        except ServerFailed as error:
            cause = str(error)
        narrate(f"{place}: {cause}")
        self._pool.forget(place)
        raise ServerFailed(cause)

    async def _make_ready(self, place: Place, narrate: Narrate) -> Connection:
        wire = await connect(place)
        try:
            connection: Connection = Imap(wire) if self._settings.protocol == "imap" else Pop3(wire)
            if self._settings.tls == "tls":
                await self._start_tls(wire, place)
            await connection.greet(secure=self._settings.tls != "starttls")
            if self._settings.tls == "starttls":
                await connection.ask_for_tls()
                await self._start_tls(wire, place)
            await connection.learn()
        except BaseException:
            wire.abort()
            raise
        narrate(f"{place}: connected, {wire.version or 'in the clear'}")
        return connection

    async def _start_tls(self, wire: Wire, place: Place) -> None:
        assert self._context is not None  # noqa: S101 -- there is one for every kind of TLS
        await wire.start_tls(self._context, self._settings.tls_name or place.host)

    def close(self) -> None:
        self._pool.close()
