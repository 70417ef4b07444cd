"""Next hops, their queues and the connections that are kept to them.

A hop has a queue of consignments and one worker coroutine per connection. A worker opens a carrier, carries what
the queue has, waits a while for more, and closes. Connections are opened as the queue asks for them, up to the
route's concurrency and, over all hops, to a number of slots; when another hop waits for a slot, idle connections
go first, then a hop that has more than one gives one up between two messages.

A hop that was never reached, or not since its last failure, is tried with one connection. When that fails the hop
is suspended: everything queued for it is reported as deferred with that reason, and so is whatever comes until the
pause ends (30 seconds, doubled with each failure up to 10 minutes; an operator may lift it). A dead next hop costs
one connection per pause instead of one per message. When other connections to the hop are open, the failure means
"no more of them": the hop works on with those it has and asks again after a minute.

A consignment whose outcome could not be settled now is put aside until the scheduler says that things go on.

ERRORS
    None leave this module: what a worker did not foresee is logged and its consignment reported as deferred.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from typing import Final

from pillarbox.delivery.consignment import Carrier, Consignment, NextHopUnavailable, Report, TryLater
from pillarbox.telemetry.counters import counter, gauge
from pillarbox.telemetry.events import get_logger

FIRST_PAUSE: Final = 30.0
LONGEST_PAUSE: Final = 600.0
LIMITED_FOR: Final = 60.0
QUEUE_PER_CONNECTION: Final = 4
MOST_LANES: Final = 10_000

_log = get_logger("delivery")
_CONNECTIONS = counter("next_hop_connections_total", "Connections to next hops by result", labels=("result",))
_SUSPENSIONS = counter("next_hop_suspensions_total", "Times that a next hop was suspended")
_OPEN = gauge("next_hop_connections", "Connections to next hops now")

ReportTo = Callable[["Hop", Consignment, Report, float], None]
"""Called with hop, consignment, report and the seconds the attempt took."""


class Pool:
    """All hops of one delivery worker.

    ``report`` is called once for each consignment; ``on_room`` when a full hop takes more; ``waits`` says whether a
    consignment must not be carried now, until ``go_on``.
    """

    def __init__(
        self,
        *,
        connections: int,
        report: ReportTo,
        on_room: Callable[[], None],
        waits: Callable[[Consignment], bool],
    ) -> None:
        self.report: Final = report
        self.on_room: Final = on_room
        self.waits: Final = waits
        self.connections = connections
        self.idle_seconds = 10.0
        self.per_connection = 1000
        self._hops: set[Hop] = set()
        self._in_use = 0
        self._wanting: dict[Hop, None] = {}

    def add(self, name: str, concurrency: int, open_carrier: Callable[[], Awaitable[Carrier]]) -> "Hop":
        """A new hop, empty and untried."""
        hop = Hop(self, name, concurrency, open_carrier)
        self._hops.add(hop)
        return hop

    def forget(self, hop: "Hop") -> None:
        """A retired hop without workers leaves."""
        self._hops.discard(hop)
        self._wanting.pop(hop, None)

    def take_slot(self, hop: "Hop") -> bool:
        """One connection more for this hop? When not now, the hop is asked to grow as soon as there is a slot."""
        if self._in_use < self.connections:
            self._in_use += 1
            _OPEN.set(self._in_use)
            return True
        self._wanting[hop] = None
        for other in self._hops:
            if other is not hop and other.dismiss():
                break
        return False

    def give_slot(self) -> None:
        """A connection less; the hop that has waited longest is asked."""
        self._in_use -= 1
        _OPEN.set(self._in_use)
        while self._wanting and self._in_use < self.connections:
            hop = next(iter(self._wanting))
            del self._wanting[hop]
            hop.grow()

    def wants(self, hop: "Hop", *, idle: bool) -> bool:
        """Whether another hop waits for a slot that this one should give: an idle one, or one of clearly more."""
        if not self._wanting:
            return False
        spare = 0 if idle else len(hop.workers) - 1
        return any(idle or len(other.workers) < spare for other in self._wanting if other is not hop)

    def retire(self, hops: Iterable["Hop"]) -> None:
        """These hops take nothing new: they finish what they have and leave."""
        for hop in list(hops):
            hop.retire()

    def lift(self) -> None:
        """No hop is suspended any more: an operator wants to see whether they work."""
        for hop in self._hops:
            hop.lift()

    def go_on(self) -> None:
        """What was put aside is looked at again."""
        for hop in list(self._hops):
            hop.go_on()

    def take_back(self) -> list[Consignment]:
        """Drain: every hop retires; returns what was queued and not begun, which is not reported."""
        queued: list[Consignment] = []
        for hop in list(self._hops):
            queued += hop.take_back()
            hop.retire()
        return queued

    async def end(self, seconds: float) -> int:
        """After take_back: waits for the transactions in hand, then cuts those left; how many those were."""
        workers = [worker for hop in self._hops for worker in hop.workers]
        if not workers:
            return 0
        _, late = await asyncio.wait(workers, timeout=max(seconds, 0.0))
        for worker in late:
            worker.cancel()
        if late:
            await asyncio.wait(late)
        return len(late)


class Hop:
    """One next hop as one route reaches it. ``lanes``: what was seen to lead here (Recipient.lane)."""

    def __init__(
        self, pool: Pool, name: str, concurrency: int, open_carrier: Callable[[], Awaitable[Carrier]]
    ) -> None:
        self.name: Final = name
        self.lanes: set[str] = set()
        self.workers: set[asyncio.Task[None]] = set()
        self.resumes_at = 0.0
        """Until when the hop is suspended (monotonic seconds)."""
        self.reason = ""
        """Why it was suspended last; none once it works."""
        self._pool = pool
        self._concurrency = concurrency
        self._open_carrier = open_carrier
        self._queue: deque[Consignment] = deque()
        self._aside: list[Consignment] = []
        self._idle: list[asyncio.Future[Consignment | None]] = []
        self._connecting = 0
        self._open = 0
        self._proven = False
        self._failures = 0
        self._limited_to = concurrency
        self._limited_until = 0.0
        self._full = False
        self._retired = False

    # -- for the scheduler --

    @property
    def suspended(self) -> bool:
        """Whether the hop is to be left alone now."""
        return self.resumes_at > 0.0 and monotonic() < self.resumes_at

    @property
    def full(self) -> bool:
        """Whether the queue has enough; on_room is called when it has not any more."""
        return self._full

    @property
    def overfull(self) -> bool:
        """Whether the queue has twice that: what comes now is better left in the spool."""
        return len(self._queue) >= 2 * QUEUE_PER_CONNECTION * self._concurrency

    def knows(self, lane: str) -> None:
        """This lane's mail goes here."""
        if len(self.lanes) >= MOST_LANES:
            self.lanes.clear()  # they are learnt again; a set without end is worse
        self.lanes.add(lane)

    def put(self, consignment: Consignment) -> None:
        """Takes a consignment, which is reported once, sooner or later."""
        if self.suspended:
            self._defer([consignment], self.reason, tried=False)
        elif self._idle:
            self._idle.pop().set_result(consignment)
        else:
            self._queue.append(consignment)
            self._full = len(self._queue) >= QUEUE_PER_CONNECTION * self._concurrency
            self.grow()

    def lift(self) -> None:
        """Ends a suspension before its time; the pause after the next failure is a first one."""
        if self.suspended:
            self.resumes_at = 0.0
            self._failures = 0
            _log.info("next_hop.lifted", next_hop=self.name)

    def retire(self) -> None:
        """Finishes what is queued, waits for nothing more, and leaves the pool."""
        self._retired = True
        while self.dismiss():
            pass
        if not self.workers and not self._queue and not self._aside:
            self._pool.forget(self)

    def go_on(self) -> None:
        """Queues again what was put aside."""
        aside, self._aside = self._aside, []
        for consignment in aside:
            self.put(consignment)

    def take_back(self) -> list[Consignment]:
        """The queue and what was put aside; both are empty then."""
        queued = [*self._aside, *self._queue]
        self._aside.clear()
        self._queue.clear()
        self._full = False
        return queued

    def dismiss(self) -> bool:
        """Lets one idle connection go, if there is one."""
        if self._idle:
            self._idle.pop(0).set_result(None)
            return True
        return False

    # -- connections --

    def grow(self) -> None:
        """Opens connections while the queue has more than those being opened will take."""
        while len(self._queue) > self._connecting and self._may_open() and self._pool.take_slot(self):
            self._connecting += 1
            worker = asyncio.create_task(self._work(), name=f"next hop {self.name}")
            self.workers.add(worker)
            worker.add_done_callback(self._worker_ended)

    def _may_open(self) -> bool:
        if not self._proven:
            return not self.workers
        limit = self._concurrency
        if self._limited_until and monotonic() < self._limited_until:
            limit = min(limit, self._limited_to)
        return len(self.workers) < limit

    def _worker_ended(self, worker: asyncio.Task[None]) -> None:
        self.workers.discard(worker)
        self._pool.give_slot()
        if self._queue:
            self.grow()
        elif self._retired and not self.workers and not self._aside:
            self._pool.forget(self)

    async def _work(self) -> None:
        carrier: Carrier | None = None
        try:
            while True:
                fresh = carrier is None
                if carrier is None:
                    carrier = await self._connect()
                    if carrier is None:
                        return
                consignment = self._next()
                if fresh:
                    self.grow()  # it works: the others may come as well
                if consignment is None:
                    consignment = await self._wait()
                if consignment is None or not await self._carry(carrier, consignment):
                    closing, carrier = carrier, None
                    self._open -= 1
                    await closing.close()
                    if consignment is None or not self._queue or self._pool.wants(self, idle=False):
                        return
                    self._connecting += 1
        finally:
            if carrier is not None:  # cancelled
                self._open -= 1
                carrier.abort()

    async def _connect(self) -> Carrier | None:
        try:
            carrier = await self._open_carrier()
        except NextHopUnavailable as error:
            _CONNECTIONS.add(1, "failed")
            self._fail(str(error))
            return None
        except Exception:
            _log.exception("next_hop.crashed", next_hop=self.name)
            self._fail("4.3.0 internal error while connecting")
            return None
        finally:
            self._connecting -= 1
        _CONNECTIONS.add(1, "opened")
        self._open += 1
        self._proven = True
        if self.reason:
            _log.info("next_hop.resumed", next_hop=self.name)
            self.reason = ""
            self._failures = 0
            self.resumes_at = 0.0
        return carrier

    def _next(self) -> Consignment | None:
        if not self._queue:
            return None
        consignment = self._queue.popleft()
        if self._full and len(self._queue) <= QUEUE_PER_CONNECTION * self._concurrency // 2:
            self._full = False
            self._pool.on_room()
        return consignment

    async def _wait(self) -> Consignment | None:
        """The next consignment; None: there is nothing to wait for, or nothing came."""
        if self._retired or self._pool.wants(self, idle=True):
            return None
        loop = asyncio.get_running_loop()
        handed: asyncio.Future[Consignment | None] = loop.create_future()
        timer = loop.call_later(self._pool.idle_seconds, self._give_up, handed)
        self._idle.append(handed)
        try:
            return await handed
        finally:
            timer.cancel()
            if handed in self._idle:
                self._idle.remove(handed)

    def _give_up(self, handed: "asyncio.Future[Consignment | None]") -> None:
        if handed in self._idle:
            self._idle.remove(handed)
            handed.set_result(None)

    async def _carry(self, carrier: Carrier, consignment: Consignment) -> bool:
        """Carries and reports; whether the carrier may go on."""
        pool = self._pool
        if pool.waits(consignment):
            self._aside.append(consignment)
            return not pool.wants(self, idle=False)
        started = monotonic()
        reused = carrier.carried > 0
        try:
            report = await carrier.deliver(consignment)
        except Exception:
            _log.exception("delivery.crashed", queue_id=consignment.lease.envelope.queue_id, next_hop=self.name)
            carrier.abort()
            report = _deferred(consignment, "4.3.0 internal error")
            report.usable = False
        if report.unheard and reused and not consignment.repeated and not self._retired:
            # closed while it was idle, which says nothing about the message
            consignment.repeated = True
            self._queue.appendleft(consignment)
            return False
        pool.report(self, consignment, report, monotonic() - started)
        if not report.usable or carrier.carried >= pool.per_connection:
            return False
        return not pool.wants(self, idle=False)

    # -- failure --

    def _fail(self, reason: str) -> None:
        if self._open:
            self._limited_to = self._open
            self._limited_until = monotonic() + LIMITED_FOR
            _log.warning("next_hop.limited", next_hop=self.name, connections=self._open, reason=reason)
            return
        if not self.suspended:
            self._failures += 1
            pause = min(FIRST_PAUSE * 2 ** min(self._failures - 1, 10), LONGEST_PAUSE)
            self.resumes_at = monotonic() + pause
            self.reason = reason
            self._proven = False
            _SUSPENSIONS.add()
            _log.warning("next_hop.suspended", next_hop=self.name, seconds=pause, reason=reason)
        was_full, queued = self._full, self.take_back()
        self._defer(queued, reason)
        if was_full:
            self._pool.on_room()

    def _defer(self, consignments: Iterable[Consignment], reason: str, *, tried: bool = True) -> None:
        for consignment in consignments:
            self._pool.report(self, consignment, _deferred(consignment, reason, tried=tried), 0.0)


def _deferred(consignment: Consignment, reason: str, *, tried: bool = True) -> Report:
    later = TryLater(reason, tried)
    return Report(dict.fromkeys((recipient.key for recipient in consignment.recipients), later))
