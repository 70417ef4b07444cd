"""advice.py: commands that work in the environment that we run in."""

import shlex
import sys
from pathlib import Path

import pytest

from pillarbox.telemetry.advice import install, upgrade


def test_the_pip_is_that_beside_the_python_that_runs() -> None:
    pip, *rest = shlex.split(install("ldap"))
    assert rest == ["install", "pillarbox[ldap]"]
    assert Path(pip).parent == Path(sys.executable).parent
    assert shlex.split(upgrade("apsw")) == [pip, "install", "-U", "apsw"]


def test_an_environment_in_a_folder_with_a_blank_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", "/opt/our mail")
    assert install("acme") == "'/opt/our mail/bin/pip' install \"pillarbox[acme]\""
