"""The rules of the house, kept over the whole project; and each rule shown to catch a bad sample."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.house import rules

ROOT = Path(__file__).parent.parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
OTHERS = sorted(path for folder in ("bench", "demo", "tools") for path in (ROOT / folder).rglob("*.py"))

Rule = Callable[[str, str], list[str]]


def complaints(rule: Rule, paths: list[Path]) -> list[str]:
    """What ``rule`` says of all ``paths``."""
    return [text for path in paths for text in rule(str(path.relative_to(ROOT)), path.read_text())]


def lines(found: list[str]) -> str:
    """Complaints as a failing test shows them."""
    return "\n" + "\n".join(found)


def tracked_files() -> list[Path]:
    """The files that belong to the project, and are text."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True)
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    corpus = ROOT / "tests" / "fuzz" / "corpus"  # octets on purpose
    texts = [path for path in paths if corpus not in path.parents]
    return [path for path in texts if path.is_file() and b"\0" not in path.read_bytes()[:4096]]


def test_files_and_functions_are_short() -> None:
    found = complaints(rules.too_long, SOURCES + TESTS + OTHERS)
    assert not found, lines(found)


def test_what_is_public_is_documented() -> None:
    inherited = frozenset[str]().union(*(rules.documented_by_protocols(path.read_text()) for path in SOURCES))
    found = complaints(lambda where, text: rules.undocumented(where, text, inherited), SOURCES)
    assert not found, lines(found)


def test_each_test_file_says_what_it_is_about() -> None:
    assert [text for text in complaints(rules.undocumented, TESTS) if "no module docstring" in text] == []


def test_each_ignore_has_its_reason() -> None:
    found = complaints(rules.unexplained_ignores, SOURCES + TESTS + OTHERS)
    assert not found, lines(found)


def test_each_ignore_in_the_settings_has_its_reason() -> None:
    settings = (ROOT / "pyproject.toml").read_text()
    codes = [line for line in settings.splitlines() if re.match(r'\s+"[A-Z]+[0-9]+"', line)]
    assert codes
    assert [line for line in codes if "  # " not in line] == []


def test_nothing_is_bound_to_one_machine() -> None:
    this = Path(__file__).parent
    paths = [path for path in tracked_files() if this not in path.parents]
    assert paths
    found = complaints(rules.machine_bound, paths)
    assert not found, lines(found)


def test_no_secret_is_handed_to_a_log() -> None:
    found = complaints(rules.logged_secrets, SOURCES)
    assert not found, lines(found)


def test_nothing_is_given_to_a_shell_or_evaluated() -> None:
    found = complaints(rules.executed, SOURCES)
    assert not found, lines(found)


def test_each_test_can_fail() -> None:
    shared = [path.read_text() for path in TESTS if not path.name.startswith("test_")]
    able = frozenset[str]().union(*map(rules.able_to_fail, shared))
    found = complaints(lambda where, text: rules.tests_that_cannot_fail(where, text, able), TESTS)
    assert not found, lines(found)


_LONG_FUNCTION = "def long():\n" + "    x = 1\n" * 61
BAD_SAMPLES: list[tuple[Rule, str, str]] = [
    (rules.too_long, "x = 1\n" * 501, "501 lines"),
    (rules.too_long, _LONG_FUNCTION, "long has 61 lines"),
    (rules.too_long, f"class C:\n    {_LONG_FUNCTION.replace(chr(10), chr(10) + '    ')}", "C.long has"),
    (rules.undocumented, "x = 1\n", "no module docstring"),
    (rules.undocumented, '"""M."""\ndef f(): return 1\n', "f has no docstring"),
    (rules.undocumented, '"""M."""\nclass C:\n    """C."""\n    def m(self): return 1\n', "C.m has no docstring"),
    (rules.unexplained_ignores, "x = 1  # noqa: S101\n", "without its reason"),
    (rules.unexplained_ignores, "x = 1  # noqa  because of this\n", "without codes"),
    (rules.unexplained_ignores, "x = 1  # type: ignore[arg-type]\n", "without its reason"),
    (rules.unexplained_ignores, "x = 1  # pragma: no cover\n", "without its reason"),
    (rules.machine_bound, "path = '/home/somebody/x'\n", "on one machine only"),
    (rules.machine_bound, "resolved: https://npm.example/x\n", "on one machine only"),
    (rules.logged_secrets, "log.info('signed.in', user=u, password=p)\n", "gets password"),
    (rules.logged_secrets, "self._log.bind(token=t)\n", "gets token"),
    (rules.executed, "import pickle\n", "pickle"),
    (rules.executed, "x = eval(text)\n", "eval"),
    (rules.executed, "subprocess.run(command, shell=True)\n", "shell"),
    (rules.executed, "os.system(command)\n", "system"),
    (rules.tests_that_cannot_fail, "def test_x():\n    1 + 1\n", "test_x asserts nothing"),
    (rules.tests_that_cannot_fail, "class TestX:\n    async def test_y(self):\n        await z()\n", "TestX.test_y"),
]


@pytest.mark.parametrize(("rule", "text", "complaint"), BAD_SAMPLES)
def test_a_rule_catches_a_bad_sample(rule: Rule, text: str, complaint: str) -> None:
    found = rule("sample", text)
    assert any(complaint in each for each in found), found


GOOD = '''"""A module."""


def public() -> int:
    """Gives 1."""
    # the reason stands above
    x = 1  # noqa: S101
    return x  # type: ignore[no-any-return]  # the library says Any


class Store:
    """A store."""

    def commit(self) -> None:
        log.info("queue.committed", user="ada")

    def _private(self) -> None:
        pass


def test_public() -> None:
    """Is 1."""
    with pytest.raises(ValueError):
        public()
'''


def test_the_rules_let_a_good_sample_pass() -> None:
    assert rules.too_long("good", GOOD) == []
    assert rules.undocumented("good", GOOD, frozenset({"commit"})) == []
    assert rules.unexplained_ignores("good", GOOD) == []
    assert rules.machine_bound("good", GOOD) == []
    assert rules.logged_secrets("good", GOOD) == []
    assert rules.executed("good", GOOD) == []
    assert rules.tests_that_cannot_fail("good", GOOD) == []


def test_protocols_speak_for_those_who_implement_them() -> None:
    text = "class Spool(Protocol):\n    def commit(self): ...\n\nclass Other:\n    def settle(self): ...\n"
    assert rules.documented_by_protocols(text) == {"commit"}
