"""Counts: distinct failures per prefix and per login in a sliding window, good places, blocks. Pure.

    counts = Counts(settings, prefixes=32_768)
    blocked = counts.failed("192.0.2.1/32", "bob", fingerprint, now)
    verdict = counts.verdict("192.0.2.1/32", "bob", now)

The rules (R5):
- A fingerprint (of login and password) counts once per prefix and once per login, from when it was first seen.
- A prefix's failures beyond ``free_failures`` slow its failures: 1 s, 2 s, 4 s, ... ``max_delay``. The failure that
  makes them ``block_failures`` blocks it for ``block_time``, unless the place is known.
- A login's failures from strangers beyond ``login_failures`` slow further strangers, never known places, and never
  block anyone: a lock on the account would be the attacker's to throw.
- A good sign-in makes the place known for ``good_for``, lifts its block, and clears its failures for that login.

Every table has a ceiling; the entry longest untouched leaves first (the block that ends soonest). An entry whose
time lies in the future by more than its own lifetime (a clock set back) counts as expired.

No I/O, no clock: ``now`` is an argument. Must not import asyncio, store, control.
"""

import unicodedata
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from pillarbox.guard.base import Blocked, Verdict
from pillarbox.guard.settings import GuardSettings

LOGIN_CEILING = 128
"""Characters of a login that count: a peer may send thousands."""


class Failure(NamedTuple):
    """One distinct failure as kept."""

    prefix: str
    login: str
    at: float


@dataclass(frozen=True, slots=True)
class Standing:
    """A prefix or login with failures, for the operator. ``known``: a good place (always False for a login)."""

    name: str
    failures: int
    last_at: float
    known: bool


def login_key(login: str) -> str:
    """The form under which a login counts: case and compatibility forms do not make another login."""
    if login.isascii():
        return login[:LOGIN_CEILING].lower()
    return unicodedata.normalize("NFKC", login[: 4 * LOGIN_CEILING]).casefold()[:LOGIN_CEILING]


Window = dict[bytes, Failure]
"""Fingerprint -> failure, oldest first; a handful of entries."""

Windows = OrderedDict[str, Window]
"""By prefix or login, the longest untouched first. Not a plain dict: taking its first entry again and again
walks over all those already taken."""


class Counts:
    """See the module's text. ``prefixes`` bounds prefixes and logins with failures and, times four, known places.

    About 0.6 KiB per prefix with one failure and as much for its login; ``failures`` bounds what one of them keeps.
    """

    def __init__(self, settings: GuardSettings, prefixes: int = 32_768) -> None:
        self.apply(settings)
        self._ceiling = prefixes
        self._places_ceiling = prefixes * 4
        self._blocks_ceiling = max(1, prefixes // 2)
        self._prefixes: Windows = OrderedDict()
        self._logins: Windows = OrderedDict()
        self._places: OrderedDict[str, float] = OrderedDict()
        self._blocks: dict[str, Blocked] = {}

    def apply(self, settings: GuardSettings) -> None:
        """Judges by these from now on; what was counted stays, blocks in force keep their end."""
        self._settings = settings
        # more than this changes no decision: the delay is at its highest, the block is due
        self._window_ceiling = max(settings.block_failures, settings.login_failures, settings.free_failures) + 16

    # -- what happened

    def failed(self, prefix: str, login: str, fingerprint: bytes, at: float) -> tuple[bool, Blocked | None]:
        """Counts a failure. Returns whether it was a new one, and the block it causes (or None)."""
        failure = Failure(prefix, login, at)
        window = self._window(self._prefixes, prefix, at)
        if fingerprint in window:
            return False, None
        self._append(window, fingerprint, failure)
        known = self.known(prefix, at)
        if not known:
            logins = self._window(self._logins, login, at)
            if fingerprint not in logins:
                self._append(logins, fingerprint, failure)
        if known or len(window) < self._settings.block_failures:
            return True, None
        blocked = Blocked(at + self._settings.block_time, len(window))
        self.block(prefix, blocked)
        return True, blocked

    def succeeded(self, prefix: str, login: str, at: float) -> list[bytes]:
        """Remembers the place, lifts its block and clears its failures for the login; returns their fingerprints."""
        self.remember(prefix, at)
        self._blocks.pop(prefix, None)
        window = self._prefixes.get(prefix)
        if window is None:
            return []
        cleared = [fingerprint for fingerprint, failure in window.items() if failure.login == login]
        logins = self._logins.get(login, {})
        for fingerprint in cleared:
            del window[fingerprint]
            if fingerprint in logins and logins[fingerprint].prefix == prefix:
                del logins[fingerprint]
        if not window:
            del self._prefixes[prefix]
        if not logins:
            self._logins.pop(login, None)
        return cleared

    def remember(self, prefix: str, at: float) -> None:
        """Makes a place known."""
        self._places[prefix] = at
        self._places.move_to_end(prefix)
        if len(self._places) > self._places_ceiling:
            self._places.popitem(last=False)

    def block(self, prefix: str, blocked: Blocked) -> None:
        """Blocks a prefix whatever its count (loading; blocks of another process)."""
        if prefix not in self._blocks and len(self._blocks) >= self._blocks_ceiling:
            del self._blocks[min(self._blocks, key=lambda name: self._blocks[name].until)]
        self._blocks[prefix] = blocked

    def restore(self, fingerprint: bytes, failure: Failure) -> None:
        """Counts a stored failure again; call with the oldest first, after the places. Blocks nobody."""
        window = self._window(self._prefixes, failure.prefix, failure.at)
        self._append(window, fingerprint, failure)
        if not self.known(failure.prefix, failure.at):
            self._append(self._window(self._logins, failure.login, failure.at), fingerprint, failure)

    def merge(self, fingerprint: bytes, failure: Failure, now: float) -> tuple[bool, int, float]:
        """Counts a failure of another machine, at its place in time: whether it was new, the prefix's count, and the
        time of its last one. Blocks nobody."""
        window = self._window(self._prefixes, failure.prefix, now)
        if fingerprint in window:
            return False, len(window), failure.at
        self._insert(window, fingerprint, failure)
        if not self.known(failure.prefix, now):
            logins = self._window(self._logins, failure.login, now)
            if fingerprint not in logins:
                self._insert(logins, fingerprint, failure)
        return True, len(window), window[next(reversed(window))].at

    def _insert(self, window: Window, fingerprint: bytes, failure: Failure) -> None:
        self._append(window, fingerprint, failure)
        entries = sorted(window.items(), key=lambda entry: entry[1].at)
        window.clear()
        window.update(entries)

    def forget(self, prefix: str, login: str, until: float) -> list[tuple[str, bytes]]:
        """Forgets the failures of a prefix, a login or (both given) a pair up to a time; (prefix, fingerprint)."""
        forgotten = []
        for name in [prefix] if prefix else list(self._prefixes):
            window = self._prefixes.get(name, {})
            for key in [k for k, f in window.items() if f.at <= until and login in ("", f.login)]:
                failure = window.pop(key)
                forgotten.append((name, key))
                logins = self._logins.get(failure.login, {})
                logins.pop(key, None)
                if not logins:
                    self._logins.pop(failure.login, None)
            if not window:
                self._prefixes.pop(name, None)
        return forgotten

    def lift(self, prefix: str) -> None:
        """Ends a block; the failures stay."""
        self._blocks.pop(prefix, None)

    # -- what follows

    def verdict(self, prefix: str, login: str, now: float) -> Verdict:
        """May this attempt be tried, and how late is the reply to its failure."""
        settings = self._settings
        known = self.known(prefix, now)
        excess = self._count(self._prefixes, prefix, now) - settings.free_failures
        if known:
            return Verdict(True, self._delay(excess))
        excess = max(excess, self._count(self._logins, login, now) - settings.login_failures)
        return Verdict(False, self._delay(excess), self.blocked(prefix, now))

    def blocked(self, prefix: str, now: float) -> Blocked | None:
        """The block in force for a prefix."""
        if not self._blocks:
            return None
        blocked = self._blocks.get(prefix)
        if blocked is None or now < blocked.until <= now + 2 * self._settings.block_time:
            return blocked
        del self._blocks[prefix]
        return None

    def known(self, prefix: str, now: float) -> bool:
        """Whether the prefix has a good sign-in that is young enough."""
        at = self._places.get(prefix)
        return at is not None and abs(now - at) < self._settings.good_for

    def last_at(self, prefix: str) -> float:
        """The time of the place's last good sign-in; 0.0: none."""
        return self._places.get(prefix, 0.0)

    # -- the operator's

    def forget_prefix(self, prefix: str) -> list[bytes]:
        """Lifts the block and forgets the failures of a prefix, for its logins too; returns their fingerprints."""
        self._blocks.pop(prefix, None)
        window = self._prefixes.pop(prefix, {})
        for fingerprint, failure in window.items():
            logins = self._logins.get(failure.login)
            if logins is not None and logins.pop(fingerprint, None) is not None and not logins:
                del self._logins[failure.login]
        return list(window)

    def forget_login(self, login: str) -> list[tuple[str, bytes]]:
        """Forgets the failures of a login wherever they came from; returns (prefix, fingerprint) of each.

        A block stays: it is the prefix's, which may have tried other logins too.
        """
        self._logins.pop(login, None)
        forgotten = []
        for prefix in list(self._prefixes):
            window = self._prefixes[prefix]
            for fingerprint in [key for key, failure in window.items() if failure.login == login]:
                del window[fingerprint]
                forgotten.append((prefix, fingerprint))
            if not window:
                del self._prefixes[prefix]
        return forgotten

    def blocks(self, now: float) -> dict[str, Blocked]:
        """Every block in force."""
        return {prefix: blocked for prefix, blocked in self._blocks.items() if now < blocked.until}

    def standings(self, now: float, limit: int) -> tuple[list[Standing], list[Standing]]:
        """Prefixes and logins with failures, the latest first, ``limit`` of each."""
        self.prune(now)
        return self._standings(self._prefixes, now, limit), self._standings(self._logins, now, limit)

    def known_places(self, now: float, limit: int) -> dict[str, float]:
        """The latest known places with the time of their last sign-in, the oldest of them first."""
        latest = list(islice(reversed(self._places), limit))
        return {prefix: self._places[prefix] for prefix in reversed(latest) if self.known(prefix, now)}

    def failures(self) -> Iterator[tuple[bytes, Failure]]:
        """Every failure kept, with its fingerprint."""
        for window in self._prefixes.values():
            yield from window.items()

    def places(self) -> Iterator[tuple[str, float]]:
        """Every known place with the time of its last sign-in, the longest untouched first."""
        yield from self._places.items()

    def prune(self, now: float) -> list[str]:
        """Drops what has expired; returns the prefixes whose block ended. Costs no more than what it drops, save
        for the blocks: the tables are in the order of their last change."""
        for table in (self._prefixes, self._logins):
            while table:
                name = next(iter(table))
                window = table[name]
                if window and self._young(window[next(reversed(window))], now):
                    break
                del table[name]
        while self._places:
            prefix = next(iter(self._places))
            if self.known(prefix, now):
                break
            del self._places[prefix]
        ended = [prefix for prefix, blocked in self._blocks.items() if blocked.until <= now]
        for prefix in ended:
            del self._blocks[prefix]
        return ended

    # -- inside

    def _young(self, failure: Failure, now: float) -> bool:
        return abs(now - failure.at) < self._settings.window

    def _window(self, table: Windows, name: str, now: float) -> Window:
        """The window of ``name``, without what expired, moved to the young end of the table; made if need be."""
        window = table.get(name)
        if window is None:
            if len(table) >= self._ceiling:
                table.popitem(last=False)
            window = table[name] = {}
        else:
            self._expire(window, now)
            table.move_to_end(name)
        return window

    def _append(self, window: Window, fingerprint: bytes, failure: Failure) -> None:
        if len(window) >= self._window_ceiling:
            del window[next(iter(window))]
        window[fingerprint] = failure

    def _expire(self, window: Window, now: float) -> None:
        while window:
            fingerprint = next(iter(window))
            if self._young(window[fingerprint], now):
                return
            del window[fingerprint]

    def _count(self, table: Windows, name: str, now: float) -> int:
        window = table.get(name)
        if window is None:
            return 0
        self._expire(window, now)
        if not window:
            del table[name]
        return len(window)

    def _delay(self, excess: int) -> float:
        if excess <= 0:
            return 0.0
        return min(float(1 << min(excess - 1, 30)), self._settings.max_delay)

    def _standings(self, table: Windows, now: float, limit: int) -> list[Standing]:
        found: list[Standing] = []
        for name in reversed(table):
            if len(found) == limit:
                break
            if count := sum(self._young(failure, now) for failure in table[name].values()):
                last = max(failure.at for failure in table[name].values())
                known = table is self._prefixes and self.known(name, now)
                found.append(Standing(name, count, last, known))
        return found
