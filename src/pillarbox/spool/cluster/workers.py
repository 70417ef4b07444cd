"""Who leases: this process as the cell knows it, and for how long it can count on that.

A worker is a row with the time at which it was heard of last, by the server's clock. Its leases hold while that is
less than VOID_AFTER ago; then they are anybody's, without anyone having to do something about it. This process says
something every HEARTBEAT, and counts on its leases only while the last answer is younger than FRESH.

A process has another identity (a new row) each time that it does not know what it holds: after a silence, or when a
taking may have happened without its knowing. What an earlier one holds is kept alive until it is settled; recipients
that it holds unknowingly are free again soon after.
"""

import secrets
from dataclasses import dataclass, field
from typing import NamedTuple

from pillarbox.spool.cluster.cell import ATTEMPT
from pillarbox.spool.cluster.schema import TURN, VOID_AFTER
from pillarbox.store.postgresql import Transaction

HEARTBEAT = 5.0
LATE = 15
"""Seconds of silence after which a heartbeat takes its turn with those who lend: it could be confirmed only when the
leases are void, and lent to others."""
FRESH = 25.0
_NEVER = float("-inf")


_TURN_IF_LATE = (
    f"{TURN} WHERE EXISTS (SELECT FROM worker w WHERE w.id = ANY (%s) "
    f"AND w.seen < clock_timestamp() - interval '{LATE} seconds')"
)
# By the clock, not by now(), the time at which the transaction began to wait for its turn.
_BEAT = (
    "UPDATE worker SET seen = clock_timestamp() WHERE id = ANY (%s) "  # noqa: S608  # a constant
    f"AND seen > clock_timestamp() - interval '{VOID_AFTER} seconds' RETURNING id"
)


class Beat(NamedTuple):
    """Ids of identities that were told of, and of those among them that the cell still counts on."""

    asked: frozenset[int]
    alive: frozenset[int]


@dataclass(slots=True, eq=False)
class Identity:
    """One row of ``worker``. ``asked_at``: loop time before the last heartbeat that was answered. ``void``: it was
    silent for too long."""

    id: int = field(default_factory=lambda: secrets.randbits(62))
    asked_at: float = _NEVER
    void: bool = False
    takings: int = 0
    leases: set[int] = field(default_factory=set)


class Worker:
    """See the module's text. ``name`` is for people."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.current = Identity()
        self._earlier: list[Identity] = []

    def identities(self) -> list[Identity]:
        """All that hold something, and the current one."""
        return [*self._earlier, self.current]

    def ids(self) -> list[int]:
        """What may be in ``leased_by`` of a lease of ours."""
        return [identity.id for identity in self.identities()]

    def renew(self) -> None:
        """From now on under another identity."""
        self._earlier.append(self.current)
        self.current = Identity()

    def ready(self, now: float) -> Identity:
        """The identity to lease with: one that has not been silent."""
        silent = now - self.current.asked_at > FRESH - ATTEMPT  # a taking that lasts must not bring back who is void
        if self.current.void or (self.current.takings and silent):
            self.renew()
        return self.current

    def counts_on(self, identity: Identity, now: float) -> bool:
        """Whether leases under this identity hold."""
        return not identity.void and now - identity.asked_at < FRESH

    def tidy(self) -> list[int]:
        """Forgets earlier identities that hold nothing; their ids."""
        over = [identity.id for identity in self._earlier if not identity.leases]
        self._earlier = [identity for identity in self._earlier if identity.leases]
        return over

    async def beat(self, transaction: Transaction) -> Beat:
        """Tells the cell that we are there, under each identity that it knows by now. Removes the rows of whoever is
        gone."""
        over = self.tidy()
        known = [identity.id for identity in self.identities() if identity.asked_at > _NEVER]
        transaction.add(
            f"DELETE FROM worker WHERE id = ANY (%s) OR seen < now() - interval '{20 * VOID_AFTER} seconds'",  # noqa: S608  # a constant
            (over,),
        )
        transaction.add(_TURN_IF_LATE, (known,))
        rows = await transaction.fetch(_BEAT, (known,))
        return Beat(frozenset(known), frozenset(worker for (worker,) in rows))

    def heard(self, asked_at: float, beat: Beat) -> list[Identity]:
        """The answer to a beat that was sent at ``asked_at``: those that were given up."""
        lost = []
        for identity in self.identities():
            if identity.id in beat.alive:
                identity.asked_at = max(identity.asked_at, asked_at)
            elif identity.id in beat.asked and not identity.void:
                identity.void = True
                lost.append(identity)
        return lost

    def enter(self, transaction: Transaction, identity: Identity) -> None:
        """In a transaction that leases: the row is there, or is refreshed."""
        transaction.add(
            "INSERT INTO worker (id, name, seen) VALUES (%s, %s, clock_timestamp()) "
            "ON CONFLICT (id) DO UPDATE SET seen = excluded.seen",
            (identity.id, self._name),
        )
