"""JSON from elsewhere, read as strictly as RFC 8259 lets us: one object in UTF-8, each name once, no NaN.

    claims = read_object(octets)

Two readers of an object with a name twice may take different values for it; so such a one is refused (RFC 7519 4).

STANDARDS
    RFC 8259 (JSON).

ERRORS
    ValueError, which holds nothing of the document; also for one that is nested too deep, or has numbers too long.
"""

import json
from typing import Any, NoReturn


def read_object(octets: bytes) -> dict[str, Any]:
    """The object. Raises ValueError."""
    try:
        found = json.loads(octets.decode(), object_pairs_hook=_each_once, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise ValueError("not a JSON document that can be taken") from None
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name twice")
    return made


def _refuse(_: str) -> NoReturn:
    raise ValueError("not a number")
