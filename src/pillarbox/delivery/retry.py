"""When to try again, when to give up, when to say that it takes long. Pure: the time comes in as an argument.

The schedule is ``DeliverySettings.retry``: seconds to wait after the 1st, 2nd, ... failure, the last one repeated.
Each message stretches its waits by a part of its own (0 to 10 %, from the queue id), so that a thousand messages
deferred in one second do not come back in one second. Two appointments are kept besides: a last attempt when
``max_age`` is reached, and one when the delay warning falls due, so that it is neither late nor untrue.

STANDARDS
    RFC 5321 4.5.4.1 (sending strategy), RFC 3463 (4.4.7: delivery time expired).
"""

from zlib import crc32

from pillarbox.delivery.settings import DeliverySettings

EXPIRED_STATUS = "4.4.7"
SPREAD = 0.1
"""The largest part by which a wait is stretched."""


def spread(queue_id: str) -> float:
    """The message's own part, 0 <= part < 1; the same at each call and in each process."""
    return crc32(queue_id.encode()) / 4_294_967_296


def wait_after(settings: DeliverySettings, queue_id: str, failures: int) -> float:
    """Seconds to wait after so many failures (1 or more), before the two appointments are considered."""
    schedule = settings.retry
    wait = schedule[min(failures, len(schedule)) - 1] if schedule else settings.max_age
    return wait * (1.0 + SPREAD * spread(queue_id))


def next_due(
    settings: DeliverySettings, *, queue_id: str, received_at: float, failures: int, warned: bool, now: float
) -> float | None:
    """When the next attempt is due (seconds since the epoch, later than ``now``), or None: give up (4.4.7).

    ``failures`` counts the attempt that just failed. ``warned``: a delay warning was sent or will be with this
    settlement.
    """
    expires_at = received_at + settings.max_age
    if now >= expires_at:
        return None
    due_at = min(now + wait_after(settings, queue_id, failures), expires_at)
    if settings.delay_warning > 0 and not warned:
        warns_at = received_at + settings.delay_warning
        if now < warns_at < due_at:
            return warns_at
    return due_at


def warning_due(settings: DeliverySettings, *, received_at: float, warned: bool, now: float) -> bool:
    """Whether a recipient that was deferred just now gets a delay warning."""
    return settings.delay_warning > 0 and not warned and now - received_at >= settings.delay_warning
