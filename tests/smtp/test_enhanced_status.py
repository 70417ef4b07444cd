"""ENHANCEDSTATUSCODES over everything that the core says: all dialogues, and whatever else a client may come up with.

The session behind it is that of ``conversation.py``; ``tests/submission/test_enhanced_status.py`` asks the real one.
"""

from pathlib import Path

import pytest
from hypothesis import given, settings
from tests.smtp.conversation import FILES, Dialogue, Site
from tests.support.conversations import conversations, misjudged

from pillarbox.smtp import hints
from pillarbox.smtp.connection import Connection, RemoteProtocolError, Role
from pillarbox.smtp.events import Hello
from pillarbox.smtp.reply import Reply

SIGN_IN = b"AUTH PLAIN AHVzZXIAcGFzcw==\r\n"
HOST = b"mx.example"


def said_by(site: Site) -> bytes:
    """Its replies, as they went over the wire."""
    return b"".join(line[3:] + b"\r\n" for line in site.transcript if line.startswith(b"S: "))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_in_every_dialogue(path: Path) -> None:
    dialogue = Dialogue(path)
    site = Site(dialogue)
    for octets, _, _ in dialogue.turns:
        site.receive(octets)
    assert misjudged(said_by(site), HOST) == []


def test_whatever_a_client_says() -> None:
    codes: set[bytes] = set()

    @settings(max_examples=600)
    @given(conversations(sign_in=SIGN_IN))
    def converse(said: list[bytes]) -> None:
        site = Site(Dialogue("#\n= tls bad_commands=12"))
        for octets in said:
            site.receive(octets)
        assert site.closed
        heard = said_by(site)
        assert misjudged(heard, HOST) == []
        codes.update(line[:9] for line in heard.split(b"\r\n"))

    converse()
    assert {code[:3] for code in codes} >= {
        b"214", b"221", b"235", b"250", b"252", b"334", b"354", b"421", b"500", b"501", b"502", b"503", b"504",
        b"530", b"535", b"552", b"553", b"554", b"555",
    }, "chance has to get deep enough"  # fmt: skip
    assert {b"500 5.5.2", b"500 5.5.6", b"250 2.1.5"} <= codes


@given(conversations(sign_in=SIGN_IN))
def test_whatever_a_client_says_in_the_clear(said: list[bytes]) -> None:
    site = Site(Dialogue("# in the clear"))
    for octets in said:
        site.receive(octets)
    assert misjudged(said_by(site), HOST) == []


def test_a_refusing_greeting_and_a_refused_hello_have_none() -> None:
    """RFC 2034 4, whatever they say."""
    connection = Connection(Role.SERVER)
    assert connection.send(Reply(554, ("Not from there",), "5.7.1")) == b"554 Not from there\r\n"
    for verb in (b"EHLO x\r\n", b"helo x\r\n"):
        connection.receive_data(verb)
        with pytest.raises(RemoteProtocolError) as refused:
            connection.next_event()
        assert refused.value.reply_hint is not None
        octets = connection.send(refused.value.reply_hint)
        assert octets.startswith(b"503 ")
        assert misjudged(octets, HOST) == [octets]  # as another command's it would be wrong
    connection.receive_data(b"NOOP\r\n")
    with pytest.raises(RemoteProtocolError) as refused:
        connection.next_event()
    assert refused.value.reply_hint is not None
    assert misjudged(connection.send(refused.value.reply_hint), HOST) == []


def test_what_answers_a_hello_has_none_when_it_refuses() -> None:
    connection = Connection(Role.SERVER)
    connection.send(Reply(220, ("mx.example ESMTP",)))
    connection.receive_data(b"EHLO x\r\n")
    assert isinstance(connection.next_event(), Hello)
    assert connection.send(Reply(450, ("Not now",), "4.3.2")) == b"450 Not now\r\n"


@pytest.mark.parametrize("name", [name for name, value in vars(hints).items() if isinstance(value, Reply)])
def test_in_every_reply_that_the_core_proposes(name: str) -> None:
    assert misjudged(getattr(hints, name).render(), HOST) == []


@pytest.mark.parametrize(
    "wrong",
    [
        b"250 OK\r\n",
        b"250-2.0.0 one\r\n250 two\r\n",
        b"250-one\r\n250 2.0.0 two\r\n",
        b"550 4.0.0 of another class\r\n",
        b"250 5.0.0 of another class\r\n",
        b"250 2.0 half\r\n",
        b"250 2.0.00 with a zero before\r\n",
        b"250 2.0.0beside\r\n",
        b"250  2.0.0 too far\r\n",
        b"354 2.0.0 Go on\r\n",
        b"334 5.7.0 Why\r\n",
        b"220 mx.example ESMTP\r\n250 OK\r\n",
        b"250-mx.example\r\n250 2.0.0 HELP\r\n",
        b"550 mx.example says no\r\n",
        b"no reply at all\r\n",
    ],
)
def test_the_judge_sees_what_is_wrong(wrong: bytes) -> None:
    assert misjudged(wrong, HOST)


def test_the_judge_passes_what_is_right() -> None:
    right = (
        b"220 mx.example ESMTP\r\n250-mx.example\r\n250 SIZE 100\r\n250 mx.example\r\n334 \r\n354 Go on\r\n"
        b"214-2.0.0 one\r\n214 2.0.0 two\r\n421 4.7.0 bye\r\n550 5.7.27 no\r\n"
    )
    assert misjudged(right, HOST) == []
