"""How a line of the log is written: redaction, JSON, readable. The only importer of msgspec in this room.

    as_json(redact({"event": "session.opened", "password": "x"}))  ->  b'{"event":...,"password":"[redacted]"}\n'

JSON lines are ASCII: what a peer sent can neither break a line (NEL, U+2028) nor steer a terminal. Readable lines
quote every value that is not plainly printable, for the same reason.
"""

import enum
import json
import re
import sys
import traceback
from collections.abc import Mapping
from typing import Any

import msgspec

REDACTED = "[redacted]"

_SECRET_WORDS = frozenset(
    {"password", "passwords", "passwd", "passphrase", "secret", "secrets", "token", "tokens", "authorization"}
    | {"response", "responses", "credential", "credentials", "cookie"}
)
_DEPTH = 6  # deeper values are written as text
_secret_keys: dict[str, bool] = {}  # each key is judged once; bounded, as keys may come from outside

_encode = msgspec.json.Encoder().encode
_PLAIN = frozenset((str, int, float, bool, type(None)))


def is_secret(key: str) -> bool:
    """Whether a value under this key is never to be written: one of its words names a secret."""
    known = _secret_keys.get(key)
    if known is None:
        words = (word.lower() for word in re.split(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])", key))
        known = any(word in _SECRET_WORDS for word in words)
        if len(_secret_keys) < 4096:
            _secret_keys[key] = known
    return known


def redact(fields: Mapping[Any, Any], depth: int = _DEPTH) -> dict[str, Any]:
    """A plain copy of ``fields`` with the values of secret keys replaced, at any depth."""
    plain: dict[str, Any] = {}
    for key, value in fields.items():
        name = key if type(key) is str else str(key)
        if is_secret(name):
            plain[name] = REDACTED
        else:
            plain[name] = value if type(value) in _PLAIN else _plain(value, depth - 1)
    return plain


def _plain(value: Any, depth: int) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("ascii", "backslashreplace")
    if isinstance(value, enum.Enum):
        return value.value if isinstance(value.value, str | int) else value.name
    if depth > 0 and isinstance(value, Mapping):
        return redact(value, depth)
    if depth > 0 and isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth - 1) for item in value]
    try:
        return str(value)
    except Exception:  # a broken __str__ must not cost the line
        return f"<{type(value).__name__}>"


def as_json(fields: dict[str, Any]) -> bytes:
    """One line, ASCII, with its line end."""
    try:
        line = _encode(fields)
    except (UnicodeEncodeError, OverflowError, msgspec.MsgspecError):  # a lone surrogate, a number beyond 64 bits
        return json.dumps(fields, default=str).encode("ascii") + b"\n"
    if not line.isascii():
        line = json.dumps(json.loads(line), separators=(",", ":")).encode("ascii")
    return line + b"\n"


_LEAD = ("time", "level", "event", "room", "role", "worker", "traceback")
_BARE = re.compile(r"[\w.,:;/@+*%<>()\[\]-]+", re.ASCII)


def as_readable(fields: dict[str, Any]) -> bytes:
    """One line for people (and the traceback, if any, below it), with its line end."""
    where = str(fields.get("role") or fields.get("room") or "")
    if fields.get("worker"):
        where += f"-{fields['worker']}"
    parts = [f"{fields['time'][11:]} {fields['level']:<7} {where:<12} {fields['event']:<24}"]
    parts += [f"{key}={_quoted(value)}" for key, value in fields.items() if key not in _LEAD]
    line = " ".join(parts).rstrip() + "\n"
    if "traceback" in fields:
        line += "".join(f"    {part}\n" for part in str(fields["traceback"]).splitlines())
    return line.encode("utf-8", "backslashreplace")


def _quoted(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    if _BARE.fullmatch(text) and isinstance(value, str):
        return text
    return json.dumps(value, ensure_ascii=not text.isprintable(), default=str)


def traceback_of(exc_info: Any) -> str:
    """The traceback as text: ``exc_info`` is True (the exception in flight) or an exception."""
    error = exc_info if isinstance(exc_info, BaseException) else sys.exc_info()[1]
    if error is None:
        return ""
    return "".join(traceback.format_exception(error)).rstrip()
