"""Root at start-up only: who we may run as, and how root is given up after the ports are bound.

ERRORS
    NotAllowed: started as root without ``server.user`` or ``server.run_as_root``, or the user does not exist.
    OSError: a directory cannot be made.
"""

import os
import pwd
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pillarbox.config.settings import ServerSettings

_PR_SET_PDEATHSIG = 1


class NotAllowed(OSError):
    """The process may not go on as who it is; ``str()`` says what to change."""


def check_user(server: ServerSettings) -> pwd.struct_passwd | None:
    """The user to become, or None to stay who we are."""
    if os.geteuid() != 0:
        return None
    user = find_user(server)
    if user is None and not server.run_as_root:
        raise NotAllowed(
            "started as root: name an unprivileged user in server.user, or say server.run_as_root = true"
        )
    return user


def find_user(server: ServerSettings) -> pwd.struct_passwd | None:
    """Who server.user is; None when it is not said. Raises NotAllowed when there is no such user."""
    if server.user is None:
        return None
    try:
        return pwd.getpwnam(server.user)
    except KeyError:
        raise NotAllowed(f"server.user: there is no user {server.user!r}") from None


def make_directory(path: Path, mode: int, user: pwd.struct_passwd | None) -> None:
    """Makes the directory if it is not there (its parents with the usual mode), for ``user`` when we are root."""
    if path.is_dir():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=mode)
        path.chmod(mode)
        if user is not None:
            os.chown(path, user.pw_uid, user.pw_gid)
    except OSError as error:
        raise OSError(error.errno or 0, f"cannot be made: {error.strerror}", str(path)) from error


def drop(user: pwd.struct_passwd | None) -> None:
    """Becomes ``user`` for good: groups, group, user; checks that there is no way back."""
    if user is None:
        return
    os.initgroups(user.pw_name, user.pw_gid)
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    os.environ["HOME"] = user.pw_dir
    if os.getresuid() != (user.pw_uid,) * 3 or user.pw_uid == 0:
        raise NotAllowed(f"server.user: {user.pw_name!r} is root")


@contextmanager
def acting_for(directory: Path, user: pwd.struct_passwd | None) -> Iterator[None]:
    """When we are root: files made inside belong to ``user``, else to the directory's owner, and nothing is opened
    with root's rights in a place that somebody else rules."""
    uid, gid = (user.pw_uid, user.pw_gid) if user is not None else (0, 0)
    if os.geteuid() == 0 and user is None and directory.is_dir():
        status = directory.stat()
        uid, gid = status.st_uid, status.st_gid
    if os.geteuid() != 0 or uid == 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups(_groups_of(uid, gid))
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def _groups_of(uid: int, gid: int) -> list[int]:
    """Those of the user database: large contents are read through one of them."""
    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        return [gid]


def end_with_parent(parent: int) -> None:
    """This process gets SIGTERM when ``parent`` dies, so that no worker is left behind by a killed supervisor."""
    import ctypes  # here only: its import wants memory that is writable and executable, which the units forbid

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked
        os.kill(os.getpid(), signal.SIGTERM)
