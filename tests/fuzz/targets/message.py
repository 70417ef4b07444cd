"""Any octets as a header: read, completed, and who it says it is from.

INPUT
    One octet of flags, then the header. With SMTPUTF8 addresses may hold UTF-8.

INVARIANTS
    ``parse`` raises nothing; its fields are parts of the header in order, all of it when there is no defect.
    ``complete`` raises HeaderDefect for a header with a defect and nothing else. Its result is: our trace field, Date
    and Message-ID where there was none, and then every octet as it came, but for whole fields that are to go (Bcc,
    Resent-Bcc, Authentication-Results in our name). What was completed reads back without a defect, and completing
    it again adds nothing but the trace.
    ``authors`` returns addresses that stand in the header, or raises HeaderDefect with a reason that quotes nothing.
    A reader that takes what stands in angle brackets sees no other author than we do.
    The end of a header is found at the same place however the octets were cut.
    ``received`` is one field without a defect, whatever the client said of itself.
"""

import re
from typing import Final

from pillarbox.message.authors import Authors, authors
from pillarbox.message.fixup import complete
from pillarbox.message.header import Header, HeaderDefect, find_header_end, needs_smtputf8, parse
from pillarbox.message.received import received

SMTPUTF8: Final = 0x01
_TRACE: Final = b"T: t\r\n"
_DATE: Final = b"Date: d\r\n"
_MESSAGE_ID: Final = b"Message-ID: <m>\r\n"
_OURS: Final = frozenset({b"mx.example.org"})
_GO: Final = frozenset({b"bcc", b"resent-bcc"})
_BRACKETED: Final = re.compile(r"<\s*([^<>]*[^<>\s@]@[^<>\s@][^<>]*?)\s*>")


def check(octets: bytes) -> None:
    """Asserts the invariants."""
    if not octets:
        return
    flags, content = octets[0], octets[1:]
    end = _check_end(content)
    octets = content if end is None else content[:end]
    header = parse(octets)
    _check_fields(header)
    _check_completed(header)
    _check_authors(header, smtputf8=bool(flags & SMTPUTF8))
    _check_received(octets)
    assert needs_smtputf8(octets) is not octets.isascii()


def _check_end(content: bytes) -> int | None:
    end = find_header_end(content)
    if end is None:
        assert b"\r\n\r\n" not in content
    else:
        assert end == 2 or content[:end].endswith(b"\r\n\r\n")
        assert b"\r\n\r\n" not in content[: end - 1]
    # asked again and again, as chunks come
    asked = 0
    for size in range(0, min(len(content), 64) + 1, 3):
        found = find_header_end(content[:size], asked)
        assert found == (end if end is not None and end <= size else None)
        if found is not None:
            break
        asked = size
    return end


def _check_fields(header: Header) -> None:
    position = 0
    for name, raw in header.fields:
        position = header.octets.index(raw, position) + len(raw)
        assert raw.lower().startswith(name + b":")
        assert raw.endswith(b"\r\n")
    if header.defect is None:
        assert sum(len(raw) for _, raw in header.fields) == position
        assert header.octets[position:] in (b"", b"\r\n")


def _complete(header: Header) -> bytes:
    return complete(header, trace=_TRACE, date="d", message_id="<m>", own_names=_OURS)


def _check_completed(header: Header) -> None:
    try:
        done = _complete(header)
    except HeaderDefect:
        assert header.defect is not None
        return
    assert header.defect is None
    names = {name for name, _ in header.fields}
    front = _TRACE + (b"" if b"date" in names else _DATE) + (b"" if b"message-id" in names else _MESSAGE_ID)
    assert done.startswith(front)
    rest = done[len(front) :]
    for name, raw in header.fields:
        if name == b"authentication-results" and not rest.startswith(raw):
            assert b"mx.example.org" in _unquoted(raw), "a field that is not ours went"
        elif name not in _GO:
            assert rest.startswith(raw), "an octet was touched"
            rest = rest[len(raw) :]
        elif name == b"authentication-results":
            rest = rest[len(raw) :]
    assert rest == header.octets[sum(len(raw) for _, raw in header.fields) :]
    again = parse(done)
    if len(again.fields) > 1_000:
        return  # there is a ceiling
    assert again.defect is None
    assert _complete(again) == _TRACE + done


def _unquoted(raw: bytes) -> bytes:
    return re.sub(rb"\\(.)", rb"\1", raw).replace(b"\r\n", b"").lower()


def _check_authors(header: Header, *, smtputf8: bool) -> None:
    try:
        found = authors(header, smtputf8=smtputf8)
    except HeaderDefect as defect:
        assert defect.reason.isascii()
        assert defect.reason.isprintable()
        assert defect.field in ("", "From", "Sender", "Resent-From", "Resent-Sender")
        return
    assert isinstance(found, Authors)
    assert header.defect is None
    assert found.from_
    assert len(found.sender) <= 1
    unfolded = header.octets.replace(b"\r\n ", b" ").replace(b"\r\n\t", b"\t")
    addresses = found.from_ + found.sender + found.resent_from + found.resent_sender
    for address in addresses:
        assert not re.search(r"[\x00-\x1f\x7f-\xa0<>]", address)
        local_part, _, domain = address.rpartition("@")
        assert local_part
        assert domain
        assert smtputf8 or address.isascii()
        encoded = address.encode()
        assert encoded in unfolded or f'"{local_part}"@{domain}'.encode() in unfolded
    for body in header.bodies(b"from"):
        assert set(_BRACKETED.findall(body.decode())) <= set(found.from_)


def _check_received(octets: bytes) -> None:
    text = octets[:300].decode("latin-1")
    for forward_path in (None, text, f"{text}@example.org"):
        field = received(
            helo=text,
            address="192.0.2.1",
            host="mx.example.org",
            protocol="ESMTPSA",
            tls=("TLSv1.3", text),
            queue_id="Q",
            forward_path=forward_path,
            now=1.0,
            login=text,
        )
        header = parse(field)
        assert header.defect is None
        assert [name for name, _ in header.fields] == [b"received"]
        assert field.isascii()
