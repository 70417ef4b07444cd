"""A UNIX socket at a path: its mode is set before anybody can connect, a dead one's place is taken over.

ERRORS
    OSError, its text beginning with the path: a living server has it, or it cannot be made.
"""

import os
import socket
import stat
from pathlib import Path


def bind(path: Path, mode: int, group: int) -> socket.socket:
    """A bound socket at ``path``; a dead one's path is taken over, a living one's is not."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode) and not _is_served(path):
            path.unlink()
        before = os.umask(0o177)
        try:
            listening.bind(str(path))
        finally:
            os.umask(before)
        if group != -1:
            os.chown(path, -1, group)
        os.chmod(path, mode)
    except OSError as error:
        listening.close()
        reason = error.strerror or str(error)
        raise OSError(error.errno or 0, f"{path}: {reason}") from error
    listening.setblocking(False)
    return listening


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
