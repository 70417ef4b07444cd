"""Settlements in a cell's tables: many in one transaction, each as spool.settling says.

The recipients that are ours are locked first, then all are read by one statement; what follows is one more round trip
that ends with COMMIT. Messages with several recipients are locked as a whole, since two settlements that each leave
the other's recipient would both not see that nobody is left.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pillarbox.spool.base import LeaseLost, NewMessage, QueueIdTaken, Settlement, State
from pillarbox.spool.cluster.rows import LATER, Packed, digests, insertion, pack, to_json
from pillarbox.spool.cluster.schema import BY_INDEX
from pillarbox.spool.schema import GONE
from pillarbox.spool.settling import Known, Plan, is_carried_out, plan
from pillarbox.store.postgresql import Transaction


@dataclass(slots=True, eq=False)
class Settling:
    """A settlement on its way, under the lease ``taking`` of the worker ``holder``. ``alone``: its message has one
    recipient. ``settlement`` None: the lease is given back untried."""

    queue_id: str
    holder: int
    taking: int
    alone: bool
    settlement: Settlement | None
    future: "asyncio.Future[bool]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def key(self) -> str:
        return self.queue_id

    @property
    def weight(self) -> int:
        messages = self.settlement.messages if self.settlement is not None else ()
        return sum(len(message.content) for message in messages)


class Row(NamedTuple):
    """A recipient as it is before."""

    known: Known
    holder: int | None
    taking: int | None
    is_bounce: bool


class _Change(NamedTuple):
    """What becomes of one recipient's row."""

    queue_id: str
    key: int
    state: str | None = None
    due_at: float | None = None
    reply: str | None = None
    tried: bool = False
    warned: bool = False


_COLUMNS = (
    "r.queue_id, r.key, CASE r.state WHEN 'later' THEN 'due' ELSE r.state END, r.due_at, r.domain, r.delay_warned, "
    "r.leased_by, r.lease, m.is_bounce"
)
_LOCK = "SELECT FROM message WHERE queue_id = ANY (%s) ORDER BY queue_id FOR UPDATE"
_OURS = "SELECT FROM recipient WHERE queue_id = ANY (%s) AND leased_by = ANY (%s) ORDER BY queue_id, key FOR UPDATE"
_ALL = f"SELECT {_COLUMNS} FROM recipient r JOIN message m USING (queue_id) WHERE r.queue_id = ANY (%s)"  # noqa: S608  # our own columns
_CHANGE = """
UPDATE recipient r SET
    state = coalesce(c.state, r.state), due_at = coalesce(c.due_at, r.due_at),
    last_reply = coalesce(c.reply, r.last_reply), attempts = r.attempts + c.attempts,
    last_attempt_at = coalesce(c.tried_at, r.last_attempt_at), delay_warned = r.delay_warned OR c.warned,
    leased_by = NULL, lease = NULL
FROM json_to_recordset(%s::json) AS c(queue_id text, key int4, state text, due_at float8, reply text, attempts int4,
    tried_at float8, warned bool)
WHERE r.queue_id = c.queue_id AND r.key = c.key
"""
_REMOVE = "DELETE FROM recipient WHERE queue_id = ANY (%s)"


class Result(NamedTuple):
    """What a batch led to: jobs that are void, and the queue ids of messages that have nobody left."""

    lost: Sequence[Settling]
    finished: Sequence[str]


async def carry_out(transaction: Transaction, jobs: Sequence[Settling], now: float) -> Result:
    """All of them; ``now`` by the clock that due times are in. Raises QueueIdTaken, ValueError."""
    known = await _read(transaction, jobs)
    lost: list[Settling] = []
    finished: list[str] = []
    changes: list[_Change] = []
    messages: list[Packed] = []
    repeated = False
    for job in jobs:
        rows = known.get(job.queue_id, {})
        held = {key for key, row in rows.items() if (row.holder, row.taking) == (job.holder, job.taking)}
        if not held or not _reaches(job.settlement, rows, held):
            if job.settlement is not None and not _was_carried_out(job.settlement, rows):
                lost.append(job)
            repeated = True
            continue
        made = plan(
            job.settlement or Settlement(job.queue_id, {}),
            {key: row.known for key, row in rows.items()},
            is_bounce=next(iter(rows.values())).is_bounce,
        )
        if made.finished:
            finished.append(job.queue_id)
        else:
            changes += _changes(job.queue_id, made, held, now)
        if made.messages and job.settlement is not None:
            messages += [_packed(message, now) for message in job.settlement.messages]
    if messages:
        await _add(transaction, messages)
    if changes:
        transaction.add(_CHANGE, (to_json([_as_json(change, now) for change in changes]),))
    if finished:
        transaction.add(_REMOVE, (finished,))
    if repeated:  # what is found done is known to be durable only after something later is
        transaction.mark()
    return Result(lost, finished)


async def _read(transaction: Transaction, jobs: Sequence[Settling]) -> dict[str, dict[int, Row]]:
    transaction.add(*BY_INDEX)
    shared = [job.queue_id for job in jobs if not job.alone]
    if shared:
        transaction.add(_LOCK, (shared,))
    queue_ids = [job.queue_id for job in jobs]
    ours = list({job.holder for job in jobs})
    transaction.add(_OURS, (queue_ids, ours))
    # whoever was not ours by then may be now, for we lend meanwhile, and is there all the same
    rows = await transaction.fetch(_ALL, (queue_ids,))
    known: dict[str, dict[int, Row]] = {}
    for queue_id, key, state, due_at, lane, warned, holder, taking, is_bounce in rows:
        row = Row(Known(state, due_at, lane, warned), holder, taking, is_bounce)
        known.setdefault(queue_id, {})[key] = row
    return known


def _reaches(settlement: Settlement | None, rows: dict[int, Row], held: set[int]) -> bool:
    """Whether each recipient that a settlement speaks of is held, or gone."""
    if settlement is None:
        return True
    return all(key in held or key not in rows or rows[key].known.state == GONE for key in settlement.outcomes)


def _was_carried_out(settlement: Settlement, rows: dict[int, Row]) -> bool:
    return is_carried_out(settlement, {key: row.known for key, row in rows.items()})


def _changes(queue_id: str, made: Plan, held: set[int], now: float) -> Iterator[_Change]:
    """One for each recipient that the lease holds."""
    for key in held:
        warned = key in made.warned
        if key in made.leaving:
            yield _Change(queue_id, key, GONE, tried=True)
        elif (deferred := made.postponed.get(key)) is not None:
            state = LATER if deferred.due_at > now else State.DUE.value
            yield _Change(queue_id, key, state, deferred.due_at, deferred.reason, deferred.tried, warned)
        elif (failed := made.dead.get(key)) is not None:
            yield _Change(queue_id, key, State.DEAD.value, None, failed.reason, True, warned)
        else:
            yield _Change(queue_id, key, warned=warned)


def _as_json(change: _Change, now: float) -> dict[str, Any]:
    counts = change.tried and change.state != GONE
    return {
        "queue_id": change.queue_id,
        "key": change.key,
        "state": change.state,
        "due_at": change.due_at,
        "reply": change.reply,
        "attempts": int(counts),
        "tried_at": now if change.tried else None,
        "warned": change.warned,
    }


def _packed(message: NewMessage, now: float) -> Packed:
    """A message of our own, due at once."""
    return pack(message.envelope, message.content, now, now)


async def add_messages(transaction: Transaction, messages: Sequence[NewMessage], now: float) -> None:
    """Messages of our own, due at once. Raises QueueIdTaken, ValueError."""
    if messages:
        await _add(transaction, [_packed(message, now) for message in messages])


async def _add(transaction: Transaction, messages: Sequence[Packed]) -> None:
    added = {queue_id for (queue_id,) in await transaction.fetch(*insertion(messages))}
    rest = [message for message in messages if message.queue_id not in added]
    if rest:
        found = await digests(transaction, [message.queue_id for message in rest])
        for message in rest:
            if found.get(message.queue_id) != message.digest:
                raise QueueIdTaken(f"queue id {message.queue_id} names another message")


def lost(job: Settling) -> LeaseLost:
    """What its caller is told."""
    return LeaseLost(f"lease of {job.queue_id} is void")
