"""Counters and histograms of one process: plain numbers, summed over processes by the hub.

    SESSIONS = counter("sessions_total", "Sessions opened", labels=("site", "listener"))
    SESSIONS.add(1, "example", "submission")
    COMMIT = histogram("commit_seconds", "From the end of content to durable", buckets=(0.001, 0.002, 0.005, ...))
    COMMIT.observe(0.0031)
    IDLE = gauge("sessions_open", "Sessions now"); IDLE.set(17)

``snapshot()`` returns everything as plain data for the control channel; the hub adds the snapshots of all
processes and keeps the totals of those that ended (a counter never goes back). Metric names get the prefix
``pillarbox_`` at the endpoint.
"""

from collections.abc import Sequence
from typing import Protocol


class Counter(Protocol):
    def add(self, amount: float = 1, *labels: str) -> None: ...


class Gauge(Protocol):
    def set(self, value: float, *labels: str) -> None: ...


class Histogram(Protocol):
    def observe(self, value: float, *labels: str) -> None: ...


def counter(name: str, text: str, labels: Sequence[str] = ()) -> Counter:
    """Declares (or finds) a counter. Raises ValueError when the name is declared otherwise."""
    raise NotImplementedError


def gauge(name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
    """Declares (or finds) a gauge."""
    raise NotImplementedError


def histogram(name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
    """Declares (or finds) a histogram with the upper bounds of its buckets."""
    raise NotImplementedError


def snapshot() -> list[
    tuple[str, str, str, tuple[str, ...], tuple[float, ...], dict[tuple[str, ...], tuple[float, ...]]]
]:
    """Every metric of this process: (kind, name, text, label names, buckets, {label values: numbers})."""
    raise NotImplementedError
