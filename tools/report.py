"""Runs pytest and writes what came of it as a page: ``python tools/report.py PAGE TITLE PYTEST-ARGUMENTS...``.

For the long runs that CI does not make: their pages are committed, so that one sees when they last held and where.
Exit code: pytest's.
"""

import datetime
import os
import platform
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def rows(junit: Path) -> list[tuple[str, float, str]]:
    """(test, seconds, "passed" or what else) of each test in pytest's own report."""
    found = []
    # written a moment ago by our own pytest: nothing that somebody else chose
    for case in ElementTree.parse(junit).iter("testcase"):  # noqa: S314
        outcome = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")
        found.append((str(case.get("name")), float(case.get("time", "0")), outcome))
    return found


def page(title: str, found: list[tuple[str, float, str]], when: datetime.datetime) -> str:
    """The page, in Markdown."""
    passed = sum(outcome == "passed" for _, _, outcome in found)
    lines = [
        f"# {title}",
        "",
        f"{when:%Y-%m-%d}, Python {platform.python_version()}, Linux {platform.release().partition('-')[0]}, "
        f"{os.cpu_count()} cores: {passed} of {len(found)} passed.",
        "",
        "| test | seconds | outcome |",
        "|---|---:|---|",
        *(f"| `{name}` | {seconds:.1f} | {outcome} |" for name, seconds, outcome in found),
    ]
    return "\n".join(lines) + "\n"


def main(target: str, title: str, *arguments: str) -> int:
    """Runs, writes, and returns pytest's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        junit = Path(folder, "junit.xml")
        command = (sys.executable, "-m", "pytest", f"--junitxml={junit}", *arguments)
        code = subprocess.run(command, check=False).returncode
        if junit.exists():
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            Path(target).write_text(page(title, rows(junit), datetime.datetime.now(datetime.UTC)))
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
