"""The certificates of the tests, judged by OpenSSL in a real handshake."""

import datetime
import socket
import ssl
import threading

import pytest
from tests.support.certs import Authority, Issued


def handshake(issued: Issued, name: str, client: Issued | None = None) -> str | None:
    """None if a client that trusts the authority accepts ``issued`` for ``name``, else why not."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(issued.certificate, issued.key)
    context = ssl.create_default_context(cafile=str(issued.ca))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if client is not None:
        server.verify_mode = ssl.CERT_REQUIRED
        server.load_verify_locations(client.ca)
        context.load_cert_chain(client.certificate, client.key)
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs:
            try:
                with server.wrap_socket(theirs, server_side=True) as tls:
                    tls.send(b"x")
            except OSError:
                return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ours, context.wrap_socket(ours, server_hostname=name) as tls:
            return None if tls.recv(1) == b"x" else "closed"
    except ssl.SSLError as error:
        return str(error)
    finally:
        thread.join(10)


def test_a_certificate_is_good_for_its_names_only(authority: Authority) -> None:
    issued = authority.issue("mail.example.org", "127.0.0.1", "::1")
    for name in ("mail.example.org", "127.0.0.1", "::1"):
        assert handshake(issued, name) is None
    assert "mismatch" in (handshake(issued, "other.example.org") or "")


@pytest.mark.parametrize(("start", "end", "reason"), [(-10, -1, "expired"), (2, 5, "not yet valid")])
def test_expiry(authority: Authority, start: int, end: int, reason: str) -> None:
    day = datetime.timedelta(days=1)
    issued = authority.issue("mail.example.org", not_before=start * day, not_after=end * day)
    assert reason in (handshake(issued, "mail.example.org") or "")


def test_a_client_certificate_is_for_clients(authority: Authority) -> None:
    server = authority.issue("mail.example.org")
    assert handshake(server, "mail.example.org", authority.issue("ada", client=True)) is None
    assert handshake(authority.issue("mail.example.org", client=True), "mail.example.org") is not None


def test_another_authority_is_not_trusted(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> None:
    stranger = Authority(tmp_path_factory.mktemp("stranger"), "Stranger").issue("mail.example.org")
    forged = Issued(stranger.certificate, stranger.key, authority.ca)
    assert "verify failed" in (handshake(forged, "mail.example.org") or "")
    assert len(stranger.fingerprint) == 64 and stranger.key.stat().st_mode & 0o777 == 0o600
