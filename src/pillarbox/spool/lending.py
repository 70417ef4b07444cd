"""The embedded spool as one worker sees it: lease, wait, settle.

Searches run in a reader's thread, one at a time; what was lent when a search began is not lent by it, even if it was
settled meanwhile, since the search may still see the rows as they were.
"""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

from pillarbox.spool.base import Full, Lease, LeaseLost, Settlement, Unavailable, UnknownQueueId
from pillarbox.spool.content import CHUNK
from pillarbox.spool.due import Lane
from pillarbox.spool.leases import Worker
from pillarbox.spool.owner import Owner, spool_error
from pillarbox.spool.rows import Lent, Search, Settled, is_settled, lend, reload, settle, weight
from pillarbox.store.sqlite import Database, StoreError

LEASE_OCTETS = 2 * 1024 * 1024
"""Octets that one call of lease brings, about: content and addresses. A frame of the channel has its ceiling."""
_LANES = 100


class EmbeddedOutbox:
    """Outbox over the owner, for one worker."""

    def __init__(self, owner: Owner, name: str, *, local: bool = False) -> None:
        self._owner = owner
        self.worker = Worker(name, None if local else owner.loop.time())
        self._dismissed = False
        owner.workers.add(self.worker)

    def heartbeat(self) -> int:
        """The worker is alive. Returns its epoch: another one than before means that its leases were voided."""
        self.worker.seen = self._owner.loop.time()
        return self.worker.epoch

    def close(self) -> None:
        """The worker ended: its leases are free."""
        self._dismissed = True
        self._owner.dismiss(self.worker)
        self._owner.due.wake_all()

    async def lease(self, now: float, limit: int, skip: frozenset[str] = frozenset()) -> list[Lease]:
        """See Outbox.lease; fewer than ``limit`` also when they are LEASE_OCTETS."""
        owner = self._owner
        granted: list[Lease] = []
        async with owner.lending:
            self.worker.skip = skip
            octets = LEASE_OCTETS
            try:
                while len(granted) < limit and octets > 0 and not owner.paused:
                    asked = min(limit - len(granted), _LANES)
                    lanes, until = owner.due.due(now, skip, asked)
                    if not lanes:
                        break
                    found = await self._search(Search(lanes, skip, now, until, limit - len(granted), octets))
                    if self._dismissed:
                        self._hand_back(found)
                        raise LeaseLost("the worker ended")
                    granted += [owner.leases.grant(self.worker, lent) for lent in found]
                    octets -= sum(map(weight, found))
                    if len(lanes) < asked:
                        break
            except BaseException:
                for lease in granted:
                    self._give_back(lease.lease_id)
                raise
        return granted

    async def _search(self, search: Search) -> list[Lent]:
        owner = self._owner
        owner.due.search()
        following: dict[Lane, float | None] = {}
        try:
            found, following = await owner.read(partial(lend, search=search, held=dict(owner.leases.held)))
        finally:
            owner.due.learn(following)
        return found

    def _hand_back(self, found: list[Lent]) -> None:
        """What a search took out of the due index, and nobody was lent."""
        for lent in found:
            for recipient in lent.recipients:
                self._owner.due.touch((recipient.lane, lent.envelope.priority), recipient.due_at)

    async def wait_due(self, timeout: float) -> None:
        """See Outbox.wait_due. Lanes that the last lease was told to skip do not count."""
        owner = self._owner
        deadline = owner.loop.time() + timeout
        while (left := deadline - owner.loop.time()) > 0 and not self._dismissed:
            if owner.paused:
                await owner.due.wait(self.worker.skip, min(left, 1.0))
                continue
            next_due = owner.due.next_due(self.worker.skip)
            if next_due is not None:
                ahead = next_due - owner.clock()
                if ahead <= 0:
                    return
                left = min(left, ahead)
            await owner.due.wait(self.worker.skip, left)

    def extend(self, lease: Lease) -> bool:
        """See Outbox.extend."""
        return self._owner.leases.find(self.worker, lease.lease_id) is not None

    async def reclaim(self, leases: list[tuple[int, str, list[int]]]) -> list[int]:
        """Takes back leases of an earlier channel or owner: (lease id, queue id, keys). The ids that hold again.

        A delivery that goes on while the spool restarts, or the channel breaks, is then not made twice.
        """
        owner = self._owner
        regained = []
        async with owner.lending:
            for lease_id, queue_id, keys in leases:
                lent = await owner.read(partial(reload, queue_id=queue_id, keys=frozenset(keys)))
                if lent is not None and not self._dismissed and owner.leases.reclaim(self.worker, lease_id, lent):
                    regained.append(lease_id)
        return regained

    # -- content

    async def read_chunk(self, queue_id: str, offset: int) -> bytes:
        """Up to CHUNK octets of content from ``offset``; none at its end. Raises UnknownQueueId, Unavailable."""
        row = await self._owner.read(partial(_content_row, queue_id=queue_id, offset=offset))
        if row is None:
            raise UnknownQueueId(f"no message {queue_id}")
        name, octets = row
        if name is None:
            return octets or b""
        try:
            return await self._owner.files.run(self._owner.files.read, name, offset)
        except OSError as error:
            raise Unavailable(f"content of {queue_id}: {error}") from error

    async def open(self, queue_id: str) -> AsyncIterator[bytes]:
        """See Outbox.open."""
        offset = 0
        while octets := await self.read_chunk(queue_id, offset):
            yield octets
            offset += len(octets)

    # -- endings

    def settle_soon(self, lease_id: int, settlement: Settlement) -> "asyncio.Future[Settled]":
        """settle() as a future of the store: done when durable, or StoreError. Raises LeaseLost at once."""
        owner = self._owner
        held = owner.leases.find(self.worker, lease_id)
        if held is None or held.queue_id != settlement.queue_id:
            raise LeaseLost(f"lease of {settlement.queue_id} is void")
        owner.leases.pin(self.worker, lease_id)
        numbers = [owner.next_number() for _ in settlement.messages]
        now = owner.clock()

        def work(db: Database) -> Settled:
            settled = settle(db, settlement, now, numbers)
            if settled.finished:
                owner.remember(settlement.queue_id)
            return settled

        future = owner.store.write(work)
        future.add_done_callback(partial(self._settled, lease_id, settlement))
        return future

    def _settled(self, lease_id: int, settlement: Settlement, future: "asyncio.Future[Settled]") -> None:
        owner = self._owner
        owner.note(future)
        if future.cancelled() or future.exception() is not None:
            if self._dismissed:
                self._give_back(lease_id)
            else:
                owner.leases.unpin(self.worker, lease_id)
            return
        settled = future.result()
        held = owner.leases.end(lease_id)
        if held is not None:
            owner.free(held, settlement.outcomes.keys() | frozenset())
        for lane, due_at in settled.due:
            owner.due.touch(lane, due_at)
        if settled.content_file is not None:
            owner.files.discard_soon(settled.content_file)

    async def was_settled(self, settlement: Settlement) -> bool:
        """Whether a settlement whose lease is over was carried out before, and its reply got lost."""
        return await self._owner.read(partial(is_settled, settlement=settlement))

    async def settle(self, lease: Lease, settlement: Settlement) -> None:
        """See Outbox.settle."""
        try:
            await asyncio.shield(self.settle_soon(lease.lease_id, settlement))
        except LeaseLost:
            if not await self.was_settled(settlement):
                raise
        except StoreError as error:
            failure = spool_error(error)
            raise (Unavailable(str(error)) if isinstance(failure, Full) else failure) from error

    def give_back(self, lease_id: int) -> None:
        """release_lease() without waiting; nothing when the lease is not this worker's."""
        if self._owner.leases.find(self.worker, lease_id) is not None:
            self._give_back(lease_id)

    async def release_lease(self, lease: Lease) -> None:
        """See Outbox.release_lease."""
        self.give_back(lease.lease_id)

    def _give_back(self, lease_id: int) -> None:
        held = self._owner.leases.end(lease_id)
        if held is not None:
            self._owner.free(held)


def _content_row(db: Database, queue_id: str, offset: int) -> tuple[str | None, bytes | None] | None:
    row = db.execute(
        "SELECT m.content_file, substr(c.octets, ?, ?) FROM message m LEFT JOIN content c ON c.number = m.number "
        "WHERE m.queue_id = ?",
        (offset + 1, CHUNK, queue_id),
    ).fetchone()
    return None if row is None else (row[0], row[1])
