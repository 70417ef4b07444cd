"""What a session may tell the protocol core beside replies: other mechanisms, and a sign-in that TLS has made."""

import pytest

from pillarbox.smtp.connection import Connection, LocalProtocolError, RemoteProtocolError, Role
from pillarbox.smtp.events import Auth, Hello, Mail
from pillarbox.smtp.reply import Reply

READY = Reply(220, ("mx.example",))


def server(*, tls: bool = True) -> Connection:
    made = Connection(Role.SERVER, tls=tls, mechanisms=("PLAIN",))
    made.send(READY)
    return made


def hello(connection: Connection, *mechanisms: str) -> list[str]:
    """What EHLO is answered, after the session offered ``mechanisms``."""
    connection.receive_data(b"EHLO x\r\n")
    assert isinstance(connection.next_event(), Hello)
    if mechanisms:
        connection.offer(mechanisms)
    reply = connection.hello_reply("mx.example")
    connection.send(reply)
    return [line for line in reply.text if line.startswith("AUTH")]


def test_what_is_offered_at_an_ehlo_is_what_auth_takes_after_it() -> None:
    connection = server()
    assert hello(connection) == ["AUTH PLAIN"]
    assert hello(connection, "LOGIN", "EXTERNAL") == ["AUTH LOGIN EXTERNAL"]
    connection.receive_data(b"AUTH PLAIN\r\nAUTH EXTERNAL =\r\n")
    with pytest.raises(RemoteProtocolError) as refused:
        connection.next_event()
    assert refused.value.reply_hint is not None
    connection.send(refused.value.reply_hint)
    assert connection.next_event() == Auth("EXTERNAL", b"")


def test_a_certificate_signs_in_before_the_first_command() -> None:
    connection = server()
    connection.sign_in()
    assert connection.authenticated
    assert hello(connection) == []
    connection.receive_data(b"MAIL FROM:<a@example.org>\r\n")
    assert isinstance(connection.next_event(), Mail)


@pytest.mark.parametrize("tls", [True, False])
def test_it_does_so_inside_tls_and_at_no_other_time(tls: bool) -> None:
    connection = server(tls=tls)
    if tls:
        hello(connection)
    with pytest.raises(LocalProtocolError):
        connection.sign_in()
    assert not connection.authenticated


def test_a_client_offers_nothing_and_signs_nobody_in() -> None:
    client = Connection(Role.CLIENT)
    with pytest.raises(LocalProtocolError):
        client.offer(("PLAIN",))
    with pytest.raises(LocalProtocolError):
        client.sign_in()
