"""Messages that leave a cell for another spool, while others serve from it.

    source = CellSource(cell)                                   # a base.Source, as the cell's owner
    ids = await source.take(destination, 200)

What is taken has only recipients that are gone, and a row of ``taken`` that knows what they were: nobody lends it,
lists it or removes it. Its own row stays until nobody can be repeating its commit: that finds it, as ever.

ERRORS
    As base.Source.
"""

import json
from collections.abc import AsyncIterator, Sequence
from functools import partial

from pillarbox.spool.base import QueuedMessage, Stored
from pillarbox.spool.cluster import verbs
from pillarbox.spool.cluster.cell import Cell
from pillarbox.spool.cluster.reading import CellReader
from pillarbox.spool.cluster.removal import LINGER
from pillarbox.spool.cluster.rows import by_message, envelope_of, recipient_of
from pillarbox.spool.cluster.schema import BY_INDEX, FREE, UNLENT
from pillarbox.spool.schema import GONE
from pillarbox.store.postgresql import Transaction

_MORE = f"""
SELECT m.queue_id FROM message m
WHERE EXISTS (SELECT FROM recipient r WHERE r.queue_id = m.queue_id AND r.state <> '{GONE}')
AND NOT EXISTS (SELECT FROM recipient r WHERE r.queue_id = m.queue_id AND NOT {FREE})
ORDER BY m.queue_id LIMIT %s
"""  # noqa: S608  # constants
_LOCK_MESSAGES = "SELECT FROM message WHERE queue_id = ANY (%s) ORDER BY queue_id FOR UPDATE"
_LOCK_RECIPIENTS = "SELECT FROM recipient WHERE queue_id = ANY (%s) ORDER BY queue_id, key FOR UPDATE"
_STATES = f"SELECT r.queue_id, r.key, r.state, {FREE} FROM recipient r WHERE r.queue_id = ANY (%s)"  # noqa: S608  # constants
_TAKE = """
INSERT INTO taken (queue_id, destination, states, at)
SELECT t.queue_id, %s, t.states, clock_timestamp()
FROM json_to_recordset(%s::json) AS t(queue_id text, states text)
"""
_ALL_GONE = f"UPDATE recipient SET state = '{GONE}', leased_by = NULL, lease = NULL WHERE queue_id = ANY (%s)"  # noqa: S608  # a constant
_REMOVE = """
WITH mine AS MATERIALIZED (
    SELECT queue_id FROM taken WHERE queue_id = ANY (%s) AND destination = %s FOR UPDATE
), gone AS (
    DELETE FROM message m USING mine WHERE m.queue_id = mine.queue_id RETURNING m.content_id
), recipients AS (
    DELETE FROM recipient r USING mine WHERE r.queue_id = mine.queue_id
), chunks AS (
    DELETE FROM content_chunk c USING gone WHERE c.content_id = gone.content_id
), forgotten AS (
    DELETE FROM restored s USING mine WHERE s.queue_id = mine.queue_id
)
DELETE FROM taken t USING mine WHERE t.queue_id = mine.queue_id
"""
_GIVE_BACK = """
UPDATE recipient r SET state = s.value
FROM taken t CROSS JOIN LATERAL json_each_text(t.states::json) AS s
WHERE r.queue_id = t.queue_id AND r.key = s.key::int4
"""
_QUIET_IN = "SELECT coalesce(%s - extract(epoch FROM clock_timestamp() - max(at)), 0)::float8 FROM taken"
_ATTEMPTS = 5


class CellSource:
    """Source over a cell. ``linger``: seconds for which a commit may be repeated."""

    def __init__(self, cell: Cell, linger: float = LINGER) -> None:
        self._cell, self._linger = cell, linger
        self._reader = CellReader(cell)

    async def identity(self) -> str:
        """See Source.identity."""
        (((token,),),) = await self._cell.read(("SELECT token FROM identity", ()))
        return str(token)

    async def taken(self) -> dict[str, str]:
        """See Source.taken."""
        (rows,) = await self._cell.read(("SELECT queue_id, destination FROM taken ORDER BY queue_id", ()))
        return {queue_id: where for queue_id, where in rows}

    async def take(self, destination: str, limit: int) -> Sequence[str]:
        """See Source.take."""
        for _ in range(_ATTEMPTS):
            (rows,) = await self._cell.read((_MORE, (limit,)))
            found = [queue_id for (queue_id,) in rows]
            taken = await self._cell.change(partial(_take, found, destination)) if found else []
            if taken or not found:
                return taken
        return ()  # all of them were lent just then, again and again

    async def load(self, queue_ids: Sequence[str]) -> AsyncIterator[Stored]:
        """See Source.load."""
        names = list(queue_ids)
        _, found, rows, kept = await self._cell.read(
            BY_INDEX,
            verbs.messages(names),
            verbs.recipients(names),
            ("SELECT queue_id, states FROM taken WHERE queue_id = ANY (%s)", (names,)),
        )
        recipients = by_message(rows)
        waiting = {queue_id: json.loads(states) for queue_id, states in kept}
        for row in found:
            values, states = recipients.get(row[0]), waiting.get(row[0])
            if not values or not states:
                continue
            back = {"later": "due"}
            who = tuple(
                recipient_of((*each[:3], back.get(states[str(each[0])], states[str(each[0])]), *each[4:]))
                for each in values
                if str(each[0]) in states
            )
            stored = await self._reader.read(QueuedMessage(envelope_of(row, values), who, leased=False))
            if stored is not None:
                yield stored

    async def remove(self, queue_ids: Sequence[str], destination: str) -> None:
        """See Source.remove."""

        async def work(transaction: Transaction) -> None:
            transaction.add(*BY_INDEX)
            transaction.add(_LOCK_MESSAGES, (list(queue_ids),))
            transaction.add(_REMOVE, (list(queue_ids), destination))

        await self._cell.change(work)

    async def give_back(self) -> int:
        """See Source.give_back."""

        async def work(transaction: Transaction) -> int:
            rows = await transaction.fetch("SELECT queue_id FROM taken ORDER BY queue_id FOR UPDATE")
            names = [queue_id for (queue_id,) in rows]
            transaction.add(_LOCK_MESSAGES, (names,))
            transaction.add(_GIVE_BACK)
            transaction.add("DELETE FROM taken")
            return len(names)

        return await self._cell.change(work)

    async def quiet_in(self) -> float:
        """See Source.quiet_in."""
        (((seconds,),),) = await self._cell.read((_QUIET_IN, (self._linger,)))
        return max(0.0, float(seconds))


async def _take(found: list[str], destination: str, transaction: Transaction) -> list[str]:
    """Those of ``found`` that nobody delivers: taken."""
    transaction.add(*BY_INDEX)
    transaction.add(UNLENT)
    transaction.add(_LOCK_MESSAGES, (found,))
    await transaction.fetch(_LOCK_RECIPIENTS, (found,))
    # A statement of its own: who holds what is settled only now that nobody can change it.
    states: dict[str, dict[int, str]] = {}
    lent = set()
    for queue_id, key, state, free in await transaction.fetch(_STATES, (found,)):
        if not free:
            lent.add(queue_id)
        elif state != GONE:
            states.setdefault(queue_id, {})[key] = state
    ours = sorted(states.keys() - lent)
    rows = [{"queue_id": each, "states": json.dumps(states[each])} for each in ours]
    transaction.add(_TAKE, (destination, json.dumps(rows)))
    transaction.add(_ALL_GONE, (ours,))
    return ours
