"""What the guard promises: it counts once for all workers, over restarts, and answers before a hash is paid.

Addresses count by prefix: /32 for IPv4, /64 for IPv6 (``prefix`` in prefix.py). The state lives in the spool
process (ledger.py over store); a worker holds a copy of the blocks and reaches the rest over a channel
(remote.py). When the state is out of reach the worker counts for itself: never open doors, never everyone out.

The same wrong (login, password), by a keyed fingerprint, counts once per prefix and login: a typing error in a
mail program is two or three failures on the wire. Never a lock on an account alone: a login's failures slow
strangers, not addresses with a good sign-in in the last 7 days, which are slowed at most, never refused.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Blocked:
    """Refuse at connect, and at AUTH before the hash. ``until``: seconds since the epoch."""

    until: float
    failures: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """May this attempt be tried?

    Attributes:
        known_place: the prefix has a good sign-in in the last 7 days.
        delay: seconds by which the *reply to a failure* is to be later than the fixed time.
        blocked: refuse without hashing (421); never for a known place.
    """

    known_place: bool
    delay: float
    blocked: Blocked | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sign-in attempt that failed or succeeded. ``fingerprint``: keyed, of (login, password); 16 octets."""

    address: str
    login: str
    fingerprint: bytes
    at: float


class Guard(Protocol):
    """The seam of R5, as the submission role uses it."""

    def admit(self, address: str, now: float) -> Blocked | None:
        """At connect; no I/O: from the local copy of the blocks."""
        ...

    def known(self, address: str, now: float) -> bool:
        """Whether somebody signed in from this prefix lately; at connect, no I/O: from the local copy."""
        ...

    def fingerprint(self, login: str, password: str) -> bytes:
        """Keyed; the key never leaves this machine and changes with each start of the spool process at most."""
        ...

    async def ask(self, address: str, login: str, now: float) -> Verdict:
        """Before anything is hashed. Never raises: out of reach, it answers from local counts."""
        ...

    def failed(self, attempt: Attempt) -> None:
        """Counts; pushed, not awaited."""
        ...

    def succeeded(self, attempt: Attempt) -> None:
        """Remembers the place as good; clears its failures for this login."""
        ...

    async def take(self, login: str, recipients: int, limit: int, now: float) -> bool:
        """Takes recipients from the hour's quota of ``login`` (sliding over 60 minutes); False: over the limit,
        nothing taken. Out of reach, it counts locally."""
        ...

    def give_back(self, login: str, recipients: int, now: float) -> None:
        """Recipients taken for a transaction that did not end in a 250."""
        ...
