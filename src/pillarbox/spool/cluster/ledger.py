"""A cell as an operator sees it: list, show, hold, release, retry, expunge, depth."""

from collections.abc import Sequence

from pillarbox.spool.base import (
    Depth,
    Filter,
    LeaseLost,
    NewMessage,
    QueuedMessage,
    QueueIdTaken,
    State,
    Unavailable,
    UnknownQueueId,
)
from pillarbox.spool.cluster import verbs
from pillarbox.spool.cluster.cell import Cell
from pillarbox.spool.cluster.removal import Removal
from pillarbox.spool.cluster.rows import LATER, by_message, envelope_of, escaped, recipient_of
from pillarbox.spool.cluster.schema import BY_INDEX, UNLENT
from pillarbox.spool.cluster.settling import add_messages
from pillarbox.spool.meaning import PAGE, Change
from pillarbox.spool.operated import WholeVerbs
from pillarbox.spool.schema import GONE
from pillarbox.store.postgresql import Statement, Transaction

FOUND = 4 * PAGE
"""Messages that one search of a verb looks for: it may have to read the whole queue, however few there are."""
_COUNTED_FOR = 20
"""A count is used again for so many times what it cost: counting never takes more than a twentieth."""
_CHEAP = 10_000
"""Messages up to which every count is a fresh one."""


class ClusterLedger(WholeVerbs):
    """Ledger over a cell."""

    def __init__(self, cell: Cell, removal: Removal) -> None:
        self._cell, self._removal = cell, removal
        self._counted = Depth(0, {}, None, None)
        self._count_again_at = 0.0

    async def list(self, which: Filter, now: float, limit: int, after: str = "") -> Sequence[QueuedMessage]:
        """See Ledger.list."""
        listed: list[QueuedMessage] = []
        while len(listed) < limit:
            asked = min(PAGE, limit - len(listed))
            names = await self._find(which, now, after, asked)
            listed += await self._load(names)
            if len(names) < asked:
                break
            after = names[-1]
        return listed

    async def show(self, queue_id: str) -> QueuedMessage:
        """See Ledger.show."""
        for message in await self._load([escaped(queue_id)]):
            return message
        raise UnknownQueueId(f"no message {queue_id}")

    async def _find(self, which: Filter, now: float, after: str, limit: int) -> Sequence[str]:
        (rows,) = await self._cell.read(verbs.find(which, now, after, limit))
        return [queue_id for (queue_id,) in rows]

    async def _load(self, queue_ids: Sequence[str]) -> Sequence[QueuedMessage]:
        if not queue_ids:
            return ()
        _, found, rows = await self._cell.read(BY_INDEX, verbs.messages(queue_ids), verbs.recipients(queue_ids))
        recipients = by_message(rows)
        listed = []
        for row in found:
            of_message = recipients.get(row[0])
            if of_message is None:  # it left between the two
                continue
            waiting = tuple(recipient_of(values) for values in of_message if values[3] != GONE)
            leased = any(values[-1] for values in of_message)
            listed.append(QueuedMessage(envelope_of(row, of_message), waiting, leased))
        return listed

    async def change_page(
        self, verb: Change, which: Filter, now: float, after: str
    ) -> tuple[Sequence[str], str | None]:
        """A verb over the next FOUND messages after ``after``, PAGE to a transaction, so one over a million keeps
        nobody waiting: the ids changed, and where to go on (None: nowhere)."""
        names = await self._find(which, now, after, FOUND)
        changed: list[str] = []
        for start in range(0, len(names), PAGE):
            page = names[start : start + PAGE]

            async def work(transaction: Transaction, page: Sequence[str] = page) -> Statement:
                transaction.add(*BY_INDEX)
                transaction.add(UNLENT)
                transaction.mark()  # what a repeated verb finds done already is confirmed by the quorum as well
                return transaction.add(*verbs.change(verb, which, page, now))

            done = await self._cell.change(work)
            changed += sorted({queue_id for (queue_id,) in done.rows})
        return changed, names[-1] if len(names) == FOUND else None

    async def expunge(self, queue_id: str, bounces: tuple[NewMessage, ...] = ()) -> None:
        """See Ledger.expunge."""
        now, name = self._cell.clock(), escaped(queue_id)

        async def work(transaction: Transaction) -> bool:
            transaction.add(*BY_INDEX)
            transaction.add(UNLENT)
            transaction.add(verbs.LOCK, (name,))
            rows = await transaction.fetch(verbs.OF_A_MESSAGE, (name,))
            if not rows:
                transaction.mark()  # it may be gone by a deletion that nobody has confirmed
                return False
            if any(leased for (leased,) in rows):
                raise LeaseLost(f"{queue_id} is being delivered; try again")
            await add_messages(transaction, bounces, now)
            transaction.add(verbs.REMOVE, (name,))
            return True

        try:
            was_there = await self._cell.change(work)
        except QueueIdTaken as error:
            raise Unavailable(str(error)) from error
        if not was_there:
            raise UnknownQueueId(f"no message {queue_id}")
        self._removal.add([queue_id])

    async def depth(self, now: float) -> Depth:
        """See Ledger.depth. A count of a large spool may be some seconds old. ``free``: nobody can say."""
        loop = self._cell.loop
        began = loop.time()
        if began >= self._count_again_at:
            ((messages,),), states, oldest, ((released_at,),) = await self._cell.read(
                (verbs.COUNT_MESSAGES, ()),
                (verbs.COUNT_RECIPIENTS, ()),
                (verbs.OLDEST, ()),
                (verbs.OLDEST_RELEASED, (now,)),
            )
            counts: dict[str, int] = dict((state, count) for state, count in states)
            recipients = {state.value: counts.get(state.value, 0) for state in State}
            recipients[State.DUE.value] += counts.get(LATER, 0)
            waiting = [since for (since,) in [*oldest, (released_at,)] if since is not None]
            self._counted = Depth(messages, recipients, min(waiting, default=None), None)
            if messages > _CHEAP:
                self._count_again_at = loop.time() + _COUNTED_FOR * (loop.time() - began)
        return self._counted
