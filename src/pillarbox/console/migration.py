"""All of a spool's messages to another one, nothing lost and nothing doubled, however often it is cut off.

    moved = await migrate(source, restorer, "b", tell=print)    # "b": the cell there, "" for none

In three steps for each message: (1) taken at the source, which remembers for which spool, durably: nobody delivers it
there any more; (2) restored at the destination, which remembers that, in one transaction: a repeat is void, also
after its delivery; (3) removed at the source. Whoever is cut off repeats from (2).

ERRORS
    Refused: source and destination are one spool, or an earlier move went elsewhere and is not finished. What the
    spools raise (SpoolError): repeat it.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pillarbox.console.archives import moved
from pillarbox.spool.base import QueueIdTaken, Restorer, Source, Stored, UnknownQueueId

BATCH = 200
"""Messages that are carried, and removed where they came from, at a time."""


class Refused(Exception):
    """Nothing was moved; ``str()`` says why."""


@dataclass(slots=True)
class Moved:
    """``messages``: how many are there now that were here; ``refused``: queue ids of those that the destination
    cannot have, each with the reason: they stay taken."""

    messages: int = 0
    refused: dict[str, str] = field(default_factory=dict)


async def migrate(
    source: Source,
    restorer: Restorer,
    cell: str,
    *,
    tell: Callable[[int], None],
    waiting: Callable[[float], None] = lambda seconds: None,
) -> Moved:
    """Moves everything that nobody delivers now. ``waiting``: is told of a wait of so many seconds."""
    destination = await restorer.identity()
    if destination == await source.identity():
        raise Refused("source and destination are one and the same spool")
    before = await source.taken()
    if any(where != destination for where in before.values()):
        raise Refused(
            "an earlier move, to another spool, is not finished: repeat that one, or `pillarbox spool give-back`"
        )
    result, arrived = Moved(), list[str]()
    pending: Sequence[str] = list(before)
    while True:
        for start in range(0, len(pending), BATCH):
            page = pending[start : start + BATCH]
            arrived += await _carry(source, restorer, cell, page, result)
            tell(len(arrived))
        pending = await source.take(destination, BATCH)
        if not pending:
            break
    seconds = await source.quiet_in() if arrived else 0.0
    if seconds > 0:
        waiting(seconds)
        await asyncio.sleep(seconds)
    for start in range(0, len(arrived), BATCH):
        await source.remove(arrived[start : start + BATCH], destination)
    result.messages = len(arrived)
    return result


async def _carry(source: Source, restorer: Restorer, cell: str, page: Sequence[str], result: Moved) -> list[str]:
    """Brings taken messages to the destination: those that are there now, or nowhere any more."""
    arrived = set(page)
    async for stored in source.load(page):
        queue_id = stored.message.envelope.queue_id
        try:
            await _restore(restorer, stored, cell)
        except _Unfit as error:
            arrived.discard(queue_id)
            result.refused[queue_id] = str(error)
    return sorted(arrived)


class _Unfit(Exception):
    """This one cannot be moved."""


async def _restore(restorer: Restorer, stored: Stored, cell: str) -> None:
    message = moved(stored.message, cell)
    queue_id = message.envelope.queue_id
    writer = restorer.writer(queue_id)
    try:
        size = 0
        async for octets in stored.content:
            size += len(octets)
            await writer.write(octets)
        if size != stored.size:
            raise _Unfit(f"its content has {size} octets, not {stored.size}")
        if not await writer.restore(message) and not await restorer.restored(queue_id):
            raise _Unfit("the destination has this very message, and not from here")
    except (QueueIdTaken, UnknownQueueId, ValueError) as error:
        raise _Unfit(str(error)) from error
    finally:
        await writer.abandon()
