"""What a run left behind that was killed and could end nothing: processes, mounted disks, its folder. Linux.

    with owned(folder):                   # as long as this process lives, the folder is its own
        ...
    for what in swept(): print(what)      # and what nobody owns any more is ended, unmounted, removed

A folder's owner holds a lock on a file in it. The kernel gives that up when the owner dies, however it dies, and
never before; so whoever gets the lock knows that nobody is there. Only folders with such a file are looked at.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.processes import alive, kill_tree, signal_all

PREFIX = "cluster-"
"""What the folders' names begin with."""
_LOCK = "in-use"
_PROGRAMS = ("etcd", "patroni", "postgres", "pillarbox")


@contextlib.contextmanager
def owned(folder: Path) -> Iterator[None]:
    """This process owns the folder. Its children do not."""
    with (folder / _LOCK).open("wb") as lock:  # no child inherits it
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def swept(within: Path | None = None) -> list[str]:
    """Ends, unmounts and removes what nobody owns in ``within`` (by itself: where scratch folders are); says what."""
    done = []
    for lock_path in sorted((within or Path(tempfile.gettempdir())).glob(f"{PREFIX}*/{_LOCK}")):
        with contextlib.suppress(OSError), lock_path.open("rb") as lock:
            if os.fstat(lock.fileno()).st_uid != os.geteuid():
                continue
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its owner lives
            done += _remove(lock_path.parent)
    return done


def _remove(folder: Path) -> list[str]:
    pids = _processes(folder)
    signal_all(pids, signal.SIGSTOP)  # none starts another one meanwhile
    for pid in pids:
        if alive(pid):
            kill_tree(pid)
    mounts = mounted(folder)
    for mount in mounts:
        done = subprocess.run(("umount", str(mount)), capture_output=True, text=True)
        if done.returncode:
            return [f"{folder}, of a run that was killed, stays: {done.stderr.strip()}"]
    shutil.rmtree(folder, ignore_errors=True)
    found = [f"{len(pids)} processes" if pids else "", *(f"the mount {mount}" for mount in mounts)]
    return [f"{folder}, of a run that was killed: removed" + "".join(f", {what}" for what in found if what)]


def _processes(folder: Path) -> list[int]:
    """Those of our programs that work there or were told to."""
    found = []
    for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
            place = Path(f"/proc/{pid}/cwd").readlink()
        except OSError:
            continue  # it has ended
        ours = any(Path(word.partition(":")[0]).name in _PROGRAMS for word in words[:5])
        there = place.is_relative_to(folder) or any(f"{folder}/" in word for word in words)
        if ours and there:
            found.append(pid)
    return found


def mounted(folder: Path) -> list[Path]:
    """Mount points below a folder, the innermost first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [Path(line.split()[4]) for line in lines]
    return sorted((point for point in points if point.is_relative_to(folder)), reverse=True)
