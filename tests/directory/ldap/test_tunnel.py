"""TLS before libldap: what a server may say to StartTLS, and what is carried."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from tests.support.certs import Authority, Issued

from pillarbox.directory.ldap.tunnel import Target, open_tunnel
from pillarbox.directory.servers import ServerFailed
from pillarbox.directory.wire import client_context

# ExtendedResponse to message 1 with a result code and two empty texts
YES = b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00"
NO = b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x02\x04\x00\x04\x00"
SECONDS = 5.0

Play = Callable[[socket.socket], None]


@pytest.fixture
def issued(tmp_path: Path) -> Issued:
    return Authority(tmp_path).issue("127.0.0.1")


@pytest.fixture
def plays() -> Iterator[Callable[[Play], Target]]:
    """A server that plays this with whoever comes."""
    with ExitStack() as stack:

        def play(part: Play) -> Target:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def serve() -> None:
                taken, _ = server.accept()
                with taken:
                    taken.settimeout(SECONDS)
                    part(taken)

            thread = threading.Thread(target=serve)
            thread.start()
            stack.callback(thread.join, SECONDS)
            return Target("127.0.0.1", server.getsockname()[1])

        yield play


def secured(taken: socket.socket, issued: Issued) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    return context.wrap_socket(taken, server_side=True)


def test_octets_go_both_ways_and_the_end_too(issued: Issued, plays: Callable[[Play], Target]) -> None:
    def part(taken: socket.socket) -> None:
        assert taken.recv(100).endswith(b"1.3.6.1.4.1.1466.20037")
        taken.sendall(YES)
        with secured(taken, issued) as tls:
            while octets := tls.recv(65_536):
                tls.sendall(octets.upper())
                if octets.endswith(b"!"):
                    return

    near = open_tunnel(plays(part), client_context(issued.ca), starttls=True, seconds=SECONDS)
    with near:
        near.settimeout(SECONDS)
        near.sendall(b"a" * 100_000 + b"!")
        found = b""
        while octets := near.recv(65_536):
            found += octets
    assert found == b"A" * 100_000 + b"!"


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (NO, "refused"),
        (YES + b"\x30\x0c\x02\x01\x02\x61\x07\x0a\x01\x00\x04\x00\x04\x00", "refused"),  # said before TLS
        (b"\x30\x0c\x02\x01\x02\x78\x07\x0a\x01\x00\x04\x00\x04\x00", "refused"),  # to another message
        (b"\x30\x00", "refused"),
        (b"\x30\x84\xff\xff\xff\xff", "understood"),
        (b"220 ldap.example.org ESMTP\r\n", "understood"),
        (b"", "understood"),
    ],
)
def test_another_answer_to_starttls_is_no_tls(
    issued: Issued, plays: Callable[[Play], Target], answer: bytes, cause: str
) -> None:
    def part(taken: socket.socket) -> None:
        taken.recv(100)
        taken.sendall(answer)

    with pytest.raises(ServerFailed, match=cause) as caught:
        open_tunnel(plays(part), client_context(issued.ca), starttls=True, seconds=SECONDS)
    assert not caught.value.reached


def test_a_certificate_that_does_not_fit_is_said_in_words(
    tmp_path: Path, issued: Issued, plays: Callable[[Play], Target]
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    other = Authority(folder).issue("ldap.example.org")

    def part(taken: socket.socket) -> None:
        with suppress(OSError):  # the client's alert
            secured(taken, other).recv(1)

    with pytest.raises(ServerFailed, match=r"no TLS: its certificate: .*mismatch.*127\.0\.0\.1"):
        open_tunnel(plays(part), client_context(other.ca), starttls=False, seconds=SECONDS)
    with pytest.raises(ServerFailed, match="no TLS: its certificate: "):
        open_tunnel(plays(part), client_context(issued.ca), starttls=False, seconds=SECONDS)


def test_a_server_that_says_nothing_is_left_in_time(issued: Issued, plays: Callable[[Play], Target]) -> None:
    gone = threading.Event()

    def part(_taken: socket.socket) -> None:
        gone.wait(SECONDS)

    try:
        with pytest.raises(ServerFailed, match="it does not answer"):
            open_tunnel(plays(part), client_context(issued.ca), starttls=False, seconds=0.2)
    finally:
        gone.set()
