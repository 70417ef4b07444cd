"""One spool made of several cells: each message lives in one of them, which the tag of its queue id names.

    spool = CompositeSpool({"a": one, "b": other}, random=random.random)
    envelope = Envelope(queue_id(now, octets, spool.tag()), ...)
    await spool.commit(envelope, content)       # in the cell of the tag, nowhere else
    await spool.close()                         # and its cells

Pure composition: a cell is whatever has the methods of a spool. ``tag`` leaves out cells that take nothing now, and
among the others it prefers, by chance, those with little under way and quick commits: by chance, for many processes
that all chose the best one would choose the same. A message whose cell fails at its commit is refused (451): it may
be there all the same, and a second one elsewhere would be a double.

A cell that is away or slow delays what it holds and nothing else. Leases are taken from all cells in equal shares,
and what one leaves over goes to the others; one that does not answer in time is not waited for, and what it lends
then is handed out with the next call. A queue id without a tag (its message came from a spool without cells) is
looked for everywhere.

ERRORS
    Unavailable, Full: from commit as its cell says, from refusal when no cell takes anything. UnknownCell: the tag
    names no cell of ours. Otherwise as in spool.base.
"""

import asyncio
import random as chance
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Protocol

from pillarbox.message.envelope import Envelope, tag_of
from pillarbox.spool.assembled import WithLedger
from pillarbox.spool.base import (
    ContentWriter,
    Full,
    Intake,
    Lease,
    Outbox,
    Settlement,
    SpoolError,
    Unavailable,
    UnknownQueueId,
)
from pillarbox.spool.cluster.composite_ledger import CompositeLedger
from pillarbox.spool.due import rank
from pillarbox.spool.operated import Operated
from pillarbox.telemetry.events import get_logger

PATIENCE = 1.0
"""Seconds that a call of lease waits for a cell."""
ASK_AGAIN = 0.5
"""Seconds until a cell that could not say whether something is due is asked again."""
HALF_LIFE = 10.0
"""Seconds after which half of what a slow commit says of a cell is forgotten."""
QUICKEST = 0.001
"""Seconds: commits below it count as this, so that no cell gets everything."""
_WEIGHT = 0.2
"""Of the last commit in the mean of all."""

log = get_logger("spool")


class Member(Intake, Outbox, Operated, Protocol):
    """What a cell is here."""

    async def close(self) -> None: ...


class _Pace:
    """How long a cell's commits took lately, in seconds, and how many are under way."""

    __slots__ = ("_at", "_seconds", "under_way")

    def __init__(self) -> None:
        self._seconds, self._at = 0.0, 0.0
        self.under_way = 0

    def seconds(self, now: float) -> float:
        lately = self._seconds * 0.5 ** ((now - self._at) / HALF_LIFE)
        return lately if lately > QUICKEST else QUICKEST

    def load(self, now: float) -> float:
        return (1 + self.under_way) * self.seconds(now)

    def ended(self, began: float, now: float) -> None:
        self._seconds = (1 - _WEIGHT) * self.seconds(now) + _WEIGHT * (now - began)
        self._at = now


class CompositeSpool(WithLedger):
    """See the module's text. ``cells`` by name, one at least; ``random`` gives numbers from 0 to below 1; ``ledger``
    carries out the operator's verbs, a CompositeLedger if nothing else is given; ``closed`` names the cells, not all,
    that new mail does not go to."""

    def __init__(
        self,
        cells: Mapping[str, Member],
        *,
        random: Callable[[], float] = chance.random,
        ledger: CompositeLedger | None = None,
        closed: Collection[str] = (),
    ) -> None:
        self.ledger = ledger or CompositeLedger(cells)
        super().__init__(self.ledger)
        self._cells = dict(cells)
        self._names = tuple(self._cells)
        self._members = tuple(self._cells.values())
        self._takers = {name: cell for name, cell in self._cells.items() if name not in closed}
        self._paces = {name: _Pace() for name in self._cells}
        self._random = random
        self._turn = 0
        self._late: dict[int, asyncio.Task[list[Lease]]] = {}
        self._surplus: list[Lease] = []
        self._came = asyncio.Event()

    async def close(self) -> None:
        """Gives back what was lent too late, and closes the cells."""
        for task in self._late.values():
            task.cancel()
        await asyncio.gather(*self._late.values(), return_exceptions=True)
        await self._return(self._surplus)
        await asyncio.gather(*(member.close() for member in self._members))

    def unhealthy_reason(self) -> str | None:
        """See Spool.unhealthy_reason: what each cell says that says something, although others may go on."""
        reasons = [reason for member in self._members if (reason := member.unhealthy_reason()) is not None]
        return "; ".join(reasons) or None

    # -- Intake

    def tag(self) -> str:
        """See Intake.tag: the name of a cell that takes mail now, if one does."""
        if len(self._takers) == 1:
            return next(iter(self._takers))
        now = asyncio.get_running_loop().time()
        taking = [
            (name, 1 / self._paces[name].load(now))
            for name, member in self._takers.items()
            if member.refusal(0) is None
        ]
        left = self._random() * sum(weight for _, weight in taking)
        for name, weight in taking:
            left -= weight
            if left < 0:
                return name
        return taking[-1][0] if taking else next(iter(self._takers))

    def refusal(self, size: int) -> SpoolError | None:
        """See Intake.refusal: None when one cell takes it."""
        refusals = []
        for member in self._takers.values():
            refusal = member.refusal(size)
            if refusal is None:
                return None
            refusals.append(refusal)
        if len(refusals) == 1:
            return refusals[0]
        text = "; ".join(map(str, refusals))
        return Full(text) if all(isinstance(refusal, Full) for refusal in refusals) else Unavailable(text)

    async def commit(self, envelope: Envelope, content: bytes) -> None:
        """See Intake.commit; in the cell of the tag."""
        name = self._home(envelope.queue_id)
        pace = self._paces[name]
        loop = asyncio.get_running_loop()
        began = loop.time()
        pace.under_way += 1
        try:
            await self._cells[name].commit(envelope, content)
        finally:
            pace.under_way -= 1
            pace.ended(began, loop.time())

    def writer(self, queue_id: str) -> ContentWriter:
        """See Intake.writer."""
        return self._cells[self._home(queue_id)].writer(queue_id)

    def _home(self, queue_id: str) -> str:
        """Where it is committed: what has no tag, in the first cell. Raises Unavailable."""
        name = tag_of(queue_id) or self._names[0]
        if name not in self._cells:
            raise Unavailable(f"{queue_id}: no cell {name} is configured")
        return name

    # -- Outbox

    async def lease(self, now: float, limit: int, skip: frozenset[str] = frozenset()) -> list[Lease]:
        """See Outbox.lease. Raises Unavailable when no cell can be asked."""
        granted, self._surplus = self._surplus[:limit], self._surplus[limit:]
        self._came.clear()
        self._turn = (self._turn + 1) % len(self._members)
        order = [*range(self._turn, len(self._members)), *range(self._turn)]
        asked = [number for number in order if number not in self._late]
        failures: list[SpoolError] = []
        answered = False
        while asked and len(granted) < limit:
            shares = _shares(limit - len(granted), len(asked))
            try:
                found = await self._ask(now, dict(zip(asked, shares, strict=True)), skip)
            except BaseException:  # nobody gets what was granted so far: for the next call
                self._surplus += granted
                raise
            for number, share in zip(tuple(asked), shares, strict=True):
                if share == 0:
                    continue
                leases = found.get(number)
                if isinstance(leases, SpoolError):
                    failures.append(leases)
                elif leases is not None:
                    answered = True
                    granted += leases
                if not isinstance(leases, list) or len(leases) < share:
                    asked.remove(number)
        if failures and not answered and not granted:
            raise failures[0]
        granted.sort(key=_first_due)
        return granted

    async def _ask(
        self, now: float, shares: Mapping[int, int], skip: frozenset[str]
    ) -> dict[int, list[Lease] | SpoolError]:
        """What each cell lends, or its failure; nothing of one that is late."""
        tasks = {
            number: asyncio.create_task(self._members[number].lease(now, share, skip))
            for number, share in shares.items()
            if share
        }
        try:
            await asyncio.wait(tasks.values(), timeout=PATIENCE)
        except asyncio.CancelledError:
            for number, task in tasks.items():
                await self._withdraw(number, task)
            raise
        found: dict[int, list[Lease] | SpoolError] = {}
        for number, task in tasks.items():
            if not task.done():
                self._late[number] = task
                task.add_done_callback(partial(self._came_late, number))
                continue
            found[number] = self._answer(number, task)
        return found

    def _answer(self, number: int, task: "asyncio.Task[list[Lease]]") -> list[Lease] | SpoolError:
        """What a cell lends, or its failure. It must not take with it what others lent: nobody would deliver that."""
        try:
            return self._ours(number, task.result())
        except SpoolError as error:
            return error
        except Exception:  # our bug
            name = self._names[number]
            log.exception("cell.failed", cell=name, reason="lending failed")
            return Unavailable(f"cell {name}: lending failed")

    def _came_late(self, number: int, task: "asyncio.Task[list[Lease]]") -> None:
        del self._late[number]
        if task.cancelled():
            return
        leases = self._answer(number, task)
        if isinstance(leases, list):
            self._surplus += leases
            self._came.set()

    async def _withdraw(self, number: int, task: "asyncio.Task[list[Lease]]") -> None:
        """Nobody waits for it any more: what is lent is given back."""
        if task.done():
            if not task.cancelled() and task.exception() is None:
                await self._return(self._ours(number, task.result()))
        else:
            task.cancel()  # its cell gives back what came of it

    async def _return(self, leases: Iterable[Lease]) -> None:
        for lease in leases:
            await self.release_lease(lease)

    def _ours(self, number: int, leases: Iterable[Lease]) -> list[Lease]:
        """Under ids of which no two cells have the same."""
        many = len(self._members)
        return [replace(lease, lease_id=lease.lease_id * many + number) for lease in leases]

    def _theirs(self, lease: Lease) -> tuple[Member, Lease]:
        lease_id, number = divmod(lease.lease_id, len(self._members))
        return self._members[number], replace(lease, lease_id=lease_id)

    async def wait_due(self, timeout: float) -> None:
        """See Outbox.wait_due."""
        if self._surplus:
            return
        waits = [  # one that is late lends nothing more before it has answered
            asyncio.create_task(_due(member, timeout))
            for number, member in enumerate(self._members)
            if number not in self._late
        ]
        waits.append(asyncio.create_task(_set(self._came)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def extend(self, lease: Lease) -> bool:
        """See Outbox.extend."""
        member, theirs = self._theirs(lease)
        return member.extend(theirs)

    async def open(self, queue_id: str) -> AsyncIterator[bytes]:
        """See Outbox.open. Also of a message whose cell has another name by now: it can still be lent."""
        home = self._cells.get(tag_of(queue_id))
        for member in self._members if home is None else (home,):
            try:
                async for octets in member.open(queue_id):
                    yield octets
            except UnknownQueueId:
                continue
            return
        raise UnknownQueueId(f"no message {queue_id}")

    async def settle(self, lease: Lease, settlement: Settlement) -> None:
        """See Outbox.settle; in the lease's cell, bounces too."""
        member, theirs = self._theirs(lease)
        await member.settle(theirs, settlement)

    async def release_lease(self, lease: Lease) -> None:
        """See Outbox.release_lease."""
        member, theirs = self._theirs(lease)
        await member.release_lease(theirs)


def _shares(limit: int, many: int) -> list[int]:
    """``limit`` in ``many`` parts, the larger ones first."""
    each, over = divmod(limit, many)
    return [each + (number < over) for number in range(many)]


def _first_due(lease: Lease) -> tuple[float, str]:
    envelope = lease.envelope
    due_at = min((recipient.due_at for recipient in lease.recipients), default=0.0)
    return rank(due_at, envelope.priority), envelope.queue_id


async def _due(member: Member, timeout: float) -> None:
    """One that cannot be asked is asked again, for it may come back with much that is due, until the time is over."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + timeout
    while (left := ends_at - loop.time()) > 0:
        try:
            await member.wait_due(left)
            return
        except SpoolError:
            pass
        except Exception:  # our bug: to end here would say that something is due
            log.exception("cell.failed", reason="asking whether something is due failed")
        await asyncio.sleep(min(ASK_AGAIN, left))


async def _set(event: asyncio.Event) -> None:
    await event.wait()
