"""Several cells as an operator sees them: one queue, in the order of the queue ids.

A verb about one queue id goes to the cell of its tag alone. A search goes to all; a cell that cannot be asked is left
out, and the verb ends with Partial, which says what the others had and which cells are missing, by name. So whoever
needs all of it (a copy of the queue) fails, and whoever shows it (an operator's list) can show what there is.

ERRORS
    Partial, Unavailable; UnknownCell: the tag names no cell of ours; otherwise as in base.Ledger.
"""

import asyncio
import heapq
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from pillarbox.message.envelope import tag_of
from pillarbox.spool.base import (
    CellState,
    Depth,
    Filter,
    NewMessage,
    Partial,
    QueuedMessage,
    SpoolError,
    Unavailable,
    UnknownCell,
    UnknownQueueId,
)
from pillarbox.spool.meaning import Change
from pillarbox.spool.operated import Operated, PagedLedger, WholeVerbs

T = TypeVar("T")

PATIENCE = 5.0
IMPATIENCE = 1.0
"""Seconds that a question to one of several cells may take: of one that is said to be well, or not to be."""


class CompositeLedger(WholeVerbs):
    """See the module's text. ``cells`` by name. Its verbs raise Partial."""

    def __init__(self, cells: Mapping[str, Operated]) -> None:
        self._cells = dict(cells)
        self._names = sorted(self._cells)

    # -- asking

    async def _ask(self, name: str, question: Callable[[PagedLedger], Awaitable[T]]) -> T:
        """Raises Unavailable, also when it takes too long, and what the cell's ledger raises."""
        cell = self._cells[name]
        if len(self._cells) == 1:
            return await question(cell.ledger)
        try:
            async with asyncio.timeout(PATIENCE if cell.unhealthy_reason() is None else IMPATIENCE):
                return await question(cell.ledger)
        except TimeoutError:
            raise Unavailable(cell.unhealthy_reason() or f"cell {name} does not answer") from None

    async def _ask_all(
        self, names: Sequence[str], question: Callable[[PagedLedger], Awaitable[T]]
    ) -> tuple[dict[str, T], dict[str, str]]:
        """What each said, and why others did not."""
        answers = await asyncio.gather(*(self._ask(name, question) for name in names), return_exceptions=True)
        said: dict[str, T] = {}
        missing: dict[str, str] = {}
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, Unavailable):
                missing[name] = str(answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                said[name] = answer
        return said, missing

    def _of(self, queue_id: str) -> Sequence[str]:
        """The cells in which it can be. Raises UnknownCell."""
        name = tag_of(queue_id)
        if not name:
            return self._names
        if name not in self._cells:
            have = ", ".join(self._names)
            raise UnknownCell(f"{queue_id} is of cell {name}, and no [[spool.cell]] has this name (there is {have})")
        return (name,)

    def _meant(self, which: Filter) -> Sequence[str]:
        """The cells that a filter is about. Raises UnknownCell."""
        if not which.queue_ids:
            return self._names
        return sorted({name for queue_id in which.queue_ids for name in self._of(queue_id)})

    # -- looking

    async def list(self, which: Filter, now: float, limit: int, after: str = "") -> Sequence[QueuedMessage]:
        """See Ledger.list. Raises Partial."""
        said, missing = await self._ask_all(self._meant(which), lambda ledger: ledger.list(which, now, limit, after))
        if not said:
            raise Unavailable("; ".join(missing.values()))
        found = list(heapq.merge(*said.values(), key=lambda message: message.envelope.queue_id))[:limit]
        if missing:
            raise Partial(found, missing)
        return found

    async def show(self, queue_id: str) -> QueuedMessage:
        """See Ledger.show."""
        return await self._first(queue_id, lambda ledger: ledger.show(queue_id))

    async def _first(self, queue_id: str, question: Callable[[PagedLedger], Awaitable[T]]) -> T:
        """The answer of the cell that has it."""
        away: SpoolError | None = None
        for name in self._of(queue_id):
            try:
                return await self._ask(name, question)
            except UnknownQueueId:
                continue
            except Unavailable as error:
                away = error
        raise away or UnknownQueueId(f"no message {queue_id}")

    async def depth(self, now: float) -> Depth:
        """See Ledger.depth: the sums over the cells that can be asked; ``cells`` has the others, too. Raises
        Unavailable when none can be."""
        said, missing = await self._ask_all(self._names, lambda ledger: ledger.depth(now))
        if not said:
            raise Unavailable("; ".join(missing.values()))
        recipients: Counter[str] = Counter()
        for depth in said.values():
            recipients.update(depth.recipients)
        room = [depth.free for depth in said.values() if depth.free is not None]
        return Depth(
            sum(depth.messages for depth in said.values()),
            dict(recipients),
            min((depth.oldest_at for depth in said.values() if depth.oldest_at is not None), default=None),
            sum(room) if len(room) == len(self._names) else None,
            tuple(state for name in self._names for state in self._states(name, said.get(name), missing)),
        )

    def _states(self, name: str, depth: Depth | None, missing: Mapping[str, str]) -> Sequence[CellState]:
        if depth is None:
            return (CellState(name, None, missing[name]),)
        return depth.cells or (CellState(name, depth.messages, self._cells[name].unhealthy_reason()),)

    # -- changing

    async def _change(self, verb: Change, which: Filter, now: float) -> Sequence[str]:
        changed: list[str] = []
        missing: dict[str, str] = {}
        after: str | None = ""
        while after is not None:
            try:
                ids, after = await self.change_page(verb, which, now, after)
            except Partial as partial:
                ids, after = partial.found
                missing |= partial.missing
            changed += ids
        if missing:
            raise Partial(sorted(changed), missing)
        return sorted(changed)

    async def change_page(
        self, verb: Change, which: Filter, now: float, after: str
    ) -> tuple[Sequence[str], str | None]:
        """See PagedLedger.change_page: one cell after the other. ``after`` is a cell's name, a space, and its own.
        Raises Partial."""
        names = self._meant(which)
        name, _, within = after.partition(" ")
        name = name or names[0]
        later = [each for each in names if each > name]
        following = f"{later[0]} " if later else None
        try:
            ids, rest = await self._ask(name, lambda ledger: ledger.change_page(verb, which, now, within))
        except Unavailable as error:
            if len(self._cells) == 1:
                raise
            raise Partial(((), following), {name: str(error)}) from error
        return ids, following if rest is None else f"{name} {rest}"

    async def expunge(self, queue_id: str, bounces: tuple[NewMessage, ...] = ()) -> None:
        """See Ledger.expunge."""
        await self._first(queue_id, lambda ledger: ledger.expunge(queue_id, bounces))
