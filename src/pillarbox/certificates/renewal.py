"""When a certificate is asked for: the pure arithmetic of renewals and of pauses after failures.

    due_at(kept, suggested)              # when to renew
    next_try(failures, now, kept, ...)   # when to try again after a failure

A certificate is renewed when a third of its lifetime is left, or when its authority says so (ARI), whichever comes
first. Let's Encrypt allows five failed validations of a name per hour: the first pauses stay below that, and the
later ones grow to half a day, so that a server left alone for months is no burden; near the end they are shorter.

STANDARDS
    RFC 9773 (ARI: the authority suggests when).

ERRORS
    None: pure.
"""

from pillarbox.certificates.shelf import Kept

PAUSES = (60.0, 300.0, 900.0, 3600.0, 7200.0, 14_400.0, 43_200.0)
"""Seconds after the 1st, 2nd, ... failure in a row; the last repeats."""

LEAST_WHEN_LIMITED = 3600.0
"""Seconds after an authority said that we ask too often."""

MOST_WHEN_LIMITED = 604_800.0
"""Seconds that an authority can keep us waiting: Let's Encrypt's longest window is a week."""

LEAST_NEAR_THE_END = 900.0
"""No shorter pause than this follows from a certificate's running out."""

LONGEST_REST = 86_400.0
"""Seconds before which no certificate follows another, unless these live for less than ten times as long."""


def due_at(kept: Kept, suggested: float | None = None) -> float:
    """When to renew, seconds since the epoch. ``suggested``: what the authority wishes, if it says so."""
    third = kept.not_after - (kept.not_after - kept.not_before) / 3
    return third if suggested is None else min(third, suggested)


def rests_until(kept: Kept, now: float) -> float:
    """Before when no other is ordered after this one was issued, whatever a clock that is wrong, the authority's wish
    or a chain that has ended already may say."""
    return now + min(LONGEST_REST, (kept.not_after - kept.not_before) / 10)


def next_try(failures: int, now: float, kept: Kept | None, *, limited: float | None = None) -> float:
    """When to try again after so many failures in a row (at least 1). ``kept``: what is still in use; ``limited``:
    the authority said that we ask too often, and so many seconds are to pass (0: it did not say how many)."""
    pause = PAUSES[min(failures, len(PAUSES)) - 1]
    if kept is not None and kept.not_after > now:
        pause = min(pause, max(LEAST_NEAR_THE_END, (kept.not_after - now) / 8))
    if limited is not None:
        pause = max(pause, LEAST_WHEN_LIMITED, min(limited, MOST_WHEN_LIMITED))
    return now + pause
