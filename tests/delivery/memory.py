"""A small Outbox in memory, for tests of what delivery makes of a lease; the real spool has its own tests."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from pillarbox.message.envelope import Envelope, queue_id, tag_of
from pillarbox.spool.base import (
    Deferred,
    Failed,
    Lease,
    LeaseLost,
    Outcome,
    Recipient,
    Settlement,
    State,
    Unavailable,
    UnknownQueueId,
)
from pillarbox.spool.schema import domain_of, lane_of

CONTENT = b"From: a@example.org\r\nSubject: hello\r\n\r\n.dots\r\n..more\r\nend\r\n"
CHUNK = 65_536
_numbers = itertools.count(1)


def make_envelope(*forward_paths: str, content: bytes = CONTENT, **changes: object) -> Envelope:
    """An envelope as submission makes it, with an id of its own."""
    envelope = Envelope(
        queue_id=queue_id(time.time(), next(_numbers).to_bytes(10, "big")),
        reverse_path="sender@example.org",
        forward_paths=forward_paths or ("to@example.net",),
        received_at=time.time(),
        size=len(content),
        eight_bit=not content.isascii(),
        login="sender",
        site="example",
    )
    return replace(envelope, **changes)  # type: ignore[arg-type]  # a test's shorthand


class MemoryOutbox:
    """Everything is settled at once. ``settlements`` and ``outcomes`` show what delivery said.

    ``inline``: the content comes along with the lease; else it must be opened. ``holds``: what extend() says.
    ``settle_errors`` and ``lease_errors`` are raised first, one a call; cells in ``away`` neither lend nor settle.
    """

    def __init__(self, *, inline: bool = True, now: Callable[[], float] = time.time) -> None:
        self.inline = inline
        self.holds = True
        self.now = now
        self.contents: dict[str, bytes] = {}
        self.envelopes: dict[str, Envelope] = {}
        self.waiting: dict[str, dict[int, Recipient]] = {}
        self.leased: dict[int, Lease] = {}
        self.settlements: list[Settlement] = []
        self.history: list[tuple[str, str, Outcome]] = []
        self.released: list[Lease] = []
        self.skips: list[frozenset[str]] = []
        self.lent: list[str] = []
        self.lease_errors: list[Exception] = []
        self.settle_errors: list[Exception] = []
        self.away: set[str] = set()
        self.changed = asyncio.Event()
        self._due = asyncio.Event()
        self._lease_numbers = itertools.count(1)

    # -- for tests --

    def commit(self, envelope: Envelope, content: bytes = CONTENT) -> str:
        self.contents[envelope.queue_id] = content
        self.envelopes[envelope.queue_id] = envelope
        self.waiting[envelope.queue_id] = {
            key: Recipient(
                key,
                path,
                domain_of(path),
                State.DUE,
                envelope.received_at,
                0,
                "",
                None,
                delay_warned=False,
                notify=envelope.notify[key] if envelope.notify else "",
                original_recipient=envelope.original_recipients[key] if envelope.original_recipients else "",
                lane=lane_of(path, envelope.site),
            )
            for key, path in enumerate(envelope.forward_paths)
        }
        self._due.set()
        return envelope.queue_id

    def make_due(self) -> None:
        """As an operator's retry: everything that waits is due now."""
        for recipients in self.waiting.values():
            for key, recipient in recipients.items():
                recipients[key] = replace(recipient, due_at=0.0)
        self._due.set()

    def of(self, queue_id: str) -> dict[str, Outcome]:
        """The last outcome of each recipient, by forward path."""
        return {path: outcome for ident, path, outcome in self.history if ident == queue_id}

    async def until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def settled(self, count: int) -> None:
        """Waits for so many settlements in all."""
        await self.until(lambda: len(self.settlements) >= count)

    def bounces(self) -> list[tuple[Envelope, bytes]]:
        return [(m.envelope, m.content) for s in self.settlements for m in s.messages]

    # -- Outbox --

    async def lease(self, now: float, limit: int, skip: frozenset[str] = frozenset()) -> list[Lease]:
        await asyncio.sleep(0)
        if self.lease_errors:
            raise self.lease_errors.pop(0)
        self._due.clear()
        now = max(now, self.now())  # what was committed since the caller looked at its clock is due as well
        self.skips.append(skip)
        held = {(lease.envelope.queue_id, r.key) for lease in self.leased.values() for r in lease.recipients}
        leases: list[Lease] = []
        for ident, recipients in self.waiting.items():
            due = tuple(
                r
                for r in recipients.values()
                if r.due_at <= now and r.lane not in skip and r.state is State.DUE and (ident, r.key) not in held
            )
            if due and len(leases) < limit and tag_of(ident) not in self.away:
                lease = Lease(
                    next(self._lease_numbers),
                    self.envelopes[ident],
                    due,
                    self.contents[ident] if self.inline else None,
                )
                self.leased[lease.lease_id] = lease
                leases.append(lease)
                self.lent.append(ident)
        if leases:
            self.changed.set()
        return leases

    async def wait_due(self, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._due.wait()
        except TimeoutError:
            pass

    def extend(self, lease: Lease) -> bool:
        return self.holds and lease.lease_id in self.leased

    async def open(self, queue_id: str) -> AsyncIterator[bytes]:
        if queue_id not in self.contents:
            raise UnknownQueueId(queue_id)
        content = self.contents[queue_id]
        for start in range(0, len(content), CHUNK):
            yield content[start : start + CHUNK]
            await asyncio.sleep(0)

    async def settle(self, lease: Lease, settlement: Settlement) -> None:
        await asyncio.sleep(0)
        if self.settle_errors:
            self.changed.set()
            raise self.settle_errors.pop(0)
        if tag_of(settlement.queue_id) in self.away:
            raise Unavailable("away")
        if lease.lease_id not in self.leased:
            raise LeaseLost(settlement.queue_id)
        del self.leased[lease.lease_id]
        recipients = self.waiting[settlement.queue_id]
        for key, outcome in settlement.outcomes.items():
            recipient = recipients[key]
            self.history.append((settlement.queue_id, recipient.forward_path, outcome))
            if isinstance(outcome, Deferred):
                recipients[key] = replace(
                    recipient,
                    due_at=outcome.due_at,
                    attempts=recipient.attempts + outcome.tried,
                    last_reply=outcome.reason,
                    delay_warned=recipient.delay_warned or key in settlement.warned,
                )
            elif isinstance(outcome, Failed) and lease.envelope.is_bounce:
                recipients[key] = replace(recipient, state=State.DEAD)
            else:
                del recipients[key]
        self.settlements.append(settlement)
        for message in settlement.messages:
            self.commit(message.envelope, message.content)
        self.changed.set()

    async def release_lease(self, lease: Lease) -> None:
        await asyncio.sleep(0)
        self.leased.pop(lease.lease_id, None)
        self.released.append(lease)
        self._due.set()
        self.changed.set()
