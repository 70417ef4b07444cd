"""Ports of 127.0.0.1 that stay free while their server is down for a while.

A port that the kernel gives (port 0) is from the range of outgoing connections: while its server is dead some
client's connection may take it, and the server cannot come back. These are from outside that range.
"""

import contextlib
import random
import socket
from pathlib import Path

_RANDOM = random.SystemRandom()
"""Not the tests' seeded randomness: two runs at once must not choose alike."""


def steady_ports(count: int) -> list[int]:
    """``count`` different ports that nobody listens at now."""
    first, last = _outgoing()
    candidates = [port for port in range(10_000, 60_000) if not first <= port <= last]
    found: list[int] = []
    for port in _RANDOM.sample(candidates, len(candidates)):
        if len(found) == count:
            break
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    assert len(found) == count, f"only {len(found)} free ports"
    return found


def _outgoing() -> tuple[int, int]:
    try:
        first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    except OSError:
        return 32_768, 60_999
    return first, last
