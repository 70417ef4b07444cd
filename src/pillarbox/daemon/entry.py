"""What ``pillarbox serve`` calls: the whole tree, or one role by itself.

ERRORS
    Reported on standard error in words; the exit code is 1.
"""

import os
import sys
import tomllib
from pathlib import Path

from pillarbox.config import ConfigError, Settings, load
from pillarbox.daemon import certificates_role, loop, notify, privileges, sockets, spools
from pillarbox.daemon.hub import all_addresses
from pillarbox.daemon.process import in_words, run_role
from pillarbox.daemon.roles import OPERATOR_VERBS, ROLES
from pillarbox.daemon.sockets import Sockets
from pillarbox.daemon.supervisor import Supervisor
from pillarbox.spool.settings import EmbeddedSettings
from pillarbox.telemetry import events

log = events.get_logger("daemon")

CONTROL = "control"
"""The role that is the hub alone."""


def serve(settings_path: Path, role: str | None = None, worker: int = 0) -> int:
    """Serves until told to end. Returns the exit code (0 or 1).

    Args:
        settings_path: pillarbox.toml.
        role: None: everything, under a supervisor; "spool", "submission", "delivery" or "control": that role in this
            process, for a service manager that runs each as its own user.
        worker: the number of this worker among those of its role; for the log.
    """
    path = settings_path.resolve()
    try:
        if role is None:
            return _serve_tree(path)
        if role == CONTROL:
            return _serve_hub(path)
        user = privileges.check_user(load(path).server)
        if user is not None:
            raise privileges.NotAllowed(f"a single role is not started as root: start it as {user.pw_name!r}")
        return min(run_role(role, worker, path, ROLES[role]), 1)
    except (ConfigError, OSError) as error:
        print(in_words(error), file=sys.stderr)
        return 1


def _serve_tree(path: Path) -> int:
    settings = load(path)
    server = settings.server
    user = privileges.check_user(server)
    loop.raise_file_limit()
    bound, responder = _sockets(settings)
    try:
        privileges.make_directory(server.data_directory, 0o700, user)
        if isinstance(settings.spool, EmbeddedSettings):
            privileges.make_directory(settings.spool.directory, 0o700, user)
        privileges.make_directory(server.run_directory, 0o750, user)
        privileges.make_directory(server.run_directory / "spool", 0o750, user)
        privileges.drop(user)
    except BaseException:
        sockets.close((*bound, responder))
        raise
    return _supervise(path, settings, bound, responder)


def _serve_hub(path: Path) -> int:
    settings = load(path)
    if privileges.check_user(settings.server) is not None:
        raise privileges.NotAllowed("a single role is not started as root")
    privileges.make_directory(settings.server.run_directory, 0o750, None)
    return _supervise(path, settings, None)


def _supervise(path: Path, settings: Settings, bound: list[Sockets] | None, responder: Sockets | None = None) -> int:
    events.configure(
        form="json" if settings.log.form == "json" else "readable",
        level=settings.log.level,
        role=CONTROL if bound is None else "supervisor",
    )

    weaker = spools.weaker_promise(settings)
    if weaker is not None:
        log.warning("durability.local", reason=weaker)

    async def supervise() -> int:
        return await Supervisor(path, settings, bound, responder=responder, forward=OPERATOR_VERBS).run()

    return loop.run(supervise())


def _sockets(settings: Settings) -> tuple[list[Sockets], Sockets]:
    """Those of the submission workers, and those of the certificates role: from systemd when it passed some (then one
    worker, unless the file names a number), else bound here."""
    addresses, own = all_addresses(settings), certificates_role.addresses(settings)
    passed = notify.take_listen_fds(os.environ)
    if not passed:
        bound = sockets.bind(addresses, settings.server.submission_workers)
        try:
            return bound, sockets.bind(own, 1)[0]
        except OSError:
            sockets.close(bound)
            raise
    adopted = sockets.adopt(passed, [*addresses, *own])
    responder = {address: adopted.pop(address) for address in own}
    named = "submission_workers" in tomllib.loads(settings.text).get("server", {})
    return [adopted] * (settings.server.submission_workers if named else 1), responder
