"""Any octets as a header: its end is found, its fields are read, nothing but HeaderDefect is raised, and what was
completed is whole fields of the original behind what was added."""

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.message.authors import Authors, authors
from pillarbox.message.fixup import complete
from pillarbox.message.header import HeaderDefect, find_header_end, parse

EXAMPLES = settings(max_examples=int(os.environ.get("PILLARBOX_FUZZ_EXAMPLES", "200")))

names = st.sampled_from(b"From Sender Resent-From Bcc Date Authentication-Results".split())
marks = st.sampled_from(b': :\t a@b <a@b> a @ < > ( ) , ; " \\ . =?utf-8?Q?a=40b?= [ ]'.split(b" "))
octets_of_trouble = st.sampled_from([b"\r\n", b"\r\n ", b"\r", b"\n", b"\0", b" ", b"\xc3\xa4", b"\xff", b"\x1b"])
pieces = names | marks | octets_of_trouble
anything = st.lists(pieces | st.binary(max_size=3), max_size=30).map(b"".join)
# nearly right, so that the deeper code is reached
fields = st.tuples(
    st.sampled_from([b"From:", b"from: ", b"Sender:", b"Resent-From:", b"Resent-Sender:", b"Bcc:", b"X:"]),
    st.lists(pieces.filter(lambda piece: piece not in (b"\r", b"\n", b"\0", b"\r\n")), max_size=8).map(b"".join),
    st.just(b"\r\n"),
).map(b"".join)
headers = st.lists(fields, max_size=6).map(b"".join)


@EXAMPLES
@given(anything | headers, st.booleans())
def test_authors_are_returned_or_refused_and_nothing_else_happens(octets: bytes, smtputf8: bool) -> None:
    try:
        found = authors(parse(octets), smtputf8=smtputf8)
    except HeaderDefect as defect:
        assert defect.reason
        assert defect.reason.isascii()
        assert defect.field in ("", "From", "Sender", "Resent-From", "Resent-Sender")
    else:
        assert isinstance(found, Authors)
        assert found.from_
        assert len(found.sender) <= 1
        for address in found.from_ + found.sender + found.resent_from + found.resent_sender:
            assert "@" in address
            assert address.encode() in octets or f'"{address.replace("@", chr(34) + "@", 1)}'.encode() in octets


@EXAMPLES
@given(anything | headers)
def test_fields_are_parts_of_the_header_in_order_and_all_of_it_without_a_defect(octets: bytes) -> None:
    header = parse(octets)
    position = 0
    for name, raw in header.fields:
        position = octets.index(raw, position) + len(raw)
        assert raw.lower().startswith(name + b":")
    if header.defect is None:
        assert octets[position:] in (b"", b"\r\n")
        assert sum(len(raw) for _, raw in header.fields) == position


@EXAMPLES
@given(anything | headers)
def test_completing_adds_in_front_and_removes_whole_fields_only(octets: bytes) -> None:
    try:
        done = complete(parse(octets), trace=b"T: t\r\n", date="d", message_id="<m>", own_names=frozenset({b"a"}))
    except HeaderDefect:
        assert parse(octets).defect is not None
        return
    assert done.startswith(b"T: t\r\n")
    before, after = parse(octets).fields, parse(done).fields
    kept = [raw for name, raw in before if name not in (b"bcc", b"resent-bcc", b"authentication-results")]
    rest = [raw for name, raw in after if name != b"authentication-results"]
    assert rest[len(rest) - len(kept) :] == kept
    assert {name for name, _ in after}.isdisjoint({b"bcc", b"resent-bcc"})


@EXAMPLES
@given(anything)
def test_the_end_of_the_header_is_behind_the_first_empty_line(octets: bytes) -> None:
    end = find_header_end(octets)
    if end is None:
        assert b"\r\n\r\n" not in octets
        assert not octets.startswith(b"\r\n")
    else:
        assert octets[:end].endswith(b"\r\n\r\n") or end == 2
        assert b"\r\n\r\n" not in octets[: end - 1]
