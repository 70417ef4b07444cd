"""docs/reference/events.md and the code name the same events, with the same levels."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}
EVENT = re.compile(r"[a-z_]+\.[a-z_]+")
ROW = re.compile(r"^\| `([a-z_.]+)` \| (\w+) \|", re.M)
ASKED = {"request", "note", "get", "add"}
"""Calls whose first argument looks like an event's name and is none."""


def events_in(source: str) -> Iterator[tuple[str, str]]:
    """(event, level) of every log call. Where the name is an argument, the module's calls that give one count."""
    calls = [
        (node.func.attr, node.args)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args
    ]
    for method, (name, *_) in calls:
        if method in LEVELS and isinstance(name, ast.Constant) and isinstance(name.value, str):
            yield name.value, LEVELS[method]
        elif method in LEVELS and isinstance(name, ast.Name):
            yield from ((event, LEVELS[method]) for event in _given_as_arguments(calls))


def _given_as_arguments(calls: list[tuple[str, list[ast.expr]]]) -> Iterator[str]:
    for method, arguments in calls:
        for argument in arguments if method not in ASKED | LEVELS.keys() else ():
            if isinstance(argument, ast.Constant) and EVENT.fullmatch(str(argument.value)):
                yield str(argument.value)


def events_in_code() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "src" / "pillarbox").rglob("*.py")):
        for event, level in events_in(path.read_text()):
            found.setdefault(event, set()).add(level)
    return found


def events_in_docs() -> dict[str, str]:
    rows = ROW.findall((ROOT / "docs" / "reference" / "events.md").read_text())
    assert len(rows) == len({name for name, _ in rows}), "an event has two lines"
    return dict(rows)


def test_every_event_in_the_code_is_documented() -> None:
    assert sorted(events_in_code().keys() - events_in_docs().keys()) == []


def test_every_documented_event_is_in_the_code() -> None:
    assert sorted(events_in_docs().keys() - events_in_code().keys()) == []


def test_the_documented_level_is_the_code_s() -> None:
    documented = events_in_docs()
    wrong = {
        name: (documented[name], levels)
        for name, levels in events_in_code().items()
        if name in documented and levels != {documented[name]}
    }
    assert wrong == {}


def test_every_event_is_named_noun_and_participle() -> None:
    assert [name for name in events_in_code() if not EVENT.fullmatch(name)] == []


def test_the_search_sees_direct_and_indirect_names_and_nothing_else() -> None:
    source = """
log.info("a.done", x=1)
self._log.exception("b.failed")
log.info(name)
self._change("c.changed")
channel.request("d.asked")
message.error
"""
    assert set(events_in(source)) == {("a.done", "info"), ("b.failed", "error"), ("c.changed", "info")}
