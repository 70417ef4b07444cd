"""What of the peer's has begun and not ended: what the log says of a session that was given up."""

import pytest

from pillarbox.smtp.connection import NEED_DATA, Connection, Limits, RemoteProtocolError, Role
from pillarbox.smtp.reply import Reply


def begun(*commands: bytes, limits: Limits | None = None) -> Connection:
    """A session of somebody who has signed in, in which these commands were answered."""
    connection = Connection(Role.SERVER, limits=limits or Limits(), tls=True, authenticated=True)
    connection.send(Reply(220, ("mx.example ESMTP",)))
    for command in commands:
        connection.receive_data(command + b"\r\n")
        connection.next_event()
        connection.send(Reply(354 if command == b"DATA" else 250, ("go on",)))
    return connection


TRANSACTION = (b"EHLO x", b"MAIL FROM:<a@example.org>", b"RCPT TO:<b@example.com>")


def test_between_two_commands_nothing_is() -> None:
    connection = begun(b"EHLO x")
    assert connection.next_event() is NEED_DATA
    assert connection.unfinished == ""


@pytest.mark.parametrize("octets", [b"N", b"NOOP\n", b"NOOP\r", b"A" * 5000])
def test_a_line_without_its_crlf_is(octets: bytes) -> None:
    connection = begun(b"EHLO x")
    connection.receive_data(octets)
    assert connection.next_event() is NEED_DATA
    assert connection.unfinished == "a command line"


def test_whole_lines_that_nobody_took_and_a_reply_that_is_due_are_ours() -> None:
    connection = begun(b"EHLO x")
    connection.receive_data(b"NOOP\r\nNOOP")
    assert connection.unfinished == ""
    connection.next_event()
    assert connection.unfinished == ""


def test_a_content_that_ends_with_a_bare_lf_is() -> None:
    for end in (b".\n", b"\n.\n", b"\n.\r\n"):
        connection = begun(*TRANSACTION, b"DATA")
        connection.receive_data(b"From: a@example.org\r\n\r\ntext" + end)
        while connection.next_event() is not NEED_DATA:
            pass
        assert connection.unfinished == "the content"


def test_a_chunk_is_whether_it_is_wanted_or_not() -> None:
    wanted, unwanted = begun(*TRANSACTION), begun(b"EHLO x")
    for connection in (wanted, unwanted):
        connection.receive_data(b"BDAT 10 LAST\r\nabc")
        while connection.next_event() is not NEED_DATA:
            pass
        assert connection.unfinished == "a chunk"
    unwanted.receive_data(b"defghij")
    with pytest.raises(RemoteProtocolError):
        unwanted.next_event()
    assert unwanted.unfinished == ""


def test_a_client_says_nothing_of_it() -> None:
    assert Connection(Role.CLIENT).unfinished == ""
