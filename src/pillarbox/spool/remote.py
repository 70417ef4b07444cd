"""The spool as other processes see it: the Protocols of base.py over a control link.

    link = Link(path, errors=...); intake = RemoteIntake(link, settings.incoming); await link.start()

Make them before the link starts: each asks something at every new connection. ``close()`` ends what they do in the
background; the link stays its owner's.

A commit waits up to PATIENCE for a spool process that restarts, and is sent again under its queue id when the
channel broke before the reply; then it is Unavailable. Large content is written beside the channel (part.py), so it
does not depend on the spool process until its commit. Leases survive a break: they are claimed again at the next
connection before anything else is asked.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from pillarbox.control.channel import ChannelClosed, RemoteError
from pillarbox.control.frames import from_body
from pillarbox.control.link import LinkLike
from pillarbox.message.envelope import Envelope
from pillarbox.spool.base import (
    INLINE_LIMIT,
    Depth,
    Filter,
    Full,
    Lease,
    LeaseLost,
    NewMessage,
    Partial,
    QueuedMessage,
    QueueIdTaken,
    Settlement,
    SpoolError,
    Unavailable,
    UnknownCell,
    UnknownQueueId,
)
from pillarbox.spool.part import Incoming, PartWriter
from pillarbox.spool.wire import pack_envelope, pack_message, pack_settlement, unpack_lease
from pillarbox.telemetry.events import get_logger

PATIENCE = 5.0
"""Seconds that a request waits for a connection."""
HEARTBEAT = 5.0
FRESH = 25.0
"""A lease is counted on for so long after the last heartbeat that was answered; the owner waits 30 s."""

_BY_NAME: dict[str, type[SpoolError]] = {
    kind.__name__: kind for kind in (Full, Unavailable, QueueIdTaken, UnknownQueueId, UnknownCell, LeaseLost)
}
_BY_NAME["DiskFull"] = Full

log = get_logger("spool")


def _error(error: Exception, what: str) -> SpoolError:
    """This room's error for one of the channel's."""
    if isinstance(error, RemoteError):
        return _BY_NAME.get(error.kind, Unavailable)(str(error))
    return Unavailable(f"{what}: no connection to the spool")


async def _ask(link: LinkLike, verb: str, body: Any, *, repeat: bool = True, patience: float = PATIENCE) -> Any:
    try:
        return await link.request(verb, body, patience=patience, repeat=repeat)
    except (RemoteError, ChannelClosed) as error:
        raise _error(error, verb) from error


class _Background:
    """A call repeated every ``seconds`` from the first connection on."""

    def __init__(self, link: LinkLike, seconds: float) -> None:
        self._link, self._seconds = link, seconds
        self._task: asyncio.Task[None] | None = None
        link.on_connect(self._connected)

    async def start(self) -> None:
        """Nothing to wait for: whoever has the link starts it."""

    async def close(self) -> None:
        """Ends what runs in the background."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _connected(self) -> None:
        await self._greet()
        if self._task is None:
            self._task = asyncio.create_task(self._go_on(), name=type(self).__name__)

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            if self._link.connected:
                with contextlib.suppress(RemoteError, ChannelClosed):
                    await self._look()

    async def _greet(self) -> None:
        raise NotImplementedError

    async def _look(self) -> None:
        raise NotImplementedError


class RemoteIntake(_Background):
    """Intake over a link. ``incoming``: the spool's drop directory (EmbeddedSettings.incoming)."""

    def __init__(self, link: LinkLike, incoming: Path) -> None:
        super().__init__(link, 1.0)
        self._incoming = Incoming(incoming)
        self._status: tuple[str, str, int, int] = ("Unavailable", "no connection to the spool", 0, 0)
        self._heard_at = -PATIENCE

    async def _look(self) -> None:
        kind, text, small, large = await self._link.request("intake.status")
        self._status = (kind, text, small, large)
        self._heard_at = time.monotonic()

    _greet = _look

    def refusal(self, size: int) -> SpoolError | None:
        """See Intake.refusal; by what the spool said in the last second."""
        kind, text, small, large = self._status
        if not self._link.connected and time.monotonic() - self._heard_at > PATIENCE:
            return Unavailable("no connection to the spool")
        if kind:
            return _BY_NAME.get(kind, Unavailable)(text)
        if size > (small if size <= INLINE_LIMIT else large):
            return Full(f"no room for {size} octets above the reserve")
        return None

    def tag(self) -> str:
        """See Intake.tag."""
        return ""

    async def commit(self, envelope: Envelope, content: bytes) -> None:
        """See Intake.commit."""
        await _ask(self._link, "intake.commit", (pack_envelope(envelope), content))

    async def adopt(self, envelope: Envelope) -> None:
        """A large content that was written to incoming/ becomes a message; see Intake.commit."""
        await _ask(self._link, "intake.adopt", pack_envelope(envelope))

    def writer(self, queue_id: str) -> PartWriter:
        """See Intake.writer."""
        return PartWriter(self._incoming, self, queue_id)

    async def close(self) -> None:
        """Ends what runs in the background."""
        await super().close()
        await self._incoming.close()


class RemoteOutbox(_Background):
    """Outbox over a link; its channel is one worker of the spool process."""

    def __init__(self, link: LinkLike) -> None:
        super().__init__(link, HEARTBEAT)
        self._held: dict[int, tuple[str, tuple[int, ...]]] = {}  # what is reclaimed: queue id, keys
        self._epoch = 0
        self._answered_at = float("-inf")

    async def _greet(self) -> None:
        """Claims our leases again: the other side freed them with the channel, or never knew them."""
        asked_at = time.monotonic()
        body = [(lease_id, queue_id, keys) for lease_id, (queue_id, keys) in self._held.items()]
        self._epoch, regained = await self._link.request("outbox.reclaim", body)
        for lease_id, _, _ in body:
            if lease_id not in regained and self._held.pop(lease_id, None) is not None:
                log.warning("lease.lost", lease=lease_id)
        self._answered_at = asked_at

    async def _look(self) -> None:
        asked_at = time.monotonic()
        epoch = await self._link.request("outbox.heartbeat")
        if epoch != self._epoch:  # we were given up meanwhile
            await self._greet()
        else:
            self._answered_at = asked_at

    async def lease(self, now: float, limit: int, skip: frozenset[str] = frozenset()) -> list[Lease]:
        """See Outbox.lease."""
        body = (now, limit, tuple(skip))
        leases = [unpack_lease(lease) for lease in await _ask(self._link, "outbox.lease", body, repeat=False)]
        for lease in leases:
            self._held[lease.lease_id] = (lease.envelope.queue_id, tuple(r.key for r in lease.recipients))
        return leases

    async def wait_due(self, timeout: float) -> None:
        """See Outbox.wait_due; returns after a moment when there is no connection."""
        try:
            await self._link.request("outbox.wait", timeout, patience=timeout)
        except (ChannelClosed, RemoteError):
            await asyncio.sleep(min(timeout, 0.1))

    def extend(self, lease: Lease) -> bool:
        """See Outbox.extend."""
        fresh = self._link.connected and time.monotonic() - self._answered_at < FRESH
        return fresh and lease.lease_id in self._held

    async def open(self, queue_id: str) -> AsyncIterator[bytes]:
        """See Outbox.open."""
        offset = 0
        while octets := await _ask(self._link, "outbox.read", (queue_id, offset)):
            yield octets
            offset += len(octets)

    async def settle(self, lease: Lease, settlement: Settlement) -> None:
        """See Outbox.settle."""
        try:
            await _ask(self._link, "outbox.settle", (lease.lease_id, pack_settlement(settlement)))
        except Full as error:
            raise Unavailable(str(error)) from error
        except LeaseLost:
            self._held.pop(lease.lease_id, None)
            raise
        self._held.pop(lease.lease_id, None)

    async def release_lease(self, lease: Lease) -> None:
        """See Outbox.release_lease."""
        if self._held.pop(lease.lease_id, None) is not None:
            self._link.note("outbox.release", lease.lease_id)


class RemoteLedger:
    """Ledger over a link. A search over several cells raises Partial when some are away."""

    def __init__(self, link: LinkLike) -> None:
        self._link = link

    async def list(self, which: Filter, now: float, limit: int, after: str = "") -> Sequence[QueuedMessage]:
        """See Ledger.list. Raises Partial."""
        found: list[QueuedMessage] = []
        missing: dict[str, str] = {}
        while len(found) < limit:
            page = await _ask(self._link, "ledger.list", (which, now, limit - len(found), after))
            if isinstance(page, dict):
                missing |= page["missing"]
                page = page["messages"]
            if not page:
                break
            found += (from_body(QueuedMessage, message) for message in page)
            after = found[-1].envelope.queue_id
        if missing:
            raise Partial(found, missing)
        return found

    async def show(self, queue_id: str) -> QueuedMessage:
        """See Ledger.show."""
        return from_body(QueuedMessage, await _ask(self._link, "ledger.show", queue_id))

    async def hold(self, which: Filter, now: float) -> Sequence[str]:
        """See Ledger.hold."""
        return await self._change("ledger.hold", which, now)

    async def release(self, which: Filter, now: float, early: bool = False) -> Sequence[str]:
        """See Ledger.release."""
        return await self._change("ledger.release", which, now, early)

    async def retry(self, which: Filter, now: float, early: bool = False) -> Sequence[str]:
        """See Ledger.retry."""
        return await self._change("ledger.retry", which, now, early)

    async def _change(self, verb: str, which: Filter, now: float, early: bool = False) -> Sequence[str]:
        changed: list[str] = []
        missing: dict[str, str] = {}
        after: str | None = ""
        while after is not None:
            ids, after, *more = await _ask(self._link, verb, (which, now, after, early), repeat=False)
            changed += ids
            for named in more:
                missing |= named
        if missing:
            raise Partial(changed, missing)
        return changed

    async def expunge(self, queue_id: str, bounces: tuple[NewMessage, ...] = ()) -> None:
        """See Ledger.expunge."""
        body = (queue_id, [pack_message(message) for message in bounces])
        await _ask(self._link, "ledger.expunge", body, repeat=False)

    async def depth(self, now: float) -> Depth:
        """See Ledger.depth."""
        return from_body(Depth, await _ask(self._link, "ledger.depth", now))

    async def health(self) -> str | None:
        """The spool's unhealthy_reason()."""
        reason: str | None = await _ask(self._link, "ledger.health", None)
        return reason
