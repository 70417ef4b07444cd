"""directories.py: what a reload keeps, and when what it replaced is closed."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.directory.scripted import Scripted
from tests.support.certs import Authority

from pillarbox import config
from pillarbox.config import Settings
from pillarbox.daemon import directories as module
from pillarbox.daemon.directories import Directories
from pillarbox.directory.base import Unusable
from pillarbox.directory.settings import UpstreamSettings
from pillarbox.directory.tries import Tries
from pillarbox.directory.upstream import Upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedSettings(UpstreamSettings):
    """A kind of the test's own."""

    usable: bool = True


class Bench:
    """Directories whose backends are scripted."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.backends: dict[str, list[Scripted]] = {}
        accounts: Any = None  # no local directory is asked for anything here
        self.directories = Directories(accounts, Tries())

    def make(self, settings: ScriptedSettings) -> Scripted:
        if not settings.usable:
            raise Unusable("a library is missing")
        self.backends.setdefault(settings.name, []).append(Scripted())
        return self.backends[settings.name][-1]

    def use(self, *wanted: UpstreamSettings) -> dict[str, Upstream]:
        """A reload with these."""
        prepared = self.directories.prepare(dataclasses.replace(self.settings, directories=wanted))
        self.directories.apply(prepared)
        return {name: self._checked(member.directory) for name, member in prepared.members.items()}

    @staticmethod
    def _checked(directory: object) -> Upstream:
        assert isinstance(directory, Upstream)
        return directory

    def closed(self) -> dict[str, list[bool]]:
        return {name: [each.closed for each in made] for name, made in self.backends.items()}


@pytest.fixture
def bench(tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Bench:
    issued = authority.issue("mail.example.org")
    path = tmp_path / "pillarbox.toml"
    path.write_text(
        f"""\
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
    made = Bench(config.load(path))
    monkeypatch.setattr(module, "make_backend", made.make)
    return made


async def test_a_directory_whose_settings_are_the_same_is_kept_with_all_that_it_remembers(bench: Bench) -> None:
    before = bench.use(ScriptedSettings(name="corp"), ScriptedSettings(name="other"))
    after = bench.use(ScriptedSettings(name="corp"), ScriptedSettings(name="other", timeout=3.0))
    assert after["corp"] is before["corp"]
    assert after["other"] is not before["other"]
    bench.directories.close()


async def test_what_was_replaced_is_closed_after_a_while_and_not_before(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.use(ScriptedSettings(name="corp"))
    bench.use(ScriptedSettings(name="corp", timeout=3.0))
    assert bench.closed() == {"corp": [False, False]}
    ((old, timer),) = bench.directories._old.items()
    assert timer.when() > 0 and not timer.cancelled()
    bench.directories._close_old(old)
    assert bench.closed() == {"corp": [True, False]}
    bench.directories.close()


async def test_the_end_closes_all_of_them_the_replaced_ones_too(bench: Bench) -> None:
    bench.use(ScriptedSettings(name="corp"))
    bench.use(ScriptedSettings(name="corp", timeout=3.0))
    bench.directories.close()
    assert bench.closed() == {"corp": [True, True]}
    assert not bench.directories._old


async def test_settings_that_cannot_be_used_change_nothing_and_leave_nothing_open(bench: Bench) -> None:
    before = bench.use(ScriptedSettings(name="corp"))
    with pytest.raises(Unusable):
        bench.use(
            ScriptedSettings(name="corp"), ScriptedSettings(name="new"), ScriptedSettings(name="bad", usable=False)
        )
    assert bench.closed() == {"corp": [False], "new": [True]}
    assert bench.use(ScriptedSettings(name="corp"))["corp"] is before["corp"]
    bench.directories.close()
