"""The real program as people start it, and a configuration that it likes."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.certs import Authority

PROGRAM = Path(sys.executable).parent / "pillarbox"
SECONDS = 60


@dataclass(frozen=True)
class Done:
    """What a command left."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """run("user", "list", stdin="...") in an empty folder; nobody is ever shown a traceback."""

    def run_program(*arguments: str | Path, stdin: str = "", cwd: Path = tmp_path, **variables: str) -> Done:
        environment = {**os.environ, "COLUMNS": "200", **variables}
        environment.pop("PILLARBOX_CONFIG", None) if "PILLARBOX_CONFIG" not in variables else None
        done = subprocess.run(
            [PROGRAM, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=cwd,
            env=environment,
            timeout=SECONDS,
        )
        if variables.get("PILLARBOX_TRACEBACK") != "1":
            assert "Traceback" not in done.stdout + done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    return run_program


@pytest.fixture
def site(tmp_path: Path, authority: Authority) -> Path:
    """A valid pillarbox.toml of a server that does not run."""
    issued = authority.issue("mail.example.org", "localhost", "127.0.0.1")
    path = tmp_path / "site" / "pillarbox.toml"
    path.parent.mkdir()
    path.write_text(
        f"""\
[server]
data_directory = "data"
run_directory = "run"
run_as_root = {"true" if os.geteuid() == 0 else "false"}
[spool]
min_free = 0
[[site]]
name = "mail.example.org"
submissions = ["127.0.0.1:54651"]
certificate = "{issued.certificate}"
key = "{issued.key}"
[[route]]
kind = "maildir"
path = "mail"
"""
    )
    return path
