"""Regular expressions that mean the same on every Python we support."""

import re
from pathlib import Path

import pytest

SOURCES = sorted((Path(__file__).parents[2] / "src").rglob("*.py"))

POSSESSIVE_GROUP = re.compile(r"\)[*+?]\+")
"""A possessive quantifier behind a group."""

IN_CODE = re.compile(r"""r?b?r?(["'])(?:\\.|(?!\1).)*\1""")


def possessive_groups(source: str) -> list[str]:
    """The string literals that hold one."""
    return [match[0] for match in IN_CODE.finditer(source) if POSSESSIVE_GROUP.search(match[0])]


def test_the_search_finds_one() -> None:
    assert possessive_groups('A = re.compile(rb"<a++(?:[.]a++)*+>")') == ['rb"<a++(?:[.]a++)*+>"']
    assert not possessive_groups('A = re.compile(rb"<a++(?:[.]a++)*>"); b = f(x) + (1)')


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_possessive_group(path: Path) -> None:
    """Python before 3.11.5 (Debian 12 has 3.11.2) does not restore the position after a half-matched last round of a
    possessive group: ``<a++(?:[.]a++)*+>`` matches ``<a.>`` there. Behind a single class it is right everywhere."""
    assert not possessive_groups(path.read_text())
