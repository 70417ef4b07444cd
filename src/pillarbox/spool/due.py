"""Which domains have something due, and when next: kept in memory, so that neither a lease nor waiting for one ever
looks at what is not due, and one dead domain with 100,000 messages costs a lease nothing.

For each domain a lower bound of the due times of its free recipients. A commit or a settlement can only lower it
(``touch``); a search that read the rows raises it (``learn``). Knows no clock and no I/O.
"""

import asyncio
import heapq
from collections.abc import Iterable, Mapping


class DueIndex:
    """See the module's text. Used in the owner's loop only."""

    def __init__(self, domains: Iterable[tuple[str, float]] = ()) -> None:
        self._next = dict(domains)
        self._heap = [(due_at, domain) for domain, due_at in self._next.items()]
        heapq.heapify(self._heap)
        self._touched: set[str] | None = None
        self._waiting: dict[asyncio.Future[None], frozenset[str]] = {}

    def __len__(self) -> int:
        return len(self._next)

    def touch(self, domain: str, due_at: float) -> None:
        """Something of this domain is free and due at ``due_at``."""
        if self._touched is not None:
            self._touched.add(domain)
        known = self._next.get(domain)
        if known is not None and known <= due_at:
            return
        self._next[domain] = due_at
        heapq.heappush(self._heap, (due_at, domain))
        if self._waiting:
            self._wake(domain)

    def due(self, now: float, skip: frozenset[str], limit: int) -> tuple[list[str], float]:
        """Up to ``limit`` domains due at ``now``, the one that waits longest first; and up to which due time no other
        domain has anything older (``now`` when there is no other)."""
        found: list[str] = []
        seen: dict[str, float] = {}
        until = now
        while self._heap and self._heap[0][0] <= now:
            due_at, domain = heapq.heappop(self._heap)
            if domain in seen or self._next.get(domain) != due_at:  # an entry that was outlived
                continue
            seen[domain] = due_at
            if domain in skip:
                continue
            if len(found) == limit:
                until = due_at
                break
            found.append(domain)
        for domain, due_at in seen.items():
            heapq.heappush(self._heap, (due_at, domain))
        return found, until

    def search(self) -> None:
        """A search begins: what is touched from now on is not in what it reads."""
        self._touched = set()

    def learn(self, following: Mapping[str, float | None]) -> None:
        """A search ended: the bounds that it found, except where something was touched meanwhile."""
        touched, self._touched = self._touched or set(), None
        for domain, due_at in following.items():
            if domain in touched:
                continue
            if due_at is None:
                self._next.pop(domain, None)
            elif self._next.get(domain) != due_at:
                self._next[domain] = due_at
                heapq.heappush(self._heap, (due_at, domain))

    def next_due(self, skip: frozenset[str]) -> float | None:
        """The first due time of a domain that is not in ``skip``."""
        put_back: list[tuple[float, str]] = []
        found = None
        while self._heap and found is None:
            entry = heapq.heappop(self._heap)
            if self._next.get(entry[1]) == entry[0]:
                put_back.append(entry)
                if entry[1] not in skip:
                    found = entry[0]
        for entry in put_back:
            heapq.heappush(self._heap, entry)
        return found

    async def wait(self, skip: frozenset[str], seconds: float) -> None:
        """Until a domain outside ``skip`` gets an earlier due time, or ``seconds`` passed."""
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

    def _wake(self, domain: str) -> None:
        for future, skip in self._waiting.items():
            if domain not in skip:
                _done(future)


def _done(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
