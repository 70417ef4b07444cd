"""What an operator's verbs need of a spool of any kind: its Ledger, whose changes come a page at a time.

    class EmbeddedLedger(WholeVerbs): ...      # with change_page, it has hold, release and retry

ERRORS
    None of its own; see base.Ledger. Must not import an implementation.
"""

from collections.abc import Sequence
from typing import Protocol

from pillarbox.spool.base import Depth, Filter, NewMessage, QueuedMessage
from pillarbox.spool.meaning import HOLD, RELEASE, RETRY, Change


class PagedLedger(Protocol):
    """A Ledger whose changes come a page at a time."""

    async def list(self, which: Filter, now: float, limit: int, after: str = "") -> Sequence[QueuedMessage]: ...

    async def show(self, queue_id: str) -> QueuedMessage: ...

    async def change_page(
        self, verb: Change, which: Filter, now: float, after: str
    ) -> tuple[Sequence[str], str | None]:
        """A verb over the next messages after ``after`` ("" at first): the queue ids changed, and the ``after`` to go
        on with, None at the end. What that text is, is the ledger's to say. Raises Partial with both."""
        ...

    async def expunge(self, queue_id: str, bounces: tuple[NewMessage, ...] = ()) -> None: ...

    async def depth(self, now: float) -> Depth: ...


class WholeVerbs:
    """hold, release and retry of a Ledger, from its pages."""

    async def change_page(
        self, verb: Change, which: Filter, now: float, after: str
    ) -> tuple[Sequence[str], str | None]:
        """See PagedLedger.change_page; the ledger's own."""
        raise NotImplementedError

    async def hold(self, which: Filter, now: float) -> Sequence[str]:
        """See Ledger.hold."""
        return await self._change(HOLD, which, now)

    async def release(self, which: Filter, now: float, early: bool = False) -> Sequence[str]:
        """See Ledger.release."""
        return await self._change(RELEASE._replace(early=early), which, now)

    async def retry(self, which: Filter, now: float, early: bool = False) -> Sequence[str]:
        """See Ledger.retry."""
        return await self._change(RETRY._replace(early=early), which, now)

    async def _change(self, verb: Change, which: Filter, now: float) -> Sequence[str]:
        changed: list[str] = []
        after: str | None = ""
        while after is not None:
            ids, after = await self.change_page(verb, which, now, after)
            changed += ids
        return changed


class Operated(Protocol):
    """What an operator's verbs need: a spool of either kind."""

    @property
    def ledger(self) -> PagedLedger:
        """Raises Unavailable when it is not there yet."""
        ...

    def unhealthy_reason(self) -> str | None: ...
