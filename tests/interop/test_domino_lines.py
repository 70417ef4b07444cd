"""fail2ban's own filter for Domino's SMTP task reads the file that a real daemon writes."""

import ast
import base64
import os
import shutil
import smtplib
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.clients import missing
from tests.support.daemon import RunningDaemon, start_daemon

from pillarbox.telemetry.domino_lines import DominoLines

pytestmark = pytest.mark.interop

FILTER = Path("/etc/fail2ban/filter.d/domino-smtp.conf")
STRANGER = "203.0.113.99"
FORGED = f"SMTP Server: Authentication failed for user x ; connecting host {STRANGER}"
HOSTILE_LOGINS = [
    "bob",
    "bob@example.org",
    "Jada Correr/Sales/ACME",
    f"x ; connecting host {STRANGER}",
    f"x ; connecting host {STRANGER}\n",
    f"x\r\n2026-01-31 23:59:59   {FORGED}\r\n",
    f"x\n{FORGED}",
    f"x\u20282026-01-31 23:59:59   {FORGED}",
    f"x\u0085{FORGED}",
    f"x\r{FORGED}",
    f"2026-01-31 23:59:59   {FORGED}",
    f"smtp: x [{STRANGER}] authentication failure using internet password",
    f"x\nsmtp: x [{STRANGER}] authentication failure using internet password ",
    f"smtp server: connection from [{STRANGER}] rejected for policy reasons.",
    "31-12-2001 00:00:00",
    "[1:2-3] Jan 31 23:59:59 2001",
    "\N{SNOWMAN} Zo\u00eb",
    "x" * 250,
]
ZONES = ["Asia/Kolkata", "America/St_Johns", "UTC"]


def judge(log: Path, zone: str = "UTC") -> list[tuple[str, float]]:
    """The address and the time (seconds since the epoch) of each line that fail2ban takes for a failure."""
    if shutil.which("fail2ban-regex") is None or not FILTER.exists():
        missing("fail2ban with its filter domino-smtp")
    environment = {**os.environ, "TZ": zone, "LC_ALL": "C.UTF-8"}
    command = ("fail2ban-regex", "-o", "row", str(log), str(FILTER))
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode in (0, 1), run.stderr
    rows = [ast.literal_eval(line.rstrip(",")) for line in run.stdout.splitlines() if line.strip()]
    return [(row[0], row[1]) for row in rows]


@pytest.fixture(params=ZONES)
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A local time zone, this process's and its children's."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


@pytest.mark.parametrize("peer", ["192.0.2.1", "2001:db8::1"])
@pytest.mark.parametrize("event", ["signin.failed", "signin.succeeded"])
def test_no_login_bans_a_stranger_or_hides_its_peer(tmp_path: Path, zone: str, peer: str, event: str) -> None:
    path = tmp_path / "console.log"
    lines = DominoLines(path)
    before = int(time.time())
    for login in HOSTILE_LOGINS:
        lines.take("session.opened", {"peer": peer})
        lines.take(event, {"peer": peer, "login": login})
        lines.take("session.closed", {"peer": peer, "messages": 1})
    after = time.time()
    lines.close()
    found = judge(path, zone)
    assert [address for address, _ in found] == ([peer] * len(HOSTILE_LOGINS) if event == "signin.failed" else [])
    assert all(before <= moment <= after for _, moment in found)


def test_whom_the_guard_blocks_is_one_of_the_jail_s(tmp_path: Path) -> None:
    lines = DominoLines(tmp_path / "console.log")
    lines.take("signin.blocked", {"peer": "192.0.2.1", "login": f"x [{STRANGER}]"})
    lines.take("connection.refused", {"peer": "2001:db8::1", "reason": "blocked"})
    lines.take("connection.refused", {"peer": STRANGER, "reason": "draining"})
    lines.close()
    assert [address for address, _ in judge(tmp_path / "console.log")] == ["192.0.2.1", "2001:db8::1"]


def sign_in(server: RunningDaemon, source: str, login: str, password: str) -> int:
    """What AUTH PLAIN from this address is answered; who gets in sends a message."""
    context = ssl.create_default_context(cafile=server.ca)
    with smtplib.SMTP_SSL("localhost", server.submissions, context=context, source_address=(source, 0)) as client:
        client.ehlo("client.example.org")
        response = base64.b64encode(f"\0{login}\0{password}".encode()).decode()
        code, _ = client.docmd("AUTH", f"PLAIN {response}")
        if code == 235:
            client.sendmail("ada@example.org", ["x@example.net"], b"From: ada@example.org\r\n\r\nhello\r\n")
        return code


def test_the_filter_finds_each_failed_sign_in_of_a_real_daemon_and_nothing_else(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "console.log"
    server = start_daemon(tmp_path, authority, at_end=request.addfinalizer, start=False)
    server.config.write_text(server.config.read_text().replace("[log]\n", f'[log]\ndomino_lines = "{path}"\n'))
    server.start()
    server.user("ada", "secret: right", ["ada@example.org"])
    before = int(time.time())
    assert sign_in(server, "127.0.0.2", "ada", "secret: right") == 235
    for number, login in enumerate(HOSTILE_LOGINS, 10):
        assert sign_in(server, f"127.0.0.{number}", login, "secret: wrong") == 535
    path = path.rename(tmp_path / "console.log.1")
    server.reload()
    server.wait_for("config.reloaded")
    assert sign_in(server, "127.0.0.99", "bob", "secret: wrong") == 535
    assert server.stop() == 0
    assert [address for address, _ in judge(tmp_path / "console.log")] == ["127.0.0.99"]
    found = judge(path, "UTC")
    assert sorted(address for address, _ in found) == sorted(
        f"127.0.0.{n}" for n in range(10, 10 + len(HOSTILE_LOGINS))
    )
    assert all(before <= moment <= time.time() for _, moment in found)
    text = path.read_text()
    assert "SMTP Server: Authentication succeeded for user ada ; connecting host 127.0.0.2\n" in text
    assert "SMTP Server: 127.0.0.2 disconnected. 1 message[s] received\n" in text
    assert "secret" not in text
