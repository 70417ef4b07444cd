"""The real daemon and a real ACME authority (Pebble): a first certificate, renewals under open sessions, failures."""

import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.clients import require
from tests.support.daemon import SITE, RunningDaemon, start_daemon
from tests.support.nameserver import NameServer
from tests.support.pebble import Pebble, running_pebble
from tests.support.ports import steady_ports
from tests.support.talk import Talk

pytestmark = pytest.mark.interop

NAME = "acme.example.org"
PASSWORD = "correct horse battery staple"
SHORT = 20
"""Seconds that a certificate is good, where a renewal is waited for."""

Start = Callable[[Pebble], RunningDaemon]


@pytest.fixture
def make_pebble(tmp_path: Path, authority: Authority, nameserver: NameServer) -> Iterator[Callable[..., Pebble]]:
    """An authority for which NAME is at 127.0.0.1."""
    require("pebble")
    nameserver.add(NAME, "A", "127.0.0.1")
    (port,) = steady_ports(1)
    contexts = []

    def make(validity: int | None = None) -> Pebble:
        contexts.append(running_pebble(tmp_path, authority, nameserver, port, validity=validity))
        return contexts[-1].__enter__()

    yield make
    for context in contexts:
        context.__exit__(None, None, None)


@pytest.fixture
def start(tmp_path: Path, authority: Authority, request: pytest.FixtureRequest) -> Start:
    """A daemon with two workers; on the addresses of its first site also NAME, with certificate = "acme"."""

    def begin(pebble: Pebble) -> RunningDaemon:
        daemon = start_daemon(
            tmp_path, authority, at_end=request.addfinalizer, server=("submission_workers = 2",), start=False
        )
        lines = (
            "",
            "[[site]]",
            f'name = "{NAME}"',
            f'submission = ["127.0.0.1:{daemon.submission}"]',
            f'submissions = ["127.0.0.1:{daemon.submissions}"]',
            'certificate = "acme"',
            "[acme]",
            "agree_to_terms = true",
            f'directory = "{pebble.directory}"',
            f'ca = "{pebble.ca}"',
            f'listen = ["127.0.0.1:{pebble.responder_port}"]',
        )
        daemon.config.write_text(daemon.config.read_text() + "\n".join(lines) + "\n")
        daemon.start()
        daemon.user("ada", PASSWORD, ["ada@example.org"])
        return daemon

    return begin


def _shown(daemon: RunningDaemon, name: str = NAME) -> bytes:
    """The certificate that a client gets that asks for this name (DER). Raises SSLError, ConnectionError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", daemon.submissions), 20) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        return tls.getpeercert(binary_form=True) or b""


def _until(daemon: RunningDaemon, holds: Callable[[], object]) -> None:
    """Waits until ``holds``: roles report to the hub each second."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, daemon.tail()
        time.sleep(0.05)


def _hindrance(daemon: RunningDaemon) -> bool:
    """Whether the hub knows why there is no certificate."""
    processes = daemon.ask("status")["processes"]
    return any((one.get("acme") or {}).get(NAME, {}).get("reason") for one in processes)


def _until_loaded(daemon: RunningDaemon, after: int) -> None:
    """Every worker shows the new certificate."""
    _until(daemon, lambda: sum(line["event"] == "certificate.loaded" for line in daemon.log()[after:]) >= 2)


def test_the_server_starts_without_a_certificate_and_gets_it_when_the_authority_is_back(
    make_pebble: Callable[..., Pebble], start: Start, authority: Authority
) -> None:
    pebble = make_pebble()
    pebble.stop()
    daemon = start(pebble)
    waiting = daemon.wait_for("acme.waiting")
    assert waiting["site"] == NAME
    failed = daemon.wait_for("acme.failed", timeout=60)
    assert (failed["level"], failed["site"]) == ("error", NAME)
    assert "cannot be reached" in failed["reason"]
    assert "pillarbox reload" in failed["advice"]
    with Talk(daemon.submissions, daemon.ca, name=SITE) as talk:  # the other site is served
        assert talk.greeting == f"220 {SITE} ESMTP Pillarbox"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        _shown(daemon)
    _until(daemon, lambda: _hindrance(daemon))
    status = subprocess.run(
        (sys.executable, "-P", "-m", "pillarbox", "status", "--config", str(daemon.config)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"certificate    {NAME}: none yet" in status.stdout, status.stdout + status.stderr
    assert "cannot be reached" in status.stdout

    pebble.start()
    before = len(daemon.log())
    daemon.ask("reload")
    assert daemon.wait_for("acme.issued", after=before, timeout=60)["site"] == NAME
    _until_loaded(daemon, before)
    with Talk(daemon.submissions, pebble.roots(), name=NAME) as talk:
        assert talk.greeting == f"220 {NAME} ESMTP Pillarbox"
        talk.say("EHLO client.example.org")
        assert talk.sign_in("ada", PASSWORD).startswith("235")
    pair = daemon.data_dir / "certificates" / f"{NAME}.pem"
    assert pair.stat().st_mode & 0o777 == 0o600
    assert pair.parent.stat().st_mode & 0o777 == 0o700
    row = f'pillarbox_certificate_expiry_timestamp_seconds{{site="{NAME}"}}'
    _until(daemon, lambda: row in daemon.ask("metrics"))
    assert daemon.stop() == 0
    daemon.start()  # and with it in place nothing is asked for
    assert _shown(daemon)
    assert daemon.stop() == 0
    assert json.dumps(daemon.log()).count('"acme.issued"') == 1


def test_renewed_by_itself_while_a_session_goes_on(make_pebble: Callable[..., Pebble], start: Start) -> None:
    pebble = make_pebble(SHORT)
    daemon = start(pebble)
    _until_loaded(daemon, 0)
    first, before = _shown(daemon), len(daemon.log())
    with Talk(daemon.submissions, pebble.roots(), name=NAME) as talk:
        talk.say("EHLO client.example.org")
        assert talk.sign_in("ada", PASSWORD).startswith("235")
        assert talk.say("MAIL FROM:<ada@example.org>").startswith("250")
        daemon.wait_for("acme.issued", after=before, timeout=60)
        _until_loaded(daemon, before)
        assert _shown(daemon) != first
        assert talk.say("RCPT TO:<bob@elsewhere.example>").startswith("250")
        assert talk.say("DATA").startswith("354")
        assert talk.say("From: ada@example.org\r\n\r\ntext\r\n.").startswith("250")
    assert daemon.stop() == 0


def test_the_old_certificate_stays_when_the_authority_is_away(
    make_pebble: Callable[..., Pebble], start: Start
) -> None:
    pebble = make_pebble(SHORT)
    daemon = start(pebble)
    _until_loaded(daemon, 0)
    first, before = _shown(daemon), len(daemon.log())
    pebble.stop()
    failed = daemon.wait_for("acme.failed", after=before, timeout=60)
    assert "cannot be reached" in failed["reason"]
    assert failed["old_until"].endswith("Z")
    assert failed["next_try"] > failed["time"][:19]
    assert _shown(daemon) == first
    assert daemon.stop() == 0


def test_a_site_alone_on_its_address_gets_its_first_certificate_on_both_ports(
    tmp_path: Path, make_pebble: Callable[..., Pebble], authority: Authority, request: pytest.FixtureRequest
) -> None:
    """One context for the address: no SNI to switch it (another transport than with several sites)."""
    pebble = make_pebble()
    pebble.stop()
    daemon = start_daemon(tmp_path, authority, at_end=request.addfinalizer, start=False)
    lines = [
        line for line in daemon.config.read_text().splitlines() if not line.startswith(("certificate =", "key ="))
    ]
    at = lines.index(f'name = "{SITE}"')
    lines[at] = f'name = "{NAME}"\ncertificate = "acme"'
    lines += [
        "[acme]",
        "agree_to_terms = true",
        f'directory = "{pebble.directory}"',
        f'ca = "{pebble.ca}"',
        f'listen = ["127.0.0.1:{pebble.responder_port}"]',
    ]
    daemon.config.write_text("\n".join(lines) + "\n")
    daemon.start()
    daemon.wait_for("acme.failed", timeout=60)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Talk(daemon.submissions, daemon.ca, name=NAME)
    with Talk(daemon.submission, name=NAME) as talk, pytest.raises((ssl.SSLError, ConnectionError)):
        talk.start_tls(daemon.ca)
    pebble.start()
    daemon.ask("reload")
    daemon.wait_for("certificate.loaded", timeout=60)
    roots = pebble.roots()
    with Talk(daemon.submissions, roots, name=NAME) as talk:
        assert talk.greeting == f"220 {NAME} ESMTP Pillarbox"
    with Talk(daemon.submission, name=NAME) as talk:
        talk.start_tls(roots)
    assert daemon.stop() == 0
    assert [line for line in daemon.log() if "traceback" in line] == []
