"""The composition root: settings -> objects -> roles; the supervisor, signals, reload, drain, metrics.

    code = serve(path)                         # the whole tree
    code = serve(path, role="spool")           # one role, for contrib/systemd
    async with operator_channel(settings) as channel:
        value = await channel.request("ledger.list", body)

The modules behind are imported when they are called: a role's process has only what it needs.
"""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from pillarbox.config import Settings

if TYPE_CHECKING:
    from pillarbox.daemon.offline import OperatorChannel

__all__ = ["operator_channel", "serve"]


def serve(settings_path: Path, role: str | None = None, worker: int = 0) -> int:
    """Serves until told to end; returns the exit code. See entry.serve."""
    from pillarbox.daemon import entry

    return entry.serve(settings_path, role, worker)


def operator_channel(settings: Settings) -> "AbstractAsyncContextManager[OperatorChannel]":
    """The operator's verbs, whether the daemon runs or not. See offline.operator_channel."""
    from pillarbox.daemon import offline

    return offline.operator_channel(settings)
