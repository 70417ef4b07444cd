"""What MAIL's parameters ask for beyond the message: times relative to now become absolute, or are refused.

The clock starts when MAIL is accepted, so that slow content moves nothing.

STANDARDS
    RFC 4865 4 (FUTURERELEASE: HOLDFOR, HOLDUNTIL), RFC 2852 4 (DELIVERBY).

ERRORS
    Refused with 501 5.5.4: a hold beyond the site's ceiling, or beyond the time by which it shall be delivered.
"""

from dataclasses import dataclass
from typing import Final

from pillarbox.smtp.events import MailParameters
from pillarbox.submission import replies
from pillarbox.submission.replies import Refused


@dataclass(frozen=True, slots=True)
class Terms:
    """Seconds since the epoch; 0.0 where nothing was asked. As the envelope has them."""

    hold_until: float = 0.0
    deliver_by: float = 0.0


NO_TERMS: Final = Terms()


def agree(parameters: MailParameters, now: float, max_hold: float) -> Terms:
    """The terms that MAIL asks for, at ``now``; ``max_hold`` in seconds. Raises Refused."""
    if parameters.hold_for is None and parameters.hold_until is None and parameters.deliver_by is None:
        return NO_TERMS
    hold_until = _release(parameters, now)
    if hold_until > now + max_hold:
        raise Refused(replies.hold_too_long(max_hold), f"a hold of {hold_until - now:.0f} s is over {max_hold:.0f}")
    deliver_by = 0.0 if parameters.deliver_by is None else now + parameters.deliver_by
    if deliver_by and hold_until and deliver_by <= hold_until:
        raise Refused(replies.HOLD_AFTER_DELIVERY, "to be delivered before its release")
    return Terms(hold_until, deliver_by)


def _release(parameters: MailParameters, now: float) -> float:
    """0.0 for at once, which is also what a time that is past means."""
    if parameters.hold_for is not None:
        return now + parameters.hold_for if parameters.hold_for > 0 else 0.0
    if parameters.hold_until is not None and parameters.hold_until > now:
        return parameters.hold_until
    return 0.0
