"""A server behind that knows people's passwords, asked with care: it is other people's mail system.

    directory = Upstream(backend, settings, budget)
    identity = await directory.verify(credentials, known_place=True)

A verified login is remembered for ``settings.cache`` seconds, a wrong password for ``settings.wrong_cache``, both
under keyed hashes; the same question at the same time is asked once. So a mail program that tries its old password
again and again costs the server one failure, and most sign-ins cost it nothing. Whoever is remembered is looked up
again after ``settings.refresh`` seconds: new addresses count, and who was disabled is not let in.

No more than ``settings.wrong_tries`` wrong passwords of one person reach the server within ``settings.wrong_window``
(budget.py counts them for all workers), whatever spelling of the name is used: an attack on us must not lock people
out of their mailbox. Half of these, at most, are for places that are not known.

A password is handed on as it was typed, since the server behind prepares it in its own way; one that SASLprep forbids
is nobody's.

STANDARDS
    RFC 4616 2 (authzid: only one's own), RFC 4013.

ERRORS
    Unavailable: the server cannot say, or has no time for strangers now.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pillarbox.directory.base import Denied, Identity, NotReached, Reason, Unavailable
from pillarbox.directory.budget import Budget
from pillarbox.directory.memory import EntryKey, Memory
from pillarbox.directory.preparation import LOGIN_CEILING, PASSWORD_CEILING, login_key, prepare
from pillarbox.directory.settings import UpstreamSettings
from pillarbox.sasl.mechanism import Credentials
from pillarbox.telemetry.events import get_logger

log = get_logger("directory")

RIGHT_CEILING = 32_768
WRONG_CEILING = 32_768
STRANGERS_WAITING = 256

Narrate = Callable[[str], None]
"""Is told what is asked and answered, a line each, never a password: ``pillarbox directory test``."""


def silent(_line: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a login means at a server.

    Attributes:
        key: the same for every spelling of the login; wrong tries are counted by it. For a server that can only say
            no, the login's key.
        identity: who it is once the password is right. A server that can only say no makes it of the login.
        denied: no password lets this person in: DISABLED, LOCKED or EXPIRED.
        handle: what the backend needs to check the password, such as a DN.
    """

    key: str
    identity: Identity
    denied: Reason | None = None
    handle: Any = field(default=None, repr=False)


class Backend(Protocol):
    """What a kind of directory implements; Upstream does the rest. Its own servers' failures are Unavailable
    (servers.py has breakers and shares of the time); both calls may be cancelled."""

    @property
    def opaque(self) -> bool:
        """Whether the server can only say no: ``find`` asks nobody and knows everybody, ``check`` denies with
        Reason.OPAQUE."""
        ...

    async def find(self, login: str) -> Person | None:
        """Whom the login means; None: nobody, or more than one. ``login`` is prepared and not empty. Raises
        Unavailable."""
        ...

    async def check(self, person: Person, password: str) -> Identity | Denied:
        """Whether the password (not empty, without NUL) is this person's. Raises Unavailable, and NotReached when the
        password has surely come to no server."""
        ...

    def close(self) -> None:
        """Ends its connections and threads."""
        ...


@dataclass(frozen=True, slots=True)
class _Right:
    """A verified login."""

    person: Person
    login: str
    looked_at: float


class Upstream:
    """See the module's text; satisfies Directory, and PeopleDirectory where the backend is not opaque. ``clock`` is
    monotonic."""

    def __init__(
        self,
        backend: Backend,
        settings: UpstreamSettings,
        budget: Budget,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self._backend = backend
        self._budget = budget
        self._clock = clock
        self._entry = EntryKey()
        self._right = Memory[_Right](settings.cache, RIGHT_CEILING)
        self._wrong = Memory[Denied](settings.wrong_cache, WRONG_CEILING)
        self._asking: dict[bytes, asyncio.Task[Identity | Denied]] = {}
        self._refreshing: set[asyncio.Task[None]] = set()
        self._strangers = asyncio.Semaphore(max(1, settings.connections // 2))
        self._waiting = 0

    @property
    def opaque(self) -> bool:
        """Whether it can only say no."""
        return self._backend.opaque

    async def verify(self, credentials: Credentials, *, known_place: bool) -> Identity | Denied:
        try:
            login, password = prepare(credentials.authcid), credentials.password
            key = login_key(login)
            foreign = bool(credentials.authzid) and login_key(credentials.authzid) != key
            usable = bool(prepare(password))
        except ValueError:
            return Denied(Reason.WRONG)  # nobody has such a login or password
        too_long = len(password.encode()) > PASSWORD_CEILING or len(login.encode()) > LOGIN_CEILING
        if foreign or too_long or not usable or not login:
            return Denied(Reason.WRONG)
        entry, now = self._entry.of(key, password), self._clock()
        right = self._right.get(entry, now)
        if right is not None:
            return await self._remembered(entry, right, now)
        wrong = self._wrong.get(entry, now)
        if wrong is not None:
            return wrong
        return await self._once(entry, login, password, known_place)

    async def find_person(self, login: str) -> Identity | Denied:
        """Raises Unavailable. Where the server can only say no, everybody is somebody."""
        try:
            prepared = prepare(login)
        except ValueError:
            return Denied(Reason.UNKNOWN)
        person = await self._backend.find(prepared) if prepared and len(prepared.encode()) <= LOGIN_CEILING else None
        if person is None:
            return Denied(Reason.UNKNOWN)
        if person.denied is not None:
            return Denied(person.denied, person.identity.login)
        return replace(person.identity, source=self.settings.name)

    def close(self) -> None:
        """Ends what the backend has open."""
        for task in (*self._asking.values(), *self._refreshing):
            task.cancel()
        self._backend.close()

    # -- what is remembered

    async def _remembered(self, entry: bytes, right: _Right, now: float) -> Identity | Denied:
        """A verified login; looked up again in the background when it is a while ago."""
        if right.person.denied is not None:
            return Denied(right.person.denied, right.person.identity.login)
        if not self.opaque and now - right.looked_at >= self.settings.refresh:
            self._right.replace(entry, replace(right, looked_at=now))  # once, however many sign in now
            task = asyncio.create_task(self._refresh(entry, right))
            self._refreshing.add(task)
            task.add_done_callback(self._refreshing.discard)
        return right.person.identity

    async def _refresh(self, entry: bytes, right: _Right) -> None:
        try:
            person = await self._backend.find(right.login)
        except Unavailable as error:
            log.info("directory.refresh_failed", directory=self.settings.name, login=right.login, reason=str(error))
            return
        if person is None or person.key != right.person.key:
            self._right.drop(entry)
        else:
            self._right.replace(entry, _Right(self._mine(person), right.login, self._clock()))

    def _mine(self, person: Person) -> Person:
        return replace(person, identity=replace(person.identity, source=self.settings.name))

    # -- asking

    async def _once(self, entry: bytes, login: str, password: str, known_place: bool) -> Identity | Denied:
        """The same question at the same time is one. A session that leaves does not end it for the others."""
        task = self._asking.get(entry)
        if task is None:
            task = self._asking[entry] = asyncio.create_task(self._ask(entry, login, password, known_place))
            task.add_done_callback(lambda _: self._asking.pop(entry, None))
        return await asyncio.shield(task)

    async def _ask(self, entry: bytes, login: str, password: str, known_place: bool) -> Identity | Denied:
        if known_place:
            return await self._judge(entry, login, password, known_place)
        if self._waiting >= STRANGERS_WAITING:
            raise Unavailable("too many sign-ins from unknown places wait for it already")
        self._waiting += 1
        try:
            async with asyncio.timeout(self.settings.timeout), self._strangers:
                return await self._judge(entry, login, password, known_place)
        except TimeoutError:
            raise Unavailable(f"no answer within {self.settings.timeout:g} s") from None
        finally:
            self._waiting -= 1

    async def _judge(self, entry: bytes, login: str, password: str, known_place: bool) -> Identity | Denied:
        person = await self._backend.find(login)
        if person is None:
            return Denied(Reason.UNKNOWN)
        person = self._mine(person)
        if person.denied is not None:
            return Denied(person.denied, person.identity.login)
        tries = self.settings.wrong_tries
        if tries is None:
            return self._keep(entry, person, login, await self._backend.check(person, password))
        allowed = tries if known_place else (tries + 1) // 2
        try_ = await self._budget.reserve(self.settings.name, person.key, allowed, self.settings.wrong_window)
        if try_ is None:
            cause = f"{allowed} wrong passwords within {self.settings.wrong_window:g} s went to the server behind"
            return Denied(Reason.LOCKED, person.identity.login, {"cause": cause})
        try:
            answer = await self._backend.check(person, password)
        except NotReached:
            self._budget.give_back(try_)
            raise
        if isinstance(answer, Identity):
            self._budget.give_back(try_)
        return self._keep(entry, person, login, answer)

    def _keep(self, entry: bytes, person: Person, login: str, answer: Identity | Denied) -> Identity | Denied:
        now = self._clock()
        if isinstance(answer, Denied):
            self._right.drop(entry)
            self._wrong.add(entry, answer, now)
            return answer
        person = self._mine(replace(person, identity=answer))
        self._right.add(entry, _Right(person, login, now), now)
        return person.identity
