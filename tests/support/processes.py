"""Whole trees of processes: kill or stop all at once, as when a machine dies or hangs. Linux (/proc).

Also how a server that a test starts is waited for and ended (``until_ready``, ``end``), and how a test that is root
starts programs that refuse to run as root: ``unprivileged`` gives the arguments for subprocess, ``hand_over`` makes a
folder that user's own.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict


class As(TypedDict, total=False):
    """Arguments of subprocess.Popen that choose who runs it; empty for the user that we are."""

    user: int
    group: int
    extra_groups: list[int]


def unprivileged() -> As:
    """``nobody`` if we are root, else ourselves."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam("nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def hand_over(path: Path) -> None:
    """Gives a file, or a folder with all that is in it, to the user of ``unprivileged``."""
    who = unprivileged()
    if who:
        for each in (path, *path.rglob("*")):
            shutil.chown(each, who["user"], who["group"])


def until_ready(
    process: subprocess.Popen[bytes], ask: Callable[[], object], log: Callable[[], str], timeout: float = 30.0
) -> None:
    """Returns as soon as ``ask()`` raises no OSError. Raises AssertionError with the log when the process has ended,
    or when that takes too long."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            ask()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(log()) from None
            time.sleep(0.02)


def end(process: subprocess.Popen[bytes], timeout: float = 30.0) -> None:
    """SIGTERM; if that is not enough, SIGKILL for it and all below it."""
    process.terminate()
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        kill_tree(process.pid)
        process.wait()


def descendants(pid: int) -> list[int]:
    """All living processes below ``pid``, parents first, zombies left out."""
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            parent = _parent(int(entry.name))
            if parent is not None:
                below.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    ahead = [pid]
    while ahead:
        children = below.get(ahead.pop(), [])
        found += children
        ahead += children
    return found


def kill_tree(pid: int, *, timeout: float = 10.0) -> None:
    """SIGKILL for ``pid`` and all below it, before any of them can act on another's death; returns when all are gone.

    Reaping ``pid`` itself is its parent's business (Popen.wait).
    """
    pids = [pid]
    signal_all(pids, signal.SIGSTOP)  # a stopped parent starts nothing while its children are listed
    pids += descendants(pid)
    signal_all(pids, signal.SIGKILL)
    deadline = time.monotonic() + timeout
    while any(alive(each) for each in pids):
        assert time.monotonic() < deadline, f"still there after SIGKILL: {[p for p in pids if alive(p)]}"
        time.sleep(0.005)


def signal_all(pids: list[int], number: signal.Signals) -> None:
    """Sends a signal to each that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def alive(pid: int) -> bool:
    """Whether it exists and is no zombie."""
    return _parent(pid) is not None


def _parent(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent = stat.rpartition(")")[2].split()[:2]
    return None if state in "ZX" else int(parent)
