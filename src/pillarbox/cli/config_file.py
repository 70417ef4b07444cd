"""``pillarbox config``: the configuration file itself."""

from pathlib import Path
from typing import Any

from pillarbox.cli.configuration import load
from pillarbox.cli.framework import ConfigOption, JsonOption, example, group
from pillarbox.cli.output import say, say_json
from pillarbox.config import schema as json_schema
from pillarbox.config.values import format_network, format_time
from pillarbox.submission.settings import Address, Network

app = group("config", "The configuration file.")


@example(app, "schema", "pillarbox config schema > pillarbox.schema.json")
def schema() -> None:
    """Print the JSON Schema of the file, for editors. Rules across keys are not in it; `check` knows them."""
    say_json(json_schema())


@example(app, "show", "pillarbox config show")
def show(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show the file as a server that starts now would read it: all defaults, whole paths."""
    settings = load(config)
    data = {name: _plain(getattr(settings, name)) for name in _PARTS}
    if as_json:
        say_json({"path": str(settings.path), **data})
        return
    say(f"# {settings.path}")
    for name, value in data.items():
        _print(name, value)


_PARTS = ("server", "log", "metrics", "spool", "guard", "directories", "sites", "delivery")


def _plain(value: Any) -> Any:
    """Settings as JSON can hold them."""
    fields = getattr(value, "__dataclass_fields__", None)
    if isinstance(value, Address | Path):
        return str(value)
    if isinstance(value, Network):
        return format_network(value)
    if isinstance(value, frozenset):
        return sorted(value)
    if fields is not None:
        return {name: _plain(getattr(value, name)) for name in fields}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if hasattr(value, "value") and hasattr(value, "name"):
        return value.value if isinstance(value.value, str) else value.name
    return value


def _print(name: str, value: Any) -> None:
    if isinstance(value, dict):
        for key, each in value.items():
            _print(f"{name}.{key}", each)
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for number, each in enumerate(value):
            _print(f"{name}[{number}]", each)
    elif isinstance(value, list):
        say(f"{name} = {', '.join(_word(each) for each in value) or '-'}")
    else:
        say(f"{name} = {_word(value)}")


def _word(value: Any) -> str:
    if isinstance(value, float):
        return format_time(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "-" if value is None else str(value)
