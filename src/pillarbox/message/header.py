"""The header section: where it ends, and its raw fields in order. Never looks into the body or MIME parts.

    end = find_header_end(octets)             # index just after the empty line, or None
    header = parse(octets[:end])
    header.fields                             # ((b"from", b"From: a@b\r\n"), ...)
    header.defect                             # None, or why two readers could read it differently

A header with a defect still has the fields that could be read, so that it can be shown; whoever decides by it
refuses it first (authors does). Nothing is ever regenerated: the raw octets of all fields join to the header.

STANDARDS
    RFC 5322 2.2 and 3.6 (fields, folding); of its obsolete forms white space before the colon is refused. RFC 6532
    (octets above 127 in a field's body).

ERRORS
    parse raises nothing. HeaderDefect is a value here and raised by authors.
"""

import re
from dataclasses import dataclass

MAX_HEADER_SIZE = 262_144
"""Octets in which the header has to end; whoever collects it gives up there (554 5.6.0)."""

MAX_FIELDS = 1000
"""Fields in one header; more are a defect."""

RawField = tuple[bytes, bytes]
"""A field's name in lower case, and all its octets: name, colon, body, folding and the last CRLF."""

_FIELD = re.compile(rb"^(([!-9;-~]++):[^\r\n\0]*+(?:\r\n[ \t][^\r\n\0]*+)*\r\n)", re.MULTILINE)
_FOLD = re.compile(rb"\r\n(?=[ \t])")


class HeaderDefect(Exception):
    """Two readers could read this header differently, so it is refused; the author can correct it.

    Attributes:
        reason: in plain words, constant: holds nothing of the header, so that a peer may see it.
        field: the field's usual name ("From"), "" for the header as a whole.
    """

    def __init__(self, reason: str, field: str = "") -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.reason = reason
        self.field = field


@dataclass(frozen=True, slots=True)
class Header:
    """A header section, read. ``octets`` as given to parse; ``defect`` is the first one found, None when none."""

    octets: bytes
    fields: tuple[RawField, ...]
    defect: HeaderDefect | None = None

    def bodies(self, name: bytes) -> list[bytes]:
        """The unfolded bodies of all fields of this name (lower case), in order, without the CRLF."""
        return [body(raw) for found, raw in self.fields if found == name]


def body(raw: bytes) -> bytes:
    """The body of a raw field, unfolded (RFC 5322 2.2.3: the CRLFs go, the white space stays), without its CRLF."""
    octets = raw[raw.index(b":") + 1 : -2]
    return octets.replace(b"\r\n", b"") if b"\r" in octets else octets


def find_header_end(octets: bytes | bytearray, start: int = 0) -> int | None:
    """The index just after the empty line that ends the header; None when it is not among ``octets`` yet.

    For content that comes in chunks: ask again with ``start`` = octets asked about before. A content without an
    empty line is a header as a whole (RFC 5322 3.5: the body is optional).
    """
    if start < 2 and octets.startswith(b"\r\n"):
        return 2
    found = octets.find(b"\r\n\r\n", max(start - 3, 0))
    return None if found < 0 else found + 4


def parse(header: bytes) -> Header:
    """Reads a header section, with or without the empty line that ends it."""
    found = _FIELD.findall(header)
    fields = tuple([(name.lower(), raw) for raw, name in found])
    # the fields must account for every octet: what lies between them is no field to us and may be one to others
    end = len(header) - 2 if header.endswith(b"\r\n\r\n") or header == b"\r\n" else len(header)
    if sum([len(raw) for _, raw in fields]) != end:
        return Header(header, fields, _find_defect(header[:end]))
    if len(fields) > MAX_FIELDS:
        return Header(header, fields, HeaderDefect("the header has too many fields"))
    return Header(header, fields)


_DEFECTS = (
    (re.compile(rb"\0"), "the header holds a NUL"),
    (re.compile(rb"\r(?!\n)|(?<!\r)\n"), "the header holds a bare CR or LF"),
    (re.compile(rb"[^\n]\Z"), "the header's last line has no end"),
    (re.compile(rb"\A[ \t]"), "the header begins with white space"),
    (re.compile(rb"^[!-9;-~]+[ \t]+:", re.MULTILINE), "a field has white space before its colon"),
    (re.compile(rb"^[^:\r\n]*\r\n(?![ \t])", re.MULTILINE), "the header has a line that is no field"),
)


def _find_defect(header: bytes) -> HeaderDefect:
    unfolded = _FOLD.sub(b"", header)
    for pattern, reason in _DEFECTS:
        if pattern.search(unfolded):
            return HeaderDefect(reason)
    return HeaderDefect("the header has a field whose name cannot be read")


def needs_smtputf8(header: bytes, *paths: str) -> bool:
    """Whether a message that was submitted with SMTPUTF8 really needs it at the next hop: an octet above 127 in the
    header (RFC 6532) or in one of the paths (RFC 6531). Many clients always say SMTPUTF8."""
    return not header.isascii() or not all([path.isascii() for path in paths])
