"""Reads LDIF: the entries of an export, one after the other.

    for entry in read_entries(stream):          # stream: binary
        entry.dn, entry.values("mail")          # octets, in the order of the file

Names of attributes are in lower case and without options (``;lang-de``). Only what ``wanted`` names is kept, so that
pictures cost nothing. Changes (``changetype``) and values in other files (``attr:< url``) are refused: an export has
neither.

STANDARDS
    RFC 2849 (version 1; content records).

ERRORS
    LdifBroken: with the number of the line; never with its text.
"""

import base64
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

LINE_CEILING = 16 * 1024 * 1024
"""Octets of a line with what continues it."""
ENTRY_CEILING = 64 * 1024 * 1024
"""Octets of the values of one entry that are wanted, and what each costs beside."""
_VALUE_COST = 64
_LINE = re.compile(rb"([A-Za-z][A-Za-z0-9.-]*)((?:;[A-Za-z0-9-]+)*):(:|<)?[ ]*(.*)", re.DOTALL)


class LdifBroken(ValueError):
    """``str()`` says where and why."""


@dataclass(slots=True)
class Entry:
    """One entry; ``line`` is where it begins."""

    dn: bytes
    line: int
    attributes: dict[str, list[bytes]] = field(default_factory=dict)

    def values(self, name: str) -> list[bytes]:
        """Of one attribute, by its name in lower case."""
        return self.attributes.get(name, [])


def read_entries(stream: BinaryIO, wanted: Collection[str]) -> Iterator[Entry]:
    """The entries, with the attributes that are wanted (lower case). Raises LdifBroken, OSError."""
    entry: Entry | None = None
    size = 0
    for number, line in _unfolded(stream):
        if not line:
            if entry is not None:
                yield entry
            entry = None
            continue
        name, value = _parse(line, number)
        if entry is None:
            entry, size = _begun(name, value, number), 0
        elif name in ("dn", "changetype", "control"):
            raise LdifBroken(f"line {number}: found {name}: within an entry; expected an export of entries")
        elif name in wanted:
            entry.attributes.setdefault(name, []).append(value)
            size += len(value) + _VALUE_COST
            if size > ENTRY_CEILING:
                raise LdifBroken(f"line {number}: an entry of more than {ENTRY_CEILING} octets")
    if entry is not None:
        yield entry


def _begun(name: str, value: bytes, number: int) -> Entry | None:
    """A new entry; None for the version before the first one."""
    if name == "dn":
        return Entry(value, number)
    if (name, value) != ("version", b"1"):
        raise LdifBroken(f"line {number}: expected dn: at the beginning of an entry, or version: 1 before all")
    return None


def _unfolded(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(number, line) without line breaks and comments; what begins with a space continues the line before."""
    parts: list[bytes] = []
    began = size = 0
    for number, raw in enumerate(iter(lambda: stream.readline(LINE_CEILING + 2), b""), start=1):
        line = raw.removesuffix(b"\n").removesuffix(b"\r")
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.startswith(b" ") and parts:
            parts.append(line[1:])
        else:
            if parts and not parts[0].startswith(b"#"):
                yield began, b"".join(parts)
            parts, began, size = [line], number, 0
        size += len(line)
        if size > LINE_CEILING:
            raise LdifBroken(f"line {began}: longer than {LINE_CEILING} octets")
    if parts and not parts[0].startswith(b"#"):
        yield began, b"".join(parts)


def _parse(line: bytes, number: int) -> tuple[str, bytes]:
    found = _LINE.fullmatch(line)
    if found is None:
        raise LdifBroken(f"line {number}: not of the form name: value")
    name, kind, value = found[1].decode().lower(), found[3], found[4]
    if kind == b"<":
        raise LdifBroken(f"line {number}: a value in another file; expected it here")
    if kind == b":":
        try:
            value = base64.b64decode(value.strip(), validate=True)
        except ValueError:
            raise LdifBroken(f"line {number}: not base64") from None
    return name, value
