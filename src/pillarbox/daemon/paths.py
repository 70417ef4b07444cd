"""Where our sockets and the lock are, and who may connect to which.

    run_directory/control.sock         operators (cli, console)
    run_directory/hub.sock             our own roles
    run_directory/spool/submission.sock, delivery.sock, operator.sock
    data_directory/lock                held by the one process that has the spool open

A directory belongs to the process that makes its sockets, so that no role can put a socket of its own in another's
place. With one user per role (contrib/systemd) the peer's uid decides on top of the file's mode.
"""

import os
import pwd
from collections.abc import Callable
from pathlib import Path

from pillarbox.config import Settings
from pillarbox.control.channel import Handlers, Peer

ROLES = ("spool", "submission", "delivery")
"""In the order in which they start; they end in the opposite order, submission first of all."""

CERTIFICATES = "certificates"

ALL_ROLES = (*ROLES, CERTIFICATES)
"""The last is there only when a site has certificate = "acme"."""

ROLE_USERS = {role: f"pillarbox-{role}" for role in (*ROLES, "control")} | {CERTIFICATES: "pillarbox-submission"}
"""The users of contrib/systemd. Who gets certificates is the same user as who shows them: a key has one owner."""

OPERATORS = "pillarbox-operators"
"""The group that may use control.sock, when it exists and the hub is in it."""


def needed(settings: Settings) -> tuple[str, ...]:
    """The roles that there must be for these settings."""
    return ROLES if settings.acme is None else ALL_ROLES


def control_socket(run_directory: Path) -> Path:
    """Where operators ask."""
    return run_directory / "control.sock"


def hub_socket(run_directory: Path) -> Path:
    """Where our roles report and hear of reloads."""
    return run_directory / "hub.sock"


def spool_socket(run_directory: Path, who: str) -> Path:
    """Where ``who`` (submission, delivery, operator) reaches the spool process."""
    return run_directory / "spool" / f"{who}.sock"


def lock_file(data_directory: Path) -> Path:
    """The lock of the single instance."""
    return data_directory / "lock"


def users(*roles: str) -> frozenset[int]:
    """uids of the roles' users: root, our own, and those of contrib/systemd that exist."""
    found = {0, os.geteuid()}
    for role in roles:
        try:
            found.add(pwd.getpwnam(ROLE_USERS[role]).pw_uid)
        except KeyError:  # one user for all roles
            continue
    return frozenset(found)


def for_users(handlers: Handlers, *roles: str) -> Callable[[Peer], Handlers | None]:
    """What serve() wants: these handlers for the users of these roles, nothing for anybody else."""
    allowed = users(*roles)
    return lambda peer: handlers if peer.uid in allowed else None
