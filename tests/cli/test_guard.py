"""`pillarbox guard`: what is no address is refused, and only tables with rows are printed."""

from pathlib import Path

import pytest
from tests.cli.conftest import Run

from pillarbox.cli import guard
from pillarbox.cli.output import count


@pytest.mark.parametrize("address", ["1.2.3", "192.0.2.7/24", "mail.example.org"])
def test_unblock_of_what_is_no_address(run: Run, site: Path, address: str) -> None:
    refused = run("guard", "unblock", address, "-c", site)
    assert refused.code == 2
    assert "expected an IP address or network" in refused.err


def test_tables_without_rows_are_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = {"name": "ada", "failures": 1, "last_at": None, "known": True}
    found = {"blocks": [], "prefixes": [], "logins": [one]}
    monkeypatch.setattr(guard, "load", lambda config: None)
    monkeypatch.setattr(guard, "run", lambda work: work.close() or found)
    guard.list_standings()
    out = capsys.readouterr().out
    assert out.startswith("LOGIN")
    assert len(out.splitlines()) == 2


def test_one_is_not_many() -> None:
    assert [count(number, "warning") for number in (0, 1, 2)] == ["0 warnings", "1 warning", "2 warnings"]
