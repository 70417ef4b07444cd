"""Other people's clients send a UTF-8 message with an attachment through both ports; every octet of it arrives.

What Pillarbox may add is trace: Return-Path (its maildir route, as a final delivery does) and Received, in front.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.clients import CLIENTS, Mail, Security, Target, sample_message
from tests.support.daemon import RunningDaemon, start_daemon

pytestmark = pytest.mark.interop

PASSWORD = "a pass%word with = and spaces"
INTERNATIONAL = "pässwörd für €uropa"
ADDED = re.compile(
    rb"Return-Path: <ada@example\.org>\r\n"
    rb"Received: from [^\r\n]+(?:\r\n[ \t][^\r\n]+)*\r\n"
)


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, request: pytest.FixtureRequest
) -> Iterator[RunningDaemon]:
    """A daemon with Ada's account; its mail goes into a maildir."""
    daemon = start_daemon(tmp_path_factory.mktemp("server"), authority, at_end=request.addfinalizer)
    daemon.user("ada", PASSWORD, ["ada@example.org"])
    daemon.user("zoe", INTERNATIONAL, ["zoe@example.org"])
    yield daemon
    assert daemon.stop() == 0


def target(server: RunningDaemon, security: Security, password: str = PASSWORD) -> Target:
    """One of the two ports, with Ada's sign-in."""
    port = server.submissions if security == "tls" else server.submission
    return Target("localhost", port, security, "ada", password, server.ca)


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("client", CLIENTS)
def test_what_a_client_sends_arrives_octet_by_octet(
    client: str, security: Security, server: RunningDaemon, message_path: Path
) -> None:
    before, seen = len(server.log()), set(server.delivered())
    mail = Mail("ada@example.org", ("bob@elsewhere.example",), message_path)
    sent = CLIENTS[client](target(server, security), mail)
    assert sent.accepted, sent.output
    server.wait_for("delivery.delivered", after=before)
    (arrived,) = set(server.delivered()) - seen
    added = ADDED.match(arrived)
    assert added is not None, arrived[:500]
    assert arrived[added.end() :] == sent.octets
    assert b"ESMTPSA" in added[0]


BODIES = {
    "dots": b".\r\n..\r\n...\r\n.leading\r\n" * 50,
    "empty lines": b"\r\n" * 500,
    "998 octets a line": (b"x" * 998 + b"\r\n") * 20,
    "8 bit": "Grüße aus der Straße\r\n".encode() * 200,
    "5 MiB": (b"0123456789abcdef" * 4 + b"\r\n") * (5 * 1024 * 1024 // 66),
}


@pytest.mark.heavy
@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("client", CLIENTS)
def test_whatever_a_client_sends_arrives_octet_by_octet(
    client: str, body: str, security: Security, server: RunningDaemon, message_path: Path
) -> None:
    head, _, _ = sample_message().partition(b"\r\nMIME-version")
    charset = b"\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit"
    message_path.write_bytes(head + charset + b"\r\n\r\n" + BODIES[body])
    test_what_a_client_sends_arrives_octet_by_octet(client, security, server, message_path)


@pytest.mark.parametrize("client", [client for client in CLIENTS if client != "smtplib"])  # which is ASCII only
def test_a_password_may_be_of_any_language(client: str, server: RunningDaemon, message_path: Path) -> None:
    message_path.write_bytes(sample_message("Zoë <zoe@example.org>"))
    zoe = Target("localhost", server.submissions, "tls", "zoe", INTERNATIONAL, server.ca)
    sent = CLIENTS[client](zoe, Mail("zoe@example.org", ("bob@elsewhere.example",), message_path))
    assert sent.accepted, sent.output


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_says_when_the_password_is_wrong(client: str, server: RunningDaemon, message_path: Path) -> None:
    seen = len(server.delivered())
    mail = Mail("ada@example.org", ("bob@elsewhere.example",), message_path)
    sent = CLIENTS[client](target(server, "tls", f"wrong for {client}"), mail)
    assert not sent.accepted
    assert len(server.delivered()) == seen


@pytest.mark.parametrize("client", ["smtplib", "swaks", "curl", "nodemailer"])
def test_a_client_without_sign_in_is_refused(client: str, server: RunningDaemon, message_path: Path) -> None:
    seen = len(server.delivered())
    anonymous = Target("localhost", server.submissions, "tls", None, None, server.ca)
    sent = CLIENTS[client](anonymous, Mail("ada@example.org", ("bob@elsewhere.example",), message_path))
    assert not sent.accepted
    assert "530" in sent.output
    assert len(server.delivered()) == seen


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_that_checks_certificates_finds_ours_good_and_another_bad(
    client: str, security: Security, server: RunningDaemon, message_path: Path, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "Stranger")
    port = server.submissions if security == "tls" else server.submission
    suspicious = Target("localhost", port, security, "ada", PASSWORD, stranger.ca)
    sent = CLIENTS[client](suspicious, Mail("ada@example.org", ("bob@elsewhere.example",), message_path))
    assert not sent.accepted
