"""Commands against the running daemon, whose certificate and log are real."""

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon


@pytest.fixture
def daemon(tmp_path: Path, authority: Authority, request: pytest.FixtureRequest) -> RunningDaemon:
    return start_daemon(
        tmp_path, authority, at_end=request.addfinalizer, extra='[delivery]\nhost = "x.example.org"\n'
    )


def test_status_check_users_and_reload_of_a_running_daemon(run: Run, daemon: RunningDaemon) -> None:
    config = ("-c", daemon.config)
    status = run("status", "--json", *config)
    assert status.code == 0, status.err
    found = json.loads(status.out)
    assert found["ready"] is True
    assert found["queue"]["messages"] == 0
    assert {process["role"] for process in found["processes"]} == {"spool", "submission", "delivery"}
    for words in ("state          ready", "queue          0 messages", "submission"):
        assert words in run("status", *config).out
    checked = run("check", *config)
    assert checked.code == 0, checked.out
    assert "it runs, so its ports were not tried" in checked.out
    added = run("user", "add", "ada@example.org", "--password-stdin", *config, stdin="correct horse\n")
    assert added.code == 0, added.err
    assert daemon.ask("user.show", {"login": "ada@example.org"})["login"] == "ada@example.org"
    assert run("reload", *config).err == "reloaded: 3 processes have the new configuration\n"


def test_a_bad_new_configuration_is_refused_whole_with_its_lines(run: Run, daemon: RunningDaemon) -> None:
    good = daemon.config.read_text()
    daemon.config.write_text(good + "colour = 1\n")
    refused = run("reload", "-c", daemon.config)
    assert refused.code == 1
    assert "colour: unknown key in [delivery]" in refused.err
    daemon.config.write_text(good)
    assert run("reload", "-c", daemon.config).code == 0


def test_check_beside_a_running_daemon_notes_what_needs_a_restart(run: Run, daemon: RunningDaemon) -> None:
    good = daemon.config.read_text()
    certificate = next(line for line in good.splitlines() if line.startswith("certificate"))
    key = next(line for line in good.splitlines() if line.startswith("key"))
    second = f'[[site]]\nname = "print.example.org"\nsubmission = ["127.0.0.1:2525"]\n{certificate}\n{key}\n'
    daemon.config.write_text(good + second)
    line = 'site "print.example.org": 127.0.0.1:2525 (submission) is new; it needs a restart: systemctl restart'
    checked = run("check", "-c", daemon.config)
    assert (checked.code, line in checked.out) == (0, True), checked.out
    refused = run("reload", "-c", daemon.config)
    assert (refused.code, line in refused.err) == (1, True), refused.err
    elsewhere = daemon.config.with_name("other.toml")
    elsewhere.write_text(daemon.config.read_text())
    assert line not in run("check", "-c", elsewhere).out
