"""A change of an account holds at once: in every worker, for open sessions and for what a cache remembers."""

from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario

OLD, NEW = "correct horse battery staple", "another horse"


@pytest.fixture
def two_workers(tmp_path: Path, authority: Authority, request: pytest.FixtureRequest) -> RunningDaemon:
    daemon = start_daemon(
        tmp_path,
        authority,
        at_end=request.addfinalizer,
        server=("submission_workers = 2",),
        site=('failed_sign_in_time = "50ms"',),
    )
    daemon.user("ada", OLD, ["ada@example.org"])
    return daemon


def signed_in_at_both(daemon: RunningDaemon) -> list[Talk]:
    """Sessions of ada's, until there is one at each worker."""
    talks: list[Talk] = []
    while {session["worker"] for session in daemon.ask("sessions")} != {0, 1}:
        assert len(talks) < 50, "one worker gets no connection"
        talk = Talk(daemon.submissions, daemon.ca)
        talk.say("EHLO client.example.org")
        assert talk.sign_in("ada", OLD).startswith("235")
        talks.append(talk)
    return talks


def sign_in(daemon: RunningDaemon, password: str) -> str:
    """The reply to a new sign-in."""
    with Talk(daemon.submissions, daemon.ca) as talk:
        talk.say("EHLO client.example.org")
        return talk.sign_in("ada", password)


@pytest.mark.parametrize("verb", ["user.password", "user.disable", "user.remove"])
def test_it_ends_the_persons_sessions_in_every_worker_and_the_old_password_is_wrong(
    two_workers: RunningDaemon, verb: str
) -> None:
    daemon = two_workers
    talks = signed_in_at_both(daemon)
    daemon.ask(verb, {"login": "ada", **({"password": NEW} if verb == "user.password" else {})})
    for talk in talks:
        assert talk.say("NOOP").startswith("421 4.7.0 ")
        assert talk.at_end()
        talk.reset()
        assert sign_in(daemon, OLD).startswith("535 "), "although it was verified a moment ago"
    if verb == "user.password":
        assert sign_in(daemon, NEW).startswith("235 ")
    assert daemon.stop() == 0
