"""Other people's programs use the extensions: what they ask for is kept, what they send in chunks arrives."""

import json
import re
import smtplib
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.clients import Mail, Target, sample_message, send_with_nodemailer
from tests.support.daemon import RunningDaemon, start_daemon

pytestmark = pytest.mark.interop

PASSWORD = "a pass%word with = and spaces"
RECIPIENT = "bob@elsewhere.example"
WAITING = "bob@nowhere.example"


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, request: pytest.FixtureRequest
) -> Iterator[RunningDaemon]:
    """A daemon with Ada's account; some mail goes into a maildir, and what is for others waits for a route."""
    folder = tmp_path_factory.mktemp("server")
    routes = f'[[route]]\nkind = "maildir"\npath = "{folder / "maildir"}"\ndomains = ["elsewhere.example"]\n'
    daemon = start_daemon(folder, authority, routes=routes, at_end=request.addfinalizer)
    daemon.user("ada", PASSWORD, ["ada@example.org"])
    yield daemon
    assert daemon.stop() == 0


@pytest.fixture
def smtp(server: RunningDaemon) -> Iterator[smtplib.SMTP]:
    """Python's client, signed in."""
    context = ssl.create_default_context(cafile=str(server.ca))
    with smtplib.SMTP_SSL("localhost", server.submissions, "client.example.org", context=context, timeout=30) as smtp:
        smtp.login("ada", PASSWORD)
        yield smtp


def test_what_nodemailer_asks_of_reports_is_kept(server: RunningDaemon, message_path: Path) -> None:
    target = Target("localhost", server.submissions, "tls", "ada", PASSWORD, server.ca)
    wish: dict[str, object] = {"id": "order 7+8", "return": "headers", "notify": ["success", "delay"]}
    sent = send_with_nodemailer(target, Mail("ada@example.org", (WAITING,), message_path), wish)
    assert sent.accepted, sent.output
    queue_id = sent.output.split()[-1]
    command = (sys.executable, "-P", "-m", "pillarbox", "queue", "show", queue_id, "--json")
    shown = subprocess.run((*command, "--config", str(server.config)), check=True, capture_output=True, timeout=60)
    kept = json.loads(shown.stdout)
    assert (kept["envid"], kept["ret"]) == ("order 7+8", "HDRS")
    assert kept["recipients"][0]["notify"] == ["SUCCESS", "DELAY"]


def test_smtplib_says_never_and_gets_nothing(server: RunningDaemon, smtp: smtplib.SMTP) -> None:
    before, seen = len(server.log()), set(server.delivered())
    assert smtp.has_extn("dsn")
    smtp.sendmail("ada@example.org", [RECIPIENT], sample_message(), ["RET=FULL", "ENVID=x"], ["NOTIFY=NEVER"])
    server.wait_for("delivery.delivered", after=before)
    assert len(set(server.delivered()) - seen) == 1


@pytest.mark.parametrize("size", [7, 1_000, 10_000_000], ids=lambda size: f"chunks of {size}")
def test_what_smtplib_sends_in_chunks_arrives_octet_by_octet(
    size: int, server: RunningDaemon, smtp: smtplib.SMTP
) -> None:
    content = sample_message()[-1_200:] if size == 7 else sample_message()
    if size == 7:
        content = b"From: ada@example.org\r\n\r\n" + content
    before, seen = len(server.log()), set(server.delivered())
    assert smtp.has_extn("chunking")
    assert smtp.mail("ada@example.org", ["BODY=8BITMIME"])[0] == 250
    assert smtp.rcpt(RECIPIENT)[0] == 250
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    # all of them in one go, as CHUNKING with PIPELINING allows, the last one empty
    smtp.send(b"".join(b"BDAT %d\r\n" % len(piece) + piece for piece in pieces) + b"BDAT 0 LAST\r\n")
    for _ in pieces:
        assert smtp.getreply()[0] == 250
    code, text = smtp.getreply()
    assert (code, re.match(rb"2\.\d\.\d ", text) is not None) == (250, True)
    server.wait_for("delivery.delivered", after=before)
    (arrived,) = set(server.delivered()) - seen
    assert arrived.endswith(b"\r\n" + content)
