"""The units of contrib/systemd: what systemd itself says of them, and what they promise."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pillarbox.daemon.paths import ROLE_USERS

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


def test_submission_may_write_into_the_drop_directory_which_only_the_spool_shares() -> None:
    incoming = "/var/lib/pillarbox/spool/incoming"
    lines = [line.split() for line in (UNITS / "pillarbox.tmpfiles").read_text().splitlines()]
    modes = {line[1]: (line[2], line[3], line[4]) for line in lines if line[0] == "d"}
    assert modes[incoming] == ("2730", "pillarbox-spool", "pillarbox-incoming")
    assert modes["/var/lib/pillarbox/spool"] == ("0710", "pillarbox-spool", "pillarbox-incoming")
    assert modes["/var/lib/pillarbox"] == ("0710", "pillarbox-spool", "pillarbox")
    services = {role: section(UNITS / f"pillarbox-{role}.service", "Service") for role in ROLE_USERS}
    assert services["spool"]["StateDirectoryMode"] == ["0710"], "the same, or each start would undo it"
    assert services["submission"]["ReadWritePaths"] == [incoming], "and nothing else"
    groups = {role: " ".join(each.get("SupplementaryGroups", [])).split() for role, each in services.items()}
    assert {role for role, each in groups.items() if "pillarbox-incoming" in each} == {"spool", "submission"}
    assert "pillarbox-submission" not in groups["spool"], "the spool cannot read the certificates' keys"
    members = re.findall(r"^m\s+(\S+)\s+pillarbox-incoming$", (UNITS / "pillarbox.sysusers").read_text(), re.M)
    assert members == ["pillarbox-spool", "pillarbox-submission"]


@pytest.mark.skipif(shutil.which("systemd-tmpfiles") is None or os.geteuid() != 0, reason="needs systemd and root")
def test_systemd_makes_the_drop_directory_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for program, argument, file in (
        ("systemd-sysusers", (), "pillarbox.sysusers"),
        ("systemd-tmpfiles", ("--create",), "pillarbox.tmpfiles"),
    ):
        command = (program, *argument, f"--root={tmp_path}", str(UNITS / file))
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    made = (tmp_path / "var/lib/pillarbox/spool/incoming").stat()
    group = re.search(r"^pillarbox-incoming:[^:]*:(\d+):", (tmp_path / "etc/group").read_text(), re.M)
    assert group is not None
    assert (made.st_mode & 0o7777, made.st_gid) == (0o2730, int(group[1]))


def test_who_gets_certificates_is_the_user_who_shows_them_but_has_an_account_of_its_own() -> None:
    """A key has one owner; what the internet talks to cannot reach the account with the authority."""
    there = "/var/lib/pillarbox/certificates"
    service = section(UNITS / "pillarbox-certificates.service", "Service")
    assert service["User"] == [ROLE_USERS["certificates"]] == ["pillarbox-submission"]
    assert service["ExecStart"] == [f"{PROGRAM} serve --role certificates --config /etc/pillarbox/pillarbox.toml"]
    assert service["ReadWritePaths"] == [there]
    assert "SupplementaryGroups" not in service, "no mail, no other keys"
    lines = [line.split() for line in (UNITS / "pillarbox.tmpfiles").read_text().splitlines()]
    assert [line[2:5] for line in lines if line[:2] == ["d", there]] == [
        ["0700", "pillarbox-submission", "pillarbox"]
    ]
    assert section(UNITS / "pillarbox-submission.service", "Service")["InaccessiblePaths"] == [f"-{there}/account"]
    listen = section(UNITS / "pillarbox-certificates.socket", "Socket")["ListenStream"]
    assert listen == ["0.0.0.0:80", "[::]:80"]


def test_the_socket_unit_has_no_port_but_those_of_submission() -> None:
    listen = section(UNITS / "pillarbox-submission.socket", "Socket")["ListenStream"]
    assert {value.rpartition(":")[2] for value in listen} == {"587", "465"}


def test_the_daemon_works_where_memory_is_never_writable_and_executable() -> None:
    """MemoryDenyWriteExecute, by the kernel's own means (Linux 6.3): every module of every role loads under it."""
    program = """
import ctypes, sys
if ctypes.CDLL(None, use_errno=True).prctl(65, 1, 0, 0, 0) != 0:
    sys.exit(77)
from pillarbox.daemon import entry, offline, spool_role, submission_role, delivery_role, certificates_role
from pillarbox.certificates import authority
import argon2, uvloop
assert argon2.PasswordHasher(time_cost=1, memory_cost=1024).hash("x")
async def main(): return 5
assert uvloop.run(main()) == 5
"""
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, timeout=60)
    if done.returncode == 77:
        pytest.skip("the kernel has no PR_SET_MDWE")
    assert (done.returncode, done.stderr) == (0, "")
