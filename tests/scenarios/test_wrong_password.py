"""R5: a failed sign-in tells nothing about who exists, is counted, and leaves no password behind."""

import pytest
from tests.support.daemon import RunningDaemon
from tests.support.secrets import leaks
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario

GUESS = "a guess at the password"


def answer(daemon: RunningDaemon, user: str, password: str) -> str:
    """What a sign-in at the submissions port is answered."""
    with Talk(daemon.submissions, daemon.ca) as talk:
        talk.say("EHLO client.example.org")
        return talk.sign_in(user, password)


def test_unknown_wrong_and_disabled_get_one_answer(daemon: RunningDaemon, password: str) -> None:
    daemon.user("eve", password, ["eve@example.org"], disabled=True)
    answers = {
        answer(daemon, "ada", GUESS),
        answer(daemon, "nobody-here", GUESS),
        answer(daemon, "eve", password),
    }
    assert len(answers) == 1
    assert answers.pop().startswith("535 5.7.8 ")
    reasons = {line["reason"] for line in daemon.log() if line.get("event") == "signin.failed"}
    assert len(reasons) == 3, "the log tells them apart"


def test_no_password_reaches_the_log_right_or_wrong(daemon: RunningDaemon, password: str) -> None:
    answer(daemon, "ada", GUESS)
    assert answer(daemon, "ada", password).startswith("235")
    with Talk(daemon.submissions, daemon.ca) as talk:
        talk.say("EHLO client.example.org")
        talk.say(f"AUTH PLAIN {GUESS}")  # not base64 at all
        talk.say(f"NOOP {GUESS}")
    daemon.wait_for("signin.succeeded")
    assert daemon.stop() == 0
    written = daemon.log_path.read_bytes()
    assert b"signin.failed" in written
    for secret in (GUESS, password):
        assert leaks(written, secret, "ada") == []


def test_no_password_lies_in_any_file(daemon: RunningDaemon, password: str) -> None:
    assert answer(daemon, "ada", password).startswith("235")
    assert daemon.stop() == 0
    files = [path for path in daemon.data_dir.rglob("*") if path.is_file()]
    assert files
    assert [str(path) for path in files if leaks(path.read_bytes(), password, "ada")] == []
