"""When a certificate is asked for: a third of its lifetime before the end, and with growing pauses after failures."""

import pytest

from pillarbox.certificates.renewal import (
    LEAST_NEAR_THE_END,
    LEAST_WHEN_LIMITED,
    MOST_WHEN_LIMITED,
    PAUSES,
    due_at,
    next_try,
    rests_until,
)
from pillarbox.certificates.shelf import Kept

DAY = 86_400.0
QUARTER = Kept(b"", 0.0, 90 * DAY)


@pytest.mark.parametrize(
    ("lifetime", "due"), [(90 * DAY, 60 * DAY), (6 * DAY, 4 * DAY), (47 * DAY, pytest.approx(47 * DAY * 2 / 3))]
)
def test_renewed_when_a_third_is_left(lifetime: float, due: float) -> None:
    assert due_at(Kept(b"", 0.0, lifetime)) == due


def test_the_authority_may_wish_it_earlier_and_not_later() -> None:
    assert due_at(QUARTER, 10 * DAY) == 10 * DAY
    assert due_at(QUARTER, 80 * DAY) == 60 * DAY


def test_after_one_was_issued_none_is_ordered_for_a_day_or_a_tenth_of_its_life() -> None:
    assert rests_until(QUARTER, 1000.0) == 1000.0 + DAY
    assert rests_until(Kept(b"", 0.0, 600.0), 1000.0) == 1060.0


def test_pauses_grow_to_half_a_day() -> None:
    pauses = [next_try(failures, 1000.0, None) - 1000.0 for failures in range(1, 12)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (PAUSES[0], DAY / 2)


def test_no_hour_has_more_than_five_failures() -> None:
    """Let's Encrypt's limit for one name and account."""
    now, tries, failures = 0.0, [0.0], 0
    while now < 3 * DAY:
        failures += 1
        now = next_try(failures, now, None)
        tries.append(now)
    assert max(sum(at <= each < at + 3600 for each in tries) for at in tries) <= 5


def test_near_the_end_it_is_tried_more_often_but_not_without_end() -> None:
    def pause(left: float) -> float:
        return next_try(len(PAUSES), 0.0, Kept(b"", -DAY, left))

    assert pause(30 * DAY) == DAY / 2
    assert pause(DAY) == DAY / 8
    assert pause(60.0) == LEAST_NEAR_THE_END
    assert pause(-DAY) == DAY / 2, "it has ended: nothing is to be saved by hurry"


def test_who_asks_too_often_waits_an_hour_at_least() -> None:
    assert next_try(1, 0.0, None, limited=0.0) == LEAST_WHEN_LIMITED
    assert next_try(1, 0.0, Kept(b"", -DAY, 60.0), limited=0.0) == LEAST_WHEN_LIMITED
    assert next_try(1, 0.0, None, limited=2 * DAY) == 2 * DAY
    assert next_try(1, 0.0, None, limited=1e12) == MOST_WHEN_LIMITED
