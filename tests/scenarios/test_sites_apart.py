"""Two sites on one address, told apart by SNI: each with its certificate, its domains, its people; a login at one is
nothing at the other."""

import base64
import hashlib
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import scramp  # type: ignore[import-untyped]  # it ships no types
from tests.support.certs import Authority, Issued
from tests.support.daemon import SITE, RunningDaemon, start_daemon
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario

OTHER = "post.example.net"


def _shown(port: int, name: str | None) -> str:
    """SHA-256 of the certificate that a client gets that asks for this name, or for none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), 20) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        return hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()


@pytest.fixture
def other(tmp_path: Path) -> Issued:
    """The second site's certificate, from an authority that the first one's clients do not know."""
    folder = tmp_path / "other-authority"
    folder.mkdir()
    return Authority(folder, "Other Authority").issue(OTHER)


@pytest.fixture
def daemon(
    tmp_path: Path, authority: Authority, other: Issued, request: pytest.FixtureRequest, password: str
) -> RunningDaemon:
    """SITE for example.org and OTHER for example.net, on the same addresses; Ada is of the one, Bob of the other, Eve
    of both."""
    server = start_daemon(
        tmp_path, authority, at_end=request.addfinalizer, site=('domains = ["example.org"]',), start=False
    )
    lines = (
        "",
        "[[site]]",
        f'name = "{OTHER}"',
        f'submission = ["127.0.0.1:{server.submission}"]',
        f'submissions = ["127.0.0.1:{server.submissions}"]',
        f'certificate = "{other.certificate}"',
        f'key = "{other.key}"',
        'domains = ["example.net"]',
    )
    server.config.write_text(server.config.read_text() + "\n".join(lines) + "\n")
    server.start()
    server.user("ada", password, ["ada@example.org"])
    server.user("bob", password, ["bob@example.net"])
    server.user("eve", password, ["eve@example.org", "eve@example.net"])
    return server


def test_the_name_asked_for_picks_the_certificate_and_none_or_a_strange_one_the_first(
    daemon: RunningDaemon, authority: Authority, other: Issued
) -> None:
    second = other.fingerprint
    first = _shown(daemon.submissions, SITE)
    assert first != second
    assert _shown(daemon.submissions, OTHER) == second
    assert _shown(daemon.submissions, OTHER.upper()) == second
    assert _shown(daemon.submissions, None) == first
    assert _shown(daemon.submissions, "unknown.example.com") == first
    with pytest.raises(ssl.SSLError):
        Talk(daemon.submissions, authority.ca, name=OTHER)
    assert daemon.stop() == 0


@pytest.mark.parametrize("implicit", [True, False], ids=["submissions", "submission"])
def test_a_login_of_one_site_is_nothing_at_the_other(
    daemon: RunningDaemon, other: Issued, password: str, implicit: bool
) -> None:
    def talk(name: str) -> Talk:
        ca = daemon.ca if name == SITE else other.ca
        if implicit:
            opened = Talk(daemon.submissions, ca, name=name)
            opened.say("EHLO client.example.org")
        else:
            opened = Talk(daemon.submission, name=name)
            opened.start_tls(ca)
        return opened

    for login, home, abroad in (("ada", SITE, OTHER), ("bob", OTHER, SITE)):
        before = len(daemon.log())
        with talk(abroad) as session:
            wrong = session.sign_in(login, "not that")
            refused = session.sign_in(login, password)
            assert refused == wrong
            assert refused.startswith("535 ")
            assert session.say(f"MAIL FROM:<{login}@example.org>").startswith("530 ")
        failed = daemon.wait_for("signin.failed", after=before, reason="elsewhere")
        assert (failed["login"], failed["site"]) == (login, abroad)
        with talk(home) as session:
            assert session.sign_in(login, password).startswith("235 ")
    assert daemon.stop() == 0


def test_who_is_of_both_sends_as_each_one_s_own(daemon: RunningDaemon, other: Issued, password: str) -> None:
    for name, ca, own, others in (
        (SITE, daemon.ca, "eve@example.org", "eve@example.net"),
        (OTHER, other.ca, "eve@example.net", "eve@example.org"),
    ):
        with Talk(daemon.submissions, ca, name=name) as session:
            session.say("EHLO client.example.org")
            assert session.sign_in("eve", password).startswith("235 ")
            assert session.say(f"MAIL FROM:<{others}>").startswith("550 5.7.1 ")
            content = f"From: {others}\r\nSubject: s\r\n\r\ntext\r\n".encode()
            assert session.transaction(content, own).startswith("550 5.7.1 ")
            assert session.transaction(content.replace(others.encode(), own.encode()), own).startswith("250 ")
    daemon.wait_for("delivery.delivered")
    assert daemon.stop() == 0


def _line(login: str, password: str) -> str:
    """A line of a password file."""
    salt = b"pepper"
    digest = hashlib.sha1(password.encode() + salt, usedforsecurity=False).digest()
    return f"{login}:{{SSHA}}{base64.b64encode(digest + salt).decode()}\n"


def test_with_directories_of_their_own_one_login_is_two_people(
    tmp_path: Path, authority: Authority, other: Issued, request: pytest.FixtureRequest
) -> None:
    """Each site asks its own directory alone: what Ada's password is at the one is nothing at the other."""
    directories = ""
    for name, domain, secret in (("ours", "example.org", "first secret"), ("theirs", "example.net", "second secret")):
        (tmp_path / name).write_text(_line("ada", secret))
        directories += f'[[directory]]\nname = "{name}"\nkind = "passwd"\nfile = "{name}"\ndomain = "{domain}"\n'
    daemon = start_daemon(
        tmp_path,
        authority,
        at_end=request.addfinalizer,
        site=('directories = ["ours"]',),
        extra=directories,
        start=False,
    )
    lines = (
        "",
        "[[site]]",
        f'name = "{OTHER}"',
        f'submissions = ["127.0.0.1:{daemon.submissions}"]',
        f'certificate = "{other.certificate}"',
        f'key = "{other.key}"',
        'directories = ["theirs"]',
    )
    daemon.config.write_text(daemon.config.read_text() + "\n".join(lines) + "\n")
    daemon.start()
    for name, ca, own, right, wrong in (
        (SITE, daemon.ca, "ada@example.org", "first secret", "second secret"),
        (OTHER, other.ca, "ada@example.net", "second secret", "first secret"),
        (SITE, daemon.ca, "ada@example.org", "first secret", "second secret"),  # and what is remembered stays apart
    ):
        with Talk(daemon.submissions, ca, name=name) as session:
            session.say("EHLO client.example.org")
            assert session.sign_in("ada", wrong).startswith("535 ")
            assert session.sign_in("ada", right).startswith("235 ")
            content = f"From: {own}\r\nSubject: s\r\n\r\ntext\r\n".encode()
            assert session.transaction(content, own).startswith("250 ")
    assert daemon.stop() == 0


def _prove(talk: Talk, login: str, password: str) -> tuple[Any, str]:
    """An exchange in SCRAM up to the reply to the client's proof: scramp's client, and that reply."""
    client = scramp.ScramClient(["SCRAM-SHA-256"], login, password)
    first = talk.say(f"AUTH SCRAM-SHA-256 {base64.b64encode(client.get_client_first().encode()).decode()}")
    client.set_server_first(base64.b64decode(first[4:]).decode())
    return client, talk.say(base64.b64encode(client.get_client_final().encode()).decode())


def test_with_scram_the_wrong_site_does_not_tell_that_the_password_was_right(
    tmp_path: Path, authority: Authority, other: Issued, request: pytest.FixtureRequest, password: str
) -> None:
    """Our signature would, before the 535: at the wrong site there is none."""
    mechanisms = 'mechanisms = ["SCRAM-SHA-256"]'
    lines = (
        "[[directory]]",
        "scram = true",
        "[[site]]",
        f'name = "{OTHER}"',
        "submissions = [@]",
        f'certificate = "{other.certificate}"',
        f'key = "{other.key}"',
        'domains = ["example.net"]',
        mechanisms,
    )
    daemon = start_daemon(
        tmp_path, authority, at_end=request.addfinalizer, site=('domains = ["example.org"]', mechanisms), start=False
    )
    text = "\n".join(lines).replace("@", f'"127.0.0.1:{daemon.submissions}"')
    daemon.config.write_text(f"{daemon.config.read_text()}\n{text}\n")
    daemon.start()
    daemon.user("ada", password, ["ada@example.org"])
    with Talk(daemon.submissions, other.ca, name=OTHER) as talk:
        assert "AUTH SCRAM-SHA-256" in talk.say("EHLO client.example.org")
        _, answer = _prove(talk, "ada", password)
        assert answer.startswith("535 ")
    with Talk(daemon.submissions, daemon.ca, name=SITE) as talk:
        talk.say("EHLO client.example.org")
        client, answer = _prove(talk, "ada", password)
        client.set_server_final(base64.b64decode(answer[4:]).decode())
        assert talk.say("").startswith("235 ")
    assert daemon.stop() == 0
