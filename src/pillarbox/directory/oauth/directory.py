"""The tokens of an OAuth 2.0 or OpenID Connect provider: who they are of. Nobody has a password here.

    directory = OauthDirectory(settings, find_person)
    identity = await directory.verify_token(credentials)

A token is checked by the provider's keys, or the provider is asked about it (settings.check_by). What it answers is
remembered for a short time under a keyed hash, a yes never longer than the token lasts, and the same question at the
same time is asked once. With ``people`` another directory says who has the login, what addresses are theirs, and
whether they may sign in at all; else the token's own claims do.

Whoever comes from a place that is not known waits apart: no more than half of the connections are for strangers, no
more than ``STRANGERS_WAITING`` of them wait, and what they make the provider fail at keeps nobody else from it.

The name beside the token must be its login or one of the person's addresses: mail programs like to name those.

STANDARDS
    RFC 7628 (OAUTHBEARER; its hint names scope and configuration), RFC 6750 (bearer tokens), RFC 9068, RFC 7662.

ERRORS
    Unavailable: the provider, or ``people``, cannot say. Unusable, when it is made: a file that cannot be used.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Literal

from pillarbox.directory import figures
from pillarbox.directory.base import Denied, Identity, NotReached, Reason, Unavailable
from pillarbox.directory.memory import EntryKey, Memory
from pillarbox.directory.oauth.claims import Said, judge
from pillarbox.directory.oauth.keys import Keys
from pillarbox.directory.oauth.provider import Provider
from pillarbox.directory.oauth.settings import CheckBy, OauthSettings
from pillarbox.directory.preparation import login_key
from pillarbox.directory.token import PublicKey, TokenHeader, TokenRefused, read_header
from pillarbox.directory.upstream import Narrate, silent
from pillarbox.sasl.mechanism import Credentials, TokenCredentials, TokenHint
from pillarbox.sasl.xoauth2 import TOKEN

RIGHT_CEILING = 8_192
WRONG_CEILING = 8_192
PEOPLE_CEILING = 8_192
ASKING = 1_024
"""Questions to the provider at a time, asked or in line; whoever asks one more is told that it cannot be said."""
STRANGERS_WAITING = 256
"""Those who may wait for it, of those who come from places that are not known."""

_TOKEN = re.compile(TOKEN)

FindPerson = Callable[[str], Awaitable[Identity | Denied]]


class OauthDirectory:
    """See the module's text; satisfies Directory, TokenDirectory, HintsAtTokens and WithoutPasswords. ``find_person``
    is that of ``settings.people``. ``now``: seconds since the epoch; ``clock`` is monotonic."""

    without_passwords: Literal[True] = True
    offers_tokens = True

    def __init__(
        self,
        settings: OauthSettings,
        find_person: FindPerson | None = None,
        narrate: Narrate = silent,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises Unusable."""
        self.settings = settings
        self._find_person = find_person
        self._narrate = narrate
        self._now = now
        self._clock = clock
        self._provider = Provider(settings, narrate, clock=clock)
        self._keys = Keys(settings.name, self._provider.fetch_keys, clock=clock)
        self._entry = EntryKey()
        self._right = Memory[Said](settings.cache, RIGHT_CEILING)
        self._wrong = Memory[Denied](settings.wrong_cache, WRONG_CEILING)
        self._people = Memory[Identity](settings.refresh, PEOPLE_CEILING)
        self._asking: dict[tuple[bytes, bool], asyncio.Task[Said | Denied]] = {}
        self._strangers = asyncio.Semaphore(max(1, settings.connections // 2))
        self._waiting = 0
        self._closed = False

    @property
    def token_hint(self) -> TokenHint:
        return TokenHint(" ".join(self.settings.scopes), self.settings.configuration_url)

    async def verify(self, credentials: Credentials, *, known_place: bool) -> Identity | Denied:
        """Nobody has a password here."""
        return Denied(Reason.UNKNOWN)

    async def verify_token(self, credentials: TokenCredentials, *, known_place: bool) -> Identity | Denied:
        try:
            answer = await self._judge_token(credentials, known_place)
        except Unavailable:
            figures.count_unavailable(self.settings.name)
            raise
        figures.count(self.settings.name, answer)
        return answer

    async def _judge_token(self, credentials: TokenCredentials, known_place: bool) -> Identity | Denied:
        said = await self._check(credentials.token, known_place)
        if isinstance(said, Denied):
            self._narrate(f"the token is refused: {said.details['cause']}")
            return said
        self._narrate(f"the token is of {said.login!r}")
        answer = await self._who(said)
        if isinstance(answer, Denied):
            return replace(answer, details={"cause": f"the token of {said.login}", **answer.details})
        if credentials.login and not _is_of(credentials.login, said.login, answer):
            return Denied(Reason.WRONG, details={"cause": f"the token of {said.login}"})
        return answer

    async def prepare(self) -> None:
        """Asks the provider for what it says of itself: for `pillarbox directory test`. Raises Unavailable."""
        if self.settings.check_by is CheckBy.KEYS:
            await self._keys.fetch()
        else:
            await self._provider.ask_about("a-token-that-nobody-has", known_place=True)

    def close(self) -> None:
        """Ends its connections. Whoever asks now, or still waits, is told that it cannot say."""
        self._closed = True
        for task in self._asking.values():
            task.cancel()
        self._keys.close()
        self._provider.close()

    # -- whose it is

    async def _who(self, said: Said) -> Identity | Denied:
        """The token's claims, or what ``people`` says: a server behind, not long ago; our own accounts, which cost
        nothing to ask and end with each change (generation), now."""
        if self._find_person is None:
            return Identity(said.login, said.addresses, source=self.settings.name)
        entry, now = self._entry.of(said.login), self._clock()
        known = self._people.get(entry, now)
        if known is not None:
            return known
        answer = await self._find_person(said.login)
        if isinstance(answer, Identity) and not answer.generation:
            self._people.add(entry, answer, now)
        return answer

    # -- whether it is good

    async def _check(self, token: str, known_place: bool) -> Said | Denied:
        if _TOKEN.fullmatch(token) is None:
            return _denied(TokenRefused("malformed"))
        if self.settings.check_by is not CheckBy.KEYS:
            return await self._ask(token, known_place)
        try:
            header = read_header(token)
            refused = TokenRefused("key")
            for key in await self._keys_for(header, known_place):
                try:
                    claims = key.claims_of(token, header)
                except TokenRefused as error:
                    refused = error
                else:
                    return judge(claims, self.settings, self._now(), for_access=header.for_access)
        except TokenRefused as error:
            refused = error
        return _denied(refused)

    async def _keys_for(self, header: TokenHeader, known_place: bool) -> list[PublicKey]:
        with contextlib.nullcontext() if known_place else self._in_line():
            return await self._keys.fitting(header, known_place=known_place)

    async def _ask(self, token: str, known_place: bool) -> Said | Denied:
        """What the provider says of it, or said a moment ago. The same question at the same time is one; strangers'
        are apart, for they wait. A session that leaves does not end it for the others."""
        entry, now = self._entry.of(token), self._clock()
        said = self._right.get(entry, now)
        if said is not None and (said.expires_at is None or self._now() < said.expires_at + self.settings.leeway):
            return said
        wrong = self._wrong.get(entry, now)
        if wrong is not None:
            return wrong
        question = (entry, known_place)
        task = self._asking.get(question)
        if task is None:
            if self._closed or len(self._asking) >= ASKING:
                raise NotReached("closed" if self._closed else "too many tokens wait for the provider already")
            task = self._asking[question] = asyncio.create_task(self._wait(entry, token, known_place))
            task.add_done_callback(lambda done: self._asked(question, done))
        await asyncio.wait((task,))
        if task.cancelled():
            raise Unavailable("closed")
        return task.result()

    def _asked(self, question: tuple[bytes, bool], task: asyncio.Task[Said | Denied]) -> None:
        self._asking.pop(question, None)
        if not task.cancelled():
            task.exception()  # nobody may have waited for it to the end

    @contextlib.contextmanager
    def _in_line(self) -> Iterator[None]:
        """One stranger more. Raises NotReached."""
        if self._waiting >= STRANGERS_WAITING:
            raise NotReached("too many tokens from unknown places wait for the provider already")
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def _wait(self, entry: bytes, token: str, known_place: bool) -> Said | Denied:
        """For a stranger's turn, too, where it is one."""
        if known_place:
            return await self._judge(entry, token, known_place)
        with self._in_line():
            try:
                async with asyncio.timeout(self.settings.timeout):
                    async with self._strangers:
                        return await self._judge(entry, token, known_place)
            except TimeoutError:
                raise Unavailable(f"no answer within {self.settings.timeout:g} s") from None

    async def _judge(self, entry: bytes, token: str, known_place: bool) -> Said | Denied:
        """Asks, and remembers what came of it."""
        claims = await self._provider.ask_about(token, known_place=known_place)
        try:
            if claims is None:
                raise TokenRefused("not active")
            said = judge(claims, self.settings, self._now())
        except TokenRefused as refused:
            denied = _denied(refused)
            if str(refused) != "not valid yet":
                self._wrong.add(entry, denied, self._clock())
            return denied
        self._right.add(entry, said, self._clock())
        return said


def _denied(refused: TokenRefused) -> Denied:
    return Denied(Reason.EXPIRED if refused.expired else Reason.WRONG, details={"cause": str(refused)})


def _is_of(name: str, login: str, identity: Identity) -> bool:
    """Whether the name beside a token means this person."""
    try:
        key = login_key(name)
        return key in (login_key(login), login_key(identity.login)) or key in identity.addresses
    except ValueError:
        return False
