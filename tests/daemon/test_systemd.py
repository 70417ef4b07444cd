"""The units of contrib/systemd: what systemd itself says of them, and what they promise."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "contrib" / "systemd"
SERVICES = sorted(path for path in UNITS.rglob("*.service"))
PROGRAM = "/opt/pillarbox/bin/pillarbox"


def section(path: Path, name: str) -> dict[str, list[str]]:
    """One section of a unit: key to values in order."""
    values: dict[str, list[str]] = {}
    found = re.search(rf"^\[{name}\]\n(.*?)(?=^\[|\Z)", path.read_text(), re.M | re.S)
    for line in (found[1] if found else "").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            values.setdefault(key, []).append(value)
    return values


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_nothing_to_complain_about(tmp_path: Path) -> None:
    for folder in ("", "tree"):
        there = tmp_path / (folder or "roles")
        there.mkdir()
        for path in (UNITS / folder).glob("*.*"):
            if path.suffix in (".service", ".socket", ".target"):
                (there / path.name).write_text(path.read_text().replace(PROGRAM, "/bin/true"))
        units = sorted(str(path) for path in there.iterdir())
        done = subprocess.run(
            ("systemd-analyze", "verify", "--man=no", *units), capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, ""), folder


def test_every_role_has_its_unit_and_its_user() -> None:
    sysusers = (UNITS / "pillarbox.sysusers").read_text()
    for role in ("control", "spool", "submission", "delivery"):
        service = section(UNITS / f"pillarbox-{role}.service", "Service")
        assert service["User"] == [f"pillarbox-{role}"]
        assert service["ExecStart"] == [f"{PROGRAM} serve --role {role} --config /etc/pillarbox/pillarbox.toml"]
        assert re.search(rf"^u\s+pillarbox-{role}\s", sysusers, re.M)


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_every_unit_is_sandboxed_watched_and_restarted(path: Path) -> None:
    service = section(path, "Service")
    wanted = {
        "Type": "notify",
        "Restart": "on-failure",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateDevices": "yes",
        "MemoryDenyWriteExecute": "yes",
        "RestrictNamespaces": "yes",
        "SystemCallArchitectures": "native",
    }
    assert {key: service[key][0] for key in wanted} == wanted
    assert service["SystemCallFilter"][:2] == ["@system-service", "~@privileged"]
    assert "WatchdogSec" in service and "root" not in service["User"]


def test_submission_can_open_no_socket_to_the_network() -> None:
    service = section(UNITS / "pillarbox-submission.service", "Service")
    assert service["RestrictAddressFamilies"] == ["AF_UNIX"]
    assert service["CapabilityBoundingSet"] == [""]


def test_the_socket_unit_has_no_port_but_those_of_submission() -> None:
    listen = section(UNITS / "pillarbox-submission.socket", "Socket")["ListenStream"]
    assert {value.rpartition(":")[2] for value in listen} == {"587", "465"}


def test_the_daemon_works_where_memory_is_never_writable_and_executable() -> None:
    """MemoryDenyWriteExecute, by the kernel's own means (Linux 6.3): every module of every role loads under it."""
    program = """
import ctypes, sys
if ctypes.CDLL(None, use_errno=True).prctl(65, 1, 0, 0, 0) != 0:
    sys.exit(77)
from pillarbox.daemon import entry, offline, spool_role, submission_role, delivery_role
import argon2, uvloop
assert argon2.PasswordHasher(time_cost=1, memory_cost=1024).hash("x")
async def main(): return 5
assert uvloop.run(main()) == 5
"""
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, timeout=60)
    if done.returncode == 77:
        pytest.skip("the kernel has no PR_SET_MDWE")
    assert (done.returncode, done.stderr) == (0, "")
