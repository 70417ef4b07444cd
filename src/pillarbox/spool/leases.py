"""Who holds which recipients: in the owner's memory, so that a worker that ends frees its leases at once and an owner
that ends frees them all.

A lease is for some recipients of a message; others of the same message can be lent to another worker. Row sets are
replaced, never changed in place: a search in another thread may be reading the old one. Knows no clock.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

from pillarbox.spool.base import Lease
from pillarbox.spool.rows import Lent


@dataclass(slots=True, eq=False)
class Worker:
    """One who leases. ``seen`` is when it was last heard of (loop time); None: it is part of this process.

    ``epoch`` counts how often it was given up; ``skip`` are the next hops it could not use when it asked last.
    """

    name: str
    seen: float | None = None
    epoch: int = 0
    skip: frozenset[str] = frozenset()
    leases: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Held:
    """What one lease holds of a message: (key, lane, due time) of each recipient."""

    number: int
    queue_id: str
    priority: int
    recipients: tuple[tuple[int, str, float], ...]
    worker: Worker


class LeaseTable:
    """See the module's text. ``first`` is the first lease id: ids of an earlier process should not come again."""

    def __init__(self, first: int) -> None:
        self._ids = itertools.count(first)
        self._leases: dict[int, Held] = {}
        self.held: dict[int, frozenset[int]] = {}

    def __len__(self) -> int:
        return len(self._leases)

    def grant(self, worker: Worker, lent: Lent) -> Lease:
        """Lends what a search found."""
        lease_id = next(self._ids)
        self._hold(lease_id, _held(lent, worker))
        return Lease(lease_id, lent.envelope, lent.recipients, lent.content)

    def reclaim(self, worker: Worker, lease_id: int, lent: Lent) -> bool:
        """Gives a lease of an earlier channel or process back to its worker, if all of it is free."""
        keys = frozenset(r.key for r in lent.recipients)
        if lease_id in self._leases or not keys or keys & self.held.get(lent.number, frozenset()):
            return False
        self._hold(lease_id, _held(lent, worker))
        return True

    def _hold(self, lease_id: int, held: Held) -> None:
        self._leases[lease_id] = held
        held.worker.leases.add(lease_id)
        keys = frozenset(key for key, _, _ in held.recipients)
        self.held[held.number] = self.held.get(held.number, frozenset()) | keys

    def find(self, worker: Worker, lease_id: int) -> Held | None:
        """What this worker's lease holds; None when it has no such lease (any more)."""
        held = self._leases.get(lease_id)
        return held if held is not None and held.worker is worker else None

    def pin(self, worker: Worker, lease_id: int) -> None:
        """While it is being settled, a lease outlives its worker."""
        worker.leases.discard(lease_id)

    def unpin(self, worker: Worker, lease_id: int) -> None:
        """The settlement failed: it is an ordinary lease again."""
        worker.leases.add(lease_id)

    def end(self, lease_id: int) -> Held | None:
        """The lease is over; what it held, unless it was over already."""
        held = self._leases.pop(lease_id, None)
        if held is None:
            return None
        held.worker.leases.discard(lease_id)
        left = self.held[held.number] - {key for key, _, _ in held.recipients}
        if left:
            self.held[held.number] = left
        else:
            del self.held[held.number]
        return held

    def void(self, worker: Worker) -> Iterable[Held]:
        """The worker is given up: what it held, free again."""
        worker.epoch += 1
        return [held for lease_id in tuple(worker.leases) if (held := self.end(lease_id)) is not None]


def _held(lent: Lent, worker: Worker) -> Held:
    recipients = tuple((r.key, r.lane, r.due_at) for r in lent.recipients)
    return Held(lent.number, lent.envelope.queue_id, lent.envelope.priority, recipients, worker)
