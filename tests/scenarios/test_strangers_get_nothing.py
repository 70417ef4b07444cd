"""R1: before sign-in there is nothing of use; a port scan finds one line (RFC 6409 4.3, RFC 8314)."""

import pytest
from tests.support.daemon import SITE, RunningDaemon
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario


def test_the_greeting_is_one_line_that_names_the_site(shared_daemon: RunningDaemon) -> None:
    with Talk(shared_daemon.submission) as talk:
        assert "\n" not in talk.greeting
        assert talk.greeting.startswith(f"220 {SITE} ")


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    "command", ["MAIL FROM:<ada@example.org>", "RCPT TO:<bob@elsewhere.example>", "VRFY ada", "DATA", "EXPN staff"]
)
def test_commands_of_mail_are_refused_before_sign_in(shared_daemon: RunningDaemon, command: str, tls: bool) -> None:
    with Talk(shared_daemon.submission) as talk:
        if tls:
            talk.start_tls(shared_daemon.ca)
        else:
            assert talk.say("EHLO client.example.org").startswith("250")
        assert talk.say(command)[:3] in {"530", "502", "503"}
        assert talk.say("NOOP").startswith("250")


def test_nobody_signs_in_outside_tls(shared_daemon: RunningDaemon, password: str) -> None:
    with Talk(shared_daemon.submission) as talk:
        offered = talk.say("EHLO client.example.org")
        assert "STARTTLS" in offered
        assert "AUTH" not in offered
        assert talk.sign_in("ada", password)[:3] in {"530", "538", "503", "502"}
        talk.start_tls(shared_daemon.ca)
        assert talk.sign_in("ada", password).startswith("235")


def test_what_follows_starttls_in_the_clear_ends_the_session(shared_daemon: RunningDaemon) -> None:
    """The injection of commands before the handshake (CVE-2011-0411 and its kin)."""
    with Talk(shared_daemon.submission) as talk:
        talk.say("EHLO client.example.org")
        talk.send(b"STARTTLS\r\nNOOP\r\n")
        try:
            answer = talk.reply()
        except ConnectionError:
            return
        assert not answer.startswith("250")
        assert talk.at_end()


def test_a_tls_client_on_the_starttls_port_is_told_so(shared_daemon: RunningDaemon) -> None:
    before = len(shared_daemon.log())
    with Talk(shared_daemon.submission) as talk:
        talk.send(bytes.fromhex("16030100c2010000be0303") + bytes(64))
        assert talk.reply().startswith("5")
    line = shared_daemon.wait_for("session.tls_hello", after=before)
    assert line["level"] == "warning"
    assert "submissions" in line["hint"]
