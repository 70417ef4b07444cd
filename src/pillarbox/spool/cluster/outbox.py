"""A cell as one worker sees it: lease, wait, settle."""

import asyncio
import contextlib
import itertools
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from pillarbox.spool.base import Full, Lease, LeaseLost, Settlement, SpoolError, Unavailable, UnknownQueueId
from pillarbox.spool.cluster.batches import Batches, done, fail
from pillarbox.spool.cluster.cell import Cell, spool_error
from pillarbox.spool.cluster.removal import Removal
from pillarbox.spool.cluster.rows import RECIPIENT_COLUMNS, by_message, envelope_of, escaped, recipient_of
from pillarbox.spool.cluster.schema import BY_INDEX
from pillarbox.spool.cluster.settling import Result, Settling, carry_out, lost
from pillarbox.spool.cluster.taking import FIRST, Wanted, add_promotion, add_taking, is_due
from pillarbox.spool.cluster.workers import HEARTBEAT, Identity, Worker
from pillarbox.spool.schema import MESSAGE_COLUMNS
from pillarbox.store.errors import DiskFull, StoreError, Transient, Undone
from pillarbox.store.postgresql import Statement, Transaction
from pillarbox.telemetry.events import get_logger

LEASE_OCTETS = 2 * 1024 * 1024
"""Octets that one call of lease brings, about: content and addresses."""
MOST = 100
OCTETS = 8 * 1024 * 1024
"""Settlements, and octets of bounces, in one transaction."""
GRACE = 3.0
"""Seconds after trouble in which nothing is lent: workers that outlived it say so first, and keep their leases."""
_FIRST_LOOK, _LONGEST_LOOK = 0.02, 0.5
"""Seconds between two looks for what is due: after something was, and at most."""
_LOOKING = 10
"""How much longer than a look the pause after it is, at least: a long queue is not looked through all the time."""

_LOAD = (
    f"SELECT {MESSAGE_COLUMNS}, CASE WHEN m.content_id IS NULL THEN m.content END FROM message m "  # noqa: S608  # our own columns
    "WHERE m.queue_id = ANY (%s)"
)
_RECIPIENTS = f"SELECT {RECIPIENT_COLUMNS} FROM recipient r WHERE r.queue_id = ANY (%s) ORDER BY r.queue_id, r.key"  # noqa: S608  # as above
_OPEN = (
    "SELECT m.content, m.content_id, m.chunks FROM message m WHERE m.queue_id = %s "
    "AND EXISTS (SELECT FROM recipient r WHERE r.queue_id = m.queue_id)"
)
_CHUNK = "SELECT octets FROM content_chunk WHERE content_id = %s AND seq = %s"

log = get_logger("spool")


@dataclass(frozen=True, slots=True)
class _Held:
    """What one lease holds."""

    queue_id: str
    identity: Identity
    taking: int
    alone: bool


class ClusterOutbox:
    """Outbox over a cell, for one worker."""

    def __init__(self, cell: Cell, removal: Removal, name: str = "") -> None:
        self._cell, self._removal = cell, removal
        self._worker = Worker(name or f"{socket.gethostname()} pid {os.getpid()}")
        self._ids = itertools.count(int(time.time() * 1e6))
        self._held: dict[int, _Held] = {}
        self._skip: frozenset[str] = frozenset()
        self._after = FIRST
        self._taking = asyncio.Lock()
        self._settlements: Batches[Settling] = Batches(self._settle, most=MOST, octets=OCTETS)
        self._unreturned: list[Settling] = []
        self._tasks: set[asyncio.Task[list[Lease]]] = set()
        self._heart = asyncio.create_task(self._beat(), name="heartbeat")

    async def close(self) -> None:
        """Finishes what was begun; leases are free."""
        self._heart.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._heart
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))
        await self._settlements.finish()
        ids = self._worker.ids()
        with contextlib.suppress(SpoolError):
            await self._cell.change(lambda transaction: _leave(transaction, ids))

    # -- lending

    async def lease(self, now: float, limit: int, skip: frozenset[str] = frozenset()) -> list[Lease]:
        """See Outbox.lease; fewer than ``limit`` also when they are LEASE_OCTETS. Nothing while the cell is in
        trouble: an outcome could not be recorded. Raises Unavailable."""
        self._skip = skip
        self._removal.search(self._worker.ids)
        task = self._cell.loop.create_task(self._lease(now, limit, skip))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._give_back)
            raise

    def _give_back(self, task: "asyncio.Task[list[Lease]]") -> None:
        """Nobody waited for these."""
        if not task.cancelled() and task.exception() is None:
            for lease in task.result():
                self._return(lease.lease_id)

    async def _lease(self, now: float, limit: int, skip: frozenset[str]) -> list[Lease]:
        granted: list[Lease] = []
        octets = LEASE_OCTETS
        if self._paused():
            return granted
        async with self._taking:
            round_trip = self._after == FIRST  # all lanes were looked at, once we are at the end
            while len(granted) < limit and octets > 0 and self._cell.trouble is None:
                asked = limit - len(granted)
                try:
                    leases, recipients = await self._take(Wanted(now, asked, skip, octets, self._after))
                except Unavailable:
                    if not granted:
                        raise
                    break
                granted += leases
                octets -= sum(_weight(lease) for lease in leases)
                if self._after == FIRST and recipients < asked:  # nor had any lane more than was looked at
                    if round_trip:
                        break
                    round_trip = True
        return granted

    def _paused(self) -> bool:
        return self._cell.trouble is not None or self._cell.loop.time() - self._cell.recovered_at < GRACE

    async def _take(self, wanted: Wanted) -> tuple[list[Lease], int]:
        """Leases, and how many recipients are in them. Moves on to where the next one begins."""
        began = self._cell.loop.time()
        identity = self._worker.ready(began)
        identity.takings += 1
        taking = identity.takings

        async def work(transaction: Transaction) -> Statement:
            if began - identity.asked_at > HEARTBEAT:
                self._worker.enter(transaction, identity)
            return add_taking(transaction, wanted, identity.id, taking)

        try:
            rows = (await self._cell.write(work)).rows
        except StoreError as error:
            if not isinstance(error, Undone):  # they may be ours, and we do not know which
                self._worker.renew()
            raise _unavailable(error) from error
        if began - identity.asked_at > HEARTBEAT:
            identity.asked_at = began
        ranks: dict[str, float] = {}
        keys: dict[str, set[int]] = {}
        self._after = FIRST
        for rank, name, key in rows:
            if rank is None:
                self._after = (name, key)
            else:
                ranks[name] = rank
                keys.setdefault(name, set()).add(key)
        if not keys:
            return [], 0
        leases: list[Lease] = []
        try:
            leases = await self._load(identity, taking, keys)
        finally:  # what could not be read, or was asked of a server that is behind
            loaded = {lease.envelope.queue_id for lease in leases}
            self._unreturned += [
                Settling(name, identity.id, taking, False, None) for name in keys if name not in loaded
            ]
        leases.sort(key=lambda lease: (ranks[lease.envelope.queue_id], lease.envelope.queue_id))
        return leases, sum(map(len, keys.values()))

    async def _load(self, identity: Identity, taking: int, keys: Mapping[str, set[int]]) -> list[Lease]:
        names = list(keys)
        _, messages, rows = await self._cell.read(BY_INDEX, (_LOAD, (names,)), (_RECIPIENTS, (names,)))
        recipients = by_message(rows)
        leases = []
        for row in messages:
            of_message = recipients.get(row[0], [])
            if not keys[row[0]] <= {values[0] for values in of_message}:
                continue
            envelope = envelope_of(row, of_message)
            ours = tuple(recipient_of(values) for values in of_message if values[0] in keys[row[0]])
            lease = Lease(next(self._ids), envelope, ours, None if row[-1] is None else bytes(row[-1]))
            alone = len(envelope.forward_paths) == 1
            self._held[lease.lease_id] = _Held(row[0], identity, taking, alone)
            identity.leases.add(lease.lease_id)
            leases.append(lease)
        return leases

    async def wait_due(self, timeout: float) -> None:
        """See Outbox.wait_due. Domains that the last lease was told to skip do not count. Raises Unavailable."""
        loop = self._cell.loop
        ends_at = loop.time() + timeout
        pause = _FIRST_LOOK
        while True:
            began = loop.time()
            if not self._paused() and await self._look():
                return
            now = loop.time()
            if now >= ends_at:
                return
            await asyncio.sleep(min(max(pause, _LOOKING * (now - began)), ends_at - now))
            pause = min(pause * 1.5, _LONGEST_LOOK)

    async def _look(self) -> bool:
        """Whether something is due; what came due since is made so first."""
        now = self._cell.clock()
        ((rows,)) = await self._cell.read(is_due(now, self._skip))
        come, due = rows[0]
        if come and not due:

            async def promote(transaction: Transaction) -> None:
                add_promotion(transaction, now)

            await self._cell.change(promote)
            ((rows,)) = await self._cell.read(is_due(now, self._skip))
            due = rows[0][1]
        return bool(due)

    def extend(self, lease: Lease) -> bool:
        """See Outbox.extend."""
        held = self._held.get(lease.lease_id)
        return held is not None and self._worker.counts_on(held.identity, self._cell.loop.time())

    # -- content

    async def open(self, queue_id: str) -> AsyncIterator[bytes]:
        """See Outbox.open."""
        ((found),) = await self._cell.read((_OPEN, (escaped(queue_id),)))
        if not found and any(held.queue_id == queue_id for held in self._held.values()):
            raise Unavailable(f"{queue_id} is lent to us, and the cell does not have it: is it behind?")
        if not found:
            raise UnknownQueueId(f"no message {queue_id}")
        content, content_id, chunks = found[0]
        if content_id is None:
            yield bytes(content)
            return
        for seq in range(chunks):
            ((rows),) = await self._cell.read((_CHUNK, (content_id, seq)))
            if not rows:
                raise UnknownQueueId(f"the content of {queue_id} has left")
            yield bytes(rows[0][0])

    # -- endings

    async def settle(self, lease: Lease, settlement: Settlement) -> None:
        """See Outbox.settle."""
        if settlement.queue_id != lease.envelope.queue_id:
            raise LeaseLost(f"the lease is for {lease.envelope.queue_id}, not for {settlement.queue_id}")
        if self._cell.trouble is not None:
            raise Unavailable(self._cell.trouble)
        held = self._held.get(lease.lease_id)
        job = Settling(
            settlement.queue_id,
            held.identity.id if held is not None else 0,
            held.taking if held is not None else 0,
            len(lease.envelope.forward_paths) == 1,
            settlement,
        )
        try:
            self._settlements.put(job)
            await asyncio.shield(job.future)
        except Full as error:
            raise Unavailable(str(error)) from error
        except LeaseLost:
            self._end(lease.lease_id)
            raise
        self._end(lease.lease_id)

    def _end(self, lease_id: int) -> _Held | None:
        held = self._held.pop(lease_id, None)
        if held is not None:
            held.identity.leases.discard(lease_id)
        return held

    async def release_lease(self, lease: Lease) -> None:
        """See Outbox.release_lease. What the cell does not hear of now is told it later."""
        job = self._return(lease.lease_id)
        if job is not None:
            with contextlib.suppress(SpoolError):
                await asyncio.shield(job.future)

    def _return(self, lease_id: int) -> Settling | None:
        held = self._end(lease_id)
        if held is None:
            return None
        job = Settling(held.queue_id, held.identity.id, held.taking, held.alone, None)
        self._settlements.put(job)
        return job

    async def _settle(self, jobs: list[Settling]) -> None:
        now = self._cell.clock()

        async def work(transaction: Transaction) -> Result:
            return await carry_out(transaction, jobs, now)

        try:
            result = await self._cell.write(work)
        except (StoreError, SpoolError, ValueError) as error:
            if len(jobs) > 1 and not isinstance(error, Transient | DiskFull):
                for job in jobs:  # one of them is at fault
                    await self._settle([job])
                return
            self._unreturned += [job for job in jobs if job.settlement is None]
            fail(jobs, _unavailable(error) if isinstance(error, StoreError) else error)
            return
        self._removal.add(result.finished)
        for job in result.lost:
            fail([job], lost(job))
        for job in jobs:
            done(job, True)

    # -- being alive

    async def _beat(self) -> None:
        beaten_at = self._cell.loop.time()
        while True:
            await asyncio.sleep(1.0)
            if self._cell.loop.time() - beaten_at < HEARTBEAT and self._cell.recovered_at <= beaten_at:
                continue
            beaten_at = self._cell.loop.time()
            try:
                await self._beat_once()
            except SpoolError:
                continue  # the cell's own watch says so
            except Exception:  # our bug: without a heartbeat every lease is void
                log.exception("cell.failed", cell=self._cell.store.where, reason="the heartbeat failed")

    async def _beat_once(self) -> None:
        if any(identity.takings for identity in self._worker.identities()):
            asked_at = self._cell.loop.time()
            beat = await self._cell.change(self._worker.beat)
            for identity in self._worker.heard(asked_at, beat):
                if identity.leases:
                    log.warning("worker.lost", who=f"worker {identity.id}", leases=len(identity.leases))
        unreturned, self._unreturned = self._unreturned, []
        for job in unreturned:
            again = Settling(job.queue_id, job.holder, job.taking, job.alone, None)
            self._settlements.put(again)


async def _leave(transaction: Transaction, ids: list[int]) -> None:
    transaction.add("DELETE FROM worker WHERE id = ANY (%s)", (ids,))


def _weight(lease: Lease) -> int:
    return len(lease.content or b"") + 2 * sum(map(len, lease.envelope.forward_paths))


def _unavailable(error: StoreError) -> SpoolError:
    failure = spool_error(error)
    return Unavailable(str(error)) if isinstance(failure, Full) else failure
