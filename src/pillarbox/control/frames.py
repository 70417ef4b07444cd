"""Frames: how values become octets (msgpack). The only importer of msgspec in this room.

Carried: None, bool, int, float, str, bytes, list, tuple, dict, and dataclasses by name of field (``to_body``); a
receiver that wants a dataclass says which: ``from_body(Envelope, body)``. Raises ValueError on anything malformed.
"""

from typing import Any, TypeVar

T = TypeVar("T")


def to_body(value: Any) -> Any:
    """Plain data (dict, list, str, bytes, numbers) for a value that may hold dataclasses, enums and tuples."""
    raise NotImplementedError


def from_body(kind: type[T], body: Any) -> T:
    """A value of ``kind`` from plain data; raises ValueError naming the field that does not fit."""
    raise NotImplementedError
