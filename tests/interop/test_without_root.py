"""R7: no root at run time. As nobody all first steps hold; started by root, no process stays root.

Runs with the system's own Python, from folders that everybody can read (`tests/interop/install` makes them).
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.clients import missing
from tests.support.daemon import start_daemon

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parent.parent.parent
PYTHON = Path("/var/tmp/pillarbox-interop/venv/bin/python")
NOBODY = ("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder with the sources and tools that everybody can read, and one that is nobody's own: ``own``."""
    if os.geteuid() != 0 or not PYTHON.exists():
        missing("needs root and the interpreter that `make interop` makes for other users")
    folder = Path(tempfile.mkdtemp(prefix="open-"))
    folder.chmod(0o755)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src" / "pillarbox", folder / "src" / "pillarbox", ignore=ignored)
    shutil.copy(ROOT / "tools" / "first_steps.py", folder)
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(PYTHON)
    script = folder / "bin" / "pillarbox"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={folder}/src exec {PYTHON} -P -m pillarbox "$@"\n')
    script.chmod(0o755)
    (folder / "own").mkdir()
    shutil.chown(folder / "own", "nobody", "nogroup")
    yield folder
    shutil.rmtree(folder)


def test_as_nobody_all_first_steps_hold(open_folder: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(open_folder / "own"), "LC_ALL": "C.UTF-8"}
    command = (*NOBODY, str(open_folder / "bin" / "python"), str(open_folder / "first_steps.py"))
    done = subprocess.run(
        (*command, str(open_folder / "own")),
        env=environment,
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout
    assert "all held" in done.stdout
    files = [path for path in (open_folder / "own").rglob("*") if path.is_file()]
    assert {path.owner() for path in files} == {"nobody"}
    assert [str(path) for path in files if path.name == "key.pem" and path.stat().st_mode & 0o077] == []


def test_started_by_root_no_process_stays_root(
    open_folder: Path, authority: Authority, request: pytest.FixtureRequest
) -> None:
    daemon = start_daemon(open_folder / "own", authority, start=False, at_end=request.addfinalizer)
    settings = daemon.config.read_text().replace("run_as_root = true", 'user = "nobody"')
    for name in ("certificate", "key"):
        (line,) = [line for line in settings.splitlines() if line.startswith(f"{name} = ")]
        copy = open_folder / "own" / f"{name}.pem"
        shutil.copy(line.split('"')[1], copy)
        shutil.chown(copy, "nobody", "nogroup")
        settings = settings.replace(line, f'{name} = "{copy}"')
    daemon.config.write_text(settings)
    shutil.chown(daemon.run_dir, "nobody", "nogroup")
    log = daemon.log_path.open("ab")
    request.addfinalizer(log.close)
    daemon.process = subprocess.Popen(
        (str(open_folder / "bin" / "pillarbox"), "serve", "--config", str(daemon.config)),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    daemon.wait_for("server.ready", timeout=30)
    pids = [daemon.process.pid, *(pid for role in ("submission", "spool", "delivery") for pid in daemon.pids(role))]
    assert len(pids) == 4
    assert {uid for pid in pids for uid in uids(pid)} == {uids(pids[0])[0]} != {0}
    assert {groups(pid) for pid in pids} == {groups(pids[0])}
    assert 0 not in groups(pids[0])
    daemon.user("ada", "correct horse battery staple", ["ada@example.org"])
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(30) == 0


def uids(pid: int) -> tuple[int, ...]:
    """Real, effective, saved and file-system uid."""
    return _numbers(pid, "Uid")


def groups(pid: int) -> frozenset[int]:
    """Every group that a process has."""
    return frozenset(_numbers(pid, "Gid") + _numbers(pid, "Groups"))


def _numbers(pid: int, field: str) -> tuple[int, ...]:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return tuple(map(int, line.split()[1:]))
    raise AssertionError(f"no {field}")
