"""What is finished leaves the tables: messages whose recipients are done, and chunks that belong to no message.

A finished message's row stays for LINGER, so that a commit that is repeated after its reply got lost finds it and
does not bring the message back. Who finished a message remembers it; what a process that died remembered is found
by a search, now and then: a message that has no recipients is remembered as one that was finished just then.

A search goes through the tables along their keys, a step every TICK, and only in one process: the worker with the
lowest id of those that are alive. When two take themselves for it, for a moment, they do the same twice.
"""

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Collection, Sequence

from pillarbox.spool.base import SpoolError
from pillarbox.spool.cluster.cell import Cell
from pillarbox.spool.cluster.schema import BY_INDEX, FIRST_ALIVE
from pillarbox.store.postgresql import Rows, Transaction
from pillarbox.telemetry.events import get_logger

LINGER = 60.0
"""Seconds; longer than a commit is repeated (intake.PATIENCE)."""
TICK = 5.0
SEARCH_EVERY = 600.0
_PAGE = 500
MESSAGES = 10_000
CHUNKS = 5_000
"""What one step of a search looks at."""
_BEGINNING = -1
_IN_ORDER: tuple[str, tuple[()]] = (
    "SELECT set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true)",
    (),
)
"""With BY_INDEX: a step reads its own share of an index, not all that follows, to sort it: so would a plan that was
made over a table nearly empty."""

_FORGOTTEN = """
WITH page AS MATERIALIZED (
    SELECT m.queue_id FROM message m WHERE m.queue_id > %s ORDER BY m.queue_id LIMIT %s
)
SELECT max(p.queue_id), count(*), coalesce(array_agg(p.queue_id) FILTER (WHERE waiting.key IS NULL), '{}')
FROM page p LEFT JOIN LATERAL (
    SELECT r.key FROM recipient r WHERE r.queue_id = p.queue_id LIMIT 1
) waiting ON true
"""
_REMOVE = """
WITH gone AS (
    DELETE FROM message m WHERE m.queue_id = ANY (%s)
    AND NOT EXISTS (SELECT FROM recipient r WHERE r.queue_id = m.queue_id) RETURNING m.content_id
)
DELETE FROM content_chunk c USING gone WHERE c.content_id = gone.content_id
"""
_SWEEP = """
WITH page AS MATERIALIZED (
    SELECT c.content_id FROM content_chunk c WHERE c.content_id > %s ORDER BY c.content_id LIMIT %s
), old AS MATERIALIZED (
    SELECT p.content_id FROM (SELECT DISTINCT content_id FROM page) p
    WHERE NOT EXISTS (SELECT FROM message m WHERE m.content_id = p.content_id)
    AND (SELECT max(c.written_at) FROM content_chunk c WHERE c.content_id = p.content_id)
        < now() - interval '24 hours'
), swept AS (
    DELETE FROM content_chunk c USING old WHERE c.content_id = old.content_id
)
SELECT max(content_id), count(*) FROM page
"""

log = get_logger("spool")


class Removal:
    """See the module's text. Does nothing in a process that finishes no message: it may not have the right to."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._finished: deque[tuple[float, str]] = deque()
        self._ours: Callable[[], Collection[int]] = tuple
        self._search_at = float("inf")
        self._message_after, self._content_after = "", _BEGINNING
        self._messages_done = False
        self._task: asyncio.Task[None] | None = None

    def add(self, queue_ids: Sequence[str]) -> None:
        """These messages have nobody left."""
        leaves_at = self._cell.loop.time() + LINGER
        self._finished.extend((leaves_at, queue_id) for queue_id in queue_ids)
        self._start()

    def search(self, ours: Callable[[], Collection[int]]) -> None:
        """From now on what others left behind is looked for, too. ``ours``: the workers that this process is."""
        self._ours = ours
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
        if now >= self._search_at and (await self._is_others() or await self.look()):
            self._search_at = now + SEARCH_EVERY

    async def remove(self, queue_ids: Sequence[str]) -> None:
        """These messages, if nobody is left. Raises Unavailable."""

        async def work(transaction: Transaction) -> None:
            transaction.add(*BY_INDEX)
            transaction.add(_REMOVE, (list(queue_ids),))

        await self._cell.change(work)

    async def _is_others(self) -> bool:
        (rows,) = await self._cell.read((FIRST_ALIVE, ()))
        return not rows or rows[0][0] not in self._ours()

    async def look(self) -> bool:
        """The next step of a search; whether it was the last one. Raises Unavailable."""
        if not self._messages_done:
            self._messages_done = await self._look_for_messages()
            return False
        if not await self._look_for_chunks():
            return False
        self._messages_done = False
        return True

    async def _look_for_messages(self) -> bool:
        *_, rows = await self._cell.read(BY_INDEX, _IN_ORDER, (_FORGOTTEN, (self._message_after, MESSAGES)))
        last, count, forgotten = rows[0]
        self.add(forgotten)
        self._message_after = last if count == MESSAGES else ""
        return bool(count < MESSAGES)

    async def _look_for_chunks(self) -> bool:
        async def sweep(transaction: Transaction) -> Rows:
            transaction.add(*BY_INDEX)
            transaction.add(*_IN_ORDER)
            return await transaction.fetch(_SWEEP, (self._content_after, CHUNKS))

        ((last, count),) = await self._cell.change(sweep)
        self._content_after = last if count == CHUNKS else _BEGINNING
        return bool(count < CHUNKS)
