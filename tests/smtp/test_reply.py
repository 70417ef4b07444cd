"""Replies on the wire."""

import pytest

from pillarbox.smtp import hints
from pillarbox.smtp.reply import Reply, ReplyReader, decode_text, split_enhanced


@pytest.mark.parametrize(
    ("reply", "octets"),
    [
        (Reply(250, ("OK",), "2.1.0"), b"250 2.1.0 OK\r\n"),
        (Reply(220, ("mx ESMTP",)), b"220 mx ESMTP\r\n"),
        (Reply(250, ("a", "b", "c"), "2.0.0"), b"250-2.0.0 a\r\n250-2.0.0 b\r\n250 2.0.0 c\r\n"),
        (Reply(250, ()), b"250 \r\n"),
        (Reply(550, ("ü",), "5.1.1"), "550 5.1.1 ü\r\n".encode()),
        (Reply(550, ("a\r\n250 b\0\x85\u2028",), "5.1.1"), b"550 5.1.1 a??250 b???\r\n"),
        (Reply(250, ("x" * 600,)), b"250 " + b"x" * 506 + b"\r\n"),
        (Reply(250, ("x" + "ü" * 300,)), b"250 x" + "ü".encode() * 252 + b"\r\n"),
        (Reply(250, ("a\ud800",)), b"250 a\\ud800\r\n"),
    ],
)
def test_reply_is_rendered(reply: Reply, octets: bytes) -> None:
    assert reply.render() == octets
    assert reply.render() is reply.render()


def test_rendering_does_not_change_the_value() -> None:
    reply = Reply(250, ("OK",))
    before = (hash(reply), repr(reply))
    reply.render()
    assert (hash(reply), repr(reply)) == before
    assert reply == Reply(250, ("OK",))


@pytest.mark.parametrize(
    ("code", "positive", "transient", "permanent"),
    [(250, True, False, False), (354, True, False, False), (451, False, True, False), (550, False, False, True)],
)
def test_reply_has_one_kind(code: int, positive: bool, transient: bool, permanent: bool) -> None:
    reply = Reply(code, ("x",))
    assert (reply.is_positive, reply.is_transient, reply.is_permanent) == (positive, transient, permanent)


@pytest.mark.parametrize(
    ("code", "lines", "reply"),
    [
        (250, ["2.1.0 ok"], Reply(250, ("ok",), "2.1.0")),
        (250, ["2.1.0"], Reply(250, ("",), "2.1.0")),
        (250, ["5.1.0 ok"], Reply(250, ("5.1.0 ok",))),
        (250, ["2.1.0ok"], Reply(250, ("2.1.0ok",))),
        (250, ["2.1.1000 ok"], Reply(250, ("2.1.1000 ok",))),
        (550, ["5.1.1 a", "b", "5.1.1 c", "5.7.1 d"], Reply(550, ("a", "b", "c", "5.7.1 d"), "5.1.1")),
        (354, ["3.0.0 go"], Reply(354, ("3.0.0 go",))),
    ],
)
def test_enhanced_status_is_split_off_when_it_agrees(code: int, lines: list[str], reply: Reply) -> None:
    assert split_enhanced(code, lines) == reply


def test_reader_takes_lines_without_text() -> None:
    reader = ReplyReader()
    assert reader.feed(b"250-") is None
    assert reader.feed(b"250") == (250, ["", ""])
    assert reader.feed(b"220 next") == (220, ["next"])


def test_text_of_any_octets_is_printable() -> None:
    assert decode_text(b"a\xffb\tc\rd\xc2\x85") == "a\\xffb?c?d?"
    assert decode_text("ü".encode()) == "ü"


def test_what_turns_the_direction_of_text_is_a_control() -> None:
    assert decode_text("a\u202eb\u2066c\u200fd".encode()) == "a?b?c?d"
    assert Reply(550, ("a\u202eb",), "5.1.1").render() == b"550 5.1.1 a?b\r\n"


def test_every_hint_has_a_status_of_its_class_and_fits_a_line() -> None:
    constants = [value for value in vars(hints).values() if isinstance(value, Reply)]
    assert len(constants) > 25
    for hint in constants:
        assert hint.code >= 400
        assert hint.enhanced is not None
        assert hint.enhanced[0] == str(hint.code)[0]
        assert hint.render().isascii()
        assert len(hint.render()) <= 130
