"""Counters: plain numbers by labels."""

import pytest

from pillarbox.control.frames import HEADER, append_frame, read_frame
from pillarbox.telemetry import counters
from pillarbox.telemetry.counters import Row


@pytest.fixture(autouse=True)
def own_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "_metrics", {})


def test_a_counter_adds_by_labels() -> None:
    metric = counters.counter("things_total", "Things", ("kind", "colour"))
    metric.add(1, "box", "red")
    metric.add(2, "box", "red")
    metric.add(1, "box", "blue")
    assert counters.snapshot() == [
        ("counter", "things_total", "Things", ("kind", "colour"), (), {("box", "red"): (3,), ("box", "blue"): (1,)})
    ]


def test_a_gauge_keeps_the_last_value() -> None:
    metric = counters.gauge("open", "Open")
    metric.set(5)
    metric.set(3)
    assert counters.snapshot()[0][5] == {(): (3,)}


def test_a_histogram_counts_into_the_first_bucket_that_holds_the_value() -> None:
    metric = counters.histogram("seconds", "Time", (0.1, 1, 10))
    for value in (0.05, 0.1, 0.5, 100):
        metric.observe(value)
    ((*counts, total),) = counters.snapshot()[0][5].values()
    assert counts == [2, 1, 0, 1]
    assert total == pytest.approx(100.65)


def test_declaring_twice_finds_the_same_and_otherwise_is_refused() -> None:
    assert counters.counter("a", "A") is counters.counter("a", "A")
    for declare in (
        lambda: counters.gauge("a", "A"),
        lambda: counters.counter("a", "A", ("label",)),
        lambda: counters.histogram("a", "A", (1,)),
    ):
        with pytest.raises(ValueError, match="metric a is declared already"):
            declare()


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        counters.counter("b", "B", ("one",)).add(1)
    with pytest.raises(ValueError, match="do not fit"):
        counters.gauge("c", "C").set(1, "surplus")
    with pytest.raises(ValueError, match="do not fit"):
        counters.histogram("d", "D", (1,)).observe(1, "surplus")


@pytest.mark.parametrize("buckets", [(), (2, 1), (1, 1)])
def test_buckets_must_rise(buckets: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="rise"):
        counters.histogram("e", "E", buckets)


def test_a_snapshot_crosses_a_channel_whole() -> None:
    counters.counter("a", "A", ("x", "y")).add(1, "1", "2")
    counters.histogram("h", "H", (1.0,)).observe(0.5)
    buffer = bytearray()
    append_frame(buffer, 0, 0, "", counters.snapshot())
    rows: list[Row] = read_frame(memoryview(buffer)[HEADER:])[3]
    assert [row[5] for row in rows] == [{("1", "2"): [1]}, {(): [1.0, 0.0, 0.5]}]
