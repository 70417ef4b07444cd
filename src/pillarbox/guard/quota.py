"""Quota: recipients per login, sliding over 60 minutes in buckets of one minute. Pure.

    quota = Quota()
    quota.take("bob", 3, limit=500, now=now)     # all or nothing

Sixty-one buckets are summed, the one in progress and the sixty before, so that no 60 minutes ever hold more than
the limit; what was taken comes free between 60 and 61 minutes later.

No I/O, no clock: ``now`` is an argument. Must not import asyncio, store, control.
"""

from collections import OrderedDict
from collections.abc import Iterator

BUCKET = 60.0
BUCKETS = 60

Buckets = dict[int, int]
"""Minute since the epoch -> recipients."""


class Quota:
    """See the module's text. ``logins`` bounds how many are kept; the one longest idle leaves first. Logins come
    from sign-ins that succeeded, so there are no more of them than accounts."""

    def __init__(self, logins: int = 131_072) -> None:
        self._ceiling = logins
        self._logins: OrderedDict[str, Buckets] = OrderedDict()

    def used(self, login: str, now: float) -> int:
        """Recipients of the last 60 minutes."""
        buckets = self._logins.get(login)
        if buckets is None:
            return 0
        self._expire(buckets, now)
        return sum(buckets.values())

    def take(self, login: str, recipients: int, limit: int, now: float) -> bool:
        """Takes them all, or returns False and takes nothing."""
        if recipients > limit - self.used(login, now):
            return False
        self.add(login, recipients, now)
        return True

    def grant(self, login: str, need: int, batch: int, limit: int, now: float) -> int:
        """Takes ``need`` and some more in advance, up to ``batch`` in all; returns how many, 0: over the limit.

        In advance goes at most a quarter of what then remains: near the limit nearly nothing, so that what one
        worker holds in hand is not what another is refused for.
        """
        remaining = limit - self.used(login, now) - need
        if remaining < 0:
            return 0
        granted = need + max(0, min(batch - need, remaining // 4))
        self.add(login, granted, now)
        return granted

    def add(self, login: str, recipients: int, now: float) -> None:
        """Counts them without asking."""
        if recipients <= 0:
            return
        buckets = self._logins.get(login)
        if buckets is None:
            if len(self._logins) >= self._ceiling:
                self._logins.popitem(last=False)
            buckets = self._logins[login] = {}
        else:
            self._logins.move_to_end(login)
        minute = int(now // BUCKET)
        buckets[minute] = buckets.get(minute, 0) + recipients

    def give_back(self, login: str, recipients: int, now: float) -> list[int]:
        """Gives recipients back, the latest taken first; never below nothing. Returns the minutes that changed."""
        buckets = self._logins.get(login)
        if buckets is None:
            return []
        self._expire(buckets, now)
        changed = []
        for minute in sorted(buckets, reverse=True):
            if recipients <= 0:
                break
            returned = min(recipients, buckets[minute])
            buckets[minute] -= returned
            recipients -= returned
            changed.append(minute)
        return changed

    def bucket(self, login: str, minute: int) -> int:
        """Recipients of one minute since the epoch."""
        return self._logins.get(login, {}).get(minute, 0)

    def load(self, login: str, minute: int, recipients: int) -> None:
        """Puts back a bucket that was stored."""
        self._logins.setdefault(login, {})[minute] = recipients

    def buckets(self) -> Iterator[tuple[str, int, int]]:
        """Login, minute since the epoch, recipients: all that is kept."""
        for login, buckets in self._logins.items():
            for minute, recipients in buckets.items():
                yield login, minute, recipients

    def prune(self, now: float) -> None:
        """Drops what has expired."""
        for login in list(self._logins):
            buckets = self._logins[login]
            self._expire(buckets, now)
            if not buckets:
                del self._logins[login]

    @staticmethod
    def _expire(buckets: Buckets, now: float) -> None:
        current = int(now // BUCKET)
        if len(buckets) == 1 and current in buckets:
            return
        for minute in [key for key in buckets if abs(current - key) > BUCKETS]:
            del buckets[minute]
