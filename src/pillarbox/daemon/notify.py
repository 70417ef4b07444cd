"""What we say to systemd, in datagrams, and what it hands over: readiness, watchdog, sockets.

    notify("READY=1")                  # nothing happens without NOTIFY_SOCKET
    take_listen_fds(os.environ)        # {descriptor: name} of socket activation, and forgets the variables

STANDARDS
    sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3).
ERRORS
    None: a service manager that does not listen is no reason to stop.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

_FIRST_DESCRIPTOR = 3

OURS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
"""Variables that are for one process and not for its children."""


def notify(*lines: str) -> None:
    """Sends one datagram to the service manager."""
    where = os.environ.get("NOTIFY_SOCKET", "")
    if not where:
        return
    address = "\0" + where[1:] if where.startswith("@") else where
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        datagrams.connect(address)
        datagrams.sendall("\n".join(lines).encode())


def notify_reloading() -> None:
    """RELOADING with the clock that Type=notify-reload wants; READY=1 follows when it is done."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_interval() -> float | None:
    """Seconds between two WATCHDOG=1 (half of what was asked), or None when nobody watches this process."""
    asked, whose = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not asked.isdecimal() or (whose and whose != str(os.getpid())):
        return None
    return int(asked) / 2_000_000


async def keep_watchdog() -> None:
    """Says WATCHDOG=1 as long as the loop turns; returns at once when nobody watches."""
    interval = watchdog_interval()
    while interval is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval)


def take_listen_fds(environment: MutableMapping[str, str]) -> dict[int, str]:
    """The descriptors that socket activation handed to this process, with their names; they become private."""
    count, whose = environment.get("LISTEN_FDS", ""), environment.get("LISTEN_PID", "")
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        environment.pop(name, None)
    if not count.isdecimal() or whose != str(os.getpid()):
        return {}
    taken = {}
    for index in range(int(count)):
        descriptor = _FIRST_DESCRIPTOR + index
        os.set_inheritable(descriptor, False)
        taken[descriptor] = names[index] if index < len(names) else ""
    return taken
