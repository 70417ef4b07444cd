"""The guard as a submission worker has it: a copy of the blocks here, the counts in the spool process.

    handlers = {}
    link = Link(path, handlers)
    guard = RemoteGuard(link, settings)
    handlers.update(guard.handlers())       # before link.start()

admit() reads the copy. ask() is one question to the ledger, save for a place that was known and without failures a
moment ago. failed() and succeeded() are notes. take() is a subtraction from recipients taken in advance (purses.py).

Out of reach (no channel, or no answer within ``PATIENCE``) the worker judges by its own counts: those of its own
sessions, the known places and the blocks it was last told. So doors never stand open (it counts, slows and blocks
strangers by itself), and the people of known places never stand outside. What it counted is told at the next
connection.

ERRORS
    None are raised.
"""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from pillarbox.control.channel import Channel, ChannelClosed, Handlers, RemoteError
from pillarbox.control.frames import from_body
from pillarbox.control.link import LinkLike
from pillarbox.guard.base import Attempt, Blocked, Verdict
from pillarbox.guard.counts import Counts, login_key
from pillarbox.guard.ledger import fingerprint
from pillarbox.guard.prefix import prefix
from pillarbox.guard.purses import Purses
from pillarbox.guard.service import ChangeBody, Hello, Report
from pillarbox.guard.settings import GuardSettings
from pillarbox.telemetry.events import get_logger

log = get_logger("guard")

PATIENCE = 2.0
"""Seconds to wait for the ledger's answer."""
CLEAN_FOR = 2.0
"""Seconds for which "known, no failures" is not asked again: another worker's failure slows this one's that late."""
CLEAN_CEILING = 8_192
UNTOLD_CEILING = 2_048
LOCAL_PREFIXES = 8_192
BLOCKS_CEILING = 1_024

_CLEAN = Verdict(True, 0.0)


class RemoteGuard:
    """See the module's text; satisfies Guard."""

    def __init__(self, link: LinkLike, settings: GuardSettings, *, clock: Callable[[], float] = time.time) -> None:
        self._link = link
        self._clock = clock
        self._settings = settings
        self._key = secrets.token_bytes(32)
        self._blocks: dict[str, Blocked] = {}
        self._blocks_ceiling = BLOCKS_CEILING
        self._counts = Counts(settings, LOCAL_PREFIXES)
        self._purses = Purses(self._ask_for_recipients, self._report_recipients, clock)
        self._clean: dict[str, float] = {}
        self._good: dict[tuple[str, str], float] = {}
        self._untold_failed: deque[Report] = deque(maxlen=UNTOLD_CEILING)
        self._untold_succeeded: deque[Report] = deque(maxlen=UNTOLD_CEILING)
        self._untold_took: dict[str, int] = {}
        link.on_connect(self._hello)

    def handlers(self) -> Handlers:
        """What the ledger says to us; for the link's handlers."""
        return {"guard.state": self._take_state, "guard.changed": self._take_change}

    def close(self) -> None:
        """Returns what is in hand; before the link is closed."""
        self._purses.close()

    def apply(self, settings: GuardSettings) -> None:
        """Judges by these from now on."""
        self._settings = settings
        self._counts.apply(settings)

    # -- Guard

    def admit(self, address: str, now: float) -> Blocked | None:
        place = prefix(address)
        blocked = self._blocks.get(place)
        if blocked is not None:
            if now < blocked.until:
                return blocked
            del self._blocks[place]
        return None if self._link.connected else self._counts.blocked(place, now)

    def known(self, address: str, now: float) -> bool:
        return self._counts.known(prefix(address), now)

    def fingerprint(self, login: str, password: str) -> bytes:
        return fingerprint(self._key, login, password)

    async def ask(self, address: str, login: str, now: float) -> Verdict:
        place = prefix(address)
        clean = self._clean.get(place)
        if clean is not None and 0 <= now - clean < CLEAN_FOR:
            return _CLEAN
        key = login_key(login)
        answer = await self._request("guard.ask", (place, key))
        if answer is None:
            return self._own_verdict(place, key, now)
        known, delay, until, failures = answer
        if known:
            self._counts.remember(place, now)
            if delay == 0.0:
                if len(self._clean) >= CLEAN_CEILING:
                    self._clean.clear()
                self._clean[place] = now
        return Verdict(known, delay, None if until is None else Blocked(until, failures))

    def failed(self, attempt: Attempt) -> None:
        place, key = prefix(attempt.address), login_key(attempt.login)
        self._clean.pop(place, None)
        self._good.pop((place, key), None)
        self._counts.failed(place, key, attempt.fingerprint, attempt.at)
        report = Report(place, key, attempt.fingerprint, attempt.at)
        if self._link.connected:
            self._link.note("guard.failed", report)
        else:
            self._untold_failed.append(report)

    def succeeded(self, attempt: Attempt) -> None:
        place, key = prefix(attempt.address), login_key(attempt.login)
        told = self._good.get((place, key))
        if told is not None and 0 <= attempt.at - told < CLEAN_FOR:
            return
        self._counts.succeeded(place, key, attempt.at)
        self._blocks.pop(place, None)
        report = Report(place, key, attempt.fingerprint, attempt.at)
        if not self._link.connected:
            self._untold_succeeded.append(report)
            return
        self._link.note("guard.succeeded", report)
        if len(self._good) >= CLEAN_CEILING:
            self._good.clear()
        self._good[place, key] = attempt.at

    async def take(self, login: str, recipients: int, limit: int, now: float) -> bool:
        key = login_key(login)
        return self._purses.pay(key, recipients, now) or await self._purses.fill_and_pay(key, recipients, limit, now)

    def give_back(self, login: str, recipients: int, now: float) -> None:
        self._purses.give_back(login_key(login), recipients, now)

    def return_idle(self, now: float) -> None:
        """Gives back recipients in hand that were not used lately; a timer does it too."""
        self._purses.return_idle(now)

    async def _ask_for_recipients(self, key: str, need: int, batch: int, limit: int) -> int | None:
        granted = await self._request("guard.take", (key, need, batch, limit))
        return None if granted is None else from_body(int, granted)

    def _report_recipients(self, key: str, recipients: int) -> None:
        if not self._link.connected:
            self._untold_took[key] = self._untold_took.get(key, 0) + recipients
        elif recipients > 0:
            self._link.note("guard.took", (key, recipients))
        else:
            self._link.note("guard.give_back", (key, -recipients))

    # -- the ledger's side

    async def _request(self, verb: str, body: Any) -> Any:
        """The ledger's answer, or None when there is none."""
        if not self._link.connected:
            return None
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._link.request(verb, body)
        except (ChannelClosed, TimeoutError):
            return None
        except RemoteError as error:
            log.error("guard.unanswered", verb=verb, reason=f"{error.kind}: {error}")
            return None

    def _own_verdict(self, place: str, key: str, now: float) -> Verdict:
        verdict = self._counts.verdict(place, key, now)
        told = self._blocks.get(place)
        if verdict.known_place or told is None or told.until <= now:
            return verdict
        return Verdict(False, verdict.delay, told)

    async def _hello(self) -> None:
        failed, succeeded = list(self._untold_failed), list(self._untold_succeeded)
        took = self._untold_took
        self._untold_took = {}
        self._untold_failed.clear()
        self._untold_succeeded.clear()
        try:
            key = await self._link.request("guard.hello", Hello(failed, succeeded, took))
        except BaseException:
            self._untold_failed.extendleft(reversed(failed))
            self._untold_succeeded.extendleft(reversed(succeeded))
            for login, recipients in took.items():
                self._untold_took[login] = self._untold_took.get(login, 0) + recipients
            raise
        self._key = from_body(bytes, key)

    def _take_state(self, _channel: Channel, body: Any) -> None:
        """The whole of it, at the beginning of a connection."""
        self._clean.clear()
        self._good.clear()
        self._blocks = {}
        self._take_change(_channel, body)

    def _take_change(self, _channel: Channel, body: Any) -> None:
        change = from_body(ChangeBody, body)
        for place in change.lifted:
            self._blocks.pop(place, None)
            self._counts.forget_prefix(place)
        for place, at in change.known.items():
            self._counts.remember(place, at)
        self._blocks.update(change.blocks())
        if len(self._blocks) > self._blocks_ceiling:  # ended ones leave at admit(), if their prefix comes again
            now = self._clock()
            self._blocks = {place: block for place, block in self._blocks.items() if now < block.until}
            self._blocks_ceiling = max(BLOCKS_CEILING, 2 * len(self._blocks))
