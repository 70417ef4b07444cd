"""The embedded spool as an operator sees it: list, show, hold, release, retry, expunge, depth."""

from collections.abc import Sequence
from functools import partial

from pillarbox.spool.base import Depth, Filter, LeaseLost, NewMessage, QueuedMessage, UnknownQueueId
from pillarbox.spool.due import Lane
from pillarbox.spool.meaning import PAGE, Change
from pillarbox.spool.operated import WholeVerbs
from pillarbox.spool.owner import Owner
from pillarbox.spool.rows import add_messages, content_file_of, remove
from pillarbox.spool.verbs import Found, change, count, find, load, number_of
from pillarbox.store.sqlite import Database

_COUNTED_FOR = 20
"""A count is used again for so many times what it cost: counting never takes more than a twentieth."""
_CHEAP = 10_000
"""Messages up to which every count is a fresh one."""


class EmbeddedLedger(WholeVerbs):
    """Ledger over the owner."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._messages = 0
        self._recipients: dict[str, int] = {}
        self._count_again_at = 0.0
        self._oldest_at: float | None = None

    async def list(self, which: Filter, now: float, limit: int, after: str = "") -> Sequence[QueuedMessage]:
        """See Ledger.list."""

        def work(db: Database) -> Sequence[Found]:
            return load(db, [number for _, number in find(db, which, now, after, limit)])

        return [self._queued(found) for found in await self._owner.read(work)]

    async def show(self, queue_id: str) -> QueuedMessage:
        """See Ledger.show."""

        def work(db: Database) -> Sequence[Found]:
            number = number_of(db, queue_id)
            return [] if number is None else load(db, [number])

        for found in await self._owner.read(work):
            return self._queued(found)
        raise UnknownQueueId(f"no message {queue_id}")

    def _queued(self, found: Found) -> QueuedMessage:
        return QueuedMessage(found.envelope, found.recipients, found.number in self._owner.leases.held)

    async def change_page(
        self, verb: Change, which: Filter, now: float, after: str
    ) -> tuple[Sequence[str], str | None]:
        """A verb over the next PAGE messages after ``after``, so that one over a million does not keep delivery
        waiting: the ids changed, and where to go on (None: nowhere)."""
        owner = self._owner
        messages = await owner.read(partial(find, which=which, now=now, after=after, limit=PAGE))
        if not messages:
            return (), None
        async with owner.lending:
            held = dict(owner.leases.held)
            ids, due = await owner.write(
                partial(change, verb=verb, which=which, messages=messages, held=held, now=now)
            )
        for lane, due_at in due:
            owner.due.touch(lane, due_at)
        return ids, messages[-1][0] if len(messages) == PAGE else None

    async def expunge(self, queue_id: str, bounces: tuple[NewMessage, ...] = ()) -> None:
        """See Ledger.expunge."""
        owner = self._owner
        numbers = [owner.next_number() for _ in bounces]
        now = owner.clock()
        async with owner.lending:
            number = await owner.read(partial(number_of, queue_id=queue_id))
            if number is None:
                raise UnknownQueueId(f"no message {queue_id}")
            if number in owner.leases.held:
                raise LeaseLost(f"{queue_id} is being delivered; try again")

            def work(db: Database) -> tuple[str | None, Sequence[tuple[Lane, float]]]:
                content_file = content_file_of(db, number)
                remove(db, number)
                owner.remember(queue_id)
                return content_file, add_messages(db, bounces, now, numbers)

            content_file, due = await owner.write(work)
        for lane, due_at in due:
            owner.due.touch(lane, due_at)
        if content_file is not None:
            owner.files.discard_soon(content_file)

    async def depth(self, now: float) -> Depth:
        """See Ledger.depth. A count of a large spool may be some seconds old."""
        loop = self._owner.loop
        began = loop.time()
        if began >= self._count_again_at:
            self._messages, self._recipients, self._oldest_at = await self._owner.read(partial(count, now=now))
            if self._messages > _CHEAP:
                self._count_again_at = loop.time() + _COUNTED_FOR * (loop.time() - began)
        return Depth(self._messages, dict(self._recipients), self._oldest_at, self._owner.space.free)
