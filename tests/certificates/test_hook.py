"""The hook for dns-01: what it is called with, what it gets, what is said when it fails."""

import os
import sys
from pathlib import Path

import pytest

from pillarbox.certificates.hook import HookFailed, present, remove

RECORD, VALUE = "_acme-challenge.mail.example.org", "gfj9Xq-Rg85nM"


def program(tmp_path: Path, text: str) -> tuple[str, ...]:
    """A hook of this text."""
    path = tmp_path / "hook.py"
    path.write_text(text)
    return (sys.executable, str(path), "--zone", "example.org")


def test_it_is_called_with_its_own_arguments_and_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILLARBOX_SECRET", "not for it")
    said = tmp_path / "said"
    hook = program(
        tmp_path, f"import os, sys\nopen({str(said)!r}, 'a').write(repr((sys.argv[1:], dict(os.environ))))"
    )
    present(hook, RECORD, VALUE, 20)
    remove(hook, RECORD, VALUE, 20)
    text = said.read_text()
    assert f"['--zone', 'example.org', 'present', '{RECORD}', '{VALUE}']" in text
    assert f"['--zone', 'example.org', 'remove', '{RECORD}', '{VALUE}']" in text
    assert "PILLARBOX_SECRET" not in text
    assert os.environ["PATH"] in text


def test_what_it_says_is_the_reason(tmp_path: Path) -> None:
    with pytest.raises(HookFailed, match=r"present: exit code 3: no such zone$"):
        present(
            program(tmp_path, "import sys; print('no such zone', file=sys.stderr); sys.exit(3)"), RECORD, VALUE, 20
        )


def test_it_has_its_time(tmp_path: Path) -> None:
    with pytest.raises(HookFailed, match=r"did not end within 0\.2 s"):
        present(program(tmp_path, "import time; time.sleep(60)"), RECORD, VALUE, 0.2)


def test_one_that_is_not_there_is_said() -> None:
    with pytest.raises(HookFailed, match="/nowhere/hook: No such file"):
        present(("/nowhere/hook",), RECORD, VALUE, 20)


def test_a_record_that_stays_stops_nothing(json_log: None, capfd: pytest.CaptureFixture[str]) -> None:
    remove(("/nowhere/hook",), RECORD, VALUE, 20)
    assert '"acme.hook_failed"' in capfd.readouterr().out
