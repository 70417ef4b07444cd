"""Which lanes have something due, and when next: kept in memory, so that neither a lease nor waiting for one ever
looks at what is not due, and one dead domain with 100,000 messages costs a lease nothing.

For each lane (one site's messages for a domain, of one priority) a lower bound of the due times of its free
recipients. A commit or a settlement can only lower it (``touch``); a search that read the rows raises it (``learn``).
Knows no clock and no I/O.

Among what is due, the lowest rank goes first: the due time, and STEP seconds earlier for each step of priority. So a
message overtakes those below it, and a flood of urgent mail keeps nobody waiting for ever: whoever has waited STEP
seconds longer for each step between them goes before what came later.

STANDARDS
    RFC 6710 (MT-PRIORITY; how waiting weighs against priority is ours).
"""

import asyncio
import heapq
import math
from collections.abc import Iterable, Mapping

STEP = 300.0
"""Seconds of waiting that weigh as much as one step of priority: 9 goes before 0 for 45 minutes, then by turn."""

Lane = tuple[str, int]
"""schema.lane_of() and a priority (-9 to 9)."""


def rank(due_at: float, priority: int) -> float:
    """Among what is due, the lowest goes first. Within one lane it rises with ``due_at``."""
    return due_at - priority * STEP


class DueIndex:
    """See the module's text. Used in the owner's loop only."""

    def __init__(self, lanes: Iterable[tuple[Lane, float]] = ()) -> None:
        self._next = dict(lanes)
        self._heaps: dict[int, list[tuple[float, Lane]]] = {}  # by priority: within one, the first due goes first
        for lane, due_at in self._next.items():
            self._heaps.setdefault(lane[1], []).append((due_at, lane))
        for heap in self._heaps.values():
            heapq.heapify(heap)
        self._touched: set[Lane] | None = None
        self._waiting: dict[asyncio.Future[None], frozenset[str]] = {}

    def __len__(self) -> int:
        """Domains."""
        return len({lane.partition(" ")[0] for lane, _ in self._next})

    def touch(self, lane: Lane, due_at: float) -> None:
        """Something of this lane is free and due at ``due_at``."""
        if self._touched is not None:
            self._touched.add(lane)
        known = self._next.get(lane)
        if known is not None and known <= due_at:
            return
        self._push(lane, due_at)
        if self._waiting:
            self._wake(lane[0])

    def _push(self, lane: Lane, due_at: float) -> None:
        self._next[lane] = due_at
        heap = self._heaps.get(lane[1])
        if heap is None:
            heap = self._heaps[lane[1]] = []
        heapq.heappush(heap, (due_at, lane))

    def due(self, now: float, skip: frozenset[str], limit: int) -> tuple[list[Lane], float]:
        """Up to ``limit`` lanes due at ``now``, the lowest rank first; and up to which rank no other lane has
        anything before them (infinity when there is no other)."""
        found: list[Lane] = []
        seen: dict[Lane, float] = {}
        until = math.inf
        while (heap := self._first(now)) is not None:
            due_at, lane = heapq.heappop(heap)
            if lane in seen or self._next.get(lane) != due_at:  # an entry that was outlived
                continue
            seen[lane] = due_at
            if lane[0] in skip:
                continue
            if len(found) == limit:
                until = rank(due_at, lane[1])
                break
            found.append(lane)
        for lane, due_at in seen.items():
            heapq.heappush(self._heaps[lane[1]], (due_at, lane))
        return found, until

    def _first(self, now: float) -> list[tuple[float, Lane]] | None:
        """The heap whose first entry goes first among those due; there are 19 at most, and mostly one."""
        first = None
        lowest = math.inf
        for priority, heap in self._heaps.items():
            if heap and heap[0][0] <= now and rank(heap[0][0], priority) < lowest:
                first, lowest = heap, rank(heap[0][0], priority)
        return first

    def search(self) -> None:
        """A search begins: what is touched from now on is not in what it reads."""
        self._touched = set()

    def learn(self, following: Mapping[Lane, float | None]) -> None:
        """A search ended: the bounds that it found, except where something was touched meanwhile."""
        touched, self._touched = self._touched or set(), None
        for lane, due_at in following.items():
            if lane in touched:
                continue
            if due_at is None:
                self._next.pop(lane, None)
            elif self._next.get(lane) != due_at:
                self._push(lane, due_at)

    def next_due(self, skip: frozenset[str]) -> float | None:
        """The first due time of a lane that is not in ``skip``."""
        firsts = (self._next_of(heap, skip) for heap in self._heaps.values())
        return min((due_at for due_at in firsts if due_at is not None), default=None)

    def _next_of(self, heap: list[tuple[float, Lane]], skip: frozenset[str]) -> float | None:
        put_back: list[tuple[float, Lane]] = []
        found = None
        while heap and found is None:
            due_at, lane = heapq.heappop(heap)
            if self._next.get(lane) == due_at:
                put_back.append((due_at, lane))
                if lane[0] not in skip:
                    found = due_at
        for entry in put_back:
            heapq.heappush(heap, entry)
        return found

    async def wait(self, skip: frozenset[str], seconds: float) -> None:
        """Until a lane outside ``skip`` gets an earlier due time, or ``seconds`` passed."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting[future] = skip
        timer = loop.call_later(max(seconds, 0.0), _done, future)
        try:
            await future
        finally:
            timer.cancel()
            self._waiting.pop(future, None)

    def wake_all(self) -> None:
        """Everybody who waits looks again."""
        for future in self._waiting:
            _done(future)

    def _wake(self, lane: str) -> None:
        for future, skip in self._waiting.items():
            if lane not in skip:
                _done(future)


def _done(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
