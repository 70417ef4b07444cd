"""Runs pytest and writes what came of it as a page: ``python tools/report.py PAGE TITLE [--by-file] ARGUMENTS...``.

For the long runs that CI does not make: their pages are committed, so that one sees when they last held and where.
A row for each test; with ``--by-file`` one for each file, and for each test that did not pass. The arguments are
pytest's, and so is the exit code.
"""

import datetime
import os
import platform
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

Row = tuple[str, str, float, str]
"""File (dotted), test, seconds, "passed" or what else."""


def rows(junit: Path) -> list[Row]:
    """Each test in pytest's own report."""
    found = []
    # written a moment ago by our own pytest: nothing that somebody else chose
    for case in ElementTree.parse(junit).iter("testcase"):  # noqa: S314
        outcome = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")
        found.append((str(case.get("classname")), str(case.get("name")), float(case.get("time", "0")), outcome))
    return found


def by_file(found: Sequence[Row]) -> list[str]:
    """A line for each file, and below it one for each of its tests that did not pass."""
    lines = ["| file | tests | passed | seconds |", "|---|---:|---:|---:|"]
    for file in sorted({row[0] for row in found}):
        ours = [row for row in found if row[0] == file]
        passed = sum(outcome == "passed" for *_, outcome in ours)
        path = file.replace(".", "/") + ".py"
        lines.append(f"| `{path}` | {len(ours)} | {passed} | {sum(seconds for _, _, seconds, _ in ours):.1f} |")
        lines += [f"| `{name}` | | {outcome} | |" for _, name, _, outcome in ours if outcome != "passed"]
    return lines


def by_test(found: Sequence[Row]) -> list[str]:
    """A line for each test."""
    lines = ["| test | seconds | outcome |", "|---|---:|---|"]
    return lines + [f"| `{name}` | {seconds:.1f} | {outcome} |" for _, name, seconds, outcome in found]


def page(title: str, found: Sequence[Row], lines: Sequence[str], when: datetime.datetime) -> str:
    """The page, in Markdown."""
    passed = sum(outcome == "passed" for *_, outcome in found)
    head = [
        f"# {title}",
        "",
        f"{when:%Y-%m-%d}, Python {platform.python_version()}, Linux {platform.release().partition('-')[0]}, "
        f"{os.cpu_count()} cores: {passed} of {len(found)} passed.",
        "",
    ]
    return "\n".join((*head, *lines)) + "\n"


def main(target: str, title: str, *arguments: str) -> int:
    """Runs, writes, and returns pytest's exit code."""
    table = by_file if arguments[:1] == ("--by-file",) else by_test
    arguments = arguments[1:] if table is by_file else arguments
    with tempfile.TemporaryDirectory() as folder:
        junit = Path(folder, "junit.xml")
        command = (sys.executable, "-m", "pytest", f"--junitxml={junit}", *arguments)
        code = subprocess.run(command, check=False).returncode
        if junit.exists():
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            found = rows(junit)
            Path(target).write_text(page(title, found, table(found), datetime.datetime.now(datetime.UTC)))
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
