"""Who may open a session, and how many may be kept waiting: counts per address prefix and in all.

One object a worker. The guard says who is blocked; this says when the room is full. A session is an open file, so
``ceiling`` (what the process can open, less what it needs itself) comes before any site's limit: a listener that runs
out of files can neither serve nor refuse.

Strangers (nobody signed in from their prefix lately) wait in a lobby until they sign in. It is a part of the room, so
that they cannot fill it; when it is full the newest takes the place of the one that has waited longest. An honest
client signs in within a moment, so whoever would keep it out must open the whole lobby anew within that moment, again
and again, while connections that just wait push out each other. TLS handshakes, which cost the most and prove the
least, have a lobby of their own inside it.

ERRORS
    None.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from pillarbox.guard.prefix import prefix
from pillarbox.submission.settings import SiteSettings
from pillarbox.submission.turns import Turns

QUOTA_TOLD_FOR = 3600.0
"""Seconds for which a login that is over its quota is no news again."""

_LOGINS_TOLD = 1_000
"""Logins for which that is remembered."""

SHARE = 0.2
"""Of the worker's time: what strangers get at most, and as much again signed-in sessions that send nothing."""


S = TypeVar("S")


class Lobby(Generic[S]):
    """Those who wait, the longest first, each with its prefix."""

    def __init__(self) -> None:
        self._places: dict[S, str] = {}
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, who: S) -> bool:
        return who in self._places

    def of(self, place: str) -> int:
        """How many of one prefix."""
        return self._counts.get(place, 0)

    def place_of(self, who: S) -> str:
        """The prefix of one who waits."""
        return self._places[who]

    def enter(self, who: S, place: str, most: int) -> S | None:
        """One more; returns who has to leave for it: the one that has waited longest of more than ``most``."""
        self._places[who] = place
        self._counts[place] = self._counts.get(place, 0) + 1
        if len(self._places) <= most:
            return None
        longest = next(iter(self._places))
        self.leave(longest)
        return longest

    def leave(self, who: S) -> None:
        """It waits no longer; nothing when it did not."""
        place = self._places.pop(who, None)
        if place is not None:
            _subtract(self._counts, place)


class Admission(Generic[S]):
    """Open sessions, strangers, handshakes and delayed sign-ins. Limits come from the site that is asked for.
    ``cut`` ends a session that has to make room."""

    def __init__(self, ceiling: int | None = None, cut: Callable[[S], None] = lambda _: None) -> None:
        self._ceiling = ceiling
        self._cut = cut
        self._sessions: dict[str, int] = {}
        self._strangers = Lobby[S]()
        self._handshakes = Lobby[S]()
        self._delayed: dict[str, int] = {}
        self._over_quota: dict[str, float] = {}
        self.sessions = 0
        self.delayed = 0
        self.strangers_turns = Turns(SHARE)
        self.idlers_turns = Turns(SHARE)

    def end_turns(self) -> None:
        """Nobody waits for a turn any more: the worker ends."""
        self.strangers_turns.end()
        self.idlers_turns.end()

    def is_stranger(self, session: S) -> bool:
        """Whether it came from a place where nobody signed in lately, and nobody has signed in yet."""
        return session in self._strangers

    def enter(self, address: str, site: SiteSettings, *, known: bool) -> bool:
        """Whether one more session is allowed; if so it is counted until ``leave``. ``known``: from a known place."""
        place = prefix(address)
        here = self._sessions.get(place, 0)
        if self.sessions >= site.max_sessions or here >= site.max_sessions_per_address:
            return False
        if self._ceiling is not None and self.sessions >= self._ceiling:
            return False
        if not known and self._strangers.of(place) >= site.max_unauthenticated_sessions_per_address:
            return False
        self._sessions[place] = here + 1
        self.sessions += 1
        return True

    def wait(self, session: S, address: str, site: SiteSettings) -> None:
        """A stranger's session has begun; another stranger may have to leave for it."""
        room = site.max_sessions if self._ceiling is None else min(site.max_sessions, self._ceiling)
        most = min(site.max_unauthenticated_sessions, max(1, room // 2))
        self._make_room(self._strangers.enter(session, prefix(address), most))

    def signed_in(self, session: S) -> None:
        """It is no stranger's any more."""
        self._strangers.leave(session)

    def leave(self, session: S, address: str) -> None:
        """The session that ``enter`` counted has ended."""
        self.sessions -= 1
        _subtract(self._sessions, prefix(address))
        self._strangers.leave(session)
        self._handshakes.leave(session)

    def begin_handshake(self, session: S, site: SiteSettings) -> bool:
        """Whether a session may shake hands now; a stranger's is counted until ``end_handshake``, and another's may
        have to end for it."""
        if session not in self._strangers:
            return True
        place = self._strangers.place_of(session)
        if self._handshakes.of(place) >= site.max_handshakes_per_address:
            return False
        self._make_room(self._handshakes.enter(session, place, site.max_handshakes))
        return True

    def end_handshake(self, session: S) -> None:
        """The handshake has succeeded or failed."""
        self._handshakes.leave(session)

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

    def _make_room(self, session: S | None) -> None:
        if session is not None:
            self._strangers.leave(session)
            self._handshakes.leave(session)
            self._cut(session)


def _subtract(counts: dict[str, int], key: str) -> None:
    left = counts[key] - 1
    if left:
        counts[key] = left
    else:
        del counts[key]
