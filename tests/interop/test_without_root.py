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
from tests.support.clients import missing, require
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.nameserver import NameServer
from tests.support.pebble import running_pebble
from tests.support.talk import Talk

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


def _own_files(folder: Path, text: str) -> str:
    """The configuration ``text`` with the certificate and key in ``folder``, which are nobody's own."""
    for name in ("certificate", "key"):
        (line,) = [line for line in text.splitlines() if line.startswith(f"{name} = ")]
        copy = folder / f"{name}.pem"
        shutil.copy(line.split('"')[1], copy)
        shutil.chown(copy, "nobody", "nogroup")
        text = text.replace(line, f'{name} = "{copy}"')
    return text.replace("run_as_root = true", 'user = "nobody"')


def _start_as_root(open_folder: Path, daemon: RunningDaemon, request: pytest.FixtureRequest) -> None:
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


def test_started_by_root_no_process_stays_root(
    open_folder: Path, authority: Authority, request: pytest.FixtureRequest
) -> None:
    daemon = start_daemon(open_folder / "own", authority, start=False, at_end=request.addfinalizer)
    daemon.config.write_text(_own_files(open_folder / "own", daemon.config.read_text()))
    _start_as_root(open_folder, daemon, request)
    assert daemon.process is not None
    pids = [daemon.process.pid, *(pid for role in ("submission", "spool", "delivery") for pid in daemon.pids(role))]
    assert len(pids) == 4
    assert {uid for pid in pids for uid in uids(pid)} == {uids(pids[0])[0]} != {0}
    assert {groups(pid) for pid in pids} == {groups(pids[0])}
    assert 0 not in groups(pids[0])
    daemon.user("ada", "correct horse battery staple", ["ada@example.org"])
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(30) == 0


def test_port_80_is_opened_before_root_is_given_up_and_who_asks_for_certificates_is_nobody(
    open_folder: Path, authority: Authority, nameserver: NameServer, request: pytest.FixtureRequest
) -> None:
    require("pebble")
    if os.environ.get("PILLARBOX_INTEROP_NAMESPACE") != "inside":
        missing("needs port 80 of a network namespace of its own: run it with `make interop`")
    nameserver.add("acme.example.org", "A", "127.0.0.1")
    own = open_folder / "own"
    daemon = start_daemon(own, authority, start=False, at_end=request.addfinalizer)
    with running_pebble(open_folder, authority, nameserver, 80) as pebble:
        shutil.copy(pebble.ca, own / "acme-ca.pem")
        (own / "acme-ca.pem").chmod(0o644)
        site = f'[[site]]\nname = "acme.example.org"\nsubmissions = ["127.0.0.1:{daemon.submissions}"]\n'
        acme = f'[acme]\nagree_to_terms = true\ndirectory = "{pebble.directory}"\nca = "{own / "acme-ca.pem"}"\n'
        text = _own_files(own, daemon.config.read_text()) + f'\n{site}certificate = "acme"\n{acme}'
        daemon.config.write_text(text)
        _start_as_root(open_folder, daemon, request)
        daemon.wait_for("certificate.loaded", timeout=60)
        with Talk(daemon.submissions, pebble.roots(), name="acme.example.org") as talk:
            assert talk.greeting == "220 acme.example.org ESMTP Pillarbox"
    (pid,) = daemon.pids("certificates")
    assert 0 not in uids(pid)
    assert 0 not in groups(pid)
    files = [path for path in (daemon.data_dir / "certificates").rglob("*") if path.is_file()]
    assert {(path.owner(), path.stat().st_mode & 0o777) for path in files} == {("nobody", 0o600)}
    assert daemon.process is not None
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
