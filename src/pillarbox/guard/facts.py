"""Facts that machines tell each other, and those of this machine that wait to be told. Pure.

    outbox = Outbox()
    outbox.put(Fact("f", "192.0.2.1/32", "bob", identity, at, ends, 1))
    batch = outbox.take(5_000)
    outbox.put_back(batch)                 # it was not told: what is newer under the same key stays

A fact has a key (kind, place, login, id), and the last one under a key is all that is told, so what waits for a cell
that is away is merged and bounded. schema.py says what the kinds are. Times are seconds since the epoch by this
machine's clock; cluster.py turns them into ages before they leave it.

ERRORS
    None. Must not import asyncio, store, control.
"""

from collections import OrderedDict
from typing import NamedTuple

from pillarbox.guard.quota import BUCKET, BUCKETS

CEILING = 50_000
"""Facts that wait at most; the oldest leave. Here they were counted all the same."""


class Fact(NamedTuple):
    """One row of the cell's table."""

    kind: str
    place: str
    login: str
    id: bytes
    at: float
    ends: float
    amount: int

    @property
    def key(self) -> tuple[str, str, str, bytes]:
        """What makes two of them the same."""
        return self[:4]


class Outbox:
    """See the module's text."""

    def __init__(self, ceiling: int = CEILING) -> None:
        self._ceiling = ceiling
        self._facts: OrderedDict[tuple[str, str, str, bytes], Fact] = OrderedDict()

    def __len__(self) -> int:
        return len(self._facts)

    def put(self, fact: Fact) -> None:
        """Waits from now on, instead of an older one under its key."""
        self._facts[fact.key] = fact
        self._facts.move_to_end(fact.key)
        if len(self._facts) > self._ceiling:
            self._facts.popitem(last=False)

    def take(self, limit: int) -> list[Fact]:
        """The oldest ones; they wait no longer."""
        return [self._facts.popitem(last=False)[1] for _ in range(min(limit, len(self._facts)))]

    def drop(self, kind: str) -> None:
        """All of a kind: they shall not be told."""
        for key in [key for key in self._facts if key[0] == kind]:
            del self._facts[key]

    def put_back(self, batch: list[Fact]) -> None:
        """They were not told."""
        for fact in reversed(batch):
            if fact.key not in self._facts and len(self._facts) < self._ceiling:
                self._facts[fact.key] = fact
                self._facts.move_to_end(fact.key, last=False)


class Elsewhere:
    """Recipients that other machines took, by login, each machine's minute by itself: told again, it replaces."""

    def __init__(self, logins: int = 131_072) -> None:
        self._ceiling = logins
        self._logins: OrderedDict[str, dict[bytes, tuple[int, int]]] = OrderedDict()

    def put(self, login: str, bucket: bytes, at: float, recipients: int) -> None:
        """``bucket`` names the machine and its minute; ``at`` is in it, by our clock."""
        if login not in self._logins and len(self._logins) >= self._ceiling:
            self._logins.popitem(last=False)
        buckets = self._logins.setdefault(login, {})
        self._logins.move_to_end(login)
        minute = buckets[bucket][0] if bucket in buckets else int(at // BUCKET)
        buckets[bucket] = (minute, recipients)

    def used(self, login: str, now: float) -> int:
        """Recipients of the last 60 minutes."""
        current = int(now // BUCKET)
        return sum(n for minute, n in self._logins.get(login, {}).values() if abs(current - minute) <= BUCKETS)

    def prune(self, now: float) -> None:
        """Drops what has expired."""
        current = int(now // BUCKET)
        for login, buckets in list(self._logins.items()):
            kept = {key: value for key, value in buckets.items() if abs(current - value[0]) <= BUCKETS}
            if kept:
                self._logins[login] = kept
            else:
                del self._logins[login]
