"""commit over a cell: what waits shares a transaction, and what is unknown is asked for again under its queue id.

A commit whose outcome is unknown (the connection ended, a fail-over) is repeated until its deadline. The row that is
found then is no proof: the transaction that finds it writes something of its own, and only when that is confirmed is
the message durable. At the deadline the answer is Unavailable, never success on hope.
"""

import asyncio
from dataclasses import dataclass, field

from pillarbox.message.envelope import Envelope
from pillarbox.spool.base import QueueIdTaken, SpoolError, Unavailable
from pillarbox.spool.cluster.batches import Batches, done, fail
from pillarbox.spool.cluster.cell import ATTEMPT, Cell, spool_error
from pillarbox.spool.cluster.rows import Chunked, Packed, digests, insertion, pack
from pillarbox.spool.cluster.upload import ChunkWriter
from pillarbox.spool.figures import COMMIT_SECONDS, COMMITTED
from pillarbox.store.errors import DiskFull, StoreError, Transient
from pillarbox.store.postgresql import Statement, Transaction

PATIENCE = 30.0
"""Seconds that a commit waits for a cell that fails over, and is repeated."""
MOST = 200
OCTETS = 8 * 1024 * 1024
"""Messages, and octets of them, in one transaction."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


@dataclass(slots=True, eq=False)
class _Commit:
    """A message on its way. ``expires_at``: loop time."""

    message: Packed
    began_at: float
    expires_at: float
    future: "asyncio.Future[bool]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def key(self) -> str:
        return self.message.queue_id

    @property
    def weight(self) -> int:
        return self.message.size + len(self.message.text)


class ClusterIntake:
    """Intake over a cell."""

    def __init__(self, cell: Cell, *, patience: float = PATIENCE, side_by_side: int = 2) -> None:
        self._cell = cell
        self._patience = patience
        self._batches: Batches[_Commit] = Batches(
            self._carry_out, most=MOST, octets=OCTETS, side_by_side=side_by_side
        )

    def tag(self) -> str:
        """See Intake.tag."""
        return ""

    def refusal(self, size: int) -> SpoolError | None:
        """See Intake.refusal; by what the last second showed."""
        return self._cell.refusal()

    async def commit(self, envelope: Envelope, content: bytes) -> None:
        """See Intake.commit."""
        await self.take(envelope, content)

    async def take(self, envelope: Envelope, content: bytes | Chunked) -> bool:
        """commit(), also of what is in chunks; False when the same message was there already."""
        refusal = self._cell.refusal()
        if refusal is not None:
            raise refusal
        now = self._cell.clock()
        message = pack(envelope, content, max(now, envelope.hold_until), now)
        began_at = self._cell.loop.time()
        job = _Commit(message, began_at, began_at + self._patience)
        self._batches.put(job)
        return await asyncio.shield(job.future)

    def writer(self, queue_id: str) -> ChunkWriter:
        """See Intake.writer."""
        return ChunkWriter(self._cell, self.take, queue_id)

    async def close(self) -> None:
        """Finishes what was begun."""
        await self._batches.finish()

    # -- a batch

    async def _carry_out(self, batch: list[_Commit]) -> None:
        pause = _FIRST_PAUSE
        while batch:
            left = min(job.expires_at for job in batch) - self._cell.loop.time()
            try:
                await self._try(batch, min(max(left, pause), ATTEMPT))
                return
            except Transient as error:
                batch = self._go_on_with(batch, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            except StoreError as error:
                await self._one_by_one(batch, error)
                return

    def _go_on_with(self, batch: list[_Commit], error: StoreError) -> list[_Commit]:
        now = self._cell.loop.time()
        late = [job for job in batch if job.expires_at <= now]
        fail(late, spool_error(error))
        return [job for job in batch if job.expires_at > now]

    async def _one_by_one(self, batch: list[_Commit], error: StoreError) -> None:
        """One of them is at fault: the others are committed."""
        if len(batch) == 1 or isinstance(error, DiskFull):
            fail(batch, spool_error(error))
            return
        for job in batch:
            await self._carry_out([job])

    async def _try(self, batch: list[_Commit], deadline: float) -> None:
        query, values = insertion([job.message for job in batch])

        async def insert(transaction: Transaction) -> Statement:
            return transaction.add(query, values)

        inserted = await self._cell.write(insert, deadline=deadline)
        added = {queue_id for (queue_id,) in inserted.rows}
        now = self._cell.loop.time()
        for job in batch:
            if job.key in added:
                COMMITTED.add()
                COMMIT_SECONDS.observe(now - job.began_at)
                done(job, True)
        rest = [job for job in batch if job.key not in added]
        if rest:
            await self._compare(rest, deadline)

    async def _compare(self, batch: list[_Commit], deadline: float) -> None:
        """What was there already: the same message, and durable by now, or another one."""

        async def look(transaction: Transaction) -> dict[str, bytes]:
            found = await digests(transaction, [job.key for job in batch])
            transaction.mark()
            return dict(found)

        found = await self._cell.write(look, deadline=deadline)
        for job in batch:
            digest = found.get(job.key)
            if digest == job.message.digest:
                done(job, False)
            elif digest is not None:
                fail([job], QueueIdTaken(f"queue id {job.key} names another message"))
            else:  # chunks that a fail-over took
                fail([job], Unavailable(f"the content of {job.key} is not whole"))
