"""Both roles over a pair, and what each refuses to say or to hear."""

import pytest
from tests.support.pair import GO_ON, GREETING, OK, ConnectionPair

from pillarbox.smtp import hints
from pillarbox.smtp.buffer import CEILING
from pillarbox.smtp.connection import (
    NEED_DATA,
    PAUSED,
    Connection,
    Limits,
    LocalProtocolError,
    RemoteProtocolError,
    Role,
)
from pillarbox.smtp.events import (
    Auth,
    AuthCancelled,
    AuthResponse,
    Body,
    Challenge,
    Command,
    ConnectionClosed,
    Content,
    Data,
    EndOfContent,
    Hello,
    Help,
    Mail,
    MailParameters,
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


def server(*, tls: bool = True, authenticated: bool = True, limits: Limits | None = None) -> Connection:
    """A server that has greeted."""
    connection = Connection(
        Role.SERVER, tls=tls, authenticated=authenticated, mechanisms=("PLAIN",), limits=limits or Limits()
    )
    connection.send(GREETING)
    return connection


# --- both ends ------------------------------------------------------------------------------------------------


def test_a_whole_session_with_starttls_and_sign_in() -> None:
    pair = ConnectionPair()
    pair.greet()
    pair.hello()
    assert pair.client.extensions == {
        "PIPELINING": "",
        "8BITMIME": "",
        "SMTPUTF8": "",
        "CHUNKING": "",
        "BINARYMIME": "",
        "SIZE": "52428800",
        "DSN": "",
        "DELIVERBY": "",
        "MT-PRIORITY": "",
        "ENHANCEDSTATUSCODES": "",
        "STARTTLS": "",
    }
    pair.exchange(StartTls(), Reply(220, ("Ready",), "2.0.0"))
    assert not pair.server.tls
    assert not pair.client.tls
    pair.server.start_tls()
    pair.client.start_tls()
    assert pair.server.tls
    assert pair.client.tls
    assert pair.client.extensions == {}
    pair.hello()
    assert pair.client.extensions["AUTH"] == "PLAIN LOGIN"
    assert "STARTTLS" not in pair.client.extensions
    pair.ask(Auth("PLAIN", None))
    assert not pair.server.authenticated
    challenge = pair.answer(Challenge(b""))
    assert isinstance(challenge, Challenge)
    assert challenge.challenge == b""
    pair.exchange(AuthResponse(b"\0user\0pass"), Reply(235, ("Welcome",), "2.7.0"))
    assert pair.server.authenticated
    assert pair.carry([b"text\r\n"]) == (b"text\r\n", EndOfContent(6, frozenset(), eight_bit=False))
    for command in (Noop(), Reset(), Help("MAIL"), Help(""), Verify("user")):
        pair.exchange(command, OK)
    pair.quit()
    assert pair.server.next_event() == ConnectionClosed()


def test_a_certificate_signs_in_without_auth() -> None:
    pair = ConnectionPair(tls=True, authenticated=True)
    pair.greet()
    pair.hello()
    assert "AUTH" not in pair.client.extensions
    pair.exchange(Mail(SENDER), OK)


@pytest.mark.parametrize(
    "command",
    [
        Mail(None),
        Mail(Mailbox("a b", "example.org"), MailParameters(size=7, body=Body.EIGHT_BIT_MIME)),
        Mail(Mailbox('a"\\b', "[IPv6:::1]"), MailParameters(body=Body.SEVEN_BIT)),
        Mail(Mailbox("jürgen", "münchen.example"), MailParameters(smtputf8=True)),
    ],
)
def test_mail_is_heard_as_it_was_said(command: Mail) -> None:
    pair = ConnectionPair(tls=True, authenticated=True)
    pair.greet()
    pair.hello()
    pair.exchange(command, OK)


@pytest.mark.parametrize(
    "command", [Auth("PLAIN", b""), Auth("PLAIN", b"\0u\0p"), Auth("LOGIN", None)], ids=["empty", "response", "none"]
)
def test_auth_is_heard_as_it_was_said(command: Auth) -> None:
    pair = ConnectionPair(tls=True)
    pair.greet()
    pair.hello()
    pair.exchange(command, Reply(535, ("No",), "5.7.8"))


def test_an_exchange_is_cancelled() -> None:
    pair = ConnectionPair(tls=True)
    pair.greet()
    pair.hello()
    pair.ask(Auth("LOGIN", None))
    pair.answer(Challenge(b"Username:"))
    pair.exchange(AuthCancelled(), Reply(501, ("Cancelled",), "5.7.0"))
    pair.exchange(Noop(), OK)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_content_is_heard_as_it_was_said_in_any_chunks(size: int) -> None:
    content = b".\r\n..\r\n.a\r\n\r\n.\r\r\n" + b"x.\r\n" * 9 + b"\r\n.\r\n"
    content = content.replace(b"\r\r", b"\r")
    pair = ConnectionPair(tls=True, authenticated=True)
    pair.greet()
    pair.hello()
    chunks = [content[start : start + size] for start in range(0, len(content), size)]
    heard, end = pair.carry(chunks)
    assert heard == content
    assert end == EndOfContent(len(content), frozenset(), eight_bit=False)


@pytest.mark.parametrize(
    ("content", "heard"), [([b"x"], b"x\r\n"), ([], b""), ([b"x\r", b"\n"], b"x\r\n"), ([b"", b"x\r\n"], b"x\r\n")]
)
def test_the_end_of_content_adds_the_line_end_that_is_missing(content: list[bytes], heard: bytes) -> None:
    pair = ConnectionPair(tls=True, authenticated=True)
    pair.greet()
    pair.hello()
    assert pair.carry(content)[0] == heard


# --- the server role ------------------------------------------------------------------------------------------


def test_a_server_hears_nothing_before_its_greeting() -> None:
    connection = Connection(Role.SERVER)
    connection.receive_data(b"EHLO early\r\n")
    assert connection.next_event() is PAUSED
    connection.send(GREETING)
    assert connection.next_event() == Hello("early", esmtp=True)


def test_after_a_negative_greeting_only_quit_is_left() -> None:
    connection = Connection(Role.SERVER, tls=True, authenticated=True)
    connection.send(Reply(554, ("No service",)))
    connection.receive_data(b"EHLO x\r\nNOOP\r\nQUIT\r\n")
    for _ in range(2):
        with pytest.raises(RemoteProtocolError) as caught:
            connection.next_event()
        assert caught.value.reply_hint == hints.BAD_SEQUENCE
        connection.send(hints.BAD_SEQUENCE)
    assert connection.next_event() == Quit()


def test_one_packet_with_everything_stays_buffered_until_354() -> None:
    connection = server()
    connection.receive_data(
        b"HELO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\ntext\r\n.\r\nQUIT\r\n"
    )
    for expected in (Hello("x", esmtp=False), Mail(SENDER), Rcpt(RECIPIENT)):
        assert connection.next_event() == expected
        assert connection.next_event() is PAUSED
        connection.send(OK)
    assert connection.next_event() == Data()
    connection.send(GO_ON)
    assert connection.next_event() == Content(b"text\r\n")
    assert connection.next_event() == EndOfContent(6, frozenset(), eight_bit=False)
    assert connection.next_event() is PAUSED
    connection.send(OK)
    assert connection.next_event() == Quit()


def test_a_refused_hello_changes_nothing() -> None:
    connection = server()
    connection.receive_data(b"EHLO x\r\nMAIL FROM:<>\r\n")
    connection.next_event()
    connection.send(Reply(550, ("No",)))
    with pytest.raises(RemoteProtocolError) as caught:
        connection.next_event()
    assert caught.value.reply_hint == hints.HELLO_FIRST


def test_another_name_asked_for_brings_its_own_mechanisms_and_ceilings() -> None:
    pair = ConnectionPair()
    pair.greet()
    pair.hello()
    with pytest.raises(LocalProtocolError):
        pair.server.serve_as(Limits(), ())
    with pytest.raises(LocalProtocolError):
        pair.client.serve_as(Limits(), ())
    pair.exchange(StartTls(), Reply(220, ("Ready",), "2.0.0"))
    pair.server.start_tls()
    pair.client.start_tls()
    pair.server.serve_as(Limits(content=1000, auth_line=600), ("LOGIN",))
    pair.hello()
    assert pair.client.extensions["AUTH"] == "LOGIN"
    assert pair.client.extensions["SIZE"] == "1000"
    pair.server.receive_data(b"AUTH LOGIN " + b"A" * 600 + b"\r\n")
    with pytest.raises(RemoteProtocolError, match="line too long"):
        pair.server.next_event()


def test_the_reply_to_helo_has_one_line_and_to_ehlo_many() -> None:
    connection = server()
    connection.receive_data(b"HELO x\r\nEHLO x\r\n")
    connection.next_event()
    assert connection.hello_reply("mx") == Reply(250, ("mx",))
    connection.send(connection.hello_reply("mx"))
    connection.next_event()
    reply = connection.hello_reply("mx")
    assert reply.text[:2] == ("mx", "PIPELINING")
    connection.send(reply)
    assert connection.hello_reply("mx") == reply


def test_a_tls_hello_on_the_starttls_port_is_named() -> None:
    connection = server(tls=False, authenticated=False)
    connection.receive_data(b"\x16\x03\x01\x02\x00\x01")
    with pytest.raises(RemoteProtocolError) as caught:
        connection.next_event()
    assert caught.value.tls_hello
    assert caught.value.fatal
    assert caught.value.reply_hint == hints.TLS_HELLO
    assert connection.next_event() is PAUSED
    connection.send(hints.TLS_HELLO)
    assert connection.next_event() == ConnectionClosed()
    connection.receive_data(b"more")
    assert connection.next_event() == ConnectionClosed()


def test_octet_22_inside_a_long_line_is_no_tls_hello() -> None:
    connection = server(tls=False, authenticated=False)
    connection.receive_data(b"x" * 600)
    assert connection.next_event() is NEED_DATA
    connection.receive_data(b"\x16\x03\r\n")
    with pytest.raises(RemoteProtocolError) as caught:
        connection.next_event()
    assert caught.value.reply_hint == hints.LINE_TOO_LONG


def test_a_421_may_be_said_at_any_time() -> None:
    connection = server()
    connection.receive_data(b"HELO x\r\nNOOP\r\n")
    connection.next_event()
    connection.send(OK)
    assert connection.send(Reply(421, ("Shutting down",), "4.3.2")) == b"421 4.3.2 Shutting down\r\n"
    assert connection.next_event() == ConnectionClosed()


def test_octets_between_the_220_and_the_handshake_are_refused() -> None:
    connection = server(tls=False, authenticated=False)
    connection.receive_data(b"STARTTLS\r\n")
    assert connection.next_event() == StartTls()
    with pytest.raises(LocalProtocolError):
        connection.start_tls()
    connection.send(Reply(220, ("Ready",), "2.0.0"))
    connection.receive_data(b"N")
    assert connection.next_event() is PAUSED
    with pytest.raises(LocalProtocolError, match="injection"):
        connection.start_tls()
    assert not connection.tls


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        (b"", OK),
        (b"", Challenge(b"")),
        (b"NOOP\r\n", Reply(354, ("Go on",))),
        (b"NOOP\r\n", Reply(334, ("",))),
        (b"NOOP\r\n", Challenge(b"")),
        (b"NOOP\r\n", Noop()),
        (b"MAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n", OK),
    ],
)
def test_a_server_does_not_say_what_is_not_due(said: bytes, wrong: Reply | Challenge | Command) -> None:
    connection = server()
    connection.receive_data(b"HELO x\r\n" + said)
    lines = said.count(b"\r\n") + 1
    for line in range(lines):
        connection.next_event()
        if line < lines - 1 or not said:
            connection.send(OK)
    with pytest.raises(LocalProtocolError):
        connection.send(wrong)


def test_errors_keep_passwords_out_of_the_log() -> None:
    connection = server(authenticated=False, limits=Limits(bad_commands=100))
    connection.receive_data(b"EHLO x\r\nFOO first\r\nAUTH PLAIN c2VjcmV0\r\n")
    connection.next_event()
    connection.send(OK)
    with pytest.raises(RemoteProtocolError) as caught:
        connection.next_event()
    assert caught.value.octets == b"FOO first"
    connection.send(hints.UNKNOWN_COMMAND)
    event = connection.next_event()
    assert event == Auth("PLAIN", b"secret")
    assert "secret" not in repr(event)
    connection.send(Challenge(b""))
    for line in (b"c2VjcmV0=", b"c2VjcmV0", b" AUTH PLAIN c2VjcmV0", b"AUTH PLAIN c2VjcmV0!", b"AUTH\0 c2VjcmV0"):
        connection.receive_data(line + b"\r\n")
        with pytest.raises(RemoteProtocolError) as caught:
            connection.next_event()
        assert b"c2VjcmV0" not in caught.value.octets
        assert "c2VjcmV0" not in repr(caught.value)
        assert caught.value.reply_hint is not None
        connection.send(caught.value.reply_hint)
    connection.receive_data(b"MAIL FROM:<a@example.org>\r\n")
    with pytest.raises(RemoteProtocolError) as caught:
        connection.next_event()
    assert caught.value.octets == b"MAIL FROM:<a@example.org>"


def refused(connection: Connection, line: bytes) -> RemoteProtocolError:
    """What is wrong with a line, whose reply is then sent."""
    connection.receive_data(line + b"\r\n")
    with pytest.raises(RemoteProtocolError) as caught:
        connection.next_event()
    assert caught.value.reply_hint is not None
    connection.send(caught.value.reply_hint)
    return caught.value


@pytest.mark.parametrize(
    "line", [b"AUTH PLAIN c2VjcmV0!", b"auth plain c2VjcmV0!", b" AUTH c2VjcmV0", b"AUTH PLAIN " + b"c2Vj" * 4000]
)
def test_a_broken_line_of_auth_is_named_in_the_log_and_what_follows_is_not(line: bytes) -> None:
    connection = server(authenticated=False)
    connection.receive_data(b"EHLO x\r\n")
    connection.next_event()
    connection.send(OK)
    assert refused(connection, b"FOO").octets == b"FOO"
    assert refused(connection, line).octets == b"AUTH"
    assert refused(connection, b"c2VjcmV0").octets == b""


def test_a_handshake_ends_the_silence_of_the_log_and_the_row_of_errors() -> None:
    connection = server(tls=False, authenticated=False, limits=Limits(bad_commands=3))
    assert refused(connection, b"AUTH PLAIN c2VjcmV0").octets == b"AUTH"
    assert not refused(connection, b"FOO").fatal
    connection.receive_data(b"STARTTLS\r\n")
    connection.next_event()
    connection.send(Reply(220, ("Ready",), "2.0.0"))
    connection.start_tls()
    for line in (b"FOO", b"BAR"):
        error = refused(connection, line)
        assert error.octets == line and not error.fatal
    assert refused(connection, b"BAZ").fatal


def test_a_sign_in_that_succeeds_ends_the_silence_of_the_log() -> None:
    connection = server(authenticated=False)
    connection.receive_data(b"EHLO x\r\nAUTH PLAIN c2VjcmV0\r\nFOO\r\n")
    connection.next_event()
    connection.send(OK)
    connection.next_event()
    connection.send(Reply(235, ("Welcome",), "2.7.0"))
    with pytest.raises(RemoteProtocolError) as caught:
        connection.next_event()
    assert caught.value.octets == b"FOO"


def test_a_peer_that_ends_inside_an_exchange_is_gone() -> None:
    connection = server(authenticated=False)
    connection.receive_data(b"EHLO x\r\nAUTH PLAIN\r\n")
    connection.next_event()
    connection.send(OK)
    connection.next_event()
    connection.send(Challenge(b""))
    assert connection.next_event() is NEED_DATA
    connection.receive_data(b"")
    assert connection.next_event() == ConnectionClosed()


def test_the_buffer_has_a_ceiling_while_paused() -> None:
    connection = server()
    connection.receive_data(b"NOOP\r\n" + b"x" * (CEILING + 1))
    assert connection.next_event() == Noop()
    with pytest.raises(LocalProtocolError):
        connection.receive_data(b"x")


def test_a_line_that_never_ends_holds_no_memory() -> None:
    connection = server()
    for _ in range(64):
        connection.receive_data(b"x" * 65_536)
        assert connection.next_event() is NEED_DATA
    connection.receive_data(b"\r\nNOOP\r\n")
    with pytest.raises(RemoteProtocolError):
        connection.next_event()
    connection.send(hints.LINE_TOO_LONG)
    assert connection.next_event() == Noop()


def test_octets_after_the_end_are_a_bug_of_the_caller() -> None:
    connection = server()
    connection.receive_data(b"")
    with pytest.raises(LocalProtocolError):
        connection.receive_data(b"x")
