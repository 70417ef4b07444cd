"""Reads a distinguished name: its parts, as values.

    parse_name("CN=Jada Correr,O=ACME")     -> [("cn", "Jada Correr"), ("o", "ACME")]

STANDARDS
    RFC 4514 3 (how a name is read again).

ERRORS
    ValueError: no distinguished name.
"""

import re

_PAIR = re.compile(r"\s*([A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)*)\s*=\s*((?:[^,+\\]|\\.)*)([,+]?)", re.DOTALL)
_ESCAPED = re.compile(r"((?:\\[0-9A-Fa-f]{2})+)|\\(.)", re.DOTALL)


def parse_name(name: str) -> list[tuple[str, str]]:
    """The (type, value) pairs of a distinguished name, most particular first; types in lower case. Raises
    ValueError."""
    pairs: list[tuple[str, str]] = []
    position, more = 0, bool(name.strip())
    while more:
        match = _PAIR.match(name, position)
        if match is None:
            raise ValueError(f"{name!r} is no distinguished name")
        pairs.append((match[1].lower(), _ESCAPED.sub(_unescape, match[2].strip())))
        position, more = match.end(), bool(match[3])
    if position != len(name):
        raise ValueError(f"{name!r} is no distinguished name")
    return pairs


def _unescape(match: re.Match[str]) -> str:
    if match[1]:
        return bytes.fromhex(match[1].replace("\\", "")).decode("utf-8", "replace")
    return match[2]
