"""SCRAM-SHA-256 that Dovecot plays: its secrets never come here.

    relay = await relays.open(first, key, known_place=True)      # relay.challenge goes to the client
    answer = await relay.prove(client_final)                     # Proven, with the signature, or Denied
    relay.close()

The client's messages go there unchanged. A wrong proof is one of the person's wrong tries, reserved before it leaves.
No verdict is remembered.

Dovecot refuses a name that nobody has at once, where others get a challenge; and it does so late. So an exchange with
such a name is made up here: in the form (lengths, iterations) of the last true challenge, with a salt that is always
the same for the name, or never, where people's is not (Dovecot draws it each time where it has the password itself).
Its refusal takes as long as the last one of Dovecot. A challenge that is not there within RELAY_TIME is made up, too;
should there be one after all, whoever has the name hears at the proof that it cannot be said now, at a known place.
Elsewhere it is refused like a name that nobody has: strangers can make challenges late.

Dovecot hears of a name in one spelling and one form of message only. Any other is nobody's, and its made-up salt
comes of all that was said: two questions about one name, of which Dovecot answers one, would tell by equal salts that
it answered neither.

STANDARDS
    RFC 5802, RFC 7677.

ERRORS
    Unavailable: Dovecot cannot say, makes a challenge that is none, or too many exchanges are open.
"""

import asyncio
import contextlib
import hashlib
import re
import secrets
import string
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from pillarbox.directory import figures
from pillarbox.directory.base import RELAY_TIME, Denied, NotReached, Proven, Reason, Unavailable
from pillarbox.directory.budget import Budget, Try
from pillarbox.directory.dovecot.backend import DovecotBackend, Opened
from pillarbox.directory.dovecot.settings import DovecotSettings
from pillarbox.directory.dovecot.tries import PersonTries
from pillarbox.directory.memory import Memory
from pillarbox.directory.preparation import LOGIN_CEILING, lower, prepare
from pillarbox.directory.servers import NotJudged, ServerFailed
from pillarbox.sasl.mechanism import ScramFirst
from pillarbox.sasl.scram import ServerFirst, read_server_first, server_first

EXCHANGES = 1_024
"""Open at a time, at most; of strangers half as many."""
EXCHANGE_TIME = 60.0
"""Seconds from the first message to the proof; Dovecot forgets an exchange after 150."""
REFUSAL_CEILING = 5.0
"""Seconds that a refusal of ours takes at most."""
MESSAGE_CEILING = 4_096
"""Octets of a client's message: it fits into one line of Dovecot's protocol."""

SALT_TIME = 86_400.0
SALTS = 4_096
"""Names whose last salt is remembered: for a late challenge, and to see whether it stays, which it does not where
Dovecot has the passwords."""

FORM = ServerFirst(b"x" * 64, b"x" * 16, 4_096)
"""Of a made-up challenge before the first true one: Dovecot's own."""
_COMMAS = 3
"""In a client-first-message that holds nothing but what it must: ``n,,n=anna,r=abc``."""
_ODD_BLANKS = re.compile(r"(?:^|[\s@])\s|\s(?:$|@)")
"""Databases ignore them as they like."""
_NONCE = (string.ascii_letters + string.digits + string.punctuation).replace(",", "")


class Relays:
    """All exchanges of one directory. ``turn``: Upstream's. ``clock`` is monotonic."""

    def __init__(
        self,
        backend: DovecotBackend,
        settings: DovecotSettings,
        budget: Budget,
        turn: Callable[[bool], AbstractAsyncContextManager[None]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = backend
        self._settings = settings
        self._tries = PersonTries(settings, budget)
        self._turn = turn
        self._clock = clock
        self._open: set[Relay] = set()
        self._form = FORM
        self._salts = Memory[bytes](SALT_TIME, SALTS)
        self._salts_vary = False
        self._refusal = 0.0

    async def open(self, first: ScramFirst, key: bytes, *, known_place: bool) -> "Relay":
        """Within RELAY_TIME. ``key``: of made-up salts. Raises Unavailable."""
        if len(self._open) >= (EXCHANGES if known_place else EXCHANGES // 2):
            raise Unavailable("too many exchanges are open already")
        person = self._person(first)
        beginning = None if person is None else asyncio.create_task(self._begin(first, known_place))
        relay = Relay(self, person or "", beginning, known_place=known_place, ends_at=self._clock() + EXCHANGE_TIME)
        self._open.add(relay)
        try:
            relay.challenge = await self._challenge(beginning) or self._made_up(first, key, person)
        except BaseException:
            relay.close()
            raise
        return relay

    async def _challenge(self, beginning: asyncio.Task[Opened | Denied] | None) -> bytes | None:
        """Dovecot's, if it is there in time. Raises Unavailable."""
        if beginning is None:
            return None
        await asyncio.wait((beginning,), timeout=RELAY_TIME)
        answer = beginning.result() if beginning.done() else None
        return answer.challenge if isinstance(answer, Opened) else None

    def _person(self, first: ScramFirst) -> str | None:
        """Whom wrong proofs are counted for; None: nobody, and Dovecot is not asked. It compares names, and an
        authzid with them, in its own way: both must be what we would make of them."""
        login = first.authcid
        try:
            plain = prepare(login) == login and first.authzid in ("", login) and "\0" not in login
        except ValueError:
            return None
        plain = plain and first.message.count(b",") == _COMMAS and _ODD_BLANKS.search(login) is None
        too_long = len(login.encode()) > LOGIN_CEILING or len(first.message) > MESSAGE_CEILING
        return self._backend.whose(login) if plain and not too_long else None

    async def _begin(self, first: ScramFirst, known_place: bool) -> Opened | Denied:
        began = self._clock()
        async with self._turn(known_place):
            answer = await self._backend.begin(first.message)
        if isinstance(answer, Denied):
            self._refused(began)
            return answer
        form = read_server_first(answer.challenge, first.nonce)
        if form is None:
            answer.exchange.close()
            raise Unavailable(f"{answer.place}: made a challenge that is none of SCRAM")
        self._form, now = form, self._clock()
        before = self._salts.get(entry := lower(first.authcid).encode(), now)
        if before is not None:
            self._salts_vary = before != form.salt
        self._salts.add(entry, form.salt, now)
        return answer

    def _made_up(self, first: ScramFirst, key: bytes, person: str | None) -> bytes:
        """The challenge of a name that nobody has, or of somebody's whose own is late: another nonce each time, and
        always the same salt, if people's stay the same. ``person``: None: Dovecot was not asked."""
        form, name = self._form, lower(first.authcid)
        salt = None if person is None else self._salts.get(name.encode(), self._clock())
        if salt is None:
            said = f"kept\0{first.authzid}\0{first.authcid}" if person is None else f"asked\0{name}"
            salt = hashlib.shake_256(key + f"{self._settings.name}\0{said}".encode()).digest(len(form.salt))
        if self._salts_vary:
            salt = secrets.token_bytes(len(form.salt))
        nonce = "".join(secrets.choice(_NONCE) for _ in form.nonce).encode()
        return server_first(first.nonce + nonce, salt, form.iterations)

    # -- the proof

    async def judge(self, relay: "Relay", message: bytes) -> Proven | Denied:
        """See Relay.prove."""
        began = self._clock()
        if began > relay.ends_at:  # whoever has the name
            raise Unavailable(f"no proof within {EXCHANGE_TIME:g} s")
        opened = await relay.begun()
        async with contextlib.AsyncExitStack() as stack:
            try:  # for whatever name: how long it waits tells nothing either
                await stack.enter_async_context(self._turn(relay.known_place))
            except NotReached as error:
                if relay.known_place:
                    raise
                answer: Proven | Denied = Denied(Reason.OPAQUE, details={"cause": str(error)})
            else:
                answer = await self._answer(relay, opened, message)
        return await self._refuse(answer, began) if isinstance(answer, Denied) else answer

    async def _answer(self, relay: "Relay", opened: Opened | Denied, message: bytes) -> Proven | Denied:
        """Asks Dovecot, if there is somebody to ask about and a try left."""
        if isinstance(opened, Denied):
            return opened
        if len(message) > MESSAGE_CEILING:
            return Denied(Reason.WRONG)
        if opened.challenge != relay.challenge:
            late = f"{opened.place}: no challenge within {RELAY_TIME:g} s"
            if relay.known_place:
                raise Unavailable(late)
            return Denied(Reason.OPAQUE, details={"cause": late})
        try_ = await self._tries.reserve(relay.person, known_place=relay.known_place)
        return try_ if isinstance(try_, Denied) else await self._finish(opened, message, try_)

    async def _finish(self, opened: Opened, message: bytes, try_: Try | None) -> Proven | Denied:
        """Asks Dovecot about the proof; a right one, and one that has surely not come there, is no try."""
        began, name = self._clock(), self._settings.name
        figures.PASSED.add(1, name)
        harmless = False
        try:
            answer = await self._backend.finish(opened, message)
            harmless = not isinstance(answer, Denied)
        except (NotJudged, NotReached) as error:
            harmless = True
            raise NotReached(f"{opened.place}: {error}") from None
        except ServerFailed as error:
            harmless = not error.reached
            raise Unavailable(f"{opened.place}: {error}") from None
        except TimeoutError:
            raise Unavailable(f"{opened.place}: no answer within {self._settings.timeout:g} s") from None
        finally:
            if harmless:
                self._tries.give_back(try_)
        if isinstance(answer, Denied):
            self._refused(began)
            return answer
        identity, signature = answer
        return Proven(replace(identity, source=name), signature)

    def _refused(self, began: float) -> None:
        self._refusal = min(self._clock() - began, REFUSAL_CEILING)

    async def _refuse(self, denied: Denied, began: float) -> Denied:
        """Not sooner than Dovecot does."""
        await asyncio.sleep(began + self._refusal - self._clock())
        return denied

    @property
    def name(self) -> str:
        """The directory's."""
        return self._settings.name

    def forget(self, relay: "Relay") -> None:
        """It is over."""
        self._open.discard(relay)


class Relay:
    """One exchange; satisfies ScramRelay. ``beginning``: Dovecot's answer to the first message; None: it is not
    asked."""

    def __init__(
        self,
        relays: Relays,
        person: str,
        beginning: asyncio.Task[Opened | Denied] | None,
        *,
        known_place: bool,
        ends_at: float,
    ) -> None:
        self.challenge = b""
        self.person = person
        self.known_place = known_place
        self.ends_at = ends_at
        self._relays = relays
        self._beginning = beginning

    async def prove(self, message: bytes) -> Proven | Denied:
        """What Dovecot says to the proof. Raises Unavailable."""
        name = self._relays.name
        try:
            answer = await self._relays.judge(self, message)
        except Unavailable:
            figures.count_unavailable(name)
            raise
        figures.count(name, answer if isinstance(answer, Denied) else answer.identity)
        return answer

    async def begun(self) -> Opened | Denied:
        """What the first message was answered. Raises Unavailable."""
        return Denied(Reason.UNKNOWN) if self._beginning is None else await self._beginning

    def close(self) -> None:
        """Takes back at Dovecot what has no end yet."""
        self._relays.forget(self)
        if self._beginning is None:
            return
        self._beginning.cancel()
        if self._beginning.done() and not self._beginning.cancelled():
            with contextlib.suppress(Unavailable):
                answer = self._beginning.result()
                if isinstance(answer, Opened):
                    answer.exchange.close()
