"""Sums over processes, and the endpoint that shows them."""

import socket
import urllib.request

import pytest
from tests.support.ports import steady_ports

from pillarbox.daemon.metrics import Endpoint, Totals
from pillarbox.telemetry.counters import Row


def counter(value: float, label: str = "a") -> Row:
    return ("counter", "things_total", "Things", ("kind",), (), {(label,): (value,)})


def gauge(value: float) -> Row:
    return ("gauge", "open", "Open now", (), (), {(): (value,)})


def histogram(*numbers: float) -> Row:
    return ("histogram", "seconds", "Time", (), (0.1, 1.0), {(): numbers})


def values(totals: Totals) -> dict[str, dict[tuple[str, ...], tuple[float, ...]]]:
    return {row[1]: row[5] for row in totals.rows()}


def test_processes_add_up() -> None:
    totals = Totals()
    totals.put(("submission", 1), [counter(1), gauge(2), histogram(1, 0, 1, 5.0)])
    totals.put(("submission", 2), [counter(2), counter(5, "b"), gauge(3), histogram(0, 2, 0, 1.0)])
    assert values(totals) == {
        "things_total": {("a",): (3,), ("b",): (5,)},
        "open": {(): (5,)},
        "seconds": {(): (1, 2, 1, 6.0)},
    }


def test_a_snapshot_replaces_the_last_one_of_its_process() -> None:
    totals = Totals()
    totals.put(("submission", 1), [counter(1)])
    totals.put(("submission", 1), [counter(4)])
    assert values(totals)["things_total"] == {("a",): (4,)}


def test_what_ended_processes_counted_stays_and_their_gauges_go() -> None:
    totals = Totals()
    for pid in range(3):
        totals.put(("submission", pid), [counter(1), gauge(1)])
        totals.end(("submission", pid))
    totals.end(("submission", 99))
    totals.put(("submission", 4), [counter(1), gauge(1)])
    assert values(totals) == {"things_total": {("a",): (4,)}, "open": {(): (1,)}}


def test_a_metric_of_another_shape_does_not_spoil_the_sums() -> None:
    totals = Totals()
    totals.put(("old", 1), [counter(1)])
    totals.put(("new", 2), [("gauge", "things_total", "Things", (), (), {(): (7.0,)})])
    assert values(totals) == {"things_total": {("a",): (1,)}}


def test_sums_do_not_change_what_was_put() -> None:
    totals = Totals()
    row = counter(1)
    totals.put(("a", 1), [row])
    totals.put(("b", 2), [counter(1)])
    totals.rows()
    assert row[5] == {("a",): (1,)}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_endpoint_shows_them_in_prometheus_s_format(host: str) -> None:
    endpoint = Endpoint(lambda: [counter(3), gauge(2), histogram(1, 2, 1, 6.0)])
    (port,) = steady_ports(1)
    endpoint.start(host, port)
    assert endpoint.port == port
    where = f"[{host}]" if ":" in host else host
    with urllib.request.urlopen(f"http://{where}:{port}/metrics", timeout=10) as response:
        text = response.read().decode()
    endpoint.stop()
    assert text == endpoint.text()
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        'pillarbox_things_total{kind="a"} 3.0',
        "pillarbox_open 2.0",
        'pillarbox_seconds_bucket{le="0.1"} 1.0',
        'pillarbox_seconds_bucket{le="1.0"} 3.0',
        'pillarbox_seconds_bucket{le="+Inf"} 4.0',
        "pillarbox_seconds_count 4.0",
        "pillarbox_seconds_sum 6.0",
    ]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, port))


def test_an_address_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"metrics: cannot listen on 127.0.0.1:{port}"):
            Endpoint(list).start("127.0.0.1", port)
