"""The embedded spool for other processes: the handlers of the channels that reach it. The operator's are for any.

    await serve(path, lambda peer: intake_handlers(spool), errors=ERRORS)          # for submission
    await serve(path, lambda peer: {**outbox_handlers(spool), **...}, errors=ERRORS)

What a channel may do is which dict it was given: a channel with the intake's can append and never read mail. Call
each function once per listening socket or once per channel, as you like: what belongs to a channel (its worker) is
kept by channel and ends with it.

The hot verbs (commit, settle) answer with the store's own future, without a task.
"""

import asyncio
import itertools
import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from pillarbox.control.channel import Channel, Handler
from pillarbox.control.frames import from_body
from pillarbox.message.envelope import Envelope
from pillarbox.smtp.syntax import parse_mailbox
from pillarbox.spool.base import (
    INLINE_LIMIT,
    Filter,
    Full,
    LeaseLost,
    Partial,
    QueuedMessage,
    QueueIdTaken,
    Unavailable,
    UnknownCell,
    UnknownQueueId,
)
from pillarbox.spool.embedded import EmbeddedSpool
from pillarbox.spool.lending import EmbeddedOutbox
from pillarbox.spool.meaning import HOLD, RELEASE, RETRY, Change
from pillarbox.spool.operated import Operated
from pillarbox.spool.part import file_name
from pillarbox.spool.wire import pack_lease, unpack_envelope, unpack_message, unpack_settlement
from pillarbox.store.sqlite import DiskFull, StoreError

ERRORS: tuple[type[Exception], ...] = (
    Full,
    Unavailable,
    QueueIdTaken,
    UnknownQueueId,
    UnknownCell,
    LeaseLost,
    DiskFull,
    StoreError,
)
"""Exceptions that cross a channel by name: give it to control.channel.serve."""

MOST_INLINE = 2 * INLINE_LIMIT
"""Octets of content in one commit at most; honest workers send INLINE_LIMIT and what we added to the header."""
LONGEST_TEXT = 2_048
"""Characters of a path, a login or a name in an envelope."""

LIST_PAGE = 200
LIST_TEXT = 2 * 1024 * 1024
"""Messages and characters, about, in one reply of ledger.list: a frame has its ceiling. A message always comes
whole."""

T = TypeVar("T")


class _PerChannel(Generic[T]):
    """One T for each channel, made when first asked for and ended with it."""

    def __init__(self, make: Callable[[Channel], T], end: Callable[[T], None]) -> None:
        self._make, self._end = make, end
        self._values: dict[int, T] = {}

    def get(self, channel: Channel) -> T:
        """The channel's own."""
        try:
            return self._values[id(channel)]
        except KeyError:
            value = self._values[id(channel)] = self._make(channel)
            channel.on_close(lambda: self._end(self._values.pop(id(channel))))
            return value


def intake_handlers(spool: EmbeddedSpool, *, checked: bool = True) -> dict[str, Handler]:
    """Append, nothing else: intake.commit, adopt, status. ``checked``: what no honest worker says is a ValueError."""
    intake = spool.intake
    read = _submitted if checked else unpack_envelope

    def commit(channel: Channel, body: Any) -> "asyncio.Future[bool]":
        envelope, content = body
        if checked and (not isinstance(content, bytes) or len(content) > MOST_INLINE):
            raise ValueError("not a content that goes with its commit")
        return intake.commit_soon(read(envelope), content)

    return {
        "intake.commit": commit,
        "intake.adopt": lambda channel, envelope: intake.adopt(read(envelope)),
        "intake.status": lambda channel, body: intake.status(),
    }


def _submitted(body: Any) -> Envelope:
    """A submission worker's envelope: it faces the internet, and what it says goes on to processes that do not. A
    queue id names files and lines of the log there, paths become commands. Raises ValueError."""
    envelope = unpack_envelope(body)
    file_name(envelope.queue_id)
    paths: tuple[Any, ...] = (envelope.reverse_path or "Postmaster", *envelope.forward_paths)
    texts: tuple[Any, ...] = (envelope.login, envelope.site, envelope.session_id, *paths)
    for text in texts:
        if not isinstance(text, str) or not text.isprintable() or len(text) > LONGEST_TEXT:
            raise ValueError("an envelope that is none")
    for path in paths:
        parse_mailbox(path)
    received_at: Any = envelope.received_at
    size: Any = envelope.size
    if not isinstance(received_at, float | int) or not isinstance(size, int) or not _has_possible_wishes(envelope):
        raise ValueError("an envelope that is none")
    return envelope


_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NOTIFY = frozenset(
    ",".join(word for word, wanted in zip(("SUCCESS", "FAILURE", "DELAY"), wishes, strict=True) if wanted)
    for wishes in itertools.product((True, False), repeat=3)
) | {"NEVER"}
_wishes = operator.attrgetter(
    *("ret", "envid", "notify", "original_recipients", "hold_until", "deliver_by", "deliver_by_mode", "priority")
)
_NO_WISHES = ("", "", (), (), 0.0, 0.0, "", 0)


def _has_possible_wishes(envelope: Envelope) -> bool:
    """Whether the parameters' fields hold what the SMTP core can have read: ENVID and ORCPT become fields of a
    report, the times and the priority decide what is lent when."""
    if _wishes(envelope) == _NO_WISHES:  # nearly always
        return True
    texts: tuple[Any, ...] = (envelope.envid, *envelope.original_recipients)
    wishes: tuple[Any, ...] = envelope.notify
    numbers: tuple[Any, ...] = (envelope.hold_until, envelope.deliver_by)
    priority: Any = envelope.priority
    recipients = len(envelope.forward_paths)
    return (
        envelope.ret in ("", "FULL", "HDRS")
        and envelope.deliver_by_mode in ("", "R", "N", "RT", "NT")
        and all(isinstance(text, str) and len(text) <= LONGEST_TEXT and not _CONTROL.search(text) for text in texts)
        and all(isinstance(wish, str) and wish in _NOTIFY for wish in wishes)
        and len(wishes) in (0, recipients)
        and len(envelope.original_recipients) in (0, recipients)
        and all(isinstance(number, float | int) and math.isfinite(number) for number in numbers)
        and isinstance(priority, int)
        and -9 <= priority <= 9  # RFC 6710 4.1
    )


def outbox_handlers(spool: EmbeddedSpool) -> dict[str, Handler]:
    """Lend, read and settle: outbox.lease, wait, read, settle, release, heartbeat, reclaim. Each channel is one
    worker: its leases are free when the channel ends or its heartbeat is 30 s old."""
    workers = _PerChannel(lambda channel: spool.outbox(f"pid {channel.peer.pid}"), EmbeddedOutbox.close)

    async def lease(channel: Channel, body: Any) -> list[Any]:
        now, limit, skip = body
        return [pack_lease(lease) for lease in await workers.get(channel).lease(now, limit, frozenset(skip))]

    async def wait(channel: Channel, timeout: Any) -> None:
        await workers.get(channel).wait_due(timeout)

    async def read(channel: Channel, body: Any) -> bytes:
        queue_id, offset = body
        return await workers.get(channel).read_chunk(queue_id, offset)

    def settle(channel: Channel, body: Any) -> Any:
        lease_id, packed = body
        settlement = unpack_settlement(packed)
        worker = workers.get(channel)
        try:
            return worker.settle_soon(lease_id, settlement)
        except LeaseLost as error:
            return _settled_or(error, worker.was_settled(settlement))

    def release(channel: Channel, lease_id: Any) -> None:
        workers.get(channel).give_back(lease_id)

    def heartbeat(channel: Channel, body: Any) -> int:
        return workers.get(channel).heartbeat()

    async def reclaim(channel: Channel, body: Any) -> tuple[int, list[int]]:
        worker = workers.get(channel)
        regained = await worker.reclaim([(lease_id, queue_id, keys) for lease_id, queue_id, keys in body])
        return worker.heartbeat(), regained

    return {
        "outbox.lease": lease,
        "outbox.wait": wait,
        "outbox.read": read,
        "outbox.settle": settle,
        "outbox.release": release,
        "outbox.heartbeat": heartbeat,
        "outbox.reclaim": reclaim,
    }


async def _settled_or(error: LeaseLost, was_settled: Any) -> None:
    if not await was_settled:
        raise error


def _text_of(message: QueuedMessage) -> int:
    """The characters of a message in a list, about, with the names of the fields."""
    envelope = message.envelope
    of_all = sum(map(len, envelope.forward_paths)) + sum(map(len, envelope.original_recipients))
    of_each = sum(
        _OF_A_RECIPIENT + len(each.forward_path) + len(each.last_reply) + len(each.original_recipient)
        for each in message.recipients
    )
    return _OF_A_MESSAGE + of_all + of_each


_OF_A_MESSAGE, _OF_A_RECIPIENT = 1_000, 200


def _as_fits(found: Sequence[QueuedMessage]) -> Sequence[QueuedMessage]:
    """As many as fit into a reply; the caller asks for the rest."""
    room = LIST_TEXT
    for number, message in enumerate(found):
        room -= _text_of(message)
        if room < 0:
            return found[: number + 1] if number == 0 else found[:number]
    return found


def ledger_handlers(spool: Operated) -> dict[str, Handler]:
    """An operator's verbs: ledger.list, show, hold, release, retry, expunge, depth, health.

    Of several cells some may be away: then list answers {messages, missing} instead of the messages, and the verbs
    that change have ``missing`` as a third part, the cells' names with the reasons.
    """

    async def list_(channel: Channel, body: Any) -> Any:
        which, now, limit, after = body
        try:
            return _as_fits(await spool.ledger.list(from_body(Filter, which), now, min(limit, LIST_PAGE), after))
        except Partial as partial:
            return {"messages": _as_fits(partial.found), "missing": partial.missing}

    async def expunge(channel: Channel, body: Any) -> None:
        queue_id, bounces = body
        await spool.ledger.expunge(queue_id, tuple(map(unpack_message, bounces)))

    def verb(change: Change) -> Handler:
        async def handle(channel: Channel, body: Any) -> Any:
            which, now, after, early = body
            wanted = change._replace(early=bool(early))
            try:
                return await spool.ledger.change_page(wanted, from_body(Filter, which), now, after)
            except Partial as partial:
                return (*partial.found, partial.missing)

        return handle

    return {
        "ledger.list": list_,
        "ledger.show": lambda channel, queue_id: spool.ledger.show(queue_id),
        "ledger.hold": verb(HOLD),
        "ledger.release": verb(RELEASE),
        "ledger.retry": verb(RETRY),
        "ledger.expunge": expunge,
        "ledger.depth": lambda channel, now: spool.ledger.depth(now),
        "ledger.health": lambda channel, body: spool.unhealthy_reason(),
    }


__all__ = ["ERRORS", "intake_handlers", "ledger_handlers", "outbox_handlers"]
