"""Two sites on one address: the name asked for picks certificate, mechanisms and limits; a reload from one to two."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.daemon import SITE, RunningDaemon, start_daemon
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario

OTHER = "post.example.net"
CONTENT = b"From: ada@example.org\r\nSubject: s\r\n\r\ntext\r\n"


def with_a_second_site(daemon: RunningDaemon, authority: Authority, *keys: str) -> None:
    """Adds a site on the addresses of the first one to the configuration."""
    issued = authority.issue(OTHER)
    lines = (
        "",
        "[[site]]",
        f'name = "{OTHER}"',
        f'submission = ["127.0.0.1:{daemon.submission}", "[::1]:{daemon.submission}"]',
        f'submissions = ["127.0.0.1:{daemon.submissions}", "[::1]:{daemon.submissions}"]',
        f'certificate = "{issued.certificate}"',
        f'key = "{issued.key}"',
        *keys,
    )
    daemon.config.write_text(daemon.config.read_text() + "\n".join(lines) + "\n")


def queue_ids(daemon: RunningDaemon, verb: str) -> set[str]:
    """What an operator's verb finds for the domain that all write to."""
    command = (
        "-m",
        "pillarbox",
        "queue",
        verb,
        "--domain",
        "elsewhere.example",
        "--config",
        str(daemon.config),
        "--json",
    )
    done = subprocess.run((sys.executable, "-P", *command), capture_output=True, text=True, check=True)
    return set(re.findall(r"[0-9A-Z]{26}", done.stdout))


@pytest.fixture
def one_site(tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, password: str) -> RunningDaemon:
    """A daemon with one site, on IPv4 and IPv6, and two workers."""
    daemon = start_daemon(
        tmp_path, authority, at_end=request.addfinalizer, server=("submission_workers = 2",), start=False
    )
    text = daemon.config.read_text()
    for port in (daemon.submission, daemon.submissions):
        text = text.replace(f'"127.0.0.1:{port}"', f'"127.0.0.1:{port}", "[::1]:{port}"')
    daemon.config.write_text(text)
    daemon.start()
    daemon.user("ada", password, ["ada@example.org"])
    return daemon


def test_from_one_site_to_two_without_a_session_dropped(
    one_site: RunningDaemon, authority: Authority, password: str
) -> None:
    daemon = one_site
    with Talk(daemon.submissions, daemon.ca) as within_tls, Talk(daemon.submission, host="::1") as clear:
        within_tls.say("EHLO client.example.org")
        assert within_tls.sign_in("ada", password).startswith("235")
        assert within_tls.say("MAIL FROM:<ada@example.org>").startswith("250")
        with_a_second_site(daemon, authority)
        daemon.ask("reload")
        assert within_tls.say("RCPT TO:<bob@elsewhere.example>").startswith("250")
        assert within_tls.say("RSET").startswith("250")
        assert within_tls.transaction(CONTENT).startswith("250")
        clear.start_tls(daemon.ca)
        assert clear.sign_in("ada", password).startswith("235")
        assert clear.transaction(CONTENT).startswith("250")
    for host in ("127.0.0.1", "::1"):
        with Talk(daemon.submissions, daemon.ca, host=host, name=OTHER) as talk:
            assert talk.greeting == f"220 {OTHER} ESMTP Pillarbox"
    assert daemon.stop() == 0


def test_the_name_asked_for_picks_certificate_mechanisms_and_limits(
    one_site: RunningDaemon, authority: Authority, password: str
) -> None:
    daemon = one_site
    with_a_second_site(daemon, authority, 'mechanisms = ["PLAIN"]', 'max_message_size = "1MiB"', "max_recipients = 1")
    daemon.ask("reload")
    with Talk(daemon.submissions, daemon.ca, name=SITE) as talk:
        offered = talk.say("EHLO client.example.org")
        assert "SIZE 52428800" in offered
        assert "AUTH PLAIN LOGIN" in offered
    with Talk(daemon.submissions, daemon.ca, name=OTHER) as talk:
        offered = talk.say("EHLO client.example.org")
        assert offered.startswith(f"250-{OTHER}\n")
        assert "SIZE 1048576" in offered
        assert "LOGIN" not in offered
        assert talk.say("AUTH LOGIN").startswith("504 ")
        assert talk.sign_in("ada", password).startswith("235")
        assert talk.say("MAIL FROM:<ada@example.org> SIZE=2000000").startswith("552 ")
        assert talk.say("MAIL FROM:<ada@example.org>").startswith("250")
        assert talk.say("RCPT TO:<bob@elsewhere.example>").startswith("250")
        assert talk.say("RCPT TO:<eve@elsewhere.example>").startswith("452 ")
    with Talk(daemon.submission, host="::1", name=OTHER) as talk:
        assert talk.greeting == f"220 {SITE} ESMTP Pillarbox", "before the handshake nobody knows better"
        talk.start_tls(daemon.ca)
        assert talk.say("EHLO client.example.org").startswith(f"250-{OTHER}\n")
        assert talk.sign_in("ada", password).startswith("235")
        assert talk.transaction(CONTENT).startswith("250")
    assert daemon.wait_for("message.accepted")["peer"] == "::1"
    daemon.wait_for("delivery.delivered")
    (message,) = daemon.delivered()
    assert b"\r\nReceived: from client.example.org ([IPv6:::1])\r\n\tby post.example.net with ESMTPSA" in message
    assert daemon.stop() == 0


def test_a_site_with_a_dead_next_hop_of_its_own_holds_the_other_s_mail_to_that_domain_up_no_moment(
    one_site: RunningDaemon, authority: Authority, password: str
) -> None:
    daemon = one_site
    own = ("[[route]]", f'sites = ["{OTHER}"]')
    with_a_second_site(daemon, authority, *own, 'host = "127.0.0.1"', "port = 1", 'tls = "none"')
    daemon.ask("reload")

    def submit(site: str, count: int) -> list[str]:
        with Talk(daemon.submissions, daemon.ca, name=site) as talk:
            talk.say("EHLO client.example.org")
            assert talk.sign_in("ada", password).startswith("235")
            return [talk.transaction(CONTENT).split()[-1] for _ in range(count)]

    theirs = submit(OTHER, 40)
    for queue_id in theirs:
        assert daemon.wait_for("delivery.deferred", queue_id=queue_id)["next_hop"] == "127.0.0.1:1"
    (ours,) = submit(SITE, 1)
    daemon.wait_for("delivery.delivered", queue_id=ours)
    assert len(daemon.delivered()) == 1
    assert queue_ids(daemon, "list") == set(theirs)
    # the site's own route changes, and what waits takes the new one
    maildir = daemon.directory / "theirs"
    text = daemon.config.read_text()
    head, _, tail = text.rpartition('host = "127.0.0.1"\nport = 1\ntls = "none"')
    daemon.config.write_text(f'{head}kind = "maildir"\npath = "{maildir}"{tail}')
    daemon.ask("reload")
    assert queue_ids(daemon, "retry") == set(theirs)
    for queue_id in theirs:
        daemon.wait_for("delivery.delivered", queue_id=queue_id)
    assert len(list((maildir / "new").iterdir())) == len(theirs)
    assert len(daemon.delivered()) == 1
    assert daemon.stop() == 0


@pytest.mark.parametrize("name", ["", "localhost"])
def test_who_asks_for_no_name_gets_the_first_site(one_site: RunningDaemon, authority: Authority, name: str) -> None:
    daemon = one_site
    with_a_second_site(daemon, authority)
    daemon.ask("reload")
    with Talk(daemon.submissions, daemon.ca, name=name) as talk:
        assert talk.greeting == f"220 {SITE} ESMTP Pillarbox"
    assert daemon.stop() == 0


def test_sites_that_disagree_about_tls_are_refused_at_reload_and_by_check(
    one_site: RunningDaemon, authority: Authority
) -> None:
    daemon = one_site
    before = len(daemon.log())
    with_a_second_site(daemon, authority, 'tls_minimum_version = "1.3"')
    daemon.reload()
    refused = daemon.wait_for("config.refused", after=before)
    line = len(daemon.config.read_text().splitlines())
    reason, *_ = [reason for reason in refused["reasons"] if f":{line}:" in reason]
    assert "SNI can only switch the certificate" in reason
    checked = subprocess.run(
        (sys.executable, "-P", "-m", "pillarbox", "check", "--config", str(daemon.config)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 1
    assert reason in checked.stdout + checked.stderr
    with Talk(daemon.submissions, daemon.ca) as talk:
        assert talk.greeting == f"220 {SITE} ESMTP Pillarbox"
    assert daemon.stop() == 0
