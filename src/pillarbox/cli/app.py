"""The program: all commands together, and the one place where errors end.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. Nobody is ever shown a traceback, unless
PILLARBOX_TRACEBACK=1 asks for it.
"""

import os
import sys
import traceback
from typing import NoReturn

from pillarbox import __version__
from pillarbox.cli import (
    bench,
    check,
    cluster,
    config_file,
    directory,
    guard,
    import_people,
    initialise,
    queue,
    serve,
    spool,
    user,
)
from pillarbox.cli.framework import CommandError, JsonOption, example, group
from pillarbox.cli.output import say, say_error, say_json

app = group(
    None,
    "Pillarbox, a mail submission server: people sign in, and their mail is relayed.",
    "pillarbox init --name mail.example.org --relay mx.example.org",
)


@example(app, "version", "pillarbox version")
def version(as_json: JsonOption = False) -> None:
    """Print the version."""
    if as_json:
        say_json({"version": __version__})
    else:
        say(f"pillarbox {__version__}")


initialise.register(app)
check.register(app)
serve.register(app)
bench.register(app)
app.add_typer(user.app)
app.add_typer(directory.app)
app.add_typer(import_people.app)
app.add_typer(queue.app)
app.add_typer(guard.app)
app.add_typer(cluster.app)
app.add_typer(spool.app)
app.add_typer(config_file.app)


def run_program() -> NoReturn:
    """Runs the command on the command line and exits."""
    try:
        app()
    except CommandError as error:
        say_error(*error.lines)
        sys.exit(error.code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if os.environ.get("PILLARBOX_TRACEBACK") == "1":
            traceback.print_exc()
        text = " ".join(str(error).split())
        say_error(f"internal error: {type(error).__name__}: {text} (set PILLARBOX_TRACEBACK=1 to see where)")
        sys.exit(1)
    sys.exit(0)
