"""A reload re-reads configuration and certificates, drops no session, and refuses a bad configuration whole."""

import shutil
import socket
import ssl
from pathlib import Path

import pytest
from tests.support.certs import Authority, Issued
from tests.support.daemon import SITE, RunningDaemon
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario

CONTENT = b"From: ada@example.org\r\nSubject: s\r\n\r\ntext\r\n"


def served(daemon: RunningDaemon) -> bytes:
    """The certificate that a new client sees (DER)."""
    context = ssl.create_default_context(cafile=str(daemon.ca))
    with (
        socket.create_connection(("127.0.0.1", daemon.submissions), 20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as tls,
    ):
        return tls.getpeercert(binary_form=True) or b""


def files_of(daemon: RunningDaemon) -> Issued:
    """The certificate files that the configuration names."""
    lines = dict(line.split(" = ", 1) for line in daemon.config.read_text().splitlines() if " = " in line)
    return Issued(Path(lines["certificate"].strip('"')), Path(lines["key"].strip('"')), daemon.ca)


@pytest.mark.parametrize("how", ["signal", "verb"])
def test_a_new_certificate_is_served_and_open_sessions_go_on(
    daemon: RunningDaemon, authority: Authority, password: str, how: str
) -> None:
    before = len(daemon.log())
    first = served(daemon)
    new = authority.issue(SITE, "localhost", "127.0.0.1")
    with Talk(daemon.submissions, daemon.ca) as talk:
        talk.say("EHLO client.example.org")
        assert talk.sign_in("ada", password).startswith("235")
        assert talk.say("MAIL FROM:<ada@example.org>").startswith("250")
        shutil.copy(new.certificate, files_of(daemon).certificate)
        shutil.copy(new.key, files_of(daemon).key)
        if how == "signal":
            daemon.reload()
            daemon.wait_for("config.reloaded", after=before)
            daemon.wait_for("role.reloaded", after=before, role="submission")
        else:
            daemon.ask("reload")
        assert served(daemon) != first
        assert talk.say("RCPT TO:<bob@elsewhere.example>").startswith("250")
        assert talk.say("RSET").startswith("250")
        assert talk.transaction(CONTENT).startswith("250")
    assert daemon.stop() == 0


def test_a_bad_configuration_is_refused_whole_and_the_old_one_stays(daemon: RunningDaemon, password: str) -> None:
    before = len(daemon.log())
    good = daemon.config.read_text()
    daemon.config.write_text(good.replace("[[site]]", '[[site]]\nmax_recipients = 0\nmechanims = ["PLAIN"]'))
    daemon.reload()
    refused = daemon.wait_for("config.refused", after=before)
    assert "max_recipients" in str(refused) and "mechanims" in str(refused), "all mistakes at once"
    with Talk(daemon.submissions, daemon.ca) as talk:
        talk.say("EHLO client.example.org")
        assert talk.sign_in("ada", password).startswith("235")
        assert talk.transaction(CONTENT).startswith("250")
    assert daemon.stop() == 0
