"""The date and time of header fields, in UTC and in no locale's words.

STANDARDS
    RFC 5322 3.3.

ERRORS
    ValueError, OverflowError: a time beyond the years 1 to 9999 (a caller's bug).
"""

from datetime import UTC, datetime
from functools import lru_cache

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def date_time(now: float) -> str:
    """Seconds since the epoch as ``Tue, 24 Nov 2026 07:03:12 +0000``."""
    return _second(now // 1)


@lru_cache(maxsize=8)  # a busy server asks a thousand times a second
def _second(now: float) -> str:
    t = datetime.fromtimestamp(now, UTC)
    day = f"{_DAYS[t.weekday()]}, {t.day} {_MONTHS[t.month - 1]} {t.year:04}"
    return f"{day} {t.hour:02}:{t.minute:02}:{t.second:02} +0000"
