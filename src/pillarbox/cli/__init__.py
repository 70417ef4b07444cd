"""Commands, thin: parse, call console.operations, doctor or bench, print."""

from typing import NoReturn


def main() -> NoReturn:
    """The entry point ``pillarbox``."""
    from pillarbox.cli.app import run_program  # late: importing the room must not load every command

    run_program()
