"""An office with printers: they speak no TLS, or TLS 1.0, on an address of their own; what they scan is delivered,
and nothing about the people's site is weaker for it."""

import smtplib
import ssl
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.ports import steady_ports
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario

PERSON, DEVICE = "correct horse battery staple", "paper jam"
FIRST_PRINTER, SECOND_PRINTER, DESK = "127.0.0.16", "127.0.0.17", "127.0.0.7"
FIXED = "BRN001BA9@brother.invalid"
SCAN = b"From: BRN001BA9@brother.invalid\nTo: ada@example.org\nSubject: Scan\n\nsee attachment\n"
FAILED = "535 5.7.8 Authentication credentials invalid"


@dataclass
class Office:
    """A daemon with a site for people, and one for the printers at 127.0.0.16/28, at ``printers``."""

    daemon: RunningDaemon
    printers: int

    def sign_in(self, source: str, login: str, password: str) -> str:
        """At the people's site: the refusal at connect, or the reply to AUTH."""
        with Talk(self.daemon.submission, source=source) as talk:
            if not talk.greeting.startswith("220"):
                return talk.greeting
            talk.start_tls(self.daemon.ca)
            return talk.sign_in(login, password)


@pytest.fixture
def office(tmp_path: Path, authority: Authority, request: pytest.FixtureRequest) -> Office:
    daemon = start_daemon(
        tmp_path, authority, at_end=request.addfinalizer, site=('failed_sign_in_time = "20ms"',), start=False
    )
    (port,) = steady_ports(1)
    issued = authority.issue("print.example.org", "localhost", "127.0.0.1")
    lines = (
        "",
        "[[site]]",
        'name = "print.example.org"',
        f'submission = ["127.0.0.1:{port}"]',
        f'certificate = "{issued.certificate}"',
        f'key = "{issued.key}"',
        'failed_sign_in_time = "20ms"',
        "[site.legacy]",
        f'networks = ["{FIRST_PRINTER}/28"]',
        'logins = ["Printer"]',
        'senders = ["@brother.invalid"]',
        'recipients = ["@example.org"]',
        'minimum_tls = "none"',
        "[guard]",
        "free_failures = 1",
        "block_failures = 3",
        'max_delay = "1s"',
    )
    daemon.config.write_text(daemon.config.read_text() + "\n".join(lines) + "\n")
    daemon.start()
    daemon.user("ada", PERSON, ["ada@example.org"])
    daemon.user("printer", DEVICE)
    return Office(daemon, port)


def test_a_printer_that_speaks_no_tls_gets_its_scan_delivered(office: Office) -> None:
    daemon = office.daemon
    with Talk(office.printers, source=FIRST_PRINTER) as printer:
        offered = printer.say("EHLO printer")
        assert "AUTH PLAIN LOGIN" in offered
        assert "CHUNKING" not in offered
        assert printer.sign_in("printer", DEVICE).startswith("235 ")
        assert printer.transaction(SCAN + b"\r\n", FIXED, "bob@elsewhere.example").startswith("550 5.7.1 ")
        assert printer.say("RSET").startswith("250 ")
        assert printer.transaction(SCAN + b"\r\n", FIXED, "ada@example.org").startswith("250 ")
    accepted = daemon.wait_for("message.accepted")
    assert (accepted["login"], accepted["peer"]) == ("printer", FIRST_PRINTER)
    daemon.wait_for("delivery.delivered")
    (message,) = daemon.delivered()
    assert b"\tby print.example.org with ESMTPA\n" in message.replace(b"\r\n", b"\n")
    assert message.replace(b"\r\n", b"\n").endswith(SCAN.partition(b"\n")[2] + b"\n")
    assert DEVICE not in daemon.log_path.read_text()
    assert daemon.stop() == 0


def test_a_printer_that_speaks_tls_1_0_is_served_and_a_person_s_site_speaks_none_of_it(office: Office) -> None:
    daemon = office.daemon
    context = ssl.create_default_context(cafile=str(daemon.ca))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with smtplib.SMTP("127.0.0.1", office.printers, source_address=(FIRST_PRINTER, 0), timeout=20) as printer:
        printer.starttls(context=context)
        printer.login("printer", DEVICE)
        printer.sendmail(FIXED, ["ada@example.org"], SCAN)
    assert daemon.wait_for("message.accepted")["peer"] == FIRST_PRINTER
    daemon.wait_for("delivery.delivered")
    assert b"with ESMTPSA (TLSv1 " in b" ".join(daemon.delivered()[0].split())
    with smtplib.SMTP("127.0.0.1", daemon.submission, source_address=(FIRST_PRINTER, 0), timeout=20) as printer:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            printer.starttls(context=context)
        printer.close()
    assert daemon.stop() == 0


def test_from_outside_the_printers_networks_there_is_nothing(office: Office) -> None:
    daemon = office.daemon
    with Talk(office.printers, source=DESK) as talk:
        assert talk.greeting == "554 Not from your network, closing the connection"
        assert talk.at_end()
    refused = daemon.wait_for("connection.refused")
    assert (refused["peer"], refused["reason"]) == (DESK, "not in the site's networks")
    assert daemon.stop() == 0


def test_a_device_s_password_opens_nothing_for_a_person_and_the_other_way_round(office: Office) -> None:
    daemon = office.daemon
    assert office.sign_in(DESK, "printer", DEVICE) == FAILED
    assert daemon.wait_for("signin.failed")["reason"] == "elsewhere"
    with Talk(office.printers, source=FIRST_PRINTER) as printer:
        assert printer.say("EHLO printer").startswith("250")
        assert printer.sign_in("ada", PERSON) == FAILED
        assert printer.say("MAIL FROM:<ada@example.org>").startswith("530 ")
    with Talk(daemon.submission, source=FIRST_PRINTER) as talk:
        assert talk.say("EHLO printer").startswith("250")
        assert talk.sign_in("ada", PERSON).startswith("530 5.7.0 Must issue a STARTTLS")
    assert daemon.stop() == 0


def test_printers_with_wrong_passwords_do_not_lock_the_office_out(office: Office) -> None:
    """One address for all of them, as behind a router: wrong once is counted once, and where somebody signed in
    nobody is refused."""
    daemon = office.daemon
    for _ in range(6):  # twice as many as block; it is one wrong password
        with Talk(office.printers, source=FIRST_PRINTER) as printer:
            printer.say("EHLO printer")
            assert printer.sign_in("printer", "last year's") == FAILED
    assert office.sign_in(FIRST_PRINTER, "ada", PERSON).startswith("235 ")
    for number in range(4):  # and each device with another one
        with Talk(office.printers, source=FIRST_PRINTER) as printer:
            printer.say("EHLO printer")
            assert printer.sign_in("printer", f"wrong {number}") == FAILED
    assert office.sign_in(FIRST_PRINTER, "ada", PERSON).startswith("235 ")
    with Talk(office.printers, source=FIRST_PRINTER) as printer:
        printer.say("EHLO printer")
        assert printer.sign_in("printer", DEVICE).startswith("235 ")
    for number in range(3):  # but nobody ever signed in from here: guesses end here as anywhere
        with Talk(office.printers, source=SECOND_PRINTER) as printer:
            printer.say("EHLO printer")
            assert printer.sign_in("printer", f"guess {number}") == FAILED
    assert daemon.wait_for("guard.blocked")["prefix"] == f"{SECOND_PRINTER}/32"
    assert office.sign_in(SECOND_PRINTER, "ada", PERSON).startswith("421 ")
    assert office.sign_in(FIRST_PRINTER, "ada", PERSON).startswith("235 ")
    assert daemon.stop() == 0


def test_check_and_reload_know_a_site_that_would_be_open_to_the_internet(office: Office) -> None:
    daemon = office.daemon
    good = daemon.config.read_text()
    daemon.config.write_text(good.replace(f'"{FIRST_PRINTER}/28"', '"0.0.0.0/0"'))
    before = len(daemon.log())
    daemon.reload()
    (reason,) = daemon.wait_for("config.refused", after=before)["reasons"]
    assert "a legacy site is never open to the internet" in reason
    assert reason in _checked(daemon)
    with Talk(office.printers, source=DESK) as talk:
        assert talk.greeting.startswith("554 ")
    daemon.config.write_text(good.replace('logins = ["Printer"]', 'logins = ["Printer", "plotter"]'))
    said = _checked(daemon)
    assert "site print.example.org: sign-in without TLS" in said
    assert 'there is no account "plotter", which its devices sign in with' in said
    assert daemon.stop() == 0


def _checked(daemon: RunningDaemon) -> str:
    done = subprocess.run(
        (sys.executable, "-P", "-m", "pillarbox", "check", "--config", str(daemon.config)),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr
