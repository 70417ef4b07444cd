"""Complaints put into words: file, line, key, what was found, what was expected, the nearest known key.

ERRORS
    None: it makes the values that ConfigError carries.
"""

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pillarbox.config.fields import Table
from pillarbox.config.lines import Path as KeyPath
from pillarbox.config.lines import line_of
from pillarbox.config.model import ARRAYS, KINDS, TABLES, Complaint
from pillarbox.config.settings import Mistake

_LONGEST = 60

_EXPECTED: dict[str, str] = {
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list in brackets [ ]",
    "string_too_short": "at least one character",
    "too_short": "at least one element",
}


class Reporter:
    """Knows one file: turns key paths into mistakes with their lines."""

    def __init__(self, path: Path, lines: Mapping[KeyPath, int]) -> None:
        self._path = path
        self._lines = dict(lines)

    def at(self, key: KeyPath, message: str) -> Mistake:
        """A mistake about ``key``, on its line or that of the table around it."""
        return Mistake(self._path, line_of(self._lines, key), dotted(key), message)

    def about(self, complaint: Complaint) -> Mistake:
        """The mistake that one complaint is."""
        return self.at(complaint.path, _words(complaint))


def dotted(path: KeyPath) -> str:
    """The key path as people write it: ``site[0].name``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def show(value: Any) -> str:
    """What was found, short, as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def nearest(word: str, known: Sequence[str]) -> str:
    """ "; did you mean ...?" or nothing."""
    spelling = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), spelling, n=1, cutoff=0.6)
    return f'; did you mean "{spelling[close[0]]}"?' if close else ""


def _words(complaint: Complaint) -> str:
    special = _SPECIAL.get(complaint.kind)
    if special is not None:
        return special(complaint)
    expected = _EXPECTED.get(complaint.kind, complaint.message)
    return f"found {show(complaint.found)}; expected {expected}"


def _unknown_key(complaint: Complaint) -> str:
    *table, key = complaint.path
    name = _table_name(tuple(table))
    known = [key for model in TABLES.get(name, ()) for key in model.model_fields]
    hint = nearest(str(key), known)
    if not hint:
        homes = [other for other, models in TABLES.items() if any(key in model.model_fields for model in models)]
        hint = f"; it belongs in {header(homes[0])}" if homes else f"; known here: {', '.join(known)}"
    where = header(name) if name else "the file"
    return f"unknown key in {where}{hint}"


def header(name: tuple[str, ...]) -> str:
    """A table's header as the file has it."""
    if not name:
        return "the top of the file"
    return f"[[{'.'.join(name)}]]" if name in ARRAYS else f"[{'.'.join(name)}]"


def _table_name(path: KeyPath) -> tuple[str, ...]:
    return tuple(part for part in path if isinstance(part, str))


def _missing(complaint: Complaint) -> str:
    *table, key = complaint.path
    models = TABLES.get(_table_name(tuple(table)), ())
    purpose = next((m.model_fields[str(key)].description for m in models if str(key) in m.model_fields), None)
    if _table_name(tuple(table)) == ("site",) and key in ("certificate", "key"):
        return f"missing: {purpose} A site has both, for TLS: nobody is made to sign in in clear text"
    example = next((found for model in models if (found := _example(model, str(key)))), "")
    return f"missing: {purpose}{example}" if purpose else "missing"


def _example(model: type[Table], key: str) -> str:
    """ "; such as key = ..." by the schema's first example, or nothing."""
    schema = model.model_json_schema(mode="serialization")["properties"].get(key, {})
    if schema.get("type") == "array":
        examples = [schema["items"]["examples"][:1]] if "examples" in schema["items"] else []
    else:
        examples = schema.get("examples", [])
    return f" Such as {key} = {json.dumps(examples[0])}" if examples else ""


def _choice(complaint: Complaint) -> str:
    expected = complaint.context["expected"].replace("'", '"')
    hint = nearest(complaint.found, expected.split('"')[1::2]) if isinstance(complaint.found, str) else ""
    return f"found {show(complaint.found)}; expected {expected}{hint}"


def _of_no_kind(complaint: Complaint) -> str:
    kind = complaint.context.get("tag", "?")
    kinds = KINDS[str(complaint.path[0])]
    *others, last = (f'"{each}"' for each in kinds)
    expected = f"{', '.join(others)} or {last}" if others else last
    return f'found "{kind}"; expected {expected}{nearest(str(kind), kinds)}'


def _value(complaint: Complaint) -> str:
    reason = str(complaint.context["error"])
    return f"found {show(complaint.found)}; {reason}"


def _table(complaint: Complaint) -> str:
    name = _table_name(complaint.path)
    return f"found {show(complaint.found)}; expected a table {header(name)}"


def _too_many(complaint: Complaint) -> str:
    length, most = complaint.context["actual_length"], complaint.context["max_length"]
    return f"found a list of {length} elements; expected at most {most}"


def _bound(word: str, key: str) -> Callable[[Complaint], str]:
    return lambda complaint: f"found {show(complaint.found)}; expected {word} {complaint.context[key]}"


_SPECIAL: dict[str, Callable[[Complaint], str]] = {
    "extra_forbidden": _unknown_key,
    "missing": _missing,
    "literal_error": _choice,
    "union_tag_invalid": _of_no_kind,
    "value_error": _value,
    "too_long": _too_many,
    "model_type": _table,
    "model_attributes_type": _table,
    "greater_than_equal": _bound("at least", "ge"),
    "less_than_equal": _bound("at most", "le"),
}
