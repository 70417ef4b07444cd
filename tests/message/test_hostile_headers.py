"""Headers as large as they may be, made so that a careless expression would try every way to read them.

An expression that backtracks exponentially, or over all pairs of a quarter of a million octets, does not end within
the test's time limit; those here take milliseconds.
"""

import pytest

from pillarbox.message.authors import authors
from pillarbox.message.header import MAX_HEADER_SIZE, HeaderDefect, parse

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
