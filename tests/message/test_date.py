"""Dates as RFC 5322 3.3 writes them."""

import pytest

from pillarbox.message.date import date_time


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (0, "Thu, 1 Jan 1970 00:00:00 +0000"),
        (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
        (1_795_503_792.999, "Tue, 24 Nov 2026 07:03:12 +0000"),
        (4_102_444_799, "Thu, 31 Dec 2099 23:59:59 +0000"),
    ],
)
def test_date_time(now: float, text: str) -> None:
    assert date_time(now) == text
