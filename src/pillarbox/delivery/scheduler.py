"""The loop of the delivery role: lease what is due, hand it to next hops, settle what came of it.

A lease is split by next hop into consignments; when the last of them is reported, the outcomes of all go back in
one settlement, together with the bounce or warning that they cause. What can move goes first: domains of hops that
have enough are not leased at all, those of suspended hops only while there is nothing better to do, and then they
are deferred without a connection. So a dead domain with 100,000 messages delays no other, and still its messages
get their warnings and their end in time.

While a settlement cannot be stored no new transaction begins of what that cell holds (in_hand.py), or of anything
when there is one spool: what cannot be settled would be sent twice. It is repeated until the spool takes it or the
lease is void.

``drain``: nothing new begins; leases not begun go back; transactions in hand are finished and settled.

ERRORS
    ``run`` raises only what is a bug. Spool trouble is waited out, and said once when it begins and ends.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Collection
from functools import cache, partial
from time import monotonic
from typing import Final

from pillarbox.delivery.abilities import late_notice_due, too_late
from pillarbox.delivery.bounce import make_reports, read_returned, waits_since, wants
from pillarbox.delivery.consignment import Carrier, Consignment, Report, TryLater, Verdict
from pillarbox.delivery.in_hand import InHand
from pillarbox.delivery.maildir import Maildir
from pillarbox.delivery.pool import Hop, Pool
from pillarbox.delivery.retry import EXPIRED_STATUS, next_due, spread, warning_due
from pillarbox.delivery.route import RouteTable, next_hop
from pillarbox.delivery.secrets import Secrets
from pillarbox.delivery.session import open_session
from pillarbox.delivery.settings import DeliverySettings, MaildirRoute, Route, SmarthostRoute
from pillarbox.delivery.tls_policy import client_context
from pillarbox.spool.base import (
    Deferred,
    Delivered,
    Failed,
    Lease,
    LeaseLost,
    Outbox,
    Outcome,
    Recipient,
    Settlement,
    SpoolError,
    UnknownQueueId,
)
from pillarbox.telemetry.counters import counter, histogram
from pillarbox.telemetry.events import get_logger

BATCH: Final = 100
FEW: Final = 10
GATHER: Final = 0.005
"""After a lease of a few messages the next is asked for so many seconds later: each search costs the spool more than
what it finds, and those few are on their way already."""
LOOK_AGAIN: Final = 30.0
FIRST_REPEAT: Final = 0.1
LONGEST_REPEAT: Final = 5.0
NO_ROUTE: Final = "4.4.4 no route leads to this domain"
NO_HOP: Final = "none"

_log = get_logger("delivery")
_DELIVERIES = counter("deliveries_total", "Attempts per recipient by outcome", labels=("outcome",))
_REPORTS = counter("reports_total", "Delivery reports made, by kind", labels=("kind",))
_SECONDS = histogram(
    "delivery_attempt_seconds", "One transaction with a next hop", buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600)
)


class _Loan:
    """A lease in hand and what has come of it so far."""

    __slots__ = ("lease", "open", "outcomes", "reported", "warned")

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.open = 0
        self.outcomes: dict[int, Outcome] = {}
        self.warned: list[int] = []
        self.reported: list[tuple[Recipient, Delivered, str]] = []


class Scheduler:
    """One per delivery worker. ``run()`` until ``drain(seconds)`` was called; ``apply(settings)`` at a reload."""

    def __init__(
        self,
        outbox: Outbox,
        settings: DeliverySettings,
        *,
        cells: Collection[str] = ("",),
        now: Callable[[], float] = time.time,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """``cells``: their names, if the outbox has any; ``now``: seconds since the epoch; ``random``: so many
        unguessable octets, for ids and boundaries."""
        self._outbox = outbox
        self._now = now
        self._random = random
        self._wake = asyncio.Event()
        self._secrets = Secrets()
        self._hand = InHand(cells)
        self._pool = Pool(
            connections=settings.concurrency,
            report=self._take_report,
            on_room=self._wake.set,
            waits=lambda consignment: self._hand.waits(consignment.lease),
        )
        self._loans: dict[int, _Loan] = {}
        self._settling: set[asyncio.Task[None]] = set()
        self._blocked = False
        self._draining = False
        self._drained = asyncio.Event()
        self._spool_trouble = False
        self._hops: dict[Route, Hop] = {}
        self._by_lane: dict[tuple[str, str], Hop | None] = {}
        self.apply(settings)

    def apply(self, settings: DeliverySettings) -> None:
        """Takes new settings and reads CA and certificate files anew. Messages in hand go on under the settings that
        they were leased with, over the connections of those."""
        self._settings = settings
        self._routes = RouteTable(settings.routes)
        self._pool.connections = settings.concurrency
        self._pool.idle_seconds = settings.idle_connection
        self._pool.per_connection = settings.messages_per_connection
        retired, self._hops = self._hops, {}
        self._by_lane = {}
        self._pool.retire(retired.values())
        self._wake.set()

    async def run(self) -> None:
        """Delivers until drained; returns after drain() ended."""
        pause = FIRST_REPEAT
        while not self._draining:
            self._wake.clear()
            try:
                if not self._may_lease():
                    self._blocked = True
                    await self._wake.wait()
                elif not await self._lease_some() and not self._draining:
                    await self._wait()
            except SpoolError as error:
                self._note_trouble(str(error))
                await self._sleep(pause)
                pause = min(pause * 2, LONGEST_REPEAT)
            else:
                pause = FIRST_REPEAT
        await self._drained.wait()

    def lift_suspensions(self) -> None:
        """Before an operator's retry or release: no next hop is left alone any more."""
        self._pool.lift()

    async def drain(self, seconds: float) -> None:
        """Starts nothing new, finishes the transactions in hand and settles them, for at most ``seconds``."""
        ends_at = monotonic() + seconds
        self._draining = True
        self._wake.set()
        for consignment in self._pool.take_back():
            self._close_part(consignment.lease)
        cut = await self._pool.end(ends_at - monotonic())
        if self._settling:
            await asyncio.wait(self._settling, timeout=max(ends_at - monotonic(), 0.0))
        late = list(self._settling)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        if cut or late:
            _log.warning("delivery.cut_short", transactions=cut, settlements=len(late))
        self._drained.set()

    # -- leasing --

    def _may_lease(self) -> bool:
        """Whether there is room for more; somebody wakes us when there is."""
        self._blocked = False
        if self._hand.room() == 0:
            return False
        return sum(hop.full for hop in self._hops.values()) < max(len(self._settings.routes), 1)

    async def _lease_some(self) -> bool:
        """Leases and hands out; whether any message came."""
        limit = min(BATCH, self._hand.room())
        hops = self._hops.values()
        skip = frozenset[str]().union(*(hop.lanes for hop in hops if hop.full))
        suspended = [hop.lanes for hop in hops if hop.suspended]
        came = 0
        if suspended:
            came = await self._lease(limit, skip.union(*suspended))
        if came < limit and not self._draining:
            came += await self._lease(limit - came, skip)
        if 0 < came < FEW:
            await asyncio.sleep(GATHER)
        return came > 0

    async def _lease(self, limit: int, skip: frozenset[str]) -> int:
        leases = await self._outbox.lease(self._now(), limit, skip)
        self._note_trouble(None)
        for lease in leases:
            if self._draining or not self._begin(lease):
                await self._outbox.release_lease(lease)
        return len(leases)

    async def _wait(self) -> None:
        """Until something may be due, a hop has room, or somebody wakes us."""
        woken = asyncio.ensure_future(self._wake.wait())
        due = asyncio.ensure_future(self._outbox.wait_due(LOOK_AGAIN))
        try:
            await asyncio.wait((woken, due), return_when=asyncio.FIRST_COMPLETED)
            if due.done():
                due.result()
        finally:
            woken.cancel()
            due.cancel()
            await asyncio.gather(woken, due, return_exceptions=True)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _note_trouble(self, reason: str | None) -> None:
        if reason is not None and not self._spool_trouble:
            _log.warning("delivery.paused", reason=reason)
        elif reason is None and self._spool_trouble:
            _log.info("delivery.resumed")
        self._spool_trouble = reason is not None

    # -- handing out --

    def _begin(self, lease: Lease) -> bool:
        """Splits a lease by next hop and queues the parts; False: all their hops have too much already, which
        happens with a lane that was not known to lead there."""
        parts: dict[Hop | None, list[Recipient]] = {}
        for recipient in lease.recipients:
            parts.setdefault(self._hop_of(lease.envelope.site, recipient), []).append(recipient)
        if all(hop is not None and hop.overfull for hop in parts):
            return False
        loan = _Loan(lease)
        self._loans[lease.lease_id] = loan
        self._hand.took(lease)
        loan.open = len(parts)
        for hop, recipients in parts.items():
            if hop is None:
                for recipient in recipients:
                    self._decide(loan, recipient, TryLater(NO_ROUTE), NO_HOP, None, 0.0, None)
                self._close_part(lease)
            else:
                hop.put(Consignment(lease, tuple(recipients)))
        return True

    def _hop_of(self, site: str, recipient: Recipient) -> Hop | None:
        key = (site, recipient.lane)
        try:
            return self._by_lane[key]
        except KeyError:
            pass
        route = self._routes.find(recipient.domain, site)
        hop = None
        if route is not None:
            hop = self._hops.get(route)
            if hop is None:
                hop = self._hops[route] = self._make_hop(route)
            hop.knows(recipient.lane)
        if len(self._by_lane) >= 10_000:
            self._by_lane.clear()
        self._by_lane[key] = hop
        return hop

    def _make_hop(self, route: Route) -> Hop:
        name = next_hop(route)
        if isinstance(route, MaildirRoute):
            return self._pool.add(name, 4, self._opens_maildir(route, name))
        return self._pool.add(name, route.concurrency, self._opens_session(route))

    def _opens_maildir(self, route: MaildirRoute, name: str) -> Callable[[], Awaitable[Carrier]]:
        async def open_carrier() -> Carrier:
            return Maildir(route, self._outbox, name, now=self._now)

        return open_carrier

    def _opens_session(self, route: SmarthostRoute) -> Callable[[], Awaitable[Carrier]]:
        settings = self._settings
        context = cache(partial(client_context, route))  # reading the system's CAs costs 10 ms and more

        async def open_carrier() -> Carrier:
            return await open_session(
                route,
                host=settings.host,
                outbox=self._outbox,
                secrets=self._secrets,
                context=context,
                connect_timeout=settings.connect_timeout,
            )

        return open_carrier

    # -- what came of it --

    def _take_report(self, hop: Hop, consignment: Consignment, report: Report, seconds: float) -> None:
        loan = self._loans[consignment.lease.lease_id]
        if seconds:
            _SECONDS.observe(seconds)
        resumes_at = self._now() + hop.resumes_at - monotonic() if hop.suspended else None
        for recipient in consignment.recipients:
            verdict = report.verdicts.get(recipient.key)
            if verdict is not None:
                self._decide(loan, recipient, verdict, hop.name, report.tls, seconds, resumes_at)
                if isinstance(verdict, Delivered) and (action := report.tells_of(recipient.notify)):
                    loan.reported.append((recipient, verdict, action))
        if report.rest and not self._draining:
            loan.open += 1
            hop.put(Consignment(consignment.lease, report.rest))
        if report.stopped:
            _log.warning("delivery.stopped", queue_id=loan.lease.envelope.queue_id, next_hop=hop.name)
        self._close_part(consignment.lease)

    def _decide(
        self,
        loan: _Loan,
        recipient: Recipient,
        verdict: Verdict,
        hop: str,
        tls: tuple[str, str] | None,
        seconds: float,
        resumes_at: float | None,
    ) -> None:
        """Turns a verdict into an outcome, notes it in the loan and says so."""
        outcome: Outcome = (
            self._defer(loan, recipient, verdict, hop, resumes_at) if isinstance(verdict, TryLater) else verdict
        )
        loan.outcomes[recipient.key] = outcome
        fields = {
            "queue_id": loan.lease.envelope.queue_id,
            "recipient": recipient.forward_path,
            "next_hop": hop,
            "tls": tls[0] if tls is not None else None,
            "seconds": round(seconds, 4),
        }
        if isinstance(outcome, Delivered):
            _DELIVERIES.add(1, "delivered")
            _log.info("delivery.delivered", **fields, reply=outcome.reply)
        elif isinstance(outcome, Deferred):
            _DELIVERIES.add(1, "deferred")
            wait = round(outcome.due_at - self._now())
            _log.info("delivery.deferred", **fields, reply=outcome.reason, again_in=wait)
        else:
            _DELIVERIES.add(1, "failed")
            _log.info("delivery.failed", **fields, reply=outcome.reason, status=outcome.status)
            self._note_end(loan.lease, recipient)

    def _note_end(self, lease: Lease, recipient: Recipient) -> None:
        """Failed, and nobody can be told."""
        envelope = lease.envelope
        if envelope.is_bounce:
            _DELIVERIES.add(1, "dead")
            _log.warning("bounce.died", queue_id=envelope.queue_id, recipient=recipient.forward_path)
        elif not envelope.reverse_path:
            _DELIVERIES.add(1, "dropped")
            _log.warning("delivery.dropped", queue_id=envelope.queue_id, recipient=recipient.forward_path)

    def _defer(
        self, loan: _Loan, recipient: Recipient, later: TryLater, hop: str, resumes_at: float | None
    ) -> Deferred | Failed:
        settings = self._settings
        envelope = loan.lease.envelope
        now = self._now()
        since = waits_since(envelope)
        warns = (
            not envelope.is_bounce
            and bool(envelope.reverse_path)
            and wants(recipient, "DELAY")
            and (
                warning_due(settings, received_at=since, warned=recipient.delay_warned, now=now)
                or (late_notice_due(envelope, now) and not recipient.delay_warned)
            )
        )
        if (late := too_late(envelope, hop, now)) is not None:
            return late
        due_at = next_due(
            settings,
            queue_id=envelope.queue_id,
            received_at=since,
            failures=recipient.attempts + 1 if later.tried else max(recipient.attempts, 1),
            warned=recipient.delay_warned or warns,
            now=now,
        )
        if due_at is None:
            return Failed(
                f"{EXPIRED_STATUS} delivery time expired; the last try: {later.reason}", hop, EXPIRED_STATUS
            )
        if warns:
            loan.warned.append(recipient.key)
        if envelope.deliver_by > now:  # at that time the sender is to be told, or gets it back
            due_at = min(due_at, envelope.deliver_by)
        if resumes_at is not None and due_at < resumes_at:
            # not before the hop's pause ends, and not all in that second
            due_at = resumes_at + 10.0 * spread(envelope.queue_id)
        return Deferred(later.reason, hop, due_at, later.tried)

    # -- settling --

    def _close_part(self, lease: Lease) -> None:
        """One part of a lease is done, or was taken back; after the last one the lease is settled."""
        loan = self._loans[lease.lease_id]
        loan.open -= 1
        if loan.open:
            return
        task = asyncio.create_task(self._settle(loan), name=lease.envelope.queue_id)
        self._settling.add(task)
        task.add_done_callback(self._settled)

    def _settled(self, task: "asyncio.Task[None]") -> None:
        self._settling.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("delivery.crashed", queue_id=task.get_name(), reason=type(error).__name__, exc_info=error)

    async def _settle(self, loan: _Loan) -> None:
        """Ends the lease; repeats while the spool cannot say."""
        pause = FIRST_REPEAT
        troubled = False
        try:
            settlement = await self._settlement(loan) if loan.outcomes else None
            while True:
                try:
                    if settlement is None:
                        await self._outbox.release_lease(loan.lease)
                    else:
                        await self._outbox.settle(loan.lease, settlement)
                    break
                except (LeaseLost, UnknownQueueId) as error:
                    # somebody else has it, or it is gone: those recipients may get the message twice
                    queue_id = loan.lease.envelope.queue_id
                    _log.warning("delivery.lease_lost", queue_id=queue_id, reason=type(error).__name__)
                    break
                except SpoolError as error:
                    if not troubled:
                        troubled = True
                        self._trouble(loan.lease, +1, str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_REPEAT)
        finally:
            del self._loans[loan.lease.lease_id]
            self._hand.gave(loan.lease)
            if troubled:
                self._trouble(loan.lease, -1, "")
            if self._blocked and self._hand.half_empty():
                self._wake.set()

    def _trouble(self, lease: Lease, change: int, reason: str) -> None:
        """Settlements that wait for the spool; while there are any, nothing new of their cell is sent."""
        if not self._hand.unsettled(lease, change):
            return
        if change > 0:
            _log.warning("delivery.unsettled", reason=reason)
        else:
            self._pool.go_on()
        self._wake.set()

    async def _settlement(self, loan: _Loan) -> Settlement:
        lease = loan.lease
        outcomes = loan.outcomes
        failed = [(r, o) for r in lease.recipients if isinstance(o := outcomes.get(r.key), Failed)]
        warned = frozenset(loan.warned)
        if not failed and not warned and not loan.reported:
            return Settlement(lease.envelope.queue_id, outcomes)
        delayed = [
            (r, o) for r in lease.recipients if r.key in warned and isinstance(o := outcomes.get(r.key), Deferred)
        ]
        messages = make_reports(
            lease,
            await read_returned(self._outbox, lease, failed=bool(failed)),
            failed,
            delayed,
            loan.reported,
            settings=self._settings,
            now=self._now(),
            random=self._random,
        )
        made = iter(messages)
        if messages and any(wants(recipient, "FAILURE") for recipient, _ in failed):
            _REPORTS.add(1, "bounce")
            _log.info("bounce.made", queue_id=lease.envelope.queue_id, bounce=next(made).envelope.queue_id)
        if delayed and messages:
            _REPORTS.add(1, "delay_warning")
            _log.info("delay_warning.made", queue_id=lease.envelope.queue_id, warning=next(made).envelope.queue_id)
        for message in made:
            _REPORTS.add(1, "success")
            _log.info("report.made", queue_id=lease.envelope.queue_id, report=message.envelope.queue_id)
        return Settlement(lease.envelope.queue_id, outcomes, messages, warned)
