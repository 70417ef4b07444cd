"""A server behind that knows people's passwords, asked with care: it is other people's mail system.

    directory = Upstream(backend, settings, budget)
    identity = await directory.verify(credentials, known_place=True)

A verified login is remembered for ``settings.cache`` seconds, a wrong password for ``settings.wrong_cache``, both
under keyed hashes; the same question at the same time is asked once. So a mail program that tries its old password
again and again costs the server one failure, and most sign-ins cost it nothing. Whoever is remembered is looked up
again at the first sign-in after ``settings.refresh`` seconds: new addresses count, and who was disabled is not let
in. A server that does not answer then changes nothing: what is remembered stays good until its time is over. Any
other refusal than a wrong password is remembered for ``settings.refresh`` seconds only, for it may end at any time.

No more than ``settings.wrong_tries`` wrong passwords of one person reach the server within ``settings.wrong_window``
(budget.py counts them for all workers, and together for directories with the same ``counted_at``), whatever spelling
of the name is used: an attack on us must not lock people out of their mailbox. Half of these, at most, are for places
that are not known. A try is taken when there is a connection for it, not before: whoever waits in vain has spent
none.

A password is handed on as it was typed, since the server behind prepares it in its own way; one that SASLprep forbids
is nobody's.

Where no failures are counted the password is hashed here, as a rule: then a login that nobody has costs the hash of
somebody, too.

STANDARDS
    RFC 4616 2 (authzid: only one's own), RFC 4013.

ERRORS
    Unavailable: the server cannot say, or has no time for strangers now.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from pillarbox.directory import figures
from pillarbox.directory.base import Denied, Identity, NotReached, Reason, Unavailable
from pillarbox.directory.budget import Budget
from pillarbox.directory.memory import EntryKey, Memory
from pillarbox.directory.preparation import LOGIN_CEILING, PASSWORD_CEILING, login_key, prepare
from pillarbox.directory.settings import UpstreamSettings
from pillarbox.directory.turns import Turns
from pillarbox.sasl.mechanism import Credentials
from pillarbox.telemetry.events import get_logger

log = get_logger("directory")

RIGHT_CEILING = 32_768
WRONG_CEILING = 32_768
ASKING = 1_024
"""Questions that wait for an answer at most; whoever asks one more is told that the directory cannot say."""
STRANGERS_WAITING = 256
"""Those of them that come from places that are not known."""
SPENT_TIME = 5.0
"""Seconds for which nobody is looked for under a login whose tries are spent: an attack costs the server no searches
either."""
REFRESHING = 256
"""People looked up again at a time; whoever is beyond is taken as remembered."""
HARMLESS = (Reason.DISABLED, Reason.EXPIRED)
"""What a server says of the right password only, or of whom no wrong one can lock out any more: no wrong try."""
REFRESH_PATIENCE = 1.0
"""Seconds that a sign-in waits for the look-up again; a server that needs longer delays nobody whom we know."""

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
        cause: why it is denied, for the log, where the reason alone does not say it.
    """

    key: str
    identity: Identity
    denied: Reason | None = None
    handle: Any = field(default=None, repr=False)
    cause: str = ""


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


@runtime_checkable
class Reachable(Protocol):
    """The ability, of a backend or a directory, to see whether the server behind is there."""

    async def prepare(self) -> None:
        """Connects as for a question, and asks about nobody: `pillarbox directory test`. Raises Unavailable."""
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
        self._closed = False
        self._entry = EntryKey()
        self._right = Memory[_Right](settings.cache, RIGHT_CEILING)
        self._wrong = Memory[Denied](settings.wrong_cache, WRONG_CEILING)
        self._spent = Memory[Denied](SPENT_TIME, WRONG_CEILING)
        self._asking: dict[tuple[bytes, bool], asyncio.Task[Identity | Denied]] = {}
        self._refreshing: dict[bytes, asyncio.Task[_Right | None]] = {}
        half = max(1, settings.connections // 2)
        self._strangers = Turns(half, settings.timeout, max(1, STRANGERS_WAITING - half))
        self._connections = Turns(settings.connections, settings.timeout, ASKING)
        self._someone: Person | None = None

    @property
    def opaque(self) -> bool:
        """Whether it can only say no."""
        return self._backend.opaque

    async def verify(self, credentials: Credentials, *, known_place: bool) -> Identity | Denied:
        try:
            answer = await self._verify(credentials, known_place)
        except Unavailable:
            figures.count_unavailable(self.settings.name)
            raise
        figures.count(self.settings.name, answer)
        return answer

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
            return _denied(person, person.denied)
        return self._mine(person).identity

    def close(self) -> None:
        """Ends what the backend has open. Whoever asks now, or still waits, is told that it cannot say."""
        self._closed = True
        for task in (*self._asking.values(), *self._refreshing.values()):
            task.cancel()
        self._backend.close()

    # -- what is remembered

    async def _verify(self, credentials: Credentials, known_place: bool) -> Identity | Denied:
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
            right = await self._looked_at(entry, right, now)
        if right is not None:
            return right.person.identity
        remembered = self._wrong.get(entry, now) or self._spent.get(self._place(key, known_place), now)
        return remembered or await self._once(entry, login, password, known_place)

    def _place(self, key: str, known_place: bool) -> bytes:
        return self._entry.of(key, "known" if known_place else "stranger")

    async def _looked_at(self, entry: bytes, right: _Right, now: float) -> _Right | None:
        """A verified login with the person as of lately; None: not this person's any more. One question, however many
        sign in now, and it delays nobody for long."""
        if self.opaque or now - right.looked_at < self.settings.refresh:
            return right
        task = self._refreshing.get(entry)
        if task is None:
            if len(self._refreshing) >= REFRESHING:
                return right
            task = self._refreshing[entry] = asyncio.create_task(self._refresh(entry, right))
            task.add_done_callback(lambda _: self._refreshing.pop(entry, None))
        await asyncio.wait((task,), timeout=REFRESH_PATIENCE)
        return task.result() if task.done() and not task.cancelled() else right

    async def _refresh(self, entry: bytes, right: _Right) -> _Right | None:
        try:
            person = await self._backend.find(right.login)
        except Unavailable as error:
            name = self.settings.name
            log.info("directory.refresh_failed", directory=name, login=right.login, reason=str(error))
            fresh = replace(right, looked_at=self._clock())  # what is known stays good; asked again in a while
        else:
            if person is None or person.key != right.person.key or person.denied is not None:
                self._right.drop(entry)
                return None
            fresh = _Right(self._mine(person), right.login, self._clock())
        self._right.replace(entry, fresh)
        return fresh

    def _mine(self, person: Person) -> Person:
        return replace(person, identity=replace(person.identity, source=self.settings.name))

    # -- asking

    async def _once(self, entry: bytes, login: str, password: str, known_place: bool) -> Identity | Denied:
        """The same question at the same time is one; strangers' are apart, for they wait, and are allowed less. A
        session that leaves does not end it for the others."""
        question = (entry, known_place)
        task = self._asking.get(question)
        if task is None:
            if self._closed or len(self._asking) >= ASKING:
                raise NotReached("closed" if self._closed else "too many sign-ins wait for it already")
            task = self._asking[question] = asyncio.create_task(self._ask(entry, login, password, known_place))
            task.add_done_callback(lambda ended: self._answered(question, ended))
        await asyncio.wait((task,))
        if task.cancelled():
            raise Unavailable("closed")
        return task.result()

    def _answered(self, question: tuple[bytes, bool], task: asyncio.Task[Identity | Denied]) -> None:
        self._asking.pop(question, None)
        if not task.cancelled():
            task.exception()  # taken, for nobody may be left to take it

    async def _ask(self, entry: bytes, login: str, password: str, known_place: bool) -> Identity | Denied:
        try:
            async with asyncio.timeout(self.settings.timeout), self.turn(known_place):
                return await self._judge(entry, login, password, known_place)
        except TimeoutError:
            raise Unavailable(f"no answer within {self.settings.timeout:g} s") from None

    @contextlib.asynccontextmanager
    async def turn(self, known_place: bool) -> AsyncIterator[None]:
        """Around a question: strangers have half of the connections together, whatever they sign in by. Where tries
        are counted nobody goes on without a connection. Raises NotReached."""
        async with contextlib.AsyncExitStack() as stack:
            if not known_place:
                await stack.enter_async_context(self._strangers.turn())
            if self.settings.wrong_tries is not None:
                await stack.enter_async_context(self._connections.turn())
            yield

    async def _judge(self, entry: bytes, login: str, password: str, known_place: bool) -> Identity | Denied:
        person = await self._backend.find(login)
        tries, name = self.settings.wrong_tries, self.settings.name
        if person is None or person.denied is not None:
            if tries is None and self._someone is not None:
                await self._backend.check(self._someone, password)  # nobody's, and costs what somebody's costs
            if person is None or person.denied is None:
                return Denied(Reason.UNKNOWN)
            return _denied(person, person.denied)
        person = self._mine(person)
        if tries is None:
            answer = await self._backend.check(person, password)
            self._someone = person
            return self._keep(entry, person, login, answer)
        allowed = tries if known_place else (tries + 1) // 2
        try_ = await self._budget.reserve(self.settings.counted_at, person.key, allowed, self.settings.wrong_window)
        if try_ is None:
            figures.SPENT.add(1, name)
            cause = f"{allowed} wrong passwords within {self.settings.wrong_window:g} s went to the server behind"
            denied = Denied(Reason.LOCKED, person.identity.login, {"cause": cause})
            self._spent.add(self._place(login_key(login), known_place), denied, self._clock())
            return denied
        figures.PASSED.add(1, name)
        try:
            answer = await self._backend.check(person, password)
        except NotReached:
            self._budget.give_back(try_)
            raise
        # a server that can only say no does not tell whether it looked at the password first
        if isinstance(answer, Identity) or (answer.reason in HARMLESS and not self.opaque):
            self._budget.give_back(try_)
        return self._keep(entry, person, login, answer)

    def _keep(self, entry: bytes, person: Person, login: str, answer: Identity | Denied) -> Identity | Denied:
        now = self._clock()
        if isinstance(answer, Identity):
            self._wrong.drop(entry)
            person = self._mine(replace(person, identity=answer))
            self._right.add(entry, _Right(person, login, now), now)
            return person.identity
        self._right.drop(entry)
        lasts = None if answer.reason in (Reason.WRONG, Reason.OPAQUE) else self.settings.refresh
        self._wrong.add(entry, answer, now, lasts)
        return answer


def _denied(person: Person, reason: Reason) -> Denied:
    return Denied(reason, person.identity.login, {"cause": person.cause} if person.cause else {})
