"""What a sender asks for by parameters, content by BDAT: kept through a restart, shown by the queue, sent early."""

import json
import subprocess
import sys
import time
from typing import Any

import pytest
from tests.support.daemon import RunningDaemon
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario

CONTENT = b"From: ada@example.org\r\nSubject: asked for\r\n\r\ntext\r\n"


def queue(daemon: RunningDaemon, *words: str) -> str:
    """`pillarbox queue ...`; its output."""
    command = (sys.executable, "-P", "-m", "pillarbox", "queue", *words, "--config", str(daemon.config))
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def submit(daemon: RunningDaemon, password: str, *commands: str, chunks: tuple[bytes, ...]) -> str:
    """Ada's commands and then her content by BDAT; returns the queue id."""
    with Talk(daemon.submissions, daemon.ca) as talk:
        talk.say("EHLO client.example.org")
        assert talk.sign_in("ada", password).startswith("235")
        for command in commands:
            assert talk.say(command).startswith("250"), command
        for chunk in chunks:
            talk.send(b"BDAT %d\r\n" % len(chunk) + chunk)
            assert talk.reply() == f"250 2.0.0 {len(chunk)} octets received"
        answer = talk.say("BDAT 0 LAST")
    assert answer.startswith("250 2.0.0 Ok: queued as "), answer
    return answer.rpartition(" ")[2]


def test_what_was_asked_for_is_in_the_queue_after_a_restart_and_can_be_sent_early(
    daemon: RunningDaemon, password: str
) -> None:
    before = time.time()
    queue_id = submit(
        daemon,
        password,
        "MAIL FROM:<ada@example.org> RET=HDRS ENVID=QQ+2B1 HOLDFOR=3600 BY=7200;N MT-PRIORITY=-2 BODY=8BITMIME",
        "RCPT TO:<b@example.net> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;bob@example.org",
        "RCPT TO:<c@example.net> NOTIFY=NEVER",
        "RCPT TO:<d@example.net>",
        chunks=(CONTENT[:10], CONTENT[10:]),
    )
    assert daemon.stop() == 0
    daemon.start()
    shown: dict[str, Any] = json.loads(queue(daemon, "show", queue_id, "--json"))
    assert before + 3600 <= shown["hold_until"] <= time.time() + 3600
    assert shown["deliver_by"] == shown["hold_until"] + 3600
    assert (shown["deliver_by_mode"], shown["priority"]) == ("N", -2)
    assert (shown["ret"], shown["envid"]) == ("HDRS", "QQ+1")
    assert (shown["require_tls"], shown["tls_optional"], shown["binary"]) == (False, False, False)
    assert [(each["notify"], each["orcpt"]) for each in shown["recipients"]] == [
        (["SUCCESS", "DELAY"], "rfc822;bob@example.org"),
        (["NEVER"], None),
        (None, None),
    ]
    assert daemon.delivered() == []
    queue(daemon, "retry", queue_id, "--early")
    daemon.wait_for("delivery.delivered", queue_id=queue_id)
    report_id = daemon.wait_for("report.made", queue_id=queue_id)["report"]
    daemon.wait_for("delivery.delivered", queue_id=report_id)
    assert daemon.stop() == 0
    reports = [message for message in daemon.delivered() if b"multipart/report" in message]
    assert all(CONTENT in message for message in daemon.delivered() if message not in reports)
    (report,) = reports  # who asked for nothing, or for none, is not in it
    assert b"Original-Envelope-Id: QQ+1\r\n" in report
    assert b"Original-Recipient: rfc822; bob@example.org\r\nFinal-Recipient: rfc822; b@example.net\r\n" in report
    assert b"Action: delivered\r\n" in report
    assert b"c@example.net" not in report and b"d@example.net" not in report


def test_a_held_message_can_be_cancelled(daemon: RunningDaemon, password: str) -> None:
    queue_id = submit(
        daemon,
        password,
        "MAIL FROM:<ada@example.org> HOLDFOR=3600",
        "RCPT TO:<b@example.net>",
        chunks=(CONTENT,),
    )
    queue(daemon, "delete", queue_id, "--silent")
    assert json.loads(queue(daemon, "list", "--json")) == []
    assert daemon.stop() == 0
    assert daemon.delivered() == []
