"""Commands, thin: parse, call console.operations, doctor or bench, print."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """The entry point ``pillarbox``."""
    try:
        from pillarbox.cli.app import run_program  # late: importing the room must not load every command
    except ImportError as error:
        sys.exit(f"error: Pillarbox is not completely installed: {error}; install it again with pip")
    except KeyboardInterrupt:
        sys.exit(130)
    run_program()
