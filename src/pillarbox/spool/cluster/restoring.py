"""Whole messages brought back into a cell, with their recipients' states.

    writer = ClusterRestorer(cell).writer(queue_id)             # a base.RestoringWriter
    await writer.write(octets)
    restored = await writer.restore(message)                    # False: it is here already, or was

The message, what is known of its recipients, and that it was brought back are one transaction, as the owner, whose
table the last one is: a repeat after its delivery is void. One whose outcome is unknown is repeated, as a
commit is (intake.py): what is found then counts after a later write was confirmed.

ERRORS
    As base.RestoringWriter.
"""

import asyncio
from typing import Any

from pillarbox.message.envelope import Envelope
from pillarbox.spool.base import QueuedMessage, QueueIdTaken, State, Unavailable
from pillarbox.spool.cluster.cell import Cell, spool_error
from pillarbox.spool.cluster.intake import PATIENCE
from pillarbox.spool.cluster.rows import LATER, Chunked, Packed, digests, insertion, pack, to_json
from pillarbox.spool.cluster.upload import ChunkWriter
from pillarbox.spool.schema import GONE, RESTORED_FOR
from pillarbox.store.errors import StoreError, Transient
from pillarbox.store.postgresql import Transaction

_PAUSE = 0.2
_STATES = """
UPDATE recipient r SET state = c.state, due_at = c.due_at, attempts = c.attempts, last_reply = c.last_reply,
    last_attempt_at = c.last_attempt_at, delay_warned = c.delay_warned
FROM json_to_recordset(%s::json) AS c(queue_id text, key int4, state text, due_at float8, attempts int4,
    last_reply text, last_attempt_at float8, delay_warned bool)
WHERE r.queue_id = c.queue_id AND r.key = c.key
"""
_WAS_HERE = "SELECT 1 FROM restored WHERE queue_id = %s"
_REMEMBER = "INSERT INTO restored (queue_id) VALUES (%s) ON CONFLICT (queue_id) DO UPDATE SET at = now()"
_FORGET = "DELETE FROM restored WHERE at < now() - make_interval(secs => %s)"


class ClusterRestorer:
    """Restorer over a cell. ``again``: also what was brought back before and has left since."""

    def __init__(self, cell: Cell, *, again: bool = False) -> None:
        self._cell, self._again = cell, again

    def writer(self, queue_id: str) -> "ClusterRestoring":
        """See Restorer.writer."""
        return ClusterRestoring(self._cell, queue_id, again=self._again)

    async def restored(self, queue_id: str) -> bool:
        """See Restorer.restored."""
        (rows,) = await self._cell.read((_WAS_HERE, (queue_id,)))
        return bool(rows)

    async def identity(self) -> str:
        """See Restorer.identity."""
        (((token,),),) = await self._cell.read(("SELECT token FROM identity", ()))
        return str(token)

    async def close(self) -> None:
        """Nothing is begun here that goes on."""


class ClusterRestoring:
    """RestoringWriter over a cell."""

    def __init__(self, cell: Cell, queue_id: str, *, again: bool) -> None:
        self._cell, self._again = cell, again
        self._chunks = ChunkWriter(cell, self._commit, queue_id)
        self._message: QueuedMessage | None = None
        self._restored = False

    async def write(self, octets: bytes) -> None:
        """See RestoringWriter.write."""
        await self._chunks.write(octets)

    async def restore(self, message: QueuedMessage) -> bool:
        """See RestoringWriter.restore."""
        self._message = message
        await self._chunks.commit(message.envelope)
        return self._restored

    async def abandon(self) -> None:
        """See RestoringWriter.abandon."""
        await self._chunks.abandon()

    async def _commit(self, envelope: Envelope, content: bytes | Chunked) -> bool:
        cell, message = self._cell, self._message
        assert message is not None  # noqa: S101  (restore() set it; tells the type checker)
        if not message.recipients:
            raise ValueError(f"{envelope.queue_id}: nobody waits for it")
        if isinstance(content, bytes) and len(content) != envelope.size:
            raise Unavailable(f"the content of {envelope.queue_id} has {len(content)} octets, not {envelope.size}")
        refusal = cell.refusal()
        if refusal is not None:
            raise refusal
        now = cell.clock()
        packed, states = pack(envelope, content, now, now), to_json(_states(message, now))

        async def work(transaction: Transaction) -> bool:
            return await _add(transaction, packed, states, again=self._again)

        expires_at = cell.loop.time() + PATIENCE
        while True:
            try:
                self._restored = await cell.write(work)
                return self._restored
            except StoreError as error:
                if not isinstance(error, Transient) or cell.loop.time() >= expires_at:
                    raise spool_error(error) from error
                await asyncio.sleep(_PAUSE)


def _states(message: QueuedMessage, now: float) -> list[dict[str, Any]]:
    """Of every forward path: who is not among the recipients is gone."""
    waiting = {each.key: each for each in message.recipients}
    states = []
    for key in range(len(message.envelope.forward_paths)):
        each = waiting.get(key)
        later = each is not None and each.state is State.DUE and each.due_at > now
        states.append(
            {
                "queue_id": message.envelope.queue_id,
                "key": key,
                "state": GONE if each is None else LATER if later else each.state.value,
                "due_at": 0.0 if each is None else each.due_at,
                "attempts": 0 if each is None else each.attempts,
                "last_reply": "" if each is None else each.last_reply,
                "last_attempt_at": None if each is None else each.last_attempt_at,
                "delay_warned": each is not None and each.delay_warned,
            }
        )
    return states


async def _add(transaction: Transaction, packed: Packed, states: str, *, again: bool) -> bool:
    """Whether it was added. Raises QueueIdTaken, Unavailable."""
    known = [] if again else await transaction.fetch(_WAS_HERE, (packed.queue_id,))
    if not known and await transaction.fetch(*insertion([packed])):
        transaction.add(_STATES, (states,))
        transaction.add(_FORGET, (RESTORED_FOR,))
        transaction.add(_REMEMBER, (packed.queue_id,))
        return True
    found = await digests(transaction, [packed.queue_id])
    if packed.queue_id not in found and not known:  # chunks that a fail-over took
        raise Unavailable(f"the content of {packed.queue_id} is not whole")
    if found.get(packed.queue_id, packed.digest) != packed.digest:
        raise QueueIdTaken(f"queue id {packed.queue_id} names another message")
    transaction.mark()
    return False
