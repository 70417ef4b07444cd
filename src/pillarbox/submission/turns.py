"""Turns: sessions that cost much and have shown little share a bounded part of the worker's time.

    turns = Turns(share=0.3)
    await turns.wait(place, COMMAND)        # returns at once while there is time to spend, else when it is one's turn

Whoever floods a server with commands, connections or handshakes costs the others their time on the worker's one
thread. So those who have not signed in from a place where nobody signed in lately, and signed-in sessions that do
much and send nothing, pay for each step from a purse of their own: all of them together get ``share`` of the time,
one step of each key in turn, so that a thousand connections of one place wait as long as the only one of another.
Whoever came last is next: under a flood nobody who waits long is served anyway (the lobby of admission.py ends the
oldest), and so an honest newcomer has its chance at once and again each time it comes back. Everybody else never
asks. Costs are what a step takes on one core of today, rounded up; they need not be exact, for only their order of
magnitude decides.

Knows nothing of sockets, sites or replies; a waiter may be cancelled at any time.

ERRORS
    ValueError: a share that is none, a caller's bug.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable

from pillarbox.telemetry.counters import counter

WAITED = counter(
    "turns_waited_total", "Steps of strangers and of sessions that send nothing that had to wait their turn"
)

HANDSHAKE = 0.0018
"""Seconds of work: a TLS handshake with a full key exchange."""

COMMAND = 0.00006
"""One command and its reply."""

CONNECTION = 0.0008
"""A connection, until it is greeted or a handshake may begin, and its end; rounded up far enough that thousands who
come again and again leave honest users alone (`make attacks`)."""

_BURST = 0.005
"""Seconds of unspent time that are kept."""


Step = tuple[float, Callable[[], object]]
"""What it costs, and what is called when it is its turn."""


class Turns:
    """See the module's text. To be used in one event loop."""

    def __init__(self, share: float) -> None:
        if not 0 < share <= 1:
            raise ValueError("a share of the time is above 0 and at most 1")
        self._share = share
        self._spent_until = 0.0
        self._over = False
        self._lines: OrderedDict[str, deque[Step]] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, key: str, cost: float) -> None:
        """Returns when a step of ``cost`` seconds may be done for ``key``."""
        loop = asyncio.get_running_loop()
        if self.spend(cost):
            return
        turn: asyncio.Future[None] = loop.create_future()
        step = self.queue(key, cost, lambda: None if turn.done() else turn.set_result(None))
        try:
            await turn
        finally:
            self.forget(key, step)

    def spend(self, cost: float) -> bool:
        """Whether a step may be done at once, and nobody waits for one; if so it is paid for."""
        return self._over or (not self._lines and self._spend(cost, asyncio.get_running_loop().time()))

    def queue(self, key: str, cost: float, begin: Callable[[], object]) -> Step:
        """Calls ``begin`` when it is the turn of a step that spend() had no time for; forget() it to take it back."""
        WAITED.add()
        step: Step = (cost, begin)
        self._lines.setdefault(key, deque()).append(step)
        self._lines.move_to_end(key)
        self._wake_later(asyncio.get_running_loop())
        return step

    def forget(self, key: str, step: Step) -> None:
        """It leaves its line at once, if it is there: a flood of those who come and go must leave nothing."""
        line = self._lines.get(key)
        if line is not None and step in line:
            line.remove(step)
            if not line:
                del self._lines[key]

    def end(self) -> None:
        """Nobody waits any more: the worker is about to end, and all it has to say now is goodbye."""
        self._over = True
        lines, self._lines = self._lines, OrderedDict()
        for line in lines.values():
            for _, begin in line:
                begin()

    def _spend(self, cost: float, now: float) -> bool:
        if self._spent_until > now:
            return False
        self._spent_until = max(self._spent_until, now - _BURST) + cost / self._share
        return True

    def _wake_later(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is None:
            self._timer = loop.call_at(self._spent_until, self._serve, loop)

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """Lets in whoever is next while there is time to spend."""
        self._timer = None
        now = loop.time()
        while self._lines:
            key = next(reversed(self._lines))
            line = self._lines[key]
            cost, begin = line[0]
            if not self._spend(cost, now):
                self._wake_later(loop)
                return
            line.popleft()
            if line:
                self._lines.move_to_end(key, last=False)  # behind the others
            else:
                del self._lines[key]
            begin()
