"""Why Pillarbox exists, replayed with real parts.

``example.org`` has a Postfix as MX, with SMTP AUTH. It fights spam: a DNS blacklist is asked when a client connects,
and nobody outside may name the own domain as sender. Ada is in a hotel whose address is on the list of dial-up lines.
Her password is right, and yet Postfix refuses her on port 465: first for her address, then (from a clean one) for her
own domain. Through Pillarbox, from the same address with the same client and message, the mail arrives.
"""

import smtplib
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.clients import Mail, Security, Target, send_with_curl, send_with_smtplib, send_with_swaks
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.nameserver import NameServer
from tests.support.postfix import OWN_DOMAIN_RULE, Postfix

pytestmark = pytest.mark.interop

HOTEL = "127.0.0.66"  # the client's address, on the blacklist
HOTEL_ON_LIST = "66.0.0.127.dialup.example"
OUR_HOST = "127.0.0.2"  # where Pillarbox connects from: the one thing that the MX's administrator allows
PASSWORD = "correct horse battery staple"
CLIENTS = {"smtplib": send_with_smtplib, "swaks": send_with_swaks, "curl": send_with_curl}


@pytest.fixture(scope="module")
def resolver() -> Iterator[NameServer]:
    """The name server that this namespace's resolv.conf names."""
    with NameServer(port=53) as server:
        yield server


@pytest.fixture(scope="module")
def mx(authority: Authority, resolver: NameServer) -> Iterator[Postfix]:
    """The domain's MX."""
    issued = authority.issue("mx.example.org", "127.0.0.10")
    with Postfix(issued, {"ada": PASSWORD, "bob": "another"}, relay_clients=(OUR_HOST,)) as server:
        yield server


@pytest.fixture
def blacklisted(resolver: NameServer) -> Iterator[None]:
    """The hotel's address is on the list."""
    resolver.add(HOTEL_ON_LIST, "A", "127.0.0.2")
    yield
    resolver.remove(HOTEL_ON_LIST, "A")


@pytest.fixture
def at_the_mx(mx: Postfix, authority: Authority) -> Target:
    """Ada signs in at the MX, from the hotel."""
    return Target(mx.host, 465, "tls", "ada@example.org", PASSWORD, authority.ca, HOTEL)


@pytest.fixture
def mail(message_path: Path) -> Mail:
    """Ada writes to Bob."""
    return Mail("ada@example.org", ("bob@example.org",), message_path)


@pytest.mark.usefixtures("blacklisted")
@pytest.mark.parametrize("client", CLIENTS)
def test_the_mx_refuses_the_hotel_before_anybody_can_sign_in(
    client: str, at_the_mx: Target, mail: Mail, resolver: NameServer
) -> None:
    asked = resolver.asked(HOTEL_ON_LIST, "A")
    sent = CLIENTS[client](at_the_mx, mail)
    assert not sent.accepted
    assert "554" in sent.output and "blocked using dialup.example" in sent.output
    assert resolver.asked(HOTEL_ON_LIST, "A") > asked


def test_the_password_was_right_all_along(at_the_mx: Target, mail: Mail) -> None:
    # the list is silent about the hotel now; signing in works, a wrong password does not
    context = ssl.create_default_context(cafile=str(at_the_mx.ca))
    with smtplib.SMTP_SSL(
        at_the_mx.host, at_the_mx.port, "client.example.org", source_address=(HOTEL, 0), context=context
    ) as smtp:
        with pytest.raises(smtplib.SMTPAuthenticationError):
            smtp.login("ada@example.org", "wrong")
        code, _ = smtp.login("ada@example.org", PASSWORD)
    assert code == 235


@pytest.mark.parametrize("client", CLIENTS)
def test_the_mx_refuses_its_own_domain_as_sender_even_after_sign_in(
    client: str, at_the_mx: Target, mail: Mail
) -> None:
    sent = CLIENTS[client](at_the_mx, mail)
    assert not sent.accepted
    if client != "curl":  # which keeps the text of a reply to itself
        assert OWN_DOMAIN_RULE in sent.output


def route(mx: Postfix, authority: Authority, source_address: str) -> str:
    """A route to the MX."""
    return f"""
[[route]]
host = "{mx.host}"
port = 25
tls = "starttls"
tls_name = "mx.example.org"
ca = "{authority.ca}"
source_address = "{source_address}"
"""


def check_relay(
    tmp_path: Path, authority: Authority, mx: Postfix, source_address: str, *more: str
) -> tuple[int, str]:
    """`pillarbox check --relay` from that address: exit code and output."""
    config = start_daemon(tmp_path, authority, routes=route(mx, authority, source_address), start=False).config
    command = (sys.executable, "-P", "-m", "pillarbox", "check", "--config", str(config), "--relay", mx.host)
    done = subprocess.run((*command, *more), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_check_says_what_the_mx_must_allow_and_when_it_does(
    tmp_path: Path, authority: Authority, mx: Postfix
) -> None:
    code, said = check_relay(tmp_path, authority, mx, "127.0.0.3")
    assert code == 1
    assert OWN_DOMAIN_RULE in said
    assert "an MX often refuses its own domain as sender" in said
    assert "permit_mynetworks before check_sender_access" in said
    code, said = check_relay(tmp_path, authority, mx, "127.0.0.3", "--sender", "ada@elsewhere.example")
    assert code == 1
    assert "RCPT: to postmaster@example.com: 554 5.7.1" in said
    assert "the next hop must let this host relay" in said
    code, said = check_relay(tmp_path, authority, mx, OUR_HOST)
    assert code == 0, said
    for step in ("EHLO", "TLS", "MAIL", "RCPT"):
        assert f"ok      {mx.host} {step}" in said, said
    assert not mx.mailbox("ada"), "nothing is sent"


@pytest.mark.usefixtures("blacklisted")
def test_check_names_the_blacklist(tmp_path: Path, authority: Authority, mx: Postfix) -> None:
    code, said = check_relay(tmp_path, authority, mx, HOTEL)
    assert code == 1
    assert "a DNS blacklist refuses this host" in said


@pytest.fixture
def pillarbox(tmp_path: Path, authority: Authority, mx: Postfix, request: pytest.FixtureRequest) -> RunningDaemon:
    """Pillarbox beside the MX: Ada's account, and a route to the MX from the address that it allows."""
    (tmp_path / "server").mkdir()
    daemon = start_daemon(
        tmp_path / "server", authority, routes=route(mx, authority, OUR_HOST), at_end=request.addfinalizer
    )
    daemon.user("ada", PASSWORD, ["ada@example.org"])
    return daemon


@pytest.mark.usefixtures("blacklisted")
@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("client", CLIENTS)
def test_through_pillarbox_the_same_mail_arrives(
    client: str, security: Security, at_the_mx: Target, mail: Mail, mx: Postfix, pillarbox: RunningDaemon
) -> None:
    assert not CLIENTS[client](at_the_mx, mail).accepted  # still on the list
    before = len(mx.mailbox("bob"))
    port = pillarbox.submissions if security == "tls" else pillarbox.submission
    sent = CLIENTS[client](Target("127.0.0.1", port, security, "ada", PASSWORD, pillarbox.ca, HOTEL), mail)
    assert sent.accepted, sent.output
    accepted = pillarbox.wait_for("message.accepted")
    pillarbox.wait_for("delivery.delivered", queue_id=accepted["queue_id"])
    arrived = mx.wait_for_mail("bob", before + 1)[-1].replace(b"\n", b"\r\n")
    head, found, rest = arrived.partition(mail.path.read_bytes())
    assert found and not rest, arrived[:2000]
    # the two servers' own trace fields, and nothing else, stand in front
    names = {line.partition(b":")[0] for line in head.splitlines() if not line.startswith((b" ", b"\t"))}
    assert names == {b"Return-Path", b"X-Original-To", b"Delivered-To", b"Received"}
    assert b"Return-Path: <ada@example.org>" in head
    assert accepted["queue_id"].encode() in head
    assert pillarbox.stop() == 0


@pytest.mark.usefixtures("blacklisted")
def test_pillarbox_asks_no_name_server_about_who_connects(
    mail: Mail, mx: Postfix, pillarbox: RunningDaemon, resolver: NameServer
) -> None:
    before, asked = len(mx.mailbox("bob")), resolver.queries.copy()
    target = Target("127.0.0.1", pillarbox.submissions, "tls", "ada", PASSWORD, pillarbox.ca, HOTEL)
    assert send_with_smtplib(target, mail).accepted
    mx.wait_for_mail("bob", before + 1)
    # the MX asks about Pillarbox's address; about the hotel's, nobody does
    assert [name for name, _ in resolver.queries - asked if name.startswith("66.0.0.127")] == []
