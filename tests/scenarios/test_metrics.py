"""One endpoint has the figures of all processes, under the names that dashboards and alarms rely on."""

import re
import time
import urllib.request

import pytest
from tests.support.daemon import RunningDaemon
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario

CONTENT = b"From: ada@example.org\r\nSubject: s\r\n\r\ntext\r\n"
_SAMPLE = re.compile(r"^(pillarbox_\w+(?:\{[^}]*\})?) (\S+)$", re.M)

WANTED = {
    'pillarbox_sessions_total{listener="submissions"}': 1,
    'pillarbox_sign_ins_total{mechanism="PLAIN",result="failed"}': 1,
    'pillarbox_sign_ins_total{mechanism="PLAIN",result="ok"}': 1,
    'pillarbox_messages_accepted_total{site="mail.example.org"}': 1,
    'pillarbox_replies_refused_total{code="535"}': 1,
    'pillarbox_replies_refused_total{code="550"}': 1,
    'pillarbox_deliveries_total{outcome="delivered"}': 1,
    "pillarbox_commit_seconds_count": 1,
    "pillarbox_accept_seconds_count": 1,
    "pillarbox_spool_messages": 0,
    "pillarbox_spool_oldest_seconds": 0,
    'pillarbox_spool_recipients{state="due"}': 0,
    'pillarbox_processes{role="submission"}': 1,
}


def samples(daemon: RunningDaemon) -> dict[str, float]:
    """Every sample that the endpoint shows."""
    with urllib.request.urlopen(f"http://127.0.0.1:{daemon.metrics}/metrics", timeout=20) as page:
        return {name: float(value) for name, value in _SAMPLE.findall(page.read().decode())}


def test_the_figures_of_one_message_and_one_wrong_password(daemon: RunningDaemon, password: str) -> None:
    with Talk(daemon.submissions, daemon.ca) as talk:
        talk.say("EHLO client.example.org")
        assert talk.sign_in("ada", "wrong").startswith("535")
        assert talk.sign_in("ada", password).startswith("235")
        assert talk.say("MAIL FROM:<eve@example.org>").startswith("550")
        assert talk.transaction(CONTENT).startswith("250")
        talk.say("QUIT")
    daemon.wait_for("delivery.delivered")
    deadline = time.monotonic() + 20  # each process reports once a second
    while (found := {name: samples(daemon).get(name) for name in WANTED}) != WANTED:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    assert daemon.stop() == 0
