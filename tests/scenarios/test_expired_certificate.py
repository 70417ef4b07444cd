"""An expired certificate: `serve` warns and serves (the mail of those who accept it flows), `check` fails."""

import datetime
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.support.certs import Authority
from tests.support.daemon import SITE, RunningDaemon, start_daemon

pytestmark = pytest.mark.scenario


def _until_reported(daemon: RunningDaemon) -> dict[str, Any]:
    """What `status --json` says of the site's certificate, once it says so: roles report each second."""
    command = (sys.executable, "-P", "-m", "pillarbox", "status", "--json", "--config", str(daemon.config))
    deadline = time.monotonic() + 60
    while True:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        for process in json.loads(done.stdout)["processes"]:
            if process.get("certificates"):
                found: dict[str, Any] = process["certificates"][SITE]
                return found
        assert time.monotonic() < deadline, done.stdout


def test_serve_warns_and_check_fails(tmp_path: Path, authority: Authority, request: pytest.FixtureRequest) -> None:
    daemon = start_daemon(tmp_path, authority, at_end=request.addfinalizer, start=False)
    old = authority.issue(SITE, not_before=-datetime.timedelta(days=30), not_after=-datetime.timedelta(hours=1))
    text = daemon.config.read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("certificate =", "key ="))]
    at = next(number for number, line in enumerate(lines) if line.startswith("[[site]]")) + 1
    lines[at:at] = [f'certificate = "{old.certificate}"', f'key = "{old.key}"']
    daemon.config.write_text("\n".join(lines))
    daemon.start()
    line = daemon.wait_for("certificate.doubtful")
    assert line["site"] == SITE
    assert "expired" in line["reason"]
    command = (sys.executable, "-P", "-m", "pillarbox", "check", "--config", str(daemon.config))
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 1
    assert "expired" in checked.stdout + checked.stderr
    shown = _until_reported(daemon)
    assert shown["until"] < time.time()
    assert "expired on" in shown["doubts"][0]
    status = subprocess.run(
        (*command[:4], "status", "--config", str(daemon.config)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told = status.stdout.splitlines()
    (at,) = [number for number, text in enumerate(told) if text.startswith(f"certificate    {SITE}: until ")]
    assert "expired on" in told[at + 1]
    assert daemon.stop() == 0
