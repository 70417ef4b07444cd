"""A spool made of an intake, an outbox and a ledger: each verb goes to the part that has it.

    class EmbeddedSpool(AssembledSpool): ...          # super().__init__(intake, outbox, ledger)
    class CompositeSpool(WithLedger): ...      # the operator's verbs alone are another's

ERRORS
    As the part says. LookupError: a process that lends nothing was asked to lend. Must not import an implementation.
"""

from collections.abc import AsyncIterator, Sequence

from pillarbox.message.envelope import Envelope
from pillarbox.spool.base import (
    ContentWriter,
    Depth,
    Filter,
    Intake,
    Lease,
    Ledger,
    NewMessage,
    Outbox,
    QueuedMessage,
    Settlement,
    SpoolError,
)


class WithLedger:
    """The operator's verbs, which another object carries out."""

    def __init__(self, ledger: Ledger) -> None:
        self._verbs = ledger

    async def list(self, which: Filter, now: float, limit: int, after: str = "") -> Sequence[QueuedMessage]:
        """See Ledger.list."""
        return await self._verbs.list(which, now, limit, after)

    async def show(self, queue_id: str) -> QueuedMessage:
        """See Ledger.show."""
        return await self._verbs.show(queue_id)

    async def hold(self, which: Filter, now: float) -> Sequence[str]:
        """See Ledger.hold."""
        return await self._verbs.hold(which, now)

    async def release(self, which: Filter, now: float, early: bool = False) -> Sequence[str]:
        """See Ledger.release."""
        return await self._verbs.release(which, now, early)

    async def retry(self, which: Filter, now: float, early: bool = False) -> Sequence[str]:
        """See Ledger.retry."""
        return await self._verbs.retry(which, now, early)

    async def expunge(self, queue_id: str, bounces: tuple[NewMessage, ...] = ()) -> None:
        """See Ledger.expunge."""
        await self._verbs.expunge(queue_id, bounces)

    async def depth(self, now: float) -> Depth:
        """See Ledger.depth."""
        return await self._verbs.depth(now)


class AssembledSpool(WithLedger):
    """See the module's text. ``outbox`` None: this process lends nothing."""

    def __init__(self, intake: Intake, outbox: Outbox | None, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._takes, self._lends = intake, outbox

    def _lending(self) -> Outbox:
        if self._lends is None:
            raise LookupError("this process lends nothing")
        return self._lends

    # -- Intake

    async def commit(self, envelope: Envelope, content: bytes) -> None:
        """See Intake.commit."""
        await self._takes.commit(envelope, content)

    def writer(self, queue_id: str) -> ContentWriter:
        """See Intake.writer."""
        return self._takes.writer(queue_id)

    def tag(self) -> str:
        """See Intake.tag."""
        return self._takes.tag()

    def refusal(self, size: int) -> SpoolError | None:
        """See Intake.refusal."""
        return self._takes.refusal(size)

    # -- Outbox

    async def lease(self, now: float, limit: int, skip: frozenset[str] = frozenset()) -> "list[Lease]":
        """See Outbox.lease."""
        return await self._lending().lease(now, limit, skip)

    async def wait_due(self, timeout: float) -> None:
        """See Outbox.wait_due."""
        await self._lending().wait_due(timeout)

    def extend(self, lease: Lease) -> bool:
        """See Outbox.extend."""
        return self._lending().extend(lease)

    def open(self, queue_id: str) -> AsyncIterator[bytes]:
        """See Outbox.open."""
        return self._lending().open(queue_id)

    async def settle(self, lease: Lease, settlement: Settlement) -> None:
        """See Outbox.settle."""
        await self._lending().settle(lease, settlement)

    async def release_lease(self, lease: Lease) -> None:
        """See Outbox.release_lease."""
        await self._lending().release_lease(lease)
