"""What people are told to type and write is real: commands, options, settings, modules; and each page is listed."""

import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pillarbox.config.certificate import examine_pair, now_utc
from pillarbox.doctor.report import Severity

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "howto").glob("*.md"))]
COMMAND = re.compile(r"^(?:\$ )?pillarbox (?P<words>[a-z].*)$", re.M)
SITE = """
[[site]]
name = "mail.example.org"
submissions = ["127.0.0.1:465"]
certificate = "certificate.pem"
key = "key.pem"
"""


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page."""
    return re.findall(rf"^[ ]*```{language}\n(.*?)^[ ]*```", page.read_text(), re.M | re.S)


def commands() -> list[str]:
    """Each `pillarbox ...` line of the shell blocks, once."""
    text = "\n".join(re.sub(r"^ +", "", block, flags=re.M) for page in PAGES for block in blocks(page, "sh"))
    return sorted({found["words"] for found in COMMAND.finditer(text.replace("\\\n", " "))})


@functools.cache
def help_of(*verbs: str) -> str:
    """What --help says of a command."""
    done = subprocess.run(
        (sys.executable, "-m", "pillarbox", *verbs, "--help"), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"pillarbox {' '.join(verbs)} is no command:\n{done.stderr}"
    return done.stdout


def test_the_pages_have_commands_and_settings() -> None:
    assert len(commands()) > 8
    assert sum(len(blocks(page, "toml")) for page in PAGES) > 4


def _depth(verbs: list[str]) -> int:
    """How many words a command has that begins with these."""
    if verbs[:2] in (["user", "certificate"], ["user", "app-password"]):
        return 3
    return 2 if verbs[:1] in (["user"], ["import"], ["queue"], ["guard"], ["cluster"], ["spool"]) else 1


@pytest.mark.parametrize("words", commands())
def test_a_command_that_is_told_exists_with_its_options(words: str) -> None:
    verbs: list[str] = []
    for word in words.split():
        if not re.fullmatch(r"[a-z][a-z-]*", word) or len(verbs) == _depth(verbs):
            break
        verbs.append(word)
    text = help_of(*verbs)
    options = re.findall(r"(?<!\S)(--[a-z-]+)", words)
    assert [option for option in options if not re.search(rf"{option}\b", text)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_are_told_are_valid(page: Path, tmp_path: Path) -> None:
    from pillarbox.config import parse

    for block in blocks(page, "toml"):
        whole = block if "[[site]]" in block else SITE + block
        settings = parse(whole, tmp_path / "pillarbox.toml")
        assert settings.sites, block


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes it")
def test_the_certificate_that_the_page_of_devices_makes_is_one_that_check_likes(tmp_path: Path) -> None:
    page = ROOT / "docs" / "howto" / "devices.md"
    (line,) = re.findall(r"^openssl .*$", page.read_text(), re.M)
    command = line.replace("/etc/pillarbox/", f"{tmp_path}/").split()
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    found = examine_pair("site", tmp_path / "print.pem", tmp_path / "print.key", now_utc(), "print.example.org")
    assert {finding.severity for finding in found} <= {Severity.OK, Severity.NOTE}, found


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    listed = [page for page in pages if page != "README.md" and not page.startswith("adr/0")]
    assert [page for page in listed if f"({page})" not in index] == []


def test_every_decision_is_in_its_index() -> None:
    index = (ROOT / "docs" / "adr" / "README.md").read_text()
    records = sorted(path.name for path in (ROOT / "docs" / "adr").glob("0*.md"))
    assert records
    assert [name for name in records if f"]({name})" not in index] == []


def test_the_message_path_names_real_modules_and_the_events_of_its_scenario() -> None:
    page = (ROOT / "docs" / "explanation" / "message-path.md").read_text()
    modules = re.findall(r"`([a-z]+/[a-z_]+\.py)`", page)
    assert len(modules) > 10
    assert [name for name in modules if not (ROOT / "src" / "pillarbox" / name).is_file()] == []
    scenario = (ROOT / "tests" / "scenarios" / "test_one_message_through_the_house.py").read_text()
    hops = re.search(r"^HOPS = \[(.*?)\]", scenario, re.M | re.S)
    assert hops is not None
    places = [page.find(f"`{event}`") for event in re.findall(r'"([a-z.]+)"', hops[1])]
    assert -1 not in places
    assert places == sorted(places)
