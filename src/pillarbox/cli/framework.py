"""What commands are made of: the only importer of typer. Help is plain text, errors are one line.

ERRORS
    CommandError: the command failed; its text is for a person and says what to do. Exit code 1.
"""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

from typer import Argument, Context, Exit, Option, Typer, confirm, prompt
from typer import BadParameter as UsageError
from typer.main import get_command

__all__ = [
    "Argument",
    "CommandError",
    "ConfigOption",
    "Context",
    "Exit",
    "JsonOption",
    "Option",
    "Typer",
    "UsageError",
    "YesOption",
    "confirm",
    "example",
    "group",
    "help_pages",
    "prompt",
]

Command = TypeVar("Command", bound=Callable[..., None])

ConfigOption = Annotated[
    Path | None,
    Option(
        "--config",
        "-c",
        envvar="PILLARBOX_CONFIG",
        metavar="FILE",
        help="The configuration file. Default: ./pillarbox.toml, else /etc/pillarbox/pillarbox.toml.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, Option("--json", help="Print JSON.")]
YesOption = Annotated[bool, Option("--yes", "-y", help="Ask nothing.")]

Verb = Callable[..., Coroutine[Any, Any, None]]


class CommandError(Exception):
    """A command failed. ``lines``: what to print on standard error, each said whole."""

    def __init__(self, *lines: str, code: int = 1) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines
        self.code = code


def group(name: str | None, text: str, line: str) -> Typer:
    """A group of commands, or the whole program; its help ends with an example."""
    return Typer(
        name=name,
        help=text,
        epilog=f"Example: {line}",
        no_args_is_help=True,
        add_completion=name is None,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


def example(app: Typer, name: str, line: str) -> Callable[[Command], Command]:
    """Registers a command whose help ends with an example."""
    return app.command(name, epilog=f"Example: {line}")


_PAGE_WIDTH = 100


def help_pages(app: Typer, name: str) -> list[tuple[str, str]]:
    """(command line, help) of the program and all its commands, as `--help` prints it, of a fixed width."""
    pages: list[tuple[str, str]] = []

    def visit(command: Any, path: str, parent: Any) -> None:
        settings = {**command.context_settings, "terminal_width": _PAGE_WIDTH}
        context = command.context_class(command, info_name=path.split(" ")[-1], parent=parent, **settings)
        pages.append((path, command.get_help(context)))
        for child, below in getattr(command, "commands", {}).items():
            visit(below, f"{path} {child}", context)

    visit(get_command(app), name, None)
    return pages
