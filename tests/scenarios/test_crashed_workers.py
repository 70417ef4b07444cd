"""A process that dies is started again; the others go on, and nobody is refused meanwhile for long."""

import os
import signal

import pytest
from tests.support.daemon import RunningDaemon
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario

CONTENT = b"From: ada@example.org\r\nSubject: s\r\n\r\ntext\r\n"


@pytest.mark.parametrize("role", ["submission", "delivery", "spool"])
def test_a_killed_process_comes_back_and_mail_flows(daemon: RunningDaemon, password: str, role: str) -> None:
    before = len(daemon.log())
    (pid,) = daemon.pids(role)
    os.kill(pid, signal.SIGKILL)
    daemon.wait_for("process.ended", after=before, of=role)
    daemon.wait_for("role.started", after=before, role=role, timeout=30)
    with Talk(daemon.submissions, daemon.ca) as talk:
        talk.say("EHLO client.example.org")
        # the link to a spool process that has just come back may need a moment
        answers = (talk.sign_in("ada", password) for _ in range(50))
        assert next(answer for answer in answers if answer[:1] != "4").startswith("235"), daemon.tail()
        assert talk.transaction(CONTENT).startswith("250"), daemon.tail()
    daemon.wait_for("delivery.delivered", after=before, timeout=60)
    assert daemon.stop() == 0


def test_a_session_outlives_the_spool_process(daemon: RunningDaemon, password: str) -> None:
    before = len(daemon.log())
    with Talk(daemon.submissions, daemon.ca) as talk:
        talk.say("EHLO client.example.org")
        assert talk.sign_in("ada", password).startswith("235")
        os.kill(daemon.pids("spool")[0], signal.SIGKILL)
        daemon.wait_for("process.ended", after=before, of="spool")
        answer = talk.transaction(CONTENT)
        assert answer[:3] in {"250", "451"}, "accepted, or a temporary refusal: never a broken session"
        daemon.wait_for("role.started", after=before, role="spool", timeout=30)
        for _ in range(200):
            if talk.transaction(CONTENT).startswith("250"):
                break
        else:
            pytest.fail(f"never accepted again\n{daemon.tail()}")
    daemon.wait_for("delivery.delivered", after=before, timeout=60)
    assert daemon.stop() == 0
