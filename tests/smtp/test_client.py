"""The client role: what it says, what it refuses to say and to hear."""

import pytest
from tests.support.pair import GREETING, OK

from pillarbox.smtp.connection import (
    NEED_DATA,
    Connection,
    LocalProtocolError,
    RemoteProtocolError,
    Role,
)
from pillarbox.smtp.events import (
    Auth,
    AuthCancelled,
    AuthResponse,
    Challenge,
    Command,
    ConnectionClosed,
    Content,
    Data,
    EndOfContent,
    Hello,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Reset,
    StartTls,
    Verify,
)
from pillarbox.smtp.path import Mailbox
from pillarbox.smtp.reply import Reply

SENDER = Mailbox("a", "example.org")
RECIPIENT = Mailbox("b", "example.com")
SOUND_END = EndOfContent(0, frozenset(), eight_bit=False)


def client(*, tls: bool = True) -> Connection:
    """A client that was greeted."""
    connection = Connection(Role.CLIENT, tls=tls)
    connection.receive_data(b"220 mx.example ESMTP\r\n")
    assert connection.next_event() == GREETING
    return connection


def test_pipelined_commands_get_their_replies_in_order() -> None:
    peer = client()
    octets = b"".join(peer.send(command) for command in (Mail(SENDER), Rcpt(RECIPIENT), Rcpt(SENDER), Data()))
    assert octets == (b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n")
    peer.receive_data(b"250 2.1.0 one\r\n550-5.1.1 two\r\n550 5.1.1 more\r\n250 three\r\n354 go")
    assert peer.next_event() == Reply(250, ("one",), "2.1.0")
    assert peer.next_event() == Reply(550, ("two", "more"), "5.1.1")
    assert peer.next_event() == Reply(250, ("three",))
    assert peer.next_event() is NEED_DATA
    peer.receive_data(b"\r\n")
    assert peer.next_event() == Reply(354, ("go",))
    assert peer.send(Content(b".x")) == b"..x"


def test_a_client_is_told_of_421_at_any_time() -> None:
    peer = client()
    peer.receive_data(b"421 4.4.2 idle\r\n")
    assert peer.next_event() == Reply(421, ("idle",), "4.4.2")
    peer.receive_data(b"")
    assert peer.next_event() == ConnectionClosed()


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (None, b"250 unasked\r\n"),
        (Noop(), b"hello\r\n"),
        (Noop(), b"199 low\r\n"),
        (Noop(), b"600 high\r\n"),
        (Noop(), b"250_x\r\n"),
        (Noop(), b"2\xb250 x\r\n"),
        (Noop(), b"\r\n"),
        (Noop(), b"250-one\r\n251 two\r\n"),
        (Noop(), b"250-x\r\n" * 129),
        (Noop(), b"250 " + b"x" * 2048 + b"\r\n"),
        (Noop(), b"334 \r\n"),
        (Noop(), b"354 go\r\n"),
        (Data(), b"250 what\r\n"),
        (Auth("PLAIN", None), b"334 ***\r\n"),
        (Auth("PLAIN", None), b"334 \xff\r\n"),
        (Auth("PLAIN", None), b"334-\r\n334 \r\n"),
    ],
)
def test_what_is_no_reply_ends_the_session(said: Command | None, heard: bytes) -> None:
    peer = client()
    if said is not None:
        peer.send(said)
    peer.receive_data(heard)
    with pytest.raises(RemoteProtocolError) as caught:
        peer.next_event()
    assert caught.value.fatal
    assert caught.value.reply_hint is None


def test_a_client_closes_a_group_after_its_last_command() -> None:
    for command in (Hello("x", esmtp=True), StartTls(), Auth("PLAIN", None), Data(), Noop(), Quit(), Verify("x")):
        peer = client()
        peer.send(command)
        with pytest.raises(LocalProtocolError, match="group"):
            peer.send(Reset())


def test_a_client_says_nothing_out_of_turn() -> None:
    peer = client()
    for wrong in (Content(b"x"), SOUND_END, AuthResponse(b""), AuthCancelled(), OK, Challenge(b"")):
        with pytest.raises(LocalProtocolError):
            peer.send(wrong)
    peer.send(Auth("LOGIN", None))
    peer.receive_data(b"334 VXNlcm5hbWU6\r\n")
    challenge = peer.next_event()
    assert isinstance(challenge, Challenge)
    assert challenge.challenge == b"Username:"
    with pytest.raises(LocalProtocolError):
        peer.send(Noop())
    assert peer.send(AuthCancelled()) == b"*\r\n"
    peer.receive_data(b"501 5.7.0 as you wish\r\n")
    peer.next_event()
    peer.send(Data())
    peer.receive_data(b"354 go\r\n")
    peer.next_event()
    with pytest.raises(LocalProtocolError):
        peer.send(Noop())
    assert peer.send(SOUND_END) == b".\r\n"
    with pytest.raises(LocalProtocolError):
        peer.send(SOUND_END)


def in_content() -> Connection:
    """A client whose content may begin."""
    peer = client()
    for command, reply in ((Mail(SENDER), b"250 a"), (Rcpt(RECIPIENT), b"250 b"), (Data(), b"354 c")):
        peer.send(command)
        peer.receive_data(reply + b"\r\n")
        assert isinstance(peer.next_event(), Reply)
    return peer


def test_a_message_is_not_accepted_by_a_reply_that_came_before_its_end() -> None:
    peer = in_content()
    peer.send(Content(b"x\r\n"))
    peer.receive_data(b"250 taken\r\n")
    peer.send(SOUND_END)
    with pytest.raises(RemoteProtocolError, match="before it had its end"):
        peer.next_event()


def test_a_refusal_that_came_before_the_end_of_content_counts() -> None:
    peer = in_content()
    peer.send(Content(b"x\r\n"))
    peer.receive_data(b"552 5.3.4 too big\r\n")
    peer.send(SOUND_END)
    assert peer.next_event() == Reply(552, ("too big",), "5.3.4")


def test_a_reply_line_without_end_is_not_waited_for() -> None:
    peer = client()
    peer.send(Hello("me", esmtp=True))
    peer.receive_data(b"250 " + b"y" * 4_096)
    with pytest.raises(RemoteProtocolError, match="too long"):
        peer.next_event()


def test_the_next_transaction_may_be_pipelined_behind_the_end_of_content() -> None:
    peer = client()
    peer.send(Data())
    peer.receive_data(b"354 go\r\n")
    peer.next_event()
    assert peer.send(SOUND_END) + peer.send(Mail(SENDER)) + peer.send(Quit()) == (
        b".\r\nMAIL FROM:<a@example.org>\r\nQUIT\r\n"
    )
    peer.receive_data(b"250 2.0.0 queued\r\n250 2.1.0 sender\r\n221 bye\r\n")
    heard = [peer.next_event() for _ in range(3)]
    assert heard == [Reply(250, ("queued",), "2.0.0"), Reply(250, ("sender",), "2.1.0"), Reply(221, ("bye",))]


def test_a_server_that_answers_starttls_with_more_is_an_injection() -> None:
    peer = client(tls=False)
    with pytest.raises(LocalProtocolError):
        peer.start_tls()
    peer.send(StartTls())
    peer.receive_data(b"220 go\r\n250 injected\r\n")
    assert peer.next_event() == Reply(220, ("go",))
    with pytest.raises(LocalProtocolError, match="handshake"):
        peer.send(Noop())
    with pytest.raises(LocalProtocolError, match="injection"):
        peer.start_tls()
    assert not peer.tls


def test_a_refused_starttls_goes_on_in_the_clear() -> None:
    peer = client(tls=False)
    peer.send(StartTls())
    peer.receive_data(b"454 4.7.0 no\r\n")
    assert peer.next_event() == Reply(454, ("no",), "4.7.0")
    assert peer.send(Noop()) == b"NOOP\r\n"


def test_ehlo_replies_of_old_servers_are_read() -> None:
    peer = client()
    peer.send(Hello("x", esmtp=True))
    peer.receive_data(b"250-mx 2.0.0\r\n250-size 10\r\n250-AUTH PLAIN\r\n250-AUTH=LOGIN\r\n250-*odd\r\n250 x-y\r\n")
    assert peer.next_event() == Reply(250, ("mx 2.0.0", "size 10", "AUTH PLAIN", "AUTH=LOGIN", "*odd", "x-y"))
    assert peer.extensions == {"SIZE": "10", "AUTH": "PLAIN", "X-Y": ""}
    peer.send(Hello("x", esmtp=False))
    peer.receive_data(b"250 mx\r\n")
    peer.next_event()
    assert peer.extensions == {}


def test_a_refused_ehlo_has_its_enhanced_status() -> None:
    peer = client()
    peer.send(Hello("x", esmtp=True))
    peer.receive_data(b"550 5.7.1 no\r\n")
    assert peer.next_event() == Reply(550, ("no",), "5.7.1")
    assert peer.extensions == {}


@pytest.mark.parametrize(
    "command",
    [
        Hello("x\r\nRSET", esmtp=True),
        Verify("x\ny"),
        Verify("x\0"),
        Mail(Mailbox("a\r\nRSET", "example.org")),
        Mail(Mailbox("a", "example.org> SIZE=1")),
        Rcpt(Mailbox("a", "example.org x")),
        Mail(Mailbox("ü", "example.org")),
    ],
)
def test_nothing_is_injected_through_an_argument(command: Command) -> None:
    peer = client()
    with pytest.raises(LocalProtocolError):
        peer.send(command)


def test_each_role_has_its_own_questions() -> None:
    with pytest.raises(LocalProtocolError):
        Connection(Role.CLIENT).hello_reply("mx")
    assert Connection(Role.SERVER).extensions == {}
    assert not Connection(Role.CLIENT).authenticated
