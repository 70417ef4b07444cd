"""Reads pillarbox.toml: the whole file is taken, or refused with all its mistakes.

    settings = load(Path("/etc/pillarbox/pillarbox.toml"))

ERRORS
    ConfigError: the one mistake of syntax, or all mistakes of meaning, each with its line. An unreadable file is a
    ConfigError too.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

from pillarbox.config import lines, model, rules
from pillarbox.config.build import build
from pillarbox.config.mistakes import Reporter
from pillarbox.config.remainder import further_mistakes
from pillarbox.config.settings import ConfigError, Mistake, Settings

_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)\Z")


def load(path: Path) -> Settings:
    """The settings in the file at ``path``. Raises ConfigError."""
    try:
        octets = path.read_bytes()
    except FileNotFoundError:
        raise _refused(path, 0, "there is no such file; `pillarbox init` writes one") from None
    except OSError as error:
        raise _refused(path, 0, f"cannot be read: {error.strerror}") from None
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise _refused(path, line, "found octets that are not UTF-8; TOML is UTF-8") from None
    return parse(text, path)


def parse(text: str, path: Path) -> Settings:
    """The settings in ``text``; ``path`` is where it came from: relative paths in it start at its folder.

    Raises ConfigError.
    """
    data = _toml(text, path)
    reporter = Reporter(path, lines.locate(text))
    tables = model.validate(data)
    if not isinstance(tables, list):
        broken = rules.check(tables)
        if not broken:
            return build(tables, path, text)
        mistakes = []
    else:
        broken = further_mistakes(data, tables)
        mistakes = [reporter.about(complaint) for complaint in tables]
    mistakes += [reporter.at(key, message) for key, message in broken]
    raise ConfigError(tuple(sorted(dict.fromkeys(mistakes), key=lambda mistake: mistake.line)))


def schema() -> dict[str, Any]:
    """JSON Schema of the file, for editors. Its description says what is not in it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **model.json_schema(),
        "title": "pillarbox.toml",
        "description": (
            "The configuration file of Pillarbox. Rules across keys are not in this schema (for example: port 25 is "
            "refused, sites that share an address must agree on TLS, a site's directory must exist); "
            "`pillarbox check` knows them all."
        ),
    }


def _toml(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = _PLACE.search(message)
        line = int(place.group(1)) if place and place.group(1) else text.count("\n") + 1
        column = f" (column {place.group(2)})" if place and place.group(2) else ""
        plain = _PLACE.sub("", message)
        raise _refused(path, line, f"not TOML: {plain[:1].lower()}{plain[1:]}{column}") from None
    except RecursionError:
        raise _refused(path, 1, "not TOML that can be read: nested too deeply") from None


def _refused(path: Path, line: int, message: str) -> ConfigError:
    return ConfigError((Mistake(path, line, "", message),))
