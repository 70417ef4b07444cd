"""What a settlement tells the sender: one bounce for the recipients that failed, one warning for those that wait.

All recipients of one message that failed in one attempt batch share one bounce. It has the null reverse-path and
is itself never bounced (is_bounce): when it fails it stays in the spool as dead until the operator decides.
A message that came with the null reverse-path (a read receipt, somebody else's bounce) has nobody to tell: its
failed recipients are dropped, which the log says (delivery.dropped).

STANDARDS
    RFC 5321 6.1 and 4.5.5 (null reverse-path, no bounce for a bounce), RFC 3464 by way of message.dsn.
"""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, Protocol

from pillarbox.delivery.settings import DeliverySettings
from pillarbox.message import dsn
from pillarbox.message.envelope import Envelope, queue_id
from pillarbox.message.header import find_header_end
from pillarbox.spool.base import Deferred, Failed, Lease, NewMessage, Recipient, SpoolError

_STATUS: Final = re.compile(r"(?:[245][0-9]{2}[ -])?([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$)")


class _Opens(Protocol):
    def open(self, queue_id: str) -> AsyncIterator[bytes]: ...


def status_of(reason: str, otherwise: str = "4.0.0") -> str:
    """The enhanced status with which a reply or our own words begin."""
    match = _STATUS.match(reason)
    return match[1] if match is not None else otherwise


async def read_header(outbox: _Opens, lease: Lease) -> bytes:
    """The header of the content, as much as a report returns; b"" when it cannot be read now.

    A bounce without the header is better than none, so the spool's errors end here.
    """
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
    *,
    settings: DeliverySettings,
    now: float,
    random: Callable[[int], bytes],
) -> tuple[NewMessage, ...]:
    """The messages that belong into the settlement; none when there is nobody to tell."""
    envelope = lease.envelope
    if envelope.is_bounce or not envelope.reverse_path:
        return ()
    reports: list[NewMessage] = []
    if failed:
        named = [dsn.FailedRecipient(who.forward_path, what.status, what.reason, what.hop) for who, what in failed]
        token, message_id = _names(settings, random)
        report = dsn.bounce(
            envelope,
            header,
            named,
            host=settings.host,
            postmaster=settings.postmaster,
            now=now,
            message_id=message_id,
            boundary=token,
        )
        reports.append(_message(envelope, report, now, random))
    if delayed:
        waiting = [
            dsn.FailedRecipient(who.forward_path, status_of(what.reason), what.reason, what.hop)
            for who, what in delayed
        ]
        token, message_id = _names(settings, random)
        report = dsn.delay_warning(
            envelope,
            header,
            waiting,
            host=settings.host,
            postmaster=settings.postmaster,
            now=now,
            give_up_at=envelope.received_at + settings.max_age,
            message_id=message_id,
            boundary=token,
        )
        reports.append(_message(envelope, report, now, random))
    return tuple(reports)


def _names(settings: DeliverySettings, random: Callable[[int], bytes]) -> tuple[str, str]:
    """A boundary nobody could guess, and a Message-ID."""
    return f"=_{random(12).hex()}", f"<{random(12).hex()}@{settings.host}>"


def _message(original: Envelope, report: dsn.Report, now: float, random: Callable[[int], bytes]) -> NewMessage:
    envelope = Envelope(
        queue_id=queue_id(now, random(10)),
        reverse_path="",
        forward_paths=(original.reverse_path,),
        received_at=now,
        size=len(report.content),
        eight_bit=report.eight_bit,
        smtputf8=report.smtputf8,
        site=original.site,
        is_bounce=True,
    )
    return NewMessage(envelope, report.content)
