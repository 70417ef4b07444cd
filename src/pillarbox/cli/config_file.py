"""``pillarbox config``: the configuration file itself."""

from pillarbox.cli.configuration import load
from pillarbox.cli.framework import ConfigOption, JsonOption, example, group
from pillarbox.cli.output import say, say_json
from pillarbox.config import schema as json_schema
from pillarbox.config.shown import as_toml, keys_of

app = group("config", "The configuration file.", "pillarbox config show")


@example(app, "schema", "pillarbox config schema > pillarbox.schema.json")
def schema() -> None:
    """Print the JSON Schema of the file, for editors. Rules across keys are not in it; `check` knows them."""
    say_json(json_schema())


@example(app, "show", "pillarbox config show")
def show(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show the file with all defaults and whole paths, as a server that starts now reads it."""
    settings = load(config)
    data = keys_of(settings)
    if as_json:
        say_json({"path": str(settings.path), **data})
        return
    say(f"# {settings.path}")
    say(as_toml(data))
