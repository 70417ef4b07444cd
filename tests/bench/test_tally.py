"""Counts and percentiles."""

from hypothesis import given
from hypothesis import strategies as st

from pillarbox.bench.tally import MOST_REASONS, OTHER_REASONS, Tally, in_ms, percentile


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1.0))
def test_a_percentile_is_a_value_that_was_measured_with_that_share_at_or_below_it(
    values: list[float], share: float
) -> None:
    ordered = sorted(values)
    found = percentile(ordered, share)
    assert found in values
    assert found is not None
    below = sum(value <= found for value in values)
    assert below >= share * len(values) * (1 - 1e-9)


def test_percentiles_of_a_known_list() -> None:
    assert in_ms([number / 1000 for number in range(100, 0, -1)]) == {
        "p50": 50.0,
        "p95": 95.0,
        "p99": 99.0,
        "max": 100.0,
    }


def test_nothing_measured_is_none_and_not_zero() -> None:
    assert in_ms([]) == {"p50": None, "p95": None, "p99": None, "max": None}
    assert Tally().rate == 0.0


def test_a_server_with_a_new_text_each_time_fills_no_memory() -> None:
    tally = Tally()
    for number in range(3 * MOST_REASONS):
        tally.refuse(f"451 4.3.0 {number}")
    assert len(tally.refused) == MOST_REASONS + 1
    assert tally.refused[OTHER_REASONS] == 2 * MOST_REASONS
    tally.refuse("451 4.3.0 0")
    assert tally.refused["451 4.3.0 0"] == 2


def test_as_data_tells_refusals_and_failures_apart() -> None:
    tally = Tally(accepted=10, seconds=2.0)
    tally.refuse("452 4.3.1 no room")
    tally.fail("no reply in time")
    tally.transaction_times.append(0.25)
    data = tally.as_data()
    assert data["accepted_per_second"] == 5.0
    assert data["refusals"] == {"452 4.3.1 no room": 1}
    assert data["failures"] == {"no reply in time": 1}
    assert data["transaction_ms"]["p99"] == 250.0
