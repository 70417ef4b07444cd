"""What people are told to type and write is real: commands, options, settings, modules; and each page is listed."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer import BadParameter
from typer.main import get_command

from pillarbox.cli.app import app
from pillarbox.cli.framework import help_pages
from pillarbox.config.certificate import examine_pair, now_utc
from pillarbox.doctor.report import Severity

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "howto").glob("*.md"))]
COMMAND = re.compile(r"^(?:[$#] )?(?:/\S+/)?pillarbox (?P<words>[a-z].*)$", re.M)
INLINE = re.compile(r"`pillarbox ([a-z][^`]*)`")
AFTER = {"|", ">", "&&", ";"}
# what typer raises for a command line that it does not take
UsageError: type[Exception] = BadParameter.__mro__[1]
# in what the program is said to say: what it puts in, and what are the words of OpenSSL, the system, a server
PUT_IN = re.compile(r"\.\.\.|\"[^\"]*\"|: |\banna\b|\b[0-9]+\b")
OTHERS = {
    "No such file or directory", "Connection refused", "Permission denied", "WRONG_VERSION_NUMBER", "[UNAVAILABLE]",
    "hostname mismatch", "unable to get local issuer certificate",
}  # fmt: skip
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


def commands(page: Path) -> list[str]:
    """Each `pillarbox ...` line of the page's blocks, once, without `pillarbox`."""
    shown = [block for language in ("sh", "console", "") for block in blocks(page, language)]
    text = re.sub(r"^ +", "", "\n".join(shown), flags=re.M).replace("\\\n", " ")
    return sorted({found["words"] for found in COMMAND.finditer(text)})


def mentions(page: Path) -> list[str]:
    """The same of its sentences, where a command may stand without its arguments."""
    text = re.sub(r"^[ ]*```.*?^[ ]*```", "", page.read_text(), flags=re.M | re.S)
    return sorted({" ".join(words.split()) for words in INLINE.findall(text)})


def parse(line: str, *, named: bool = False) -> None:
    """Reads it as the program would, and carries nothing out. Raises UsageError. ``named``: the words of a command
    alone are enough."""
    words = shlex.split(line, comments=True)
    words = words[: next((at for at, word in enumerate(words) if word in AFTER), len(words))]
    name = "pillarbox"
    command: Any = get_command(app)
    context = command.context_class(command, info_name=name)
    while below := getattr(command, "commands", None):
        if not words and named:
            return
        if not words or words[0] not in below:
            raise UsageError(f"pillarbox {line}: there is no such command")
        name = words.pop(0)
        command = below[name]
        if getattr(command, "commands", None):
            context = command.context_class(command, info_name=name, parent=context)
    if words or not named:
        command.make_context(name, words, parent=context)


def test_the_pages_have_commands_and_settings() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 40
    assert sum(len(blocks(page, "toml")) for page in PAGES) > 20


@pytest.mark.parametrize(
    "line",
    ["user ad bob", "user add", "user", "check --relax x", "directory test", "user add x --file y z", "nothing"],
)
def test_a_command_that_does_not_exist_so_is_found_out(line: str) -> None:
    with pytest.raises(UsageError):
        parse(line)


@pytest.mark.parametrize(
    ("page", "line"),
    [pytest.param(page, line, id=f"{page.stem}: {line}") for page in PAGES for line in commands(page)],
)
def test_a_command_that_is_told_is_one_that_the_program_takes(page: Path, line: str) -> None:
    parse(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_command_that_a_sentence_names_exists(page: Path) -> None:
    for line in mentions(page):
        parse(line, named=True)


def test_each_command_has_an_example_in_its_help_that_the_program_takes() -> None:
    for path, text in help_pages(app, "pillarbox"):
        found = re.search(r"^  Example: pillarbox (.*)", text, re.M | re.S)
        assert found is not None, path
        assert f"pillarbox {found[1]} ".startswith(f"{path} "), path
        parse(found[1])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_are_told_are_valid(page: Path, tmp_path: Path) -> None:
    from pillarbox.config import parse

    for block in blocks(page, "toml"):
        whole = block if "[[site]]" in block else SITE + block
        settings = parse(whole, tmp_path / "pillarbox.toml")
        assert settings.sites, block


def test_what_a_page_says_that_the_program_says_stands_in_the_program() -> None:
    """In the tables headed "it says" or `cause`: each text but what is put into it, or is others' own."""
    code = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)
    told = {}
    for page in PAGES:
        for table in re.findall(r"^\| (?:it says|`cause`) \|.*\n\|[-| ]+\n((?:\|.*\n)+)", page.read_text(), re.M):
            for text in (span for row in table.splitlines() for span in re.findall(r"`([^`]+)`", row.split("|")[1])):
                told[text] = {part.strip() for part in PUT_IN.split(text)} - OTHERS - {""}
    assert [text for text, parts in told.items() if not parts or any(part not in code for part in parts)] == []
    assert len(told) > 25


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lock_files_that_a_page_installs_are_there(page: Path) -> None:
    files = re.findall(r"-r (requirements[a-z-]*\.lock)", page.read_text())
    assert [file for file in files if not (ROOT / file).is_file()] == []
    assert not re.search(r"pip install ['\"]?pillarbox", page.read_text()), "there is no such package to be found"


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
