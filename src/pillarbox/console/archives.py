"""A spool's messages to a file and back (spool.archive has the file's form).

    exported = await export(readers, write, random=os.urandom(16), made_at=time.time(), tell=print)
    brought = await bring_in(read, place, hold=False, tell=print)

``tell(n)``: n messages are through; called now and then.

ERRORS
    From both what the spool raises when it can say nothing more (SpoolError), and OSError of the file. bring_in also
    ArchiveError. What is wrong with a single message is in the result.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pillarbox.spool.archive import Broken, Decoder, Encoder, Octets, Whole, padding
from pillarbox.spool.base import (
    QueuedMessage,
    QueueIdTaken,
    Reader,
    Recipient,
    Restorer,
    RestoringWriter,
    State,
    Stored,
    Unavailable,
    UnknownQueueId,
)

READ_AT_ONCE = 1 << 20
"""Octets."""

Tell = Callable[[int], None]


@dataclass(slots=True)
class Exported:
    """``messages``: how many are whole in the file; ``left``: how many left the spool while they were read;
    ``unreadable``: queue ids of those whose content could not be read, each with the reason."""

    messages: int = 0
    left: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)


async def export(
    readers: Sequence[Reader], write: Callable[[bytes], object], *, random: bytes, made_at: float, tell: Tell
) -> Exported:
    """Writes every message of ``readers``. ``random``: 16 octets; ``made_at``: seconds since the epoch."""
    encoder, exported = Encoder(random, made_at), Exported()
    write(encoder.head())
    for reader in readers:
        async for stored in reader.messages():
            await _write(encoder, stored, write, exported)
            tell(exported.messages)
    write(encoder.end())
    return exported


async def _write(encoder: Encoder, stored: Stored, write: Callable[[bytes], object], exported: Exported) -> None:
    """One message; what is missing of its content is filled up, and it is marked as no message."""
    queue_id, missing = stored.message.envelope.queue_id, stored.size
    sha256 = hashlib.sha256()
    reason: str | None = None
    write(encoder.content_header(queue_id, stored.size))
    try:
        async for octets in stored.content:
            if len(octets) > missing:
                raise Unavailable(f"the content of {queue_id} is longer than {stored.size} octets")
            missing -= len(octets)
            sha256.update(octets)
            write(octets)
        if missing:
            raise Unavailable(f"the content of {queue_id} is {missing} octets too short")
    except UnknownQueueId:
        exported.left += 1
        reason = "left"
    except Unavailable as error:
        exported.unreadable[queue_id] = reason = str(error)
    while missing:
        filling = bytes(min(missing, READ_AT_ONCE))
        missing -= len(filling)
        write(filling)
    write(padding(stored.size))
    if reason is not None:
        write(encoder.left(queue_id))
        return
    write(encoder.record(stored.message, sha256.hexdigest()))
    exported.messages += 1


# -- and back

Place = Callable[[str], tuple[Restorer, str]]
"""By the cell that a message was in ("": none): where it goes, and the name of that cell ("": none)."""


@dataclass(slots=True)
class Brought:
    """``restored``: how many are in the spool now that were not; ``already``: were brought back before, or are there;
    ``done``: nobody waits for them any more; ``refused``: what is damaged or cannot be taken (a queue id or
    "the file"), each with the reason."""

    restored: int = 0
    already: int = 0
    done: int = 0
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def through(self) -> int:
        """All that were looked at."""
        return self.restored + self.already + self.done


class _BringIn:
    """One file on its way in. ``writer``: of the message that is not whole yet."""

    def __init__(self, place: Place, *, hold: bool) -> None:
        self._place, self._hold = place, hold
        self._writer: RestoringWriter | None = None
        self.brought = Brought()

    async def take(self, event: Octets | Whole | Broken) -> None:
        """Raises SpoolError."""
        if isinstance(event, Octets):
            if event.first:
                await self.abandon()
                restorer, cell = self._place(_cell_of(event.queue_id))
                self._writer = restorer.writer(renamed(event.queue_id, cell))
            if self._writer is not None:
                await self._writer.write(event.octets)
        elif isinstance(event, Whole):
            await self._restore(event.message)
        else:
            await self.abandon()
            self.brought.refused[event.name] = event.reason

    async def _restore(self, message: QueuedMessage) -> None:
        writer, brought = self._writer, self.brought
        queue_id = message.envelope.queue_id
        if writer is None:
            brought.refused[queue_id] = "it has no content"
        elif not message.recipients:
            brought.done += 1
        else:
            _, cell = self._place(_cell_of(queue_id))
            try:
                if await writer.restore(moved(message, cell, hold=self._hold)):
                    brought.restored += 1
                else:
                    brought.already += 1
            except (QueueIdTaken, ValueError) as error:
                brought.refused[queue_id] = str(error)
        await self.abandon()

    async def abandon(self) -> None:
        """Nothing of what is not whole stays."""
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.abandon()


async def bring_in(read: Callable[[int], bytes], place: Place, *, hold: bool, tell: Tell) -> Brought:
    """Restores every whole message of a file. ``hold``: what waits is held, for the operator to release."""
    decoder, coming = Decoder(), _BringIn(place, hold=hold)
    try:
        while octets := read(READ_AT_ONCE):
            for event in decoder.feed(octets):
                await coming.take(event)
            tell(coming.brought.through)
        for event in decoder.finish():
            await coming.take(event)
    finally:
        await coming.abandon()
    return coming.brought


def _cell_of(queue_id: str) -> str:
    return queue_id.partition("-")[2]


def renamed(queue_id: str, cell: str) -> str:
    """The queue id that a message has in ``cell`` ("": in a spool without cells): always the same."""
    bare = queue_id.partition("-")[0]
    return f"{bare}-{cell}" if cell else bare


def moved(message: QueuedMessage, cell: str, *, hold: bool = False) -> QueuedMessage:
    """The message as it stands in ``cell``."""
    envelope = replace(message.envelope, queue_id=renamed(message.envelope.queue_id, cell))
    recipients = tuple(map(_held, message.recipients)) if hold else message.recipients
    return QueuedMessage(envelope, recipients, leased=False)


def _held(recipient: Recipient) -> Recipient:
    return replace(recipient, state=State.HELD) if recipient.state is State.DUE else recipient
