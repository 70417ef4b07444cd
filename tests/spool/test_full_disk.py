"""A really full disk (a small tmpfs in a mount namespace of its own), and the reserve above it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def unusable() -> str | None:
    """None, or why no file system can be mounted here."""
    if os.geteuid() != 0:
        return "mounting a small file system needs root"
    probe = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    )
    return None if probe.returncode == 0 else "mounting is forbidden here"


REASON = unusable()
pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")


def run(directory: Path, scenario: str) -> tuple[dict[str, Any], str]:
    """The scenario's facts, and its log."""
    program = [sys.executable, "-m", "tests.spool.full_disk", str(directory), scenario]
    made = subprocess.run(["unshare", "-m", *program], capture_output=True, check=False, cwd=ROOT, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    log, _, facts = made.stdout.partition("FACTS ")
    return json.loads(facts.splitlines()[0]), log


def test_below_the_reserve_mail_is_refused_and_delivery_goes_on(tmp_path: Path) -> None:
    facts, log = run(tmp_path, "below_reserve")
    assert facts["before"] is None
    assert facts["large before"] == "Full", "a message that would eat the reserve"
    assert facts["below"] == ["Full", "Full"]
    assert facts["large"] == "Full"
    assert "less than the reserve" in facts["reason"]
    assert facts["lent"] == 5
    assert facts["settled"] == ["ok"] * 5
    assert facts["after"] == [None, "ok", None]
    assert facts["files"] == []
    assert (log.count("spool.full"), log.count("spool.recovered")) == (1, 1), "once, not per message"


def test_at_zero_delivery_pauses_and_all_goes_on_without_a_restart(tmp_path: Path) -> None:
    facts, log = run(tmp_path, "at_zero")
    assert facts["error"] == "Full"
    assert "delivery pauses" in facts["reason"]
    assert facts["refused"] == "Full"
    assert facts["lent"] == 0, "what could not be settled is not sent"
    assert facts["settled"] in ("ok", "Unavailable")
    assert facts["still held"], "a settlement that failed can be repeated under its lease"
    assert facts.get("settled later", "ok") == "ok"
    assert facts["large"] == "Full"
    assert facts["commit later"] == "ok"
    assert facts["kept"], "exactly what was acknowledged"
    assert facts["kept after a restart"]
    assert facts["healthy"] is None
    assert log.count("spool.exhausted") == 1


def test_a_start_on_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    facts, _ = run(tmp_path, "restart_when_full")
    assert facts.get("lent while full", 0) == 0
    assert facts["lent"] == ["0100000000000000000000KEPT"]


def test_a_disk_that_ends_in_the_middle_of_a_large_content_costs_that_message_only(tmp_path: Path) -> None:
    facts, _ = run(tmp_path, "large")
    assert facts["refused"] == "Full"
    assert 1 <= facts["written before"] <= 5, "the disk took some of it"
    assert facts["parts"] == facts["parts later"] == [], "and gets its room back at once"
    assert (facts["fits"], facts["later"], facts["whole"]) == ("ok", "ok", True)
    assert facts["kept"] == ["020000000000000000000SMA11", "0300000000000000000000F1TS", "0400000000000000000001ATER"]
