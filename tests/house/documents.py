"""Rules on what people read: documents, the Makefile, the lock files."""

import re
from collections.abc import Iterator
from pathlib import Path

_LINK = re.compile(r"\[[^\]\n]*\]\((?P<target>[^)\s]+)\)")
_TEST = re.compile(r"`(?P<path>tests/[\w./*-]+)(?:::(?P<name>\w+))?`")
_TARGET = re.compile(r"^(?P<name>[a-z][a-z-]*):(?P<rest>(?!=)[^\n]*)$", re.M)
_MAKE = re.compile(r"`make (?P<name>[a-z][a-z-]*)")


def dead_links(root: Path, document: Path) -> list[str]:
    """Relative links lead to files that exist, and to headings that are in them."""
    complaints = []
    for found in _LINK.finditer(document.read_text()):
        target, _, heading = found["target"].partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        there = (document.parent / target).resolve() if target else document
        if not there.exists():
            complaints.append(f"{document.relative_to(root)}: {target} does not exist")
        elif heading and there.suffix == ".md" and heading not in headings(there.read_text()):
            complaints.append(f"{document.relative_to(root)}: {found['target']}: there is no such heading")
    return complaints


def headings(text: str) -> set[str]:
    """What leads to the headings of a document, as forges make it of their words."""
    outside = re.sub(r"^[ ]*```.*?^[ ]*```", "", text, flags=re.M | re.S)
    titles = re.findall(r"^#+ (.*?)\s*$", outside, re.M)
    shown = [re.sub(r"\]\([^)]*\)", "", title) for title in titles]
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in shown}


def dead_tests(root: Path, document: Path) -> list[str]:
    """Tests that a document names (`tests/...py` or `tests/...py::test_name`) exist."""
    complaints = []
    for found in _TEST.finditer(document.read_text()):
        paths = list(root.glob(found["path"]))
        if not paths:
            complaints.append(f"{document.relative_to(root)}: {found['path']} does not exist")
        elif found["name"] and not any(f"def {found['name']}(" in path.read_text() for path in paths):
            complaints.append(f"{document.relative_to(root)}: {found['path']} has no {found['name']}")
    return complaints


def make_targets(makefile: str) -> Iterator[tuple[str, str]]:
    """(target, what `make help` says of it, or an empty string)."""
    for found in _TARGET.finditer(makefile):
        yield found["name"], found["rest"].partition("## ")[2].strip()


def unknown_targets(document_name: str, text: str, makefile: str) -> list[str]:
    """Each `make word` in a document is a target."""
    known = {name for name, _ in make_targets(makefile)}
    return [
        f"{document_name}: `make {found['name']}` is no target"
        for found in _MAKE.finditer(text)
        if found["name"] not in known
    ]


def lock_faults(name: str, lock: str, wanted: set[str]) -> list[str]:
    """A lock file names no place, has a hash for each line, and has every library of pyproject.toml."""
    places = [line.strip() for line in lock.splitlines() if "://" in line or line.startswith("--")]
    entries = [entry for entry in re.split(r"(?m)^(?=[A-Za-z0-9])", lock) if "==" in entry]
    bare = [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry]
    locked = {_normal(entry.partition("==")[0]) for entry in entries}
    absent = sorted({_normal(library) for library in wanted} - locked)
    return [
        *(f"{name}: {place!r} names a place" for place in places),
        *(f"{name}: no hash for {entry}" for entry in bare),
        *(f"{name}: {library} is not locked" for library in absent),
    ]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
