"""App passwords with the whole server: made, used, seen, limited, demanded and revoked on the command line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario

OWN = "correct horse battery staple"


def started(tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, *site: str) -> RunningDaemon:
    daemon = start_daemon(
        tmp_path, authority, at_end=request.addfinalizer, site=('failed_sign_in_time = "50ms"', *site)
    )
    daemon.user("ada", OWN, ["ada@example.org", "info@example.org"])
    return daemon


def verb(daemon: RunningDaemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    """pillarbox user app-password ..."""
    command = (sys.executable, "-P", "-m", "pillarbox", "user", "app-password", *arguments)
    return subprocess.run(
        (*command, "--config", str(daemon.config)), capture_output=True, text=True, timeout=30, check=False
    )


def add(daemon: RunningDaemon, *arguments: str) -> dict[str, Any]:
    """{id, password}"""
    done = verb(daemon, "add", "ada", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def listed(daemon: RunningDaemon) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(verb(daemon, "list", "ada", "--json").stdout)
    return found


def connected(daemon: RunningDaemon) -> Talk:
    talk = Talk(daemon.submissions, daemon.ca)
    talk.say("EHLO client.example.org")
    return talk


def sign_in(daemon: RunningDaemon, password: str) -> str:
    """The reply."""
    with connected(daemon) as talk:
        return talk.sign_in("ada", password)


def test_one_is_shown_once_signs_in_and_is_seen_to_have_been_used(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest
) -> None:
    daemon = started(tmp_path, authority, request)
    done = verb(daemon, "add", "ada", "--label", "scanner, 2nd floor")
    assert done.returncode == 0
    password = done.stdout.strip()
    assert password.startswith("pbap-")
    (before,) = listed(daemon)
    assert (before["label"], before["used_at"]) == ("scanner, 2nd floor", None)
    assert sign_in(daemon, password).startswith("235 ")
    daemon.wait_for("signin.succeeded", login="ada")
    daemon.stop()
    daemon.start()
    (after,) = listed(daemon)
    assert after["used_from"] == "127.0.0.1"
    assert after["used_at"] >= before["created_at"]
    assert password not in verb(daemon, "list", "ada").stdout
    assert sign_in(daemon, OWN).startswith("235 "), "the own password goes on"
    assert password.replace("-", "") not in (text := daemon.log_path.read_text().replace("-", "")), text[-500:]


def test_a_revoked_one_ends_its_session_and_signs_nobody_in(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest
) -> None:
    daemon = started(tmp_path, authority, request)
    kept, lost = add(daemon, "--label", "kept"), add(daemon, "--label", "lost")
    with connected(daemon) as talk:
        assert talk.sign_in("ada", lost["password"]).startswith("235 ")
        assert verb(daemon, "revoke", "ada", lost["id"]).returncode == 0
        assert talk.say("NOOP").startswith("421 4.7.0 ")
    assert sign_in(daemon, lost["password"]).startswith("535 ")
    assert sign_in(daemon, kept["password"]).startswith("235 ")
    again = verb(daemon, "revoke", "ada", lost["id"])
    assert again.returncode == 1
    assert f"ada has no app password {lost['id']}" in again.stderr
    assert [each["label"] for each in listed(daemon)] == ["kept"]
    reasons = [event for event in daemon.log() if event["event"] == "signin.failed"]
    assert reasons[-1]["cause"] == "no app password of this login"


def test_one_is_good_from_its_network_and_for_its_addresses_alone(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest
) -> None:
    daemon = started(tmp_path, authority, request)
    elsewhere = add(daemon, "--label", "elsewhere", "--from", "192.0.2.0/24")
    assert sign_in(daemon, elsewhere["password"]).startswith("535 ")
    scanner = add(daemon, "--label", "here", "--from", "127.0.0.0/8", "--address", "info@example.org")
    with connected(daemon) as talk:
        assert talk.sign_in("ada", scanner["password"]).startswith("235 ")
        assert talk.say("MAIL FROM:<info@example.org>").startswith("250 ")
        talk.say("RSET")
        assert talk.say("MAIL FROM:<ada@example.org>").startswith("550 ")


def test_a_site_may_demand_them(tmp_path: Path, authority: Authority, request: pytest.FixtureRequest) -> None:
    daemon = started(tmp_path, authority, request, 'app_passwords = "required"')
    assert sign_in(daemon, OWN).startswith("535 ")
    assert sign_in(daemon, add(daemon, "--label", "phone")["password"]).startswith("235 ")


def test_and_a_site_may_be_without(tmp_path: Path, authority: Authority, request: pytest.FixtureRequest) -> None:
    daemon = started(tmp_path, authority, request, 'app_passwords = "off"')
    assert sign_in(daemon, add(daemon, "--label", "phone")["password"]).startswith("535 ")
    assert sign_in(daemon, OWN).startswith("235 ")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["add", "nobody", "--label", "x"], "nobody"),
        (["add", "ada", "--label", "x", "--expires", "soon"], "90d"),
        (["add", "ada", "--label", "x", "--from", "here"], "192.0.2.0/24"),
        (["add", "ada", "--label", "x", "--address", "here"], "not an address"),
        (["list", "nobody"], "nobody"),
    ],
)
def test_mistakes_are_told(shared_daemon: RunningDaemon, arguments: list[str], told: str) -> None:
    done = verb(shared_daemon, *arguments)
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert "Traceback" not in done.stderr
