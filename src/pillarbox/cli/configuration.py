"""Which configuration file a command means, and the way from it to the operator's verbs.

ERRORS
    CommandError: no file, or a file with mistakes (all are printed); the daemon or its files cannot be reached.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pillarbox import config
from pillarbox.cli.framework import CommandError
from pillarbox.config import ConfigError, Settings
from pillarbox.console.operations import OperationFailed, Operations
from pillarbox.telemetry import events

T = TypeVar("T")

SYSTEM_FILE = Path("/etc/pillarbox/pillarbox.toml")
_LOCAL_FILE = Path("pillarbox.toml")


def find(path: Path | None) -> Path:
    """The file meant: as given (or by PILLARBOX_CONFIG), here, or the system's."""
    if path is not None:
        return path
    for candidate in (_LOCAL_FILE, SYSTEM_FILE):
        if candidate.exists():
            return candidate
    raise CommandError(
        f"no configuration: there is no ./{_LOCAL_FILE} and no {SYSTEM_FILE}",
        "write one with `pillarbox init`, or name it with --config",
    )


def load(path: Path | None) -> Settings:
    """The settings of the file meant."""
    try:
        return config.load(find(path))
    except ConfigError as error:
        raise CommandError(*map(str, error.mistakes)) from None


@asynccontextmanager
async def operations(settings: Settings) -> AsyncIterator[Operations]:
    """The operator's verbs, through the running daemon or, when none runs, on its files."""
    from pillarbox.daemon import operator_channel  # late: the daemon's rooms are not needed for --help

    delivery = settings.delivery
    try:
        with log_to_stderr():
            async with operator_channel(settings) as channel:
                yield Operations(channel, host=delivery.host, postmaster=delivery.postmaster)
    except OperationFailed as error:
        raise CommandError(str(error)) from None
    except PermissionError as error:
        where = error.filename or settings.server.run_directory
        raise CommandError(
            f"{where}: permission denied", "run this as the server's user or one of its group"
        ) from None
    except OSError as error:
        raise CommandError(_in_words(error)) from None


def _in_words(error: OSError) -> str:
    if error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return error.strerror or str(error)


@contextmanager
def log_to_stderr() -> Iterator[None]:
    """Without a daemon its rooms work in this process and log on standard output, which is for data here."""
    events.configure(form="readable", level="warning")
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs one command's work to its end."""
    return asyncio.run(work)
