"""One Prometheus endpoint for all processes. The only importer of prometheus_client.

    totals = Totals(); totals.put(("submission", 0), rows); totals.end(("submission", 0))
    endpoint = Endpoint(totals.rows); endpoint.start("127.0.0.1", 9587); endpoint.stop()

Counters and histograms of a process that ended stay in the sums: a counter never goes back. Its gauges go with it.
The endpoint runs in a thread of prometheus_client, which reads what the loop's thread replaces whole.

ERRORS
    OSError from start: the address cannot be used.
"""

import contextlib
import operator
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from pillarbox.telemetry.counters import Row

PREFIX = "pillarbox_"

Key = tuple[str, int]
"""(role, worker): a process and its successors."""


def add_rows(rows: Iterable[Row]) -> list[Row]:
    """Sums rows of one name over processes. A row whose shape differs from the first of its name is left out."""
    sums: dict[str, Row] = {}
    for kind, name, text, labels, buckets, values in rows:
        known = sums.get(name)
        if known is None:
            sums[name] = (kind, name, text, tuple(labels), tuple(buckets), dict(values))
        elif (known[0], known[3], known[4]) == (kind, tuple(labels), tuple(buckets)):
            total = known[5]
            for key, numbers in values.items():
                before = total.get(key)
                total[key] = numbers if before is None else tuple(map(operator.add, before, numbers))
    return list(sums.values())


class Totals:
    """The last snapshot of each living process, and the sums of the ended ones."""

    def __init__(self) -> None:
        self._living: dict[Key, list[Row]] = {}
        self._ended: list[Row] = []

    def put(self, key: Key, rows: list[Row]) -> None:
        """Takes a process's snapshot, which replaces its last one."""
        self._living[key] = rows

    def end(self, key: Key) -> None:
        """The process ended: what it counted is kept."""
        rows = self._living.pop(key, [])
        self._ended = add_rows([*self._ended, *(row for row in rows if row[0] != "gauge")])

    def rows(self) -> list[Row]:
        """The sums over all processes that are or were."""
        return add_rows([*self._ended, *(row for rows in list(self._living.values()) for row in rows)])


class _Sums(Collector):
    """Shows rows to prometheus_client."""

    def __init__(self, rows: Callable[[], list[Row]]) -> None:
        self._rows = rows

    def collect(self) -> Iterable[Any]:
        for kind, name, text, labels, buckets, values in self._rows():
            if kind == "histogram":
                yield _histogram(PREFIX + name, text, labels, buckets, values)
                continue
            family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
            metric = family(PREFIX + name, text, labels=labels)
            for key, (number,) in values.items():
                metric.add_metric(key, number)
            yield metric


def _histogram(
    name: str,
    text: str,
    labels: tuple[str, ...],
    bounds: tuple[float, ...],
    values: dict[tuple[str, ...], tuple[float, ...]],
) -> HistogramMetricFamily:
    metric = HistogramMetricFamily(name, text, labels=labels)
    names = [*map(floatToGoString, bounds), "+Inf"]
    for key, numbers in values.items():
        running, buckets = 0.0, []
        for bound, count in zip(names, numbers, strict=False):
            running += count
            buckets.append((bound, running))
        metric.add_metric(key, buckets, numbers[-1])
    return metric


class Endpoint:
    """The HTTP endpoint; ``text`` is what it shows."""

    def __init__(self, rows: Callable[[], list[Row]]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Sums(rows))
        self._server: WSGIServer | None = None
        self._thread: threading.Thread | None = None

    def start(self, host: str, port: int) -> None:
        """Listens. Raises OSError naming the address."""
        try:
            self._server, self._thread = start_http_server(port, host, self._registry)
        except OSError as error:
            raise OSError(error.errno or 0, f"metrics: cannot listen on {host}:{port}: {error.strerror}") from error

    @property
    def port(self) -> int:
        """The port in use; 0 when not started."""
        return int(self._server.server_address[1]) if self._server is not None else 0

    def stop(self) -> None:
        """Stops listening."""
        if self._server is None or self._thread is None:
            return
        with contextlib.suppress(OSError):
            self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)
        self._server = self._thread = None

    def text(self) -> str:
        """The exposition format."""
        return generate_latest(self._registry).decode()
