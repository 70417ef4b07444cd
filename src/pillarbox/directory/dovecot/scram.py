"""SCRAM-SHA-256 that Dovecot plays: its secrets never come here.

    relay = await relays.open(first, key, known_place=True)      # relay.challenge goes to the client
    answer = await relay.prove(client_final)                     # Proven, with the signature, or Denied
    relay.close()

The client's messages go there unchanged. A wrong proof is one of the person's wrong tries, reserved before it leaves.
Nothing is remembered.

Dovecot refuses a name that nobody has at once, where others get a challenge; and it does so late. So an exchange with
such a name is made up here: in the form (lengths, iterations) of the last true challenge, with a salt that is always
the same for the name, or never, where people's is not (Dovecot draws it each time where it has the password itself).
Its refusal takes as long as the last one of Dovecot. A challenge that is not there within RELAY_TIME is made up, too;
should there be one after all, whoever has the name hears at the proof that it cannot be said now.

STANDARDS
    RFC 5802, RFC 7677.

ERRORS
    Unavailable: Dovecot cannot say, makes a challenge that is none, or too many exchanges are open.
"""

import asyncio
import contextlib
import hashlib
import secrets
import string
import time
from collections.abc import Callable
from dataclasses import replace

from pillarbox.directory import figures
from pillarbox.directory.base import RELAY_TIME, Denied, NotReached, Proven, Reason, Unavailable
from pillarbox.directory.budget import Budget, Try
from pillarbox.directory.dovecot.backend import DovecotBackend, Opened
from pillarbox.directory.dovecot.settings import DovecotSettings
from pillarbox.directory.dovecot.tries import PersonTries
from pillarbox.directory.memory import Memory
from pillarbox.directory.preparation import LOGIN_CEILING, login_key, prepare
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
"""People whose last salt is remembered, to see whether it stays: it does not where Dovecot has the passwords."""

FORM = ServerFirst(b"x" * 64, b"x" * 16, 4_096)
"""Of a made-up challenge before the first true one: Dovecot's own."""
_NONCE = (string.ascii_letters + string.digits + string.punctuation).replace(",", "")


class Relays:
    """All exchanges of one directory. ``clock`` is monotonic."""

    def __init__(
        self,
        backend: DovecotBackend,
        settings: DovecotSettings,
        budget: Budget,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = backend
        self._settings = settings
        self._tries = PersonTries(settings, budget)
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
        beginning = None if person is None else asyncio.create_task(self._begin(first, person))
        relay = Relay(self, person or "", beginning, known_place=known_place, ends_at=self._clock() + EXCHANGE_TIME)
        self._open.add(relay)
        try:
            relay.challenge = await self._challenge(beginning) or self._made_up(first, key)
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
        """Whom wrong proofs are counted for; None: nobody, and Dovecot is not asked."""
        try:
            login = prepare(first.authcid)
            acts_as = login_key(first.authzid) if first.authzid else login_key(login)
            mine = acts_as == login_key(login) and "\0" not in first.authcid
        except ValueError:
            return None
        too_long = len(login.encode()) > LOGIN_CEILING or len(first.message) > MESSAGE_CEILING
        return self._backend.whose(login) if mine and login and not too_long else None

    async def _begin(self, first: ScramFirst, person: str) -> Opened | Denied:
        began = self._clock()
        answer = await self._backend.begin(first.message)
        if isinstance(answer, Denied):
            self._refused(began)
            return answer
        form = read_server_first(answer.challenge, first.nonce)
        if form is None:
            answer.exchange.close()
            raise Unavailable(f"{answer.place}: made a challenge that is none of SCRAM")
        self._form, now = form, self._clock()
        before = self._salts.get(entry := person.encode(), now)
        if before is not None:
            self._salts_vary = before != form.salt
        self._salts.add(entry, form.salt, now)
        return answer

    def _made_up(self, first: ScramFirst, key: bytes) -> bytes:
        """The challenge of a name that nobody has: another nonce each time, and always the same salt, if people's
        stay the same."""
        form, name = self._form, _name(first.authcid)
        seed = f"{self._settings.name}\0{name}".encode()
        salt = hashlib.shake_256(key + seed).digest(len(form.salt))
        if self._salts_vary:
            salt = secrets.token_bytes(len(form.salt))
        nonce = "".join(secrets.choice(_NONCE) for _ in form.nonce).encode()
        return server_first(first.nonce + nonce, salt, form.iterations)

    # -- the proof

    async def judge(self, relay: "Relay", message: bytes) -> Proven | Denied:
        """See Relay.prove."""
        began = self._clock()
        opened = await relay.begun()
        if isinstance(opened, Denied) or len(message) > MESSAGE_CEILING:
            return await self._refuse(opened if isinstance(opened, Denied) else Denied(Reason.WRONG), began)
        if opened.challenge != relay.challenge:
            raise Unavailable(f"{opened.place}: no challenge within {RELAY_TIME:g} s")
        if began > relay.ends_at:
            raise Unavailable(f"no proof within {EXCHANGE_TIME:g} s")
        try_ = await self._tries.reserve(relay.person, known_place=relay.known_place)
        if isinstance(try_, Denied):
            return await self._refuse(try_, began)
        return await self._finish(opened, message, try_)

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
        """As late as Dovecot does."""
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


def _name(authcid: str) -> str:
    try:
        return login_key(authcid)
    except ValueError:
        return authcid
