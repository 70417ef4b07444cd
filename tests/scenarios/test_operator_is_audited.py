"""What an operator changes is told with the operator's uid; what an operator only looks at is not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario

NOWHERE = '[[route]]\nhost = "127.0.0.1"\nport = 9\ntls = "none"\n'
CONTENT = b"From: ada@example.org\r\nSubject: waits\r\n\r\ntext\r\n"


def pillarbox(daemon: RunningDaemon, *arguments: str) -> str:
    """One command of the real program; it must succeed."""
    command = (sys.executable, "-P", "-m", "pillarbox", *arguments, "--config", str(daemon.config))
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_hold_release_delete_and_account_changes_are_told_with_the_uid(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, password: str
) -> None:
    daemon = start_daemon(
        tmp_path, authority, at_end=request.addfinalizer, routes=NOWHERE, extra='[delivery]\nretry = ["1h"]\n'
    )
    daemon.user("ada", password, ["ada@example.org"])
    with Talk(daemon.submissions, daemon.ca) as talk:
        talk.say("EHLO client.example.org")
        assert talk.sign_in("ada", password).startswith("235")
        assert talk.transaction(CONTENT, "ada@example.org", "bob@elsewhere.example").startswith("250")
    queue_id = daemon.wait_for("delivery.deferred")["queue_id"]
    (listed,) = json.loads(pillarbox(daemon, "queue", "list", "--json"))
    assert queue_id in json.dumps(listed)
    for verb in ("hold", "release", "retry"):
        pillarbox(daemon, "queue", verb, queue_id)
        line = daemon.wait_for("queue.changed", verb=verb)
        assert (line["uid"], line["queue_ids"], line["count"]) == (os.geteuid(), [queue_id], 1)
    pillarbox(daemon, "queue", "hold", queue_id)
    pillarbox(daemon, "queue", "delete", queue_id, "--silent")
    line = daemon.wait_for("queue.deleted")
    assert (line["uid"], line["queue_id"], line["sender_told"]) == (os.geteuid(), queue_id, "silent")
    pillarbox(daemon, "user", "disable", "ada")
    line = daemon.wait_for("account.administered", verb="disable")
    assert (line["uid"], line["login"]) == (os.geteuid(), "ada")
    pillarbox(daemon, "user", "change", "ada", "--alias", "Ada L/Sales")
    line = daemon.wait_for("account.administered", verb="alias")
    assert (line["uid"], line["login"]) == (os.geteuid(), "ada")
    told = [line["event"] for line in daemon.log() if line["event"].startswith("queue.")]
    assert told == ["queue.changed"] * 4 + ["queue.deleted"]
    assert daemon.stop() == 0
