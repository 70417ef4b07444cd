"""Frames: how values become octets (msgpack). The only importer of msgspec in this room.

Carried: None, bool, int, float, str, bytes, list, tuple, set, dict, enums, and dataclasses by name of field. The
encoder takes dataclasses as they are, so that a body may be one or hold some; ``to_body`` is for those who want to
look at the plain data. A receiver gets plain data and says what it wants: ``from_body(Envelope, body)``.

A frame is 4 octets of length (big endian, not counting themselves), then msgpack of [kind, number, verb, body].

ERRORS
    ValueError on anything malformed, too long, or of a kind that cannot be carried.
"""

import enum
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

HEADER = 4
"""Octets of length before each frame."""

MAX_FRAME = 8 * 1024 * 1024
"""The longest frame in octets, header not counted."""


class Kind(enum.IntEnum):
    """What a frame is. A reply's and an error's number is the request's; an error's verb is the error's kind."""

    REQUEST = 0
    REPLY = 1
    ERROR = 2
    NOTE = 3


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[int, int, str, Any])
_PLAIN = (bytes,)


def to_body(value: Any) -> Any:
    """Plain data (dict, list, str, bytes, numbers) for a value that may hold dataclasses, enums and tuples."""
    try:
        return msgspec.to_builtins(value, builtin_types=_PLAIN)
    except (TypeError, msgspec.MsgspecError) as error:
        raise ValueError(str(error)) from error


def from_body(kind: type[T], body: Any) -> T:
    """A value of ``kind`` from plain data; raises ValueError naming the field that does not fit."""
    try:
        return msgspec.convert(body, kind, builtin_types=_PLAIN)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error


def append_frame(buffer: bytearray, kind: int, number: int, verb: str, body: Any) -> None:
    """Adds one frame at the end of ``buffer``, which is as before when ValueError is raised."""
    start = len(buffer)
    try:
        _encoder.encode_into((kind, number, verb, body), buffer, start + HEADER)
        size = len(buffer) - start - HEADER
        if size > MAX_FRAME:
            raise ValueError(f"{verb}: a frame of {size} octets, more than {MAX_FRAME}")
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        del buffer[start:]
        raise ValueError(str(error)) from error
    buffer[start : start + HEADER] = size.to_bytes(HEADER, "big")


def read_frame(octets: memoryview) -> tuple[int, int, str, Any]:
    """(kind, number, verb, body) of one frame without its header. Raises ValueError."""
    try:
        return _decoder.decode(octets)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
