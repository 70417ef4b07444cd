"""Headers as large as they may be, made so that a careless expression would try every way to read them.

An expression that backtracks exponentially, or over all pairs of a quarter of a million octets, does not end within
the test's time limit; those here take milliseconds.
"""

import pytest

from pillarbox.message.authors import authors
from pillarbox.message.fixup import complete
from pillarbox.message.header import MAX_FIELDS, MAX_HEADER_SIZE, Header, HeaderDefect, find_header_end, parse

SIZE = MAX_HEADER_SIZE - 64


def filled(pattern: bytes) -> bytes:
    return pattern * (SIZE // len(pattern))


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "body",
    [
        filled(b"a."),
        b"a@" + filled(b"b."),
        b"a@" + filled(b"b-"),
        b"a@" + filled(b"b") + b"-",
        filled(b"("),
        filled(b"()"),
        filled(b"<"),
        filled(b'"" '),
        b'"' + filled(b'\\"'),
        filled(b"a@b.c,"),
        filled(b"@a ") + b"<a@b>",
        b"a" + filled(b"\r\n a"),
        b"a" + filled(b"\r\n "),
        b"a@" + b"b" * (SIZE // 2) + b"<a@" + b"b" * (SIZE // 2 - 8) + b">",
    ],
)
def test_is_refused_within_its_size(body: bytes) -> None:
    with pytest.raises(HeaderDefect):
        authors(parse(b"From: " + body + b"\r\n\r\n"))


FROM = b"From: ada@example.org\r\n"
TRACE = b"Received: by mail.example.org\r\n"


def completed(header: Header) -> bytes:
    names = frozenset({b"mail.example.org"})
    return complete(header, trace=TRACE, date="now", message_id="<1@mail.example.org>", own_names=names)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("field", [b"Received: x\r\n", b"Received:\r\n", b"a:\r\n", b"Bcc: a@b\r\n"])
def test_thousands_of_fields_are_refused_within_their_size(field: bytes) -> None:
    header = parse(FROM + filled(field) + b"\r\n")
    assert len(header.octets) <= MAX_HEADER_SIZE
    assert len(header.fields) > 10 * MAX_FIELDS
    for use in (authors, completed):
        with pytest.raises(HeaderDefect, match="too many fields"):
            use(header)


@pytest.mark.timeout(20)
def test_as_many_received_fields_as_may_be_are_counted_and_kept() -> None:
    trace = b"".join(b"Received: from a%d by b%d\r\n" % (number, number) for number in range(MAX_FIELDS - 1))
    header = parse(trace + FROM + b"\r\n")
    assert len(header.bodies(b"received")) == MAX_FIELDS - 1
    assert authors(header).from_ == ("ada@example.org",)
    assert completed(header).endswith(trace + FROM + b"\r\n")
    more = parse(b"Received: x\r\n" + trace + FROM + b"\r\n")
    assert more.defect is not None


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "value",
    [
        b"(" * 200,
        b"(\\" * 100,
        b"()" * 100,
        b"( " * 60 + b") " * 60 + b"mail.example.org; spf=pass",
        b'"' + b"\\a" * 100,
        b'"' + b"mail.example.org" * 10,
        b"\r\n " * 60 + b"x",
    ],
)
def test_results_in_many_forged_fields_are_read_within_their_size(value: bytes) -> None:
    count = 900
    raw = b"Authentication-Results: " + value + b"\r\n"
    header = parse(FROM + raw * count + b"\r\n")
    assert header.defect is None
    kept = completed(header).count(b"Authentication-Results:")
    assert kept == (0 if b"mail.example.org;" in value else count)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "value",
    [filled(b"("), filled(b"()"), filled(b"(\\)"), b'"' + filled(b"\\a"), filled(b"\r\n "), filled(b"( )\r\n\t")],
)
def test_one_huge_field_of_results_is_read_within_its_size(value: bytes) -> None:
    header = parse(FROM + b"Authentication-Results: " + value + b"x\r\n\r\n")
    assert header.octets in completed(header)


@pytest.mark.timeout(20)
def test_the_end_of_a_header_that_comes_octet_by_octet_is_found_without_looking_back() -> None:
    octets = bytearray()
    header = FROM + filled(b"X: y\r\n\t\r\r\n")
    for octet in header[: MAX_HEADER_SIZE // 2]:
        octets.append(octet)
        assert find_header_end(octets, len(octets) - 1) is None
    octets += b"x\r\n\r\n"
    assert find_header_end(octets, len(octets) - 1) == len(octets)


@pytest.mark.timeout(20)
def test_a_hundred_thousand_mime_parts_are_no_business_of_ours() -> None:
    """The header ends where it ends; parts, however many and however deep, are never opened."""
    header = FROM + b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    parts = b"".join(b"--b\r\nFrom: eve@example.net\r\nContent-Type: multipart/mixed\r\n\r\n" for _ in range(100_000))
    content = header + parts + b"--b--\r\n"
    end = find_header_end(content)
    assert end == len(header)
    read = parse(content[:end])
    assert authors(read).from_ == ("ada@example.org",)
    assert completed(read).endswith(header)
