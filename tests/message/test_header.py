"""Where the header ends, what its fields are, and what makes it doubtful."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.message.header import MAX_FIELDS, Header, HeaderDefect, body, find_header_end, needs_smtputf8, parse


def defect(header: bytes) -> str | None:
    found = parse(header).defect
    assert found is None or found.field == ""
    return found.reason if found else None


@pytest.mark.parametrize(
    ("octets", "end"),
    [
        (b"A: b\r\n\r\nbody", 8),
        (b"A: b\r\n\r\n\r\n\r\n", 8),
        (b"\r\nbody", 2),
        (b"\r\n", 2),
        (b"\r\n\r\n", 2),
        (b"", None),
        (b"\r", None),
        (b"A: b\r\n", None),
        (b"A: b\r\n\r", None),
        (b"A: b\n\nbody", None),
        (b"A: b\r\n \r\nB: c\r\n\r\n", 17),
    ],
)
def test_the_header_ends_after_the_first_empty_line(octets: bytes, end: int | None) -> None:
    assert find_header_end(octets) == end
    assert find_header_end(bytearray(octets)) == end


@given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"A: b", b" "]), max_size=12).map(b"".join))
def test_the_end_is_the_same_however_the_content_was_cut(content: bytes) -> None:
    whole = find_header_end(content)
    for size in (1, 2, 3):
        seen, asked, found = bytearray(), 0, None
        for at in range(0, len(content), size):
            seen += content[at : at + size]
            found = find_header_end(seen, asked)
            if found is not None:
                break
            asked = len(seen)
        assert found == whole


def test_fields_keep_their_octets_and_order() -> None:
    octets = b"Subject: a\r\n\tb\r\n c\r\nFROM:x@y\r\nfrom: z\r\nX-!#$: \xff\r\nEmpty:\r\n\r\n"
    header = parse(octets)
    assert header == Header(
        octets,
        (
            (b"subject", b"Subject: a\r\n\tb\r\n c\r\n"),
            (b"from", b"FROM:x@y\r\n"),
            (b"from", b"from: z\r\n"),
            (b"x-!#$", b"X-!#$: \xff\r\n"),
            (b"empty", b"Empty:\r\n"),
        ),
    )
    assert b"".join(raw for _, raw in header.fields) + b"\r\n" == octets
    assert header.bodies(b"from") == [b"x@y", b" z"]
    assert header.bodies(b"subject") == [b" a\tb c"]
    assert header.bodies(b"to") == []


def test_unfolding_takes_the_line_ends_only() -> None:
    assert body(b"A: b\r\n  c\r\n\t\r\n d:e\r\n") == b" b  c\t d:e"


@pytest.mark.parametrize("header", [b"", b"\r\n", b"A: b\r\n", b"A: b\r\n\r\n", b"A:\r\n \r\n\r\n"])
def test_a_header_may_lack_its_empty_line_or_everything(header: bytes) -> None:
    assert defect(header) is None


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"A: b\0\r\n\r\n", "the header holds a NUL"),
        (b"A: b\rB: c\r\n\r\n", "the header holds a bare CR or LF"),
        (b"A: b\nB: c\r\n\r\n", "the header holds a bare CR or LF"),
        (b"A: b\r\nC: d\n\r\n", "the header holds a bare CR or LF"),
        (b"A: b", "the header's last line has no end"),
        (b"A: b\r\n B", "the header's last line has no end"),
        (b" A: b\r\n\r\n", "the header begins with white space"),
        (b"\tA: b\r\nB: c\r\n", "the header begins with white space"),
        (b"From : a@b\r\n\r\n", "a field has white space before its colon"),
        (b"A: b\r\nFrom\t: a@b\r\n\r\n", "a field has white space before its colon"),
        (b"A: b\r\nFrom\r\n : a@b\r\n\r\n", "a field has white space before its colon"),
        (b"A: b\r\nno field\r\nC: d\r\n\r\n", "the header has a line that is no field"),
        (b"no field\r\n\r\n", "the header has a line that is no field"),
        (
            b"From alice@example.org Tue Nov 24 07:03:12 2026\r\nA: b\r\n\r\n",
            "the header has a field whose name cannot be read",
        ),
        (b"M\xfcller: b\r\n\r\n", "the header has a field whose name cannot be read"),
        (b": b\r\n\r\n", "the header has a field whose name cannot be read"),
        (b"\r\n\r\n", "the header has a line that is no field"),
    ],
)
def test_what_two_readers_could_read_differently_is_reported(header: bytes, reason: str) -> None:
    assert defect(header) == reason


def test_fields_of_a_doubtful_header_can_still_be_shown() -> None:
    header = parse(b"A: b\r\nnonsense with Bcc: x\r\nC: d\r\n\r\n")
    assert header.fields == ((b"a", b"A: b\r\n"), (b"c", b"C: d\r\n"))


def test_the_number_of_fields_has_a_ceiling() -> None:
    assert defect(b"A: b\r\n" * MAX_FIELDS + b"\r\n") is None
    assert defect(b"A: b\r\n" * (MAX_FIELDS + 1) + b"\r\n") == "the header has too many fields"


def test_a_defect_says_its_field_and_reason() -> None:
    assert str(HeaderDefect("is empty", "From")) == "From: is empty"
    assert str(HeaderDefect("the header holds a NUL")) == "the header holds a NUL"


def test_only_octets_above_127_in_header_or_paths_need_smtputf8() -> None:
    assert not needs_smtputf8(b"From: a@b\r\n\r\n", "a@b", "c@d")
    assert needs_smtputf8("Subject: ü\r\n\r\n".encode(), "a@b")
    assert needs_smtputf8(b"From: a@b\r\n\r\n", "a@b", "jörg@d")


@given(
    st.lists(
        st.tuples(
            st.from_regex(rb"[!-9;-~]{1,12}", fullmatch=True),
            st.lists(
                st.binary(max_size=12).map(lambda b: bytes(c for c in b if c not in b"\r\n\0")),
                min_size=1,
                max_size=3,
            ),
        ),
        max_size=8,
    ),
    st.booleans(),
)
def test_every_well_formed_header_is_read_whole(fields: list[tuple[bytes, list[bytes]]], has_end: bool) -> None:
    raws = [name + b":" + b"\r\n ".join(lines) + b"\r\n" for name, lines in fields]
    header = parse(b"".join(raws) + (b"\r\n" if has_end else b""))
    assert header.defect is None
    assert header.fields == tuple((name.lower(), raw) for (name, _), raw in zip(fields, raws, strict=True))
