"""What a settlement tells the sender: one bounce for the recipients that failed, one warning for those that wait, one
report for those delivered of which the sender wants to know.

Who is named in which is the sender's to say (NOTIFY); who said nothing hears of failures and delays. All recipients
of one message that failed in one attempt batch share one bounce. It has the null reverse-path and is itself never
bounced (is_bounce): when it fails it stays in the spool as dead until the operator decides. A message that came with
the null reverse-path (a read receipt, somebody else's bounce) has nobody to tell: its failed recipients are dropped,
which the log says (delivery.dropped).

STANDARDS
    RFC 5321 6.1 and 4.5.5 (null reverse-path, no bounce for a bounce), RFC 3461 4.1, 4.3 and 5.2 (NOTIFY, RET), RFC
    8689 5 (nothing of a message that requires TLS is returned by a way that may not have it), RFC 3464 by way of
    message.dsn.
"""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, Protocol

from pillarbox.delivery.settings import DeliverySettings
from pillarbox.message import dsn
from pillarbox.message.envelope import Envelope, queue_id, tag_of
from pillarbox.message.header import find_header_end
from pillarbox.spool.base import Deferred, Delivered, Failed, Lease, NewMessage, Recipient, SpoolError

MAX_RETURNED: Final = 1_048_576
"""Octets of a content that RET=FULL returns; of a larger one the header."""

_STATUS: Final = re.compile(r"(?:[245][0-9]{2}[ -])?([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$)")


class _Opens(Protocol):
    def open(self, queue_id: str) -> AsyncIterator[bytes]: ...


def status_of(reason: str, otherwise: str = "4.0.0") -> str:
    """The enhanced status with which a reply or our own words begin."""
    match = _STATUS.match(reason)
    return match[1] if match is not None else otherwise


def wants(recipient: Recipient, what: str) -> bool:
    """Whether the sender wants to hear of ``what`` (SUCCESS, FAILURE or DELAY) of this recipient."""
    return what in recipient.notify.split(",") if recipient.notify else what != "SUCCESS"


async def read_returned(outbox: _Opens, lease: Lease, *, failed: bool) -> bytes:
    """What reports return of the content: its header, or all of it up to MAX_RETURNED when something ``failed`` and
    RET=FULL was said, which speaks of failures only (RFC 3461 4.3); b"" when nothing may be returned, or it cannot be
    read now.

    A bounce without it is better than none, so the spool's errors end here.
    """
    envelope = lease.envelope
    if envelope.require_tls:
        return b""
    if (
        failed
        and envelope.ret == "FULL"
        and envelope.size <= MAX_RETURNED
        and not (envelope.eight_bit or envelope.binary)
    ):
        if lease.content is not None:
            return lease.content
        try:
            return b"".join([octets async for octets in outbox.open(envelope.queue_id)])
        except SpoolError:
            return b""
    return await read_header(outbox, lease)


async def read_header(outbox: _Opens, lease: Lease) -> bytes:
    """The header of the content, as much as a report returns; b"" when it cannot be read now."""
    taken = bytearray(lease.content[: dsn.MAX_RETURNED_HEADER] if lease.content is not None else b"")
    if lease.content is None:
        try:
            async for octets in outbox.open(lease.envelope.queue_id):
                taken += octets
                if len(taken) >= dsn.MAX_RETURNED_HEADER or find_header_end(taken) is not None:
                    break
        except SpoolError:
            return b""
    end = find_header_end(taken)
    return bytes(taken if end is None else taken[:end])


def make_reports(
    lease: Lease,
    header: bytes,
    failed: Sequence[tuple[Recipient, Failed]],
    delayed: Sequence[tuple[Recipient, Deferred]],
    delivered: Sequence[tuple[Recipient, Delivered, str]] = (),
    *,
    settings: DeliverySettings,
    now: float,
    random: Callable[[int], bytes],
) -> tuple[NewMessage, ...]:
    """The messages that belong into the settlement; none when there is nobody to tell.

    ``delivered``: those to report, each with its action, "relayed" or "delivered".
    """
    envelope = lease.envelope
    if envelope.is_bounce or not envelope.reverse_path:
        return ()
    reports: list[NewMessage] = []
    failed = [(who, what) for who, what in failed if wants(who, "FAILURE")]
    if failed:
        named = [_named(who, what.status, what.reason, what.hop) for who, what in failed]
        report = dsn.bounce(envelope, header, named, _letterhead(settings, now, random))
        reports.append(_message(envelope, report, now, random))
    if delayed:
        waiting = [_named(who, status_of(what.reason), what.reason, what.hop) for who, what in delayed]
        report = dsn.delay_warning(
            envelope,
            header,
            waiting,
            _letterhead(settings, now, random),
            give_up_at=waits_since(envelope) + settings.max_age,
        )
        reports.append(_message(envelope, report, now, random))
    for action in ("delivered", "relayed"):
        known = [
            _named(who, status_of(what.reply, "2.0.0"), what.reply, what.hop)
            for who, what, done in delivered
            if done == action
        ]
        if known:
            report = dsn.success(envelope, header, known, _letterhead(settings, now, random), action=action)
            reports.append(_message(envelope, report, now, random))
    return tuple(reports)


def waits_since(envelope: Envelope) -> float:
    """Since when delivery may be tried: times to give up and to warn count from here."""
    return max(envelope.received_at, envelope.hold_until)


def _named(who: Recipient, status: str, reply: str, hop: str) -> dsn.FailedRecipient:
    return dsn.FailedRecipient(who.forward_path, status, reply, hop, who.original_recipient)


def _letterhead(settings: DeliverySettings, now: float, random: Callable[[int], bytes]) -> dsn.Letterhead:
    """With a boundary nobody could guess, and a Message-ID."""
    return dsn.Letterhead(
        host=settings.host,
        postmaster=settings.postmaster,
        now=now,
        boundary=f"=_{random(12).hex()}",
        message_id=f"<{random(12).hex()}@{settings.host}>",
    )


def _message(original: Envelope, report: dsn.Report, now: float, random: Callable[[int], bytes]) -> NewMessage:
    envelope = Envelope(
        queue_id=queue_id(now, random(10), tag_of(original.queue_id)),
        reverse_path="",
        forward_paths=(original.reverse_path,),
        received_at=now,
        size=len(report.content),
        eight_bit=report.eight_bit,
        smtputf8=report.smtputf8,
        site=original.site,
        is_bounce=True,
        priority=original.priority,
    )
    return NewMessage(envelope, report.content)
