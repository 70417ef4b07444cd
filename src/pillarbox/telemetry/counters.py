"""Counters and histograms of one process: plain numbers, summed over processes by the hub.

    SESSIONS = counter("sessions_total", "Sessions opened", labels=("site", "listener"))
    SESSIONS.add(1, "example", "submission")
    COMMIT = histogram("commit_seconds", "From the end of content to durable", buckets=(0.001, 0.002, 0.005, ...))
    COMMIT.observe(0.0031)
    IDLE = gauge("sessions_open", "Sessions now"); IDLE.set(17)

``snapshot()`` returns everything as plain data for the control channel; the hub adds the snapshots of all
processes and keeps the totals of those that ended (a counter never goes back). Metric names get the prefix
``pillarbox_`` at the endpoint. Numbers are changed from the loop's thread only.

ERRORS
    ValueError: a metric that is declared or changed otherwise than it was declared, a caller's bug.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Protocol, TypeVar


class Counter(Protocol):
    """Only grows. ``labels``: one value for each label declared, in order."""

    def add(self, amount: float = 1, *labels: str) -> None: ...


class Gauge(Protocol):
    """What is now; the endpoint shows the sum over processes."""

    def set(self, value: float, *labels: str) -> None: ...


class Histogram(Protocol):
    """How many values fell into each bucket, and their sum."""

    def observe(self, value: float, *labels: str) -> None: ...


Row = tuple[str, str, str, tuple[str, ...], tuple[float, ...], dict[tuple[str, ...], tuple[float, ...]]]
"""(kind, name, text, label names, buckets, {label values: numbers}).

Numbers: one for a counter or gauge; for a histogram the count of each bucket (not cumulative), of those above the
last, then the sum of what was observed.
"""


class _Counter:
    kind = "counter"
    __slots__ = ("buckets", "labels", "name", "text", "values")

    def __init__(self, name: str, text: str, labels: tuple[str, ...]) -> None:
        self.name, self.text, self.labels = name, text, labels
        self.buckets: tuple[float, ...] = ()
        self.values: dict[tuple[str, ...], float] = {}

    def add(self, amount: float = 1, *labels: str) -> None:
        try:
            self.values[labels] += amount
        except KeyError:
            _check(self.labels, labels)
            self.values[labels] = amount

    def numbers(self) -> dict[tuple[str, ...], tuple[float, ...]]:
        return {labels: (value,) for labels, value in self.values.items()}


class _Gauge(_Counter):
    kind = "gauge"
    __slots__ = ()

    def set(self, value: float, *labels: str) -> None:
        if labels not in self.values:
            _check(self.labels, labels)
        self.values[labels] = value


class _Histogram:
    kind = "histogram"
    __slots__ = ("buckets", "labels", "name", "text", "values")

    def __init__(self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> None:
        self.name, self.text, self.labels, self.buckets = name, text, labels, buckets
        self.values: dict[tuple[str, ...], list[float]] = {}

    def observe(self, value: float, *labels: str) -> None:
        numbers = self.values.get(labels)
        if numbers is None:
            _check(self.labels, labels)
            numbers = self.values[labels] = [0.0] * (len(self.buckets) + 2)
        numbers[bisect_left(self.buckets, value)] += 1
        numbers[-1] += value

    def numbers(self) -> dict[tuple[str, ...], tuple[float, ...]]:
        return {labels: tuple(numbers) for labels, numbers in self.values.items()}


_Metric = _Counter | _Histogram
_metrics: dict[str, _Metric] = {}


def _check(names: tuple[str, ...], values: tuple[str, ...]) -> None:
    if len(names) != len(values):
        raise ValueError(f"labels {values!r} do not fit {names!r}")


def counter(name: str, text: str, labels: Sequence[str] = ()) -> Counter:
    """Declares (or finds) a counter. Raises ValueError when the name is declared otherwise."""
    return _declare(_Counter(name, text, tuple(labels)))


def gauge(name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
    """Declares (or finds) a gauge."""
    return _declare(_Gauge(name, text, tuple(labels)))


def histogram(name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
    """Declares (or finds) a histogram with the upper bounds of its buckets."""
    bounds = tuple(float(bound) for bound in buckets)
    if not bounds or list(bounds) != sorted(set(bounds)):
        raise ValueError(f"{name}: buckets are bounds that rise")
    return _declare(_Histogram(name, text, tuple(labels), bounds))


M = TypeVar("M", _Counter, _Gauge, _Histogram)


def _declare(metric: M) -> M:
    known = _metrics.setdefault(metric.name, metric)
    if known is metric:
        return metric
    if type(known) is not type(metric) or (known.labels, known.buckets) != (metric.labels, metric.buckets):
        raise ValueError(f"metric {metric.name} is declared already, as another one")
    return known


def snapshot() -> list[Row]:
    """Every metric of this process: (kind, name, text, label names, buckets, {label values: numbers})."""
    return [(m.kind, m.name, m.text, m.labels, m.buckets, m.numbers()) for m in _metrics.values()]
