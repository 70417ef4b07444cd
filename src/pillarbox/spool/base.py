"""What a spool promises, in small Protocols, one for each who uses it.

A message is durable when ``commit`` returns, and it ends delivered or bounced: ``settle`` takes outcomes and the
bounces they cause in one transaction. Delivery is at least once: an attempt whose settlement was lost is made again.

Who normalises: nobody here; paths are stored as given. Who retries: delivery; a spool only keeps ``due_at``. What
is atomic: one commit; one settle; one operator's verb per message.

Two implementations: embedded (SQLite, owned by the spool process; others reach it over a channel, see remote.py)
and cluster (PostgreSQL; cluster/composite.py makes one spool of several cells).
tests/contract/test_spool.py runs over each.

ERRORS
    Unavailable: the spool cannot say now; nothing was promised (a commit may still have happened: repeat it under
    the same queue id or answer 451). Full: below its reserve; only settle, expunge and reading go on.
    Partial: of several cells some cannot say; what the others said is with it.
    QueueIdTaken: another message has this id. UnknownQueueId; UnknownCell: nor is there its cell. LeaseLost: the
    lease is void.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from pillarbox.message.envelope import Envelope


class SpoolError(Exception):
    """Base of the room's errors."""


class Unavailable(SpoolError):
    """The spool cannot say now (451 4.3.2)."""


class Partial(Unavailable):
    """An operator's verb that some cells could not be asked. ``found``: what the verb returns of the others;
    ``missing``: those cells' names, each with the reason."""

    def __init__(self, found: Any, missing: dict[str, str]) -> None:
        super().__init__("; ".join(f"cell {name} cannot be asked: {reason}" for name, reason in missing.items()))
        self.found, self.missing = found, missing


class Full(SpoolError):
    """Below the reserve (452 4.3.1)."""


class QueueIdTaken(SpoolError):
    """The queue id names another message."""


class UnknownQueueId(SpoolError):
    """No message has this queue id."""


class UnknownCell(UnknownQueueId):
    """The queue id's tag names no cell that is configured."""


class LeaseLost(SpoolError):
    """The lease is void: another worker may hold it by now."""


class State(StrEnum):
    """A recipient's state. Delivered and bounced recipients are gone from the spool."""

    DUE = "due"  # waits for its due time, or is being tried
    HELD = "held"  # waits for the operator's release
    DEAD = "dead"  # a bounce that failed: waits for the operator (never a bounce for a bounce)


@dataclass(frozen=True, slots=True)
class Delivered:
    """The next hop took the recipient. ``reply`` as received ("250 2.0.0 ok"), ``hop`` its name."""

    reply: str
    hop: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """Try again at ``due_at`` (seconds since the epoch). ``tried``: it was an attempt, and counts as one; else the
    next hop was left alone, and ``reason`` is why."""

    reason: str
    hop: str
    due_at: float
    tried: bool = True


@dataclass(frozen=True, slots=True)
class Failed:
    """Given up; a bounce tells the sender. ``reason`` is the reply or our own words, ``status`` like "5.1.1"."""

    reason: str
    hop: str
    status: str


Outcome = Delivered | Deferred | Failed


@dataclass(frozen=True, slots=True)
class Recipient:
    """Our record of one forward path. ``key`` is its number within the message, from 0, in RCPT order."""

    key: int
    forward_path: str
    domain: str  # lower case; "" for <Postmaster>
    state: State
    due_at: float
    attempts: int
    last_reply: str  # of the last attempt, "" before the first
    last_attempt_at: float | None
    delay_warned: bool
    notify: str = ""  # as in Envelope.notify
    original_recipient: str = ""  # as in Envelope.original_recipients
    lane: str = field(default="", compare=False)  # where it waits: schema.lane_of(), as it is stored


@dataclass(frozen=True, slots=True)
class Lease:
    """A message lent to one worker with those of its recipients that are due and were free.

    ``content`` holds the whole content when it is small enough to come along, else None: read it with ``open``.
    """

    lease_id: int
    envelope: Envelope
    recipients: tuple[Recipient, ...]
    content: bytes | None


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message that settle commits together with the outcomes that caused it (bounce, delay warning)."""

    envelope: Envelope
    content: bytes


@dataclass(frozen=True, slots=True)
class Settlement:
    """What one attempt leads to. Repeatable: settling a recipient that is gone changes nothing.

    Attributes:
        outcomes: by recipient key. Failed of a bounce (envelope.is_bounce) becomes State.DEAD instead of leaving.
        messages: committed in the same transaction, due at once.
        warned: keys for which a delay warning is among ``messages``.
    """

    queue_id: str
    outcomes: dict[int, Outcome]
    messages: tuple[NewMessage, ...] = ()
    warned: frozenset[int] = frozenset()


class ContentWriter(Protocol):
    """Takes the content of one message in chunks; back-pressure by awaiting."""

    async def write(self, octets: bytes) -> None:
        """Raises Unavailable, Full."""
        ...

    async def commit(self, envelope: Envelope) -> None:
        """Makes content and envelope durable; see Intake.commit."""
        ...

    async def abandon(self) -> None:
        """Forgets what was written. Never raises."""
        ...


class Intake(Protocol):
    """What the submission role may do: append, nothing else."""

    async def commit(self, envelope: Envelope, content: bytes) -> None:
        """Returns only when envelope and content are on stable storage; recipients are due at once, or at hold_until.

        Repeating it with the same envelope is success, not a second message. Raises Unavailable, Full,
        QueueIdTaken.
        """
        ...

    def writer(self, queue_id: str) -> ContentWriter:
        """For content too large to hold (``INLINE_LIMIT``): stream it, then commit."""
        ...

    def tag(self) -> str:
        """Cheap, no I/O: what the queue id of the next message ends with (message.envelope.queue_id): the name of the
        cell that is to hold it; "" when the spool has no cells."""
        ...

    def refusal(self, size: int) -> SpoolError | None:
        """Cheap, no I/O: Full or Unavailable when a message of ``size`` octets would be refused now."""
        ...


INLINE_LIMIT = 262_144
"""Octets of content up to which commit(envelope, content) is used; above it, writer()."""


class Outbox(Protocol):
    """What the delivery role may do: lend, read and settle."""

    async def lease(self, now: float, limit: int, skip: frozenset[str] = frozenset()) -> list[Lease]:
        """Up to ``limit`` messages with recipients due at ``now`` whose lane is not in ``skip``, oldest due first;
        a step of priority (RFC 6710) weighs as much as due.STEP seconds of waiting. Of several cells, each its share.

        A lease belongs to this worker until settled or released; it is void when the worker's heartbeat is 30 s
        old or its channel ended.
        """
        ...

    async def wait_due(self, timeout: float) -> None:
        """Returns when something may be due that was not leased before, or after ``timeout`` seconds."""
        ...

    def extend(self, lease: Lease) -> bool:
        """Whether the lease still holds: the heartbeat is fresh. Ask before a final dot; no I/O."""
        ...

    def open(self, queue_id: str) -> AsyncIterator[bytes]:
        """The content in chunks. Raises UnknownQueueId, Unavailable."""
        ...

    async def settle(self, lease: Lease, settlement: Settlement) -> None:
        """Outcomes and messages in one transaction; ends the lease. Raises LeaseLost, Unavailable (repeat it)."""
        ...

    async def release_lease(self, lease: Lease) -> None:
        """Gives it back untried."""
        ...


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages an operator means; conditions are joined by and. Text matches whole addresses, or with
    ``*`` as a wildcard, case-insensitively.

    ``age``: received at least so many seconds ago. ``future``: recipients that is_future() is true of.
    """

    queue_ids: tuple[str, ...] = ()
    sender: str | None = None
    recipient: str | None = None
    domain: str | None = None
    login: str | None = None
    state: State | None = None
    age: float | None = None
    future: bool = False


def is_future(envelope: Envelope, recipient: Recipient, now: float) -> bool:
    """Whether a recipient waits for the time that the sender asked for (RFC 4865): not for another try, and not since
    an operator sent it early."""
    return recipient.attempts == 0 and envelope.hold_until > now and recipient.due_at >= envelope.hold_until


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """What list and show print."""

    envelope: Envelope
    recipients: tuple[Recipient, ...]
    leased: bool


@dataclass(frozen=True, slots=True)
class CellState:
    """One cell. ``messages``: None when it cannot be asked; ``reason``: why it is not to be relied on, None when it
    is; ``size``: octets of its database, None when nobody looked; ``max_size``: its limit, None for none."""

    name: str
    messages: int | None
    reason: str | None = None
    size: int | None = None
    max_size: int | None = None


@dataclass(frozen=True, slots=True)
class Depth:
    """The queue in numbers. ``oldest_at``: since when the first message waits, counted from its acceptance or from
    the release time that its sender asked for, None when none does; ``free`` octets left on its file system or, of
    cells, to their limits, None where there is none; ``cells``: each of them, also those that were not counted."""

    messages: int
    recipients: dict[str, int]  # by State
    oldest_at: float | None
    free: int | None
    cells: tuple[CellState, ...] = ()


class Ledger(Protocol):
    """What an operator may do. Each verb returns the ids it changed; leased recipients are skipped."""

    async def list(self, which: Filter, now: float, limit: int, after: str = "") -> Sequence[QueuedMessage]:
        """By queue id, after ``after`` (keyset paging)."""
        ...

    async def show(self, queue_id: str) -> QueuedMessage:
        """Raises UnknownQueueId."""
        ...

    async def hold(self, which: Filter, now: float) -> Sequence[str]: ...

    async def release(self, which: Filter, now: float, early: bool = False) -> Sequence[str]:
        """HELD and DEAD become due now; what is_future() is true of, at its sender's time, or now with ``early``."""
        ...

    async def retry(self, which: Filter, now: float, early: bool = False) -> Sequence[str]:
        """Due now, whatever the schedule said; what is_future() is true of only with ``early``. What is lent is left
        alone: the attempt that is under way is the retry, and its outcome stands."""
        ...

    async def expunge(self, queue_id: str, bounces: tuple[NewMessage, ...] = ()) -> None:
        """Removes the message and, in the same transaction, commits bounces. Raises UnknownQueueId, LeaseLost
        (being delivered: try again)."""
        ...

    async def depth(self, now: float) -> Depth: ...


class RestoringWriter(Protocol):
    """Brings one whole message back: its content in chunks, then the rest."""

    async def write(self, octets: bytes) -> None:
        """Raises Unavailable, Full."""
        ...

    async def restore(self, message: QueuedMessage) -> bool:
        """Makes content, envelope and recipients durable, these in the states that they have here; who is not among
        them is done. False when the message is there already, which then stays as it is. Raises Unavailable, Full,
        QueueIdTaken; ValueError: nobody waits for it."""
        ...

    async def abandon(self) -> None:
        """Forgets what was written. Never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as a reader finds it. ``content``: its ``size`` octets in chunks, once, before the next message is
    asked for; raises UnknownQueueId when it left meanwhile, Unavailable when it cannot be read."""

    message: QueuedMessage
    size: int
    content: AsyncIterator[bytes]


class Reader(Protocol):
    """What a copy of a spool may do, beside whoever uses it: look."""

    def messages(self) -> AsyncIterator[Stored]:
        """All that somebody waits for, by queue id. Raises Unavailable."""
        ...


class Restorer(Protocol):
    """What a restoration may do: add messages that were in a spool before."""

    def writer(self, queue_id: str) -> RestoringWriter: ...

    async def restored(self, queue_id: str) -> bool:
        """Whether this message was brought back, not long ago. Raises Unavailable."""
        ...

    async def identity(self) -> str:
        """Which spool it is: no other has the same. Raises Unavailable."""
        ...


class Source(Protocol):
    """A spool that messages leave for another one. What is taken is neither lent nor shown here, whatever becomes of
    this process; it is removed, or given back. All raise Unavailable."""

    async def identity(self) -> str:
        """As Restorer.identity."""
        ...

    async def taken(self) -> dict[str, str]:
        """Queue ids of what is taken, each with the identity of the spool that it goes to."""
        ...

    async def take(self, destination: str, limit: int) -> Sequence[str]:
        """Takes up to ``limit`` more that nobody delivers now: their queue ids. None: there are no more."""
        ...

    def load(self, queue_ids: Sequence[str]) -> AsyncIterator[Stored]:
        """Of these taken messages those that are still there."""
        ...

    async def remove(self, queue_ids: Sequence[str], destination: str) -> None:
        """They are there now: what was taken for that spool leaves this one, at once and without a trace."""
        ...

    async def give_back(self) -> int:
        """What is taken waits here again, as before; how many."""
        ...

    async def quiet_in(self) -> float:
        """Seconds after which nobody repeats a commit of what was taken; remove() must not come before."""
        ...


class Spool(Intake, Outbox, Ledger, Protocol):
    """All of it."""

    def unhealthy_reason(self) -> str | None:
        """None, or why the spool is not to be relied on now, in words for an operator. Cheap: no I/O."""
        ...
