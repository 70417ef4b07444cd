"""Frames: what crosses unchanged, and what is refused."""

import enum
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.control.frames import HEADER, MAX_FRAME, append_frame, from_body, read_frame, to_body


class Colour(enum.StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Inner:
    octets: bytes
    colour: Colour = Colour.RED


@dataclass(frozen=True, slots=True)
class Outer:
    name: str
    inner: tuple[Inner, ...] = ()
    numbers: dict[int, float] = field(default_factory=dict)
    maybe: str | None = None


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(-9, 9), inner, max_size=4),
    max_leaves=12,
)


@given(st.integers(0, 3), st.integers(0, 2**53), st.text(), plain)
def test_a_frame_is_read_as_it_was_written(kind: int, number: int, verb: str, body: object) -> None:
    buffer = bytearray(b"before")
    append_frame(buffer, kind, number, verb, body)
    assert buffer[:6] == b"before"
    size = int.from_bytes(buffer[6 : 6 + HEADER], "big")
    assert size == len(buffer) - 6 - HEADER
    assert read_frame(memoryview(buffer)[6 + HEADER :]) == (kind, number, verb, body)


@given(st.binary(max_size=64))
def test_octets_that_are_no_frame_are_a_value_error_and_nothing_else(octets: bytes) -> None:
    try:
        frame = read_frame(memoryview(octets))
    except ValueError:
        return
    assert list(map(type, frame[:3])) == [int, int, str]


def test_dataclasses_cross_by_field() -> None:
    value = Outer("x", (Inner(b"\x00\xff"),), {3: 1.5}, None)
    buffer = bytearray()
    append_frame(buffer, 0, 1, "v", value)
    *_, body = read_frame(memoryview(buffer)[HEADER:])
    assert body == {
        "name": "x",
        "inner": [{"octets": b"\x00\xff", "colour": "red"}],
        "numbers": {3: 1.5},
        "maybe": None,
    }
    assert from_body(Outer, to_body(value)) == value
    assert from_body(Outer, body) == value


def test_a_body_that_does_not_fit_names_the_field() -> None:
    with pytest.raises(ValueError, match=r"\$\.inner\[0\]\.octets"):
        from_body(Outer, {"name": "x", "inner": [{"octets": 5}]})


def test_what_cannot_be_carried_leaves_the_buffer_as_it_was() -> None:
    buffer = bytearray(b"kept")
    with pytest.raises(ValueError, match="object"):
        append_frame(buffer, 0, 1, "v", {"x": object()})
    assert buffer == b"kept"
    with pytest.raises(ValueError, match="ints"):
        append_frame(buffer, 0, 1, "v", 2**70)
    assert buffer == b"kept"


def test_a_frame_beyond_the_ceiling_is_refused_at_the_writer() -> None:
    buffer = bytearray(b"kept")
    with pytest.raises(ValueError, match=str(MAX_FRAME)):
        append_frame(buffer, 0, 1, "v", bytes(MAX_FRAME))
    assert buffer == b"kept"
