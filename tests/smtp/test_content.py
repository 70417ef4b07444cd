"""The scanner of content against a reference that reads line by line, octet for octet."""

import pytest

from pillarbox.smtp.buffer import ReceiveBuffer
from pillarbox.smtp.content import ContentScanner
from pillarbox.smtp.events import NEED_DATA, Content, Defect, EndOfContent
from pillarbox.smtp.limits import Limits


def scan(pieces: list[bytes], limits: Limits) -> tuple[list[bytes], EndOfContent | None, bytes]:
    """The chunks, the end (None: not reached) and what was left in the buffer."""
    buffer = ReceiveBuffer()
    scanner = ContentScanner(limits)
    chunks: list[bytes] = []
    for piece in pieces:
        buffer.feed(piece)
        while (event := scanner.next_event(buffer)) is not NEED_DATA:
            if isinstance(event, EndOfContent):
                for rest in pieces[pieces.index(piece) + 1 :]:
                    buffer.feed(rest)
                octets = buffer.joined()
                return chunks, event, octets[buffer.start :]
            assert isinstance(event, Content)
            assert 0 < len(event.octets) <= max(limits.content_chunk, 8)
            chunks.append(event.octets)
    return chunks, None, b""


def test_a_small_content_in_one_piece_is_one_event() -> None:
    content = (b"x" * 78 + b"\r\n") * 100
    chunks, end, rest = scan([content + b".\r\nQUIT\r\n"], Limits())
    assert chunks == [content]
    assert end == EndOfContent(8_000, frozenset(), eight_bit=False)
    assert rest == b"QUIT\r\n"


def test_chunks_are_at_most_as_large_as_allowed_and_join_to_the_content() -> None:
    content = b"".join(b"%d.\r\n" % number for number in range(20_000))
    for size in (8, 13, 1_000, 4_096):
        chunks, end, _ = scan([content + b".\r\n"], Limits(content_chunk=size))
        assert b"".join(chunks) == content
        assert end == EndOfContent(len(content), frozenset(), eight_bit=False)


def test_the_end_is_found_at_any_offset_to_the_chunk() -> None:
    for length in range(40):
        content = b"y" * length + b"\r\n"
        chunks, end, rest = scan([content + b".\r\nZ"], Limits(content_chunk=16))
        assert b"".join(chunks) == content
        assert end is not None
        assert end.size == length + 2
        assert rest == b"Z"


def test_stuffed_dots_are_found_at_any_offset_to_the_chunk() -> None:
    for length in range(40):
        chunks, end, _ = scan([b"y" * length + b"\r\n..\r\n.z\r\n.\r\n"], Limits(content_chunk=16))
        assert b"".join(chunks) == b"y" * length + b"\r\n.\r\nz\r\n"
        assert end is not None


@pytest.mark.parametrize("ceiling", [1, 2, 5, 100, 1_000])
def test_a_line_may_be_as_long_as_its_ceiling_and_no_longer(ceiling: int) -> None:
    for length, chunk in ((ceiling, 8), (ceiling, 262_144), (ceiling + 1, 8), (ceiling + 1, 262_144)):
        line = (b"x" * max(length - 2, 0) + b"\r\n")[-length:] if length > 1 else b"\n"
        content = b"\r\n" * (ceiling > 1) + line + b"\r\n" * (ceiling > 1)
        _, end, _ = scan([content + b"\r\n.\r\n"], Limits(text_line=ceiling, content_chunk=chunk))
        assert end is not None
        too_long = length > ceiling or ceiling == 1
        assert (Defect.LINE_TOO_LONG in end.defects) is too_long


def test_nothing_is_carried_after_a_defect() -> None:
    pieces = [b"good\r\n", b"bare\nline\r\n", b"good again\r\n", b"\xff\r\n.\r\n"]
    chunks, end, _ = scan(pieces, Limits())
    assert chunks == [b"good"]
    assert end == EndOfContent(32, frozenset({Defect.BARE_LF}), eight_bit=True)


def test_the_piece_that_is_too_big_is_not_carried() -> None:
    chunks, end, _ = scan([b"12345678\r\n", b"9\r\n.\r\n"], Limits(content=10))
    assert chunks == [b"12345678"]
    assert end == EndOfContent(13, frozenset({Defect.TOO_BIG}), eight_bit=False)


def test_without_a_ceiling_nothing_is_too_big() -> None:
    _, end, _ = scan([b"x" * 100 + b"\r\n.\r\n"], Limits(content=0))
    assert end == EndOfContent(102, frozenset(), eight_bit=False)


def test_an_eight_bit_octet_is_seen_once_and_remembered() -> None:
    _, end, _ = scan([b"\x80\r\n", b"ascii\r\n", b".\r\n"], Limits())
    assert end == EndOfContent(10, frozenset(), eight_bit=True)


def test_a_long_open_line_over_many_pieces_is_too_long() -> None:
    _, end, _ = scan([b"x" * 400, b"x" * 400, b"x" * 199, b"x\r\n.\r\n"], Limits(text_line=1_000))
    assert end is not None
    assert end.defects == {Defect.LINE_TOO_LONG}
    _, end, _ = scan([b"x" * 400, b"x" * 400, b"x" * 197, b"x\r\n.\r\n"], Limits(text_line=1_000))
    assert end is not None
    assert end.defects == frozenset()


@pytest.mark.parametrize("line", [b"\0.", b"\0\0.\0", b"\0"])
def test_a_line_that_begins_with_nul_is_a_defect_however_it_is_cut(line: bytes) -> None:
    """A next hop that strips NUL would find the end of content in NUL, dot, CRLF and take the rest for commands."""
    for content in (b"x\r\n" + line + b"\r\nMAIL FROM:<>\r\n", line + b"\r\n"):
        whole = content + b".\r\n"
        for cut in range(1, len(whole)):
            _, end, _ = scan([whole[:cut], whole[cut:]], Limits())
            assert end is not None
            assert end.defects == {Defect.LEADING_NUL}


def test_nul_inside_a_line_passes_untouched() -> None:
    content = b"a\0b\r\n.\0\r\nc\0\r\n"
    for cut in range(1, len(content)):
        wire = content.replace(b"\r\n.", b"\r\n..") + b".\r\n"
        chunks, end, _ = scan([wire[:cut], wire[cut:]], Limits())
        assert b"".join(chunks) == content
        assert end is not None
        assert not end.defects


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 4, 7, 1_000, 4_099])
@pytest.mark.parametrize("line", [b".\r\n", b"..\r\n", b".a\r\n", b".\x2e.\r\n"])
def test_content_of_nothing_but_lines_that_begin_with_a_dot(line: bytes, cut: int) -> None:
    content = line * 3_000
    octets = content.replace(b"\r\n.", b"\r\n..").replace(b".", b"..", 1) + b".\r\nREST"
    pieces = [octets[:cut], octets[cut:]] if cut else [octets]
    chunks, end, rest = scan(pieces, Limits())
    assert b"".join(chunks) == content
    assert end == EndOfContent(len(content), frozenset(), eight_bit=False)
    assert rest == b"REST"
