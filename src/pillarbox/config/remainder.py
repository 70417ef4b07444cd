"""What is left of a file without its wrong keys, so that rules between the other keys can still be checked.

One run of a command is to tell everything: a misspelt key in one table must not hide that two sites disagree in
another. Wrong keys are taken out, missing ones get a stand-in, and what a rule says about them is left out.

ERRORS
    None: when nothing sensible is left there are simply no further mistakes.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from pillarbox.config import rules
from pillarbox.config.lines import Path as KeyPath
from pillarbox.config.model import Complaint, validate

_ROUNDS = 4
"""A wrong required key is taken out in one round and stood in for in the next; nesting adds no more."""

_STAND_INS: Mapping[str | int, Sequence[str]] = {"networks": ["127.0.0.1"], "logins": ["stand-in"]}
"""For required keys that hold lists; names stand in for the others."""


def further_mistakes(data: Mapping[str, Any], complaints: Sequence[Complaint]) -> list[tuple[KeyPath, str]]:
    """The broken rules that do not come from the keys complained about."""
    rest = copy.deepcopy(dict(data))
    wrong = {complaint.path for complaint in complaints}
    found: Sequence[Complaint] = complaints
    for _ in range(_ROUNDS):
        # from the back, so that positions in lists stay true
        for complaint in sorted(found, key=lambda one: _sortable(one.path), reverse=True):
            _mend(rest, complaint)
        tables = validate(rest)
        if not isinstance(tables, list):
            return [broken for broken in rules.check(tables) if not _caused(broken[0], wrong)]
        found = tables
    return []


def _sortable(path: KeyPath) -> tuple[tuple[int, str], ...]:
    return tuple((part, "") if isinstance(part, int) else (-1, part) for part in path)


def _mend(data: dict[str, Any], complaint: Complaint) -> None:
    """Takes the wrong value out, or puts a stand-in for a missing one."""
    *around, last = complaint.path
    container: Any = data
    for part in around:
        try:
            container = container[part]
        except (KeyError, IndexError, TypeError):
            return
    if complaint.kind == "missing":
        container[last] = _STAND_INS.get(last, f"stand-in-{around[-1]}.invalid")
    elif isinstance(container, dict):
        container.pop(last, None)
    elif len(complaint.path) > 2 or len(container) == 1:
        # an element of a list of values; a wrong table keeps its place: others are known by their position
        del container[last]
    else:
        container[last] = {}


def _caused(key: KeyPath, wrong: set[KeyPath]) -> bool:
    """Whether a broken rule about ``key`` may only come from a key that was wrong."""
    if "directories" in key and any(path[:1] == ("directory",) for path in wrong):
        return True
    if key[-1] == "minimum_tls" and any(path[:3] == (*key[:2], "submission") for path in wrong):
        return True  # whether there is a listener without TLS is not known
    return any(key == path[: len(key)] or path == key[: len(path)] for path in wrong)
