"""Sizes, times and addresses: what is taken, what is refused, and that writing them back changes nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.config import values
from pillarbox.submission.settings import Address


@pytest.mark.parametrize(("text", "octets"), [("50MiB", 52_428_800), ("64 KiB", 65_536), ("7B", 7), ("7", 7), (7, 7)])
def test_size(text: object, octets: int) -> None:
    assert values.parse_size(text) == octets


@pytest.mark.parametrize("text", ["50MB", "-1", "1.5MiB", "", "٣KiB", True, -1, 1.0, None, "1e3", "+5", "1_000"])
def test_size_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        values.parse_size(text)


@pytest.mark.parametrize(("text", "seconds"), [("500ms", 0.5), ("30s", 30), ("1.5m", 90), ("4h", 14400), (0, 0)])
def test_time(text: object, seconds: float) -> None:
    assert values.parse_time(text) == seconds


@pytest.mark.parametrize("text", [30, "30", "5 weeks", "-1s", "٣s", "", True, False, None, "1h30m"])
def test_time_without_a_unit_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected a time with its unit"):
        values.parse_time(text)


@settings(derandomize=True, deadline=None)
@given(st.integers(min_value=0, max_value=2**45), st.integers(min_value=0, max_value=10**6))
def test_what_is_written_reads_the_same(octets: int, seconds: int) -> None:
    assert values.parse_size(values.format_size(octets)) == octets
    assert values.parse_time(values.format_time(float(seconds))) == seconds


def test_listener() -> None:
    assert values.parse_listener("127.0.0.9:587") == Address("127.0.0.9", 587)
    assert values.parse_listener("[0:0::1]:465") == Address("::1", 465)


@pytest.mark.parametrize(
    "text", ["587", "127.0.0.1", "::1:587", "[127.0.0.1]:587", "host:587", "0.0.0.0:0", "[::]:70000", 1]
)
def test_listener_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        values.parse_listener(text)


@pytest.mark.parametrize("text", ["0.0.0.0:25", "[::]:25", "127.0.0.1:025"])
def test_port_25_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(ValueError, match="never a transfer server"):
        values.parse_listener(text)


def test_metrics_stay_on_this_machine() -> None:
    assert values.parse_loopback("[::1]:9587").port == 9587
    with pytest.raises(ValueError, match="loopback"):
        values.parse_loopback("0.0.0.0:9587")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MX.example.org", ("mx.example.org", 25)),
        ("mx.example.org:587", ("mx.example.org", 587)),
        ("192.0.2.1", ("192.0.2.1", 25)),
        ("[2001:db8::1]:26", ("2001:db8::1", 26)),
        ("2001:db8::1", ("2001:db8::1", 25)),
    ],
)
def test_endpoint(text: str, expected: tuple[str, int]) -> None:
    assert values.parse_endpoint(text, 25) == expected


@pytest.mark.parametrize("text", ["", "a b", "-x", "x:y", "mx:0", "mx:99999", "1.2.3", "a..b", "x" * 300])
def test_endpoint_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        values.parse_endpoint(text, 25)


def test_a_port_within_a_next_hops_name_is_told_its_place() -> None:
    for text in ("mx.example.org:2626", "192.0.2.25:2626", "[2001:db8::25]:2626"):
        with pytest.raises(ValueError, match=r"name or address alone; the port goes in port = 2626$"):
            values.parse_next_hop(text)


def test_a_path_with_nul_is_refused_in_words() -> None:
    assert values.parse_path("/etc/pillarbox/a b.pem") == "/etc/pillarbox/a b.pem"
    with pytest.raises(ValueError, match=r"expected a path without U\+0000"):
        values.parse_path("/etc/\0")
