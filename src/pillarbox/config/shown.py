"""The file's keys as they hold: all defaults, whole paths, in the names and units of the file.

    data = keys_of(settings)        # {"server": {"drain_time": "30s", ...}, "site": [{...}], ...}
    print(as_toml(data))            # a file that says the same, and nothing by default

Keys that are not set and have no default are left out.

ERRORS
    None: the settings come from a file that was taken.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from pillarbox.config import model
from pillarbox.config.acme_table import ACME
from pillarbox.config.directories.local import LocalTable
from pillarbox.config.reference import keys
from pillarbox.config.settings import Settings
from pillarbox.delivery.settings import SmarthostRoute

Table = dict[str, Any]


def keys_of(settings: Settings) -> Table:
    """Every key that holds something, by its table; arrays of tables are lists."""
    tables = model.validate(tomllib.loads(settings.text))
    if isinstance(tables, list):
        return {}
    data: Table = tables.model_dump(mode="json", exclude_none=True)
    data["directory"] = data["directory"] or [LocalTable().model_dump(mode="json", exclude_none=True)]
    data["server"]["submission_workers"] = settings.server.submission_workers
    data["delivery"] |= {"host": settings.delivery.host, "postmaster": settings.delivery.postmaster}
    if data["spool"]["kind"] == "embedded":
        del data["spool"]["durability"], data["spool"]["cell"]
    for table, route in zip(data["route"], settings.delivery.routes, strict=True):
        if isinstance(route, SmarthostRoute):
            table["port"] = route.port
    _leave_out_what_does_not_hold(data)
    base = settings.path.absolute().parent
    for name, table in _tables(data):
        for key in _paths(name) & table.keys():
            if (name, key, table[key]) != (("site",), "certificate", ACME):
                table[key] = str(base / table[key])
    return data


def _leave_out_what_does_not_hold(data: Table) -> None:
    """Defaults in whose place another key stands."""
    if "acme" in data and data["acme"]["hook"]:
        del data["acme"]["listen"]
    for site in data["site"]:
        if "legacy" in site:
            del site["tls_minimum_version"]  # minimum_tls stands for it
        if site["strict_text_lines"]:
            del site["max_text_line"]


def as_toml(data: Mapping[str, Any]) -> str:
    """The same as a file."""
    return "\n".join(_lines(dict(data), ()))


def _paths(name: tuple[str, ...]) -> set[str]:
    return {key.name for table in model.TABLES[name] for key in keys(name, table) if key.form == "path"}


def _tables(data: Table, name: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Table]]:
    yield name, data
    for key, value in data.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                yield from _tables(each, (*name, key))


def _lines(table: Table, name: tuple[str, ...]) -> Iterator[str]:
    """Values first: in TOML a table ends where the next one begins."""
    below = {key: value for key, value in table.items() if (*name, key) in model.TABLES}
    yield from (f"{key} = {_value(value)}" for key, value in table.items() if key not in below)
    for key, value in below.items():
        header = ".".join((*name, key))
        for each in value if isinstance(value, list) else [value]:
            yield f"\n[[{header}]]" if isinstance(value, list) else f"\n[{header}]"
            yield from _lines(each, (*name, key))


def _value(value: Any) -> str:
    # strings, whole numbers, booleans and lists of them: JSON writes those as TOML does
    return json.dumps(value, ensure_ascii=False)
