"""A directory of kind "dovecot": passwords as upstream.py has it, and what else Dovecot offers is passed on to it.

**Bearer tokens** (OAUTHBEARER, XOAUTH2), in the mechanism that Dovecot has, with the name beside them: Dovecot wants
one. A wrong one is remembered under a keyed hash, a right one is asked about each time. Unless told otherwise,
Dovecot shows a token to its databases of passwords, too; so it could be a guess at one, and counts as a wrong try of
that name like any. Dovecot's error document is thrown away: ours is the one answer for all (sasl).

**SCRAM-SHA-256** (scram.py): Dovecot plays the exchange, and each wrong proof is a wrong try.

What it offers is known once it is connected, which is tried when somebody wants to know.

STANDARDS
    RFC 5802, RFC 7677, RFC 7628.

ERRORS
    Unavailable: Dovecot cannot say, or too many questions wait for it already.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from pillarbox.directory import figures
from pillarbox.directory.base import Denied, Identity, NotReached, Reason, ScramRelay, Unavailable
from pillarbox.directory.budget import Budget
from pillarbox.directory.dovecot.backend import SCRAM, TOKEN_MECHANISMS, DovecotBackend
from pillarbox.directory.dovecot.scram import Relays
from pillarbox.directory.dovecot.settings import DovecotSettings
from pillarbox.directory.dovecot.tries import PersonTries
from pillarbox.directory.memory import EntryKey, Memory
from pillarbox.directory.preparation import LOGIN_CEILING, prepare
from pillarbox.directory.upstream import ASKING, STRANGERS_WAITING, WRONG_CEILING, Upstream
from pillarbox.sasl.mechanism import ScramFirst, TokenCredentials
from pillarbox.telemetry.events import get_logger

log = get_logger("directory")

LOOK_EVERY = 5.0
"""Seconds between two tries to find out what Dovecot offers."""
TOKEN_CEILING = 4_096
"""Octets of a login and a token together: they fit into one line of Dovecot's protocol."""


class DovecotDirectory(Upstream):
    """See the module's text; satisfies TokenDirectory and RelaysScram besides. ``false_key``: what salts of names
    that nobody has come from; None: not known yet, so there is no SCRAM."""

    def __init__(
        self,
        backend: DovecotBackend,
        settings: DovecotSettings,
        budget: Budget,
        false_key: Callable[[], bytes | None] = lambda: None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(backend, settings, budget, clock=clock)
        self._dovecot = backend
        self._false_key = false_key
        self._wrong_tokens = Memory[Denied](settings.wrong_cache, WRONG_CEILING)
        self._token_entry = EntryKey()
        self._looking: asyncio.Task[None] | None = None
        self._last_look = float("-inf")
        self._asking_tokens = 0
        self._tries = PersonTries(settings, budget)
        self._relays = Relays(backend, settings, budget, self.turn, clock=clock)

    def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        super().close()

    # -- what is offered

    @property
    def offers_tokens(self) -> bool:
        """Whether Dovecot takes any."""
        return not self._offered().isdisjoint(TOKEN_MECHANISMS)

    def offers_scram(self, counts: Callable[[str], bool]) -> bool:
        """Whether Dovecot does; for whom, it alone knows."""
        return SCRAM in self._offered() and self._false_key() is not None

    relays_scram: Literal[True] = True

    def _offered(self) -> frozenset[str]:
        """As far as is known; finds out more, for the next who wants to know."""
        self.look()
        return self._dovecot.offered

    def look(self) -> None:
        """Begins to find out what Dovecot offers, if it is not connected; now and then."""
        if not self._dovecot.connected and not self._closed:
            now = self._clock()
            if now >= self._last_look + LOOK_EVERY and (self._looking is None or self._looking.done()):
                self._last_look = now
                self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        try:
            await self._dovecot.prepare()
        except Unavailable as error:
            log.info("directory.not_looked_at", directory=self.settings.name, reason=str(error))

    # -- SCRAM

    async def open_scram(self, first: ScramFirst, *, known_place: bool) -> ScramRelay:
        key = self._false_key()
        if self._closed or key is None:
            raise Unavailable("closed" if self._closed else "the spool process has not been reached yet")
        return await self._relays.open(first, key, known_place=known_place)

    # -- tokens

    async def verify_token(self, credentials: TokenCredentials, *, known_place: bool) -> Identity | Denied:
        try:
            answer = await self._verify_token(credentials, known_place)
        except Unavailable:
            figures.count_unavailable(self.settings.name)
            raise
        figures.count(self.settings.name, answer)
        return answer

    async def _verify_token(self, credentials: TokenCredentials, known_place: bool) -> Identity | Denied:
        try:
            login = prepare(credentials.login)
        except ValueError:
            return Denied(Reason.WRONG)
        too_long = len((login + credentials.token).encode()) > TOKEN_CEILING or len(login.encode()) > LOGIN_CEILING
        if too_long or "\0" in login or "\x01" in login:
            return Denied(Reason.WRONG)
        if not login:
            return Denied(Reason.WRONG, details={"cause": "Dovecot takes no token without a name"})
        person = self._dovecot.whose(login)
        if person is None:
            return Denied(Reason.UNKNOWN)
        wrong = self._wrong_tokens.get(self._token_entry.of(login, credentials.token), self._clock())
        if wrong is not None:
            return wrong
        if self._closed or self._asking_tokens >= (ASKING if known_place else STRANGERS_WAITING):
            raise NotReached("closed" if self._closed else "too many sign-ins wait for it already")
        self._asking_tokens += 1
        try:
            async with asyncio.timeout(self.settings.timeout), self.turn(known_place):
                return await self._judge_token(person, login, credentials.token, known_place)
        except TimeoutError:
            raise Unavailable(f"no answer within {self.settings.timeout:g} s") from None
        finally:
            self._asking_tokens -= 1

    async def _judge_token(self, person: str, login: str, token: str, known_place: bool) -> Identity | Denied:
        try_ = await self._tries.reserve(person, known_place=known_place)
        if isinstance(try_, Denied):
            return try_
        figures.PASSED.add(1, self.settings.name)
        try:
            answer = await self._dovecot.check_token(login, token)
        except NotReached:
            self._tries.give_back(try_)
            raise
        if isinstance(answer, Identity):
            self._tries.give_back(try_)
            return replace(answer, source=self.settings.name)
        self._wrong_tokens.add(self._token_entry.of(login, token), answer, self._clock())
        return answer
