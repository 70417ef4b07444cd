"""Who may open a session, and how many may be kept waiting: counts per address prefix and in all.

One object a worker. The guard says who is blocked; this says when the room is full. A session is an open file, so
``ceiling`` (what the process can open, less what it needs itself) comes before any site's limit: a listener that runs
out of files can neither serve nor refuse.
"""

from pillarbox.guard.prefix import prefix
from pillarbox.submission.settings import SiteSettings

QUOTA_TOLD_FOR = 3600.0
_LOGINS_TOLD = 1_000


class Admission:
    """Open sessions and delayed sign-ins, by prefix and in all. Limits come from the site that is asked for."""

    def __init__(self, ceiling: int | None = None) -> None:
        self._ceiling = ceiling
        self._sessions: dict[str, int] = {}
        self._delayed: dict[str, int] = {}
        self._over_quota: dict[str, float] = {}
        self.sessions = 0
        self.delayed = 0

    def enter(self, address: str, site: SiteSettings) -> bool:
        """Whether one more session is allowed; if so it is counted until ``leave``."""
        place = prefix(address)
        here = self._sessions.get(place, 0)
        if self.sessions >= site.max_sessions or here >= site.max_sessions_per_address:
            return False
        if self._ceiling is not None and self.sessions >= self._ceiling:
            return False
        self._sessions[place] = here + 1
        self.sessions += 1
        return True

    def leave(self, address: str) -> None:
        """The session that ``enter`` counted has ended."""
        self.sessions -= 1
        _subtract(self._sessions, prefix(address))

    def begin_delay(self, address: str, site: SiteSettings) -> bool:
        """Whether one more failed sign-in may be kept waiting for its answer."""
        place = prefix(address)
        here = self._delayed.get(place, 0)
        if self.delayed >= site.max_delayed_sessions or here >= site.max_delayed_sessions_per_address:
            return False
        self._delayed[place] = here + 1
        self.delayed += 1
        return True

    def end_delay(self, address: str) -> None:
        """The answer that ``begin_delay`` held back was given."""
        self.delayed -= 1
        _subtract(self._delayed, prefix(address))

    def tells_over_quota(self, login: str, now: float) -> bool:
        """Whether it is news that ``login`` is over its quota; if so it is none for an hour."""
        if now - self._over_quota.get(login, -QUOTA_TOLD_FOR) < QUOTA_TOLD_FOR:
            return False
        if len(self._over_quota) >= _LOGINS_TOLD:
            self._over_quota.clear()
        self._over_quota[login] = now
        return True


def _subtract(counts: dict[str, int], key: str) -> None:
    left = counts[key] - 1
    if left:
        counts[key] = left
    else:
        del counts[key]
