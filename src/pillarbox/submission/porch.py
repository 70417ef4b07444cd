"""The porch: where strangers' connections wait, as bare sockets, when more come than the worker has time for.

    porch = Porch(turns, known)
    porch.come(peer, sock, go)      # calls go at once, or when it is its turn, or closes the socket

A flood of connections costs most in what is made of each: a transport, a session, a greeting. So one from a place
where nobody signed in lately pays for that from the strangers' share of the time first, and whoever came last is next
(turns.py). Those that are let wait are so many at most; then the one that has waited longest is closed: it costs us a
socket and no more.

Knows nothing of sites and sessions. A worker that ends lets in who waits, to be told so.

ERRORS
    None.
"""

import socket
from collections import OrderedDict
from collections.abc import Callable

from pillarbox.guard.prefix import prefix
from pillarbox.submission.turns import CONNECTION, Step, Turns
from pillarbox.telemetry.counters import counter

MOST = 4096
"""Sockets that wait at most, if the process may have so many files."""

CLOSED = counter("connections_not_let_in_total", "Strangers' connections closed because too many came at once")


class Porch:
    """See the module's text. ``known``: whether somebody signed in from an address lately; no I/O."""

    def __init__(self, turns: Turns, known: Callable[[str], bool], most: int = MOST) -> None:
        self.turns = turns
        self._known = known
        self._most = most
        self._waiting: OrderedDict[socket.socket, tuple[str, Step]] = OrderedDict()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def come(self, peer: str, sock: socket.socket, go: Callable[[], None]) -> None:
        """``peer``: the address it comes from."""
        if self._known(peer) or self.turns.spend(CONNECTION):
            go()
            return
        place = prefix(peer)

        def begin() -> None:
            del self._waiting[sock]
            go()

        self._waiting[sock] = (place, self.turns.queue(place, CONNECTION, begin))
        if len(self._waiting) > self._most:
            self._close_oldest()

    def _close_oldest(self) -> None:
        oldest, (place, step) = self._waiting.popitem(last=False)
        self.turns.forget(place, step)
        oldest.close()
        CLOSED.add()
