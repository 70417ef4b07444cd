"""Guessing from one address ends in a refusal at connect, by every worker, over a restart, until it is lifted."""

from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario

PASSWORD = "correct horse battery staple"
GUESSER, OFFICE = "127.0.0.7", "127.0.0.8"
GUARD = """
[guard]
free_failures = 1
block_failures = 3
max_delay = "1s"
"""


@pytest.fixture
def guarded(tmp_path: Path, authority: Authority, request: pytest.FixtureRequest) -> RunningDaemon:
    daemon = start_daemon(
        tmp_path,
        authority,
        at_end=request.addfinalizer,
        server=("submission_workers = 2",),
        site=('failed_sign_in_time = "50ms"',),
        extra=GUARD,
    )
    daemon.user("ada", PASSWORD, ["ada@example.org"])
    return daemon


def sign_in(daemon: RunningDaemon, source: str, password: str) -> str:
    """What a new connection gets: the refusal at connect, or the reply to its sign-in."""
    with Talk(daemon.submission, source=source) as talk:
        if not talk.greeting.startswith("220"):
            return talk.greeting
        talk.start_tls(daemon.ca)
        return talk.sign_in("ada", password)


def test_a_guesser_is_refused_and_an_office_with_a_good_history_is_not(guarded: RunningDaemon) -> None:
    daemon = guarded
    assert sign_in(daemon, OFFICE, PASSWORD).startswith("235 ")
    for number in range(3):
        assert sign_in(daemon, GUESSER, f"guess {number}").startswith("535 5.7.8 ")
        assert sign_in(daemon, OFFICE, f"typing error {number}").startswith("535 5.7.8 ")
    blocked = daemon.wait_for("guard.blocked")
    assert blocked["prefix"] == f"{GUESSER}/32"
    for _ in range(8):  # whichever worker it is
        assert sign_in(daemon, GUESSER, PASSWORD).startswith("421 Too many failed ")
    assert sign_in(daemon, OFFICE, PASSWORD).startswith("235 ")
    assert daemon.stop() == 0
    daemon.start()
    assert sign_in(daemon, GUESSER, PASSWORD).startswith("421 Too many failed "), "the count outlives a restart"
    assert sign_in(daemon, OFFICE, PASSWORD).startswith("235 ")
    daemon.ask("guard.unblock", {"prefix": blocked["prefix"]})
    assert sign_in(daemon, GUESSER, PASSWORD).startswith("235 ")
    assert daemon.stop() == 0


def test_one_typing_error_repeated_by_a_mail_program_counts_once(guarded: RunningDaemon) -> None:
    daemon = guarded
    for _ in range(5):
        assert sign_in(daemon, GUESSER, "typing error").startswith("535 5.7.8 ")
    assert sign_in(daemon, GUESSER, PASSWORD).startswith("235 ")
    assert daemon.stop() == 0
