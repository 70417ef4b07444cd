"""SIGTERM: the transaction in hand is finished, then everything ends; idle sessions are told 421."""

import signal

import pytest
from tests.support.daemon import RunningDaemon
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario


def test_a_transaction_in_hand_is_finished_and_kept(daemon: RunningDaemon, password: str) -> None:
    before = len(daemon.log())
    with Talk(daemon.submissions, daemon.ca) as busy, Talk(daemon.submissions, daemon.ca) as idle:
        for talk in (busy, idle):
            talk.say("EHLO client.example.org")
            assert talk.sign_in("ada", password).startswith("235")
        assert busy.say("MAIL FROM:<ada@example.org>").startswith("250")
        assert busy.say("RCPT TO:<bob@elsewhere.example>").startswith("250")
        assert busy.say("DATA").startswith("354")
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_for("role.draining", after=before, role="submission")
        assert idle.reply().startswith("421 4.3.2 ")
        assert idle.at_end()
        busy.send(b"From: ada@example.org\r\n\r\ntext\r\n.\r\n")
        assert busy.reply().startswith("250 2.0.0 ")
        assert busy.say("NOOP").startswith("421 4.3.2 ")
    assert daemon.process.wait(30) == 0
    daemon.start()
    daemon.wait_for("delivery.delivered")
    assert len(daemon.delivered()) == 1
    assert daemon.stop() == 0
