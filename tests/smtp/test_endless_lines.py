"""A line without end before the sign-in: it is dropped as it comes, but not for ever."""

import pytest

from pillarbox.smtp.connection import NEED_DATA, Connection, Limits, RemoteProtocolError, Role
from pillarbox.smtp.reply import Reply

LIMITS = Limits(endless_line=2000)


def begun(*, signed_in: bool = False) -> Connection:
    connection = Connection(Role.SERVER, limits=LIMITS, tls=True, authenticated=signed_in, mechanisms=("PLAIN",))
    connection.send(Reply(220, ("mx.example ESMTP",)))
    return connection


def refused(connection: Connection) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        connection.next_event()
    return caught.value


@pytest.mark.parametrize("packet", [1, 7, 600, 2001])
def test_it_ends_the_session_at_its_ceiling_although_its_end_has_not_come(packet: int) -> None:
    connection = begun()
    for at in range(0, 2000, packet):
        connection.receive_data(b"A" * min(packet, 2000 - at))
        assert connection.next_event() is NEED_DATA
    connection.receive_data(b"A")
    error = refused(connection)
    assert error.fatal
    assert error.reply_hint is not None
    assert error.reply_hint.code == 500


def test_it_ends_the_session_when_it_comes_whole_too() -> None:
    """How the network cuts it changes nothing."""
    whole, under = begun(), begun()
    whole.receive_data(b"A" * 2001 + b"\r\n")
    assert refused(whole).fatal
    under.receive_data(b"A" * 2000 + b"\r\n")
    assert not refused(under).fatal


def test_a_cr_that_waits_for_its_lf_is_counted_once() -> None:
    connection = begun()
    connection.receive_data(b"A" * 1999 + b"\r")
    assert connection.next_event() is NEED_DATA
    connection.receive_data(b"A")
    assert refused(connection).fatal


def test_a_response_without_end_counts_as_a_line_of_the_sign_in() -> None:
    connection = begun()
    connection.receive_data(b"EHLO x\r\nAUTH PLAIN " + b"A" * 20_000)
    connection.next_event()
    connection.send(Reply(250, ("mx.example",)))
    error = refused(connection)
    assert error.fatal
    assert error.octets == b"AUTH"
    assert error.reply_hint is not None
    assert error.reply_hint.enhanced == "5.5.6"


def test_who_has_signed_in_is_told_and_goes_on() -> None:
    connection = begun(signed_in=True)
    connection.receive_data(b"A" * 5000)
    assert connection.next_event() is NEED_DATA
    connection.receive_data(b"\r\n")
    assert not refused(connection).fatal
