"""The machine as the server's user sees it: `check` is typed by root, and root may read everything.

    with seeing_as(server_user(settings.server, "submission")):
        finding = unreadable("site mail.example.org", "key", path)

The kernel is asked, not modes and groups: for the time of a look this process is that user, as far as it can be and
come back. Only files are looked at so; nothing is imported or started meanwhile.

ERRORS
    None raised: what is wrong is a Finding.
"""

import grp
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path

from pillarbox.config.settings import ServerSettings
from pillarbox.doctor.report import Finding, Severity

_MOST_ENTRIES = 10_000
"""How many files of the spool are looked at: those that an earlier start left are among the first."""

_WRITTEN = (".db", ".db-wal", ".db-shm", "lock")
"""How names of files end that are opened for writing."""

_FOLDERS = frozenset({"spool", "new", "cur", "tmp"})
"""Our folders within data_directory, run_directory and a maildir; what else lies there is not ours to judge."""


def server_user(server: ServerSettings, role: str) -> pwd.struct_passwd | None:
    """Whom ``role`` will run as when we are root: the configured user, else that of its unit. None: as ourselves."""
    if os.geteuid() != 0 or server.run_as_root:
        return None
    try:
        return pwd.getpwnam(server.user or f"pillarbox-{role}")
    except KeyError:
        return None


@contextmanager
def seeing_as(user: pwd.struct_passwd | None) -> Iterator[None]:
    """Within, this process is ``user`` for the kernel, with all of its groups; None changes nothing."""
    if user is None or user.pw_uid == 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups(os.getgrouplist(user.pw_name, user.pw_gid))
    os.setresgid(user.pw_gid, user.pw_gid, 0)
    os.setresuid(user.pw_uid, user.pw_uid, 0)  # the real one too: access(2) goes by it
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)


def unreadable(subject: str, what: str, path: Path) -> Finding | None:
    """Why whoever we are cannot read this file; None when that is not so, or it is not there."""
    who, group = user_name(), _group_name()
    folder = closed_folder(path)
    if folder is not None:
        message = f"{who} cannot get to the {what} {path}: the folder {folder} is closed"
        return _blocking(subject, message, f"chgrp {group} {folder}; chmod g+x {folder}; or name another place")
    if not path.exists() or os.access(path, os.R_OK):
        return None
    advice = f"chgrp {group} {path}; chmod 0640 {path}"
    return _blocking(subject, f"the {what} {path} cannot be read by {who}", advice)


def closed_folder(path: Path) -> Path | None:
    """The first folder on the way to ``path`` that whoever we are may not enter."""
    for folder in reversed(path.parents):
        try:
            if not folder.is_dir():
                return None
        except OSError:
            return None
        if not os.access(folder, os.X_OK):
            return folder
    return None


def check_folder(subject: str, what: str, path: Path, *, made_for_us: bool = False) -> Iterator[Finding]:
    """A folder that whoever we are can write to, or can make; ``made_for_us``: root makes it when it is missing."""
    who = user_name()
    closed = closed_folder(path)
    nearest = path if closed is None else closed
    while closed is None and not nearest.exists():
        nearest = nearest.parent
    if closed is not None:
        message = f"{who} cannot get to the {what} {path}: the folder {closed} is closed"
        yield _blocking(subject, message, f"name another place, or chmod o+x {closed}")
    elif not nearest.is_dir():
        message = f"the {what} {path} cannot be: {nearest} is no folder"
        yield _blocking(subject, message, "remove it or name another")
    elif nearest == path and not os.access(path, os.W_OK | os.X_OK):
        yield _blocking(subject, f"the {what} {path} is not writable by {who}", f"chown -R {who} {path}")
    elif nearest == path:
        yield _first_foreign(subject, path, who) or Finding(Severity.OK, subject, f"{path} is writable")
    elif made_for_us or os.access(nearest, os.W_OK | os.X_OK):
        yield Finding(Severity.NOTE, subject, f"{path} does not exist yet and will be made")
    else:
        message = f"the {what} {path} does not exist and {who} cannot make it"
        yield _blocking(subject, message, f"make it: install -d -m 0750 -o {who} {path}")


def _first_foreign(subject: str, path: Path, who: str) -> Finding | None:
    """What another user left inside, such as root's first try without a user, and ours cannot open."""
    entries = chain(_ours(path), (path / "spool").rglob("*"))
    for entry in islice(entries, _MOST_ENTRIES):
        if not os.access(entry, _wanted(entry)):
            message = f"{entry} cannot be opened by {who}: another user made it"
            return _blocking(subject, message, f"chown -R {who} {path}")
    return None


def _ours(path: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(path))
    except PermissionError:  # it may be entered and not listed
        return []
    return [path / name for name in names if name in _FOLDERS or name.endswith(_WRITTEN)]


def _wanted(entry: Path) -> int:
    if entry.is_dir():
        return os.R_OK | os.W_OK | os.X_OK
    return os.R_OK | os.W_OK if entry.name.endswith(_WRITTEN) else os.R_OK


def user_name() -> str:
    """Who we are now, as commands want it."""
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name() -> str:
    gid = os.getegid()
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _blocking(subject: str, message: str, advice: str) -> Finding:
    return Finding(Severity.ERROR, subject, message, advice, blocks=True)
