"""The schedule: a table, and what must hold for any settings."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.delivery.retry import SPREAD, next_due, spread, wait_after, warning_due
from pillarbox.delivery.settings import DeliverySettings

QUEUE_ID = "01J00000000000000000000000"
DAY = 86_400.0


def make(**changes: object) -> DeliverySettings:
    return DeliverySettings(host="pillar.test", routes=(), **changes)  # type: ignore[arg-type]  # a test's shorthand


def due(cfg: DeliverySettings, failures: int, now: float, *, warned: bool = True) -> float | None:
    return next_due(cfg, queue_id=QUEUE_ID, received_at=0.0, failures=failures, warned=warned, now=now)


@pytest.mark.parametrize(
    ("failures", "wait"),
    [(1, 60), (2, 180), (3, 300), (4, 600), (5, 1200), (6, 2400), (7, 3600), (8, 7200), (9, 14400), (10, 14400)],
)
def test_default_schedule(failures: int, wait: float) -> None:
    found = due(make(), failures, 1000.0)
    assert found is not None
    assert 1000 + wait <= found < 1000 + wait * (1 + SPREAD)
    assert found == 1000 + wait * (1 + SPREAD * spread(QUEUE_ID))


def test_hundred_failures_repeat_the_last_wait() -> None:
    assert due(make(), 100, 0.0) == due(make(), 9, 0.0)


def test_last_attempt_is_made_when_max_age_is_reached_and_nothing_after_it() -> None:
    cfg = make(max_age=5 * DAY)
    assert due(cfg, 40, 5 * DAY - 10) == 5 * DAY
    assert due(cfg, 41, 5 * DAY) is None
    assert due(cfg, 41, 6 * DAY) is None


def test_attempt_falls_on_the_delay_warning() -> None:
    cfg = make(delay_warning=14_400.0)
    assert due(cfg, 9, 14_000.0, warned=False) == 14_400.0
    later = due(cfg, 9, 14_000.0, warned=True)
    assert later is not None and later >= 28_400
    after = due(cfg, 9, 14_400.0, warned=False)
    assert after is not None and after > 14_400 + 14_399


def test_warning_is_due_once_and_only_when_it_is_wanted() -> None:
    cfg = make(delay_warning=100.0)
    assert not warning_due(cfg, received_at=0.0, warned=False, now=99.0)
    assert warning_due(cfg, received_at=0.0, warned=False, now=100.0)
    assert not warning_due(cfg, received_at=0.0, warned=True, now=100.0)
    assert not warning_due(make(delay_warning=0.0), received_at=0.0, warned=False, now=1e9)


def test_messages_deferred_together_do_not_come_back_together() -> None:
    waits = {wait_after(make(), f"{number:026d}", 1) for number in range(100)}
    assert len(waits) > 90
    assert all(60 <= wait < 66 for wait in waits)


schedules = st.lists(st.floats(1, 1e5), min_size=1, max_size=12).map(sorted).map(tuple)
ids = st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=26, max_size=26)


@given(schedule=schedules, queue_id=ids, failures=st.integers(1, 50))
@settings(deadline=None, derandomize=True)
def test_waits_never_shrink_when_the_schedule_does_not(
    schedule: tuple[float, ...], queue_id: str, failures: int
) -> None:
    cfg = make(retry=schedule)
    assert wait_after(cfg, queue_id, failures) <= wait_after(cfg, queue_id, failures + 1)


@given(
    schedule=schedules,
    queue_id=ids,
    failures=st.integers(1, 50),
    age=st.floats(0, 1e6),
    max_age=st.floats(1, 1e6),
    delay_warning=st.floats(0, 1e6),
    warned=st.booleans(),
)
@settings(deadline=None, derandomize=True)
def test_next_attempt_lies_ahead_and_within_max_age(
    schedule: tuple[float, ...],
    queue_id: str,
    failures: int,
    age: float,
    max_age: float,
    delay_warning: float,
    warned: bool,
) -> None:
    cfg = make(retry=schedule, max_age=max_age, delay_warning=delay_warning)
    found = next_due(cfg, queue_id=queue_id, received_at=0.0, failures=failures, warned=warned, now=age)
    if age >= max_age:
        assert found is None
    else:
        assert found is not None and age < found <= max_age


@given(queue_id=ids, max_age=st.floats(10, 1e6))
@settings(deadline=None, derandomize=True)
def test_every_message_ends(queue_id: str, max_age: float) -> None:
    cfg = make(max_age=max_age)
    now: float | None = 0.0
    attempts = 0
    while now is not None:
        attempts += 1
        now = next_due(cfg, queue_id=queue_id, received_at=0.0, failures=attempts, warned=False, now=now)
        assert attempts < 200
    assert attempts >= 2
