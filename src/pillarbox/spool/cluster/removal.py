"""What is finished leaves the tables: messages whose recipients are done, and chunks that belong to no message.

A finished message's row stays for LINGER, so that a commit that is repeated after its reply got lost finds it and
does not bring the message back. Who finished a message remembers it; what a process that died remembered is found
by a search, now and then: a message that had no recipients at two searches that lie LINGER apart.
"""

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Sequence

from pillarbox.spool.base import SpoolError
from pillarbox.spool.cluster.cell import Cell
from pillarbox.spool.cluster.schema import BY_INDEX
from pillarbox.store.postgresql import Transaction
from pillarbox.telemetry.events import get_logger

LINGER = 60.0
"""Seconds; longer than a commit is repeated (intake.PATIENCE)."""
TICK = 5.0
SEARCH_EVERY = 600.0
_PAGE = 500
_FOUND_AT_ONCE = 20_000

_FORGOTTEN = (
    "SELECT m.queue_id FROM message m WHERE NOT EXISTS (SELECT FROM recipient r WHERE r.queue_id = m.queue_id) "
    "LIMIT %s"
)
_REMOVE = """
WITH gone AS (
    DELETE FROM message m WHERE m.queue_id = ANY (%s)
    AND NOT EXISTS (SELECT FROM recipient r WHERE r.queue_id = m.queue_id) RETURNING m.content_id
)
DELETE FROM content_chunk c USING gone WHERE c.content_id = gone.content_id
"""
_SWEEP = """
DELETE FROM content_chunk c USING (
    SELECT content_id FROM content_chunk GROUP BY content_id HAVING max(written_at) < now() - interval '24 hours'
) old
WHERE c.content_id = old.content_id AND NOT EXISTS (SELECT FROM message m WHERE m.content_id = c.content_id)
"""

log = get_logger("spool")


class Removal:
    """See the module's text. Does nothing in a process that finishes no message: it may not have the right to."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._finished: deque[tuple[float, str]] = deque()
        self._suspected: set[str] = set()
        self._search_at = float("inf")
        self._task: asyncio.Task[None] | None = None

    def add(self, queue_ids: Sequence[str]) -> None:
        """These messages have nobody left."""
        leaves_at = self._cell.loop.time() + LINGER
        self._finished.extend((leaves_at, queue_id) for queue_id in queue_ids)
        self._start()

    def search(self) -> None:
        """From now on what others left behind is looked for, too."""
        if self._search_at == float("inf"):
            self._search_at = self._cell.loop.time()
            self._start()

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._go_on(), name="removal")

    async def close(self) -> None:
        """What still lingers is found by a search."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            try:
                await self.tick(self._cell.loop.time())
            except SpoolError:
                continue  # the cell's own watch says so
            except Exception:  # our bug: the tables must not grow for ever in silence
                log.exception("cell.failed", cell=self._cell.store.where, reason="removing finished messages failed")

    async def tick(self, now: float) -> None:
        """What is to be done at ``now`` (loop time). Raises Unavailable."""
        while self._finished and self._finished[0][0] <= now:
            page = [queue_id for leaves_at, queue_id in itertools.islice(self._finished, _PAGE) if leaves_at <= now]
            await self.remove(page)
            for _ in page:
                self._finished.popleft()
        if now >= self._search_at:
            await self.look(now)

    async def remove(self, queue_ids: Sequence[str]) -> None:
        """These messages, if nobody is left. Raises Unavailable."""

        async def work(transaction: Transaction) -> None:
            transaction.add(*BY_INDEX)
            transaction.add(_REMOVE, (list(queue_ids),))

        await self._cell.change(work)

    async def look(self, now: float) -> None:
        """One search. Raises Unavailable."""
        (rows,) = await self._cell.read((_FORGOTTEN, (_FOUND_AT_ONCE,)))
        found = {queue_id for (queue_id,) in rows} - {queue_id for _, queue_id in self._finished}
        again = sorted(found & self._suspected)
        for start in range(0, len(again), _PAGE):
            await self.remove(again[start : start + _PAGE])
        self._suspected = found - set(again)
        self._search_at = now + (LINGER if self._suspected else SEARCH_EVERY)

        async def sweep(transaction: Transaction) -> None:
            transaction.add(_SWEEP)

        await self._cell.change(sweep)
