"""The exchange with the first cell, again and again, as long as the spool process runs.

    rounds = Rounds(ledger, exchange, sharing, node, name="a")
    rounds.start()
    await rounds.settled(3.0)         # until everything was heard once, or so many seconds after the start
    rounds.status()                   # a sentence, while this machine counts alone
    await rounds.close()              # a last exchange, if the cell answered last

One exchange each second, at once when something urgent is to be told (a block, an unblock), but not more than four a
second. While the cell is away this machine judges by its own counts; what is to be told waits. After everything was
heard, at the start and after a fail-over, what is known here and missing there is told.

ERRORS
    None: they are logged once per outage, and the next round tries again.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from pillarbox.guard.facts import Fact
from pillarbox.guard.ledger import Ledger
from pillarbox.guard.node import Node, confirm, renew
from pillarbox.guard.sharing import Sharing
from pillarbox.store.errors import Denied, SchemaTooOld, StoreError
from pillarbox.telemetry.counters import gauge
from pillarbox.telemetry.events import get_logger

if TYPE_CHECKING:
    from pillarbox.guard.cluster import Exchange

EVERY = 1.0
"""Seconds between two exchanges."""
URGENT_AFTER = 0.25
"""Seconds between them when something is urgent."""
BEAT_EVERY = 5.0
"""Seconds between two writes at least: reading alone would not notice a primary that was replaced."""
EXPIRE_EVERY = 60.0
BACKLOG = 1_000
"""Facts that still wait after an exchange: then the next one is soon."""
LAST_WORD = 3.0
"""Seconds for the exchange at the end."""
_PAUSES = (1.0, 1.0, 2.0, 4.0, 8.0)
"""Seconds after one that failed."""

AGE = gauge("guard_exchange_age_seconds", "Seconds since this machine last exchanged the guard's counts with others")

log = get_logger("guard")


class Rounds:
    """See the module's text. ``name``: the cell's; ``clock``: seconds since the epoch."""

    def __init__(
        self,
        ledger: Ledger,
        exchange: "Exchange",
        sharing: Sharing,
        node: Node,
        *,
        name: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.trouble: str | None = None
        self.machines: int | None = None  # how many count, when it was last heard
        self._ledger, self._exchange, self._sharing = ledger, exchange, sharing
        self._node, self._name, self._clock = node, name, clock
        self._present: dict[tuple[str, str, str, bytes], Fact] = {}
        self._failures = 0
        self._reading = False
        self._checked = self._confirmed = self._closing = False
        self._began = self._last_at = time.monotonic()
        self._beat_at = self._expired_at = -EXPIRE_EVERY
        self._first, self._wake = asyncio.Event(), asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        sharing.urgent = self._wake.set

    def start(self) -> None:
        """Begins."""
        self._running = asyncio.create_task(self._run_always(), name=f"guard of cell {self._name}")

    async def settled(self, patience: float) -> None:
        """Waits for the first exchange, until ``patience`` seconds after the start."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._first.wait(), max(0.0, self._began + patience - time.monotonic()))

    async def close(self) -> None:
        """Tells what is left if the cell answers. The store is closed by whoever made it."""
        if self._running is None:
            return
        self._closing = True
        self._wake.set()
        if self.trouble is None:
            await asyncio.wait((self._running,), timeout=LAST_WORD)
        self._running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._running

    def status(self) -> str | None:
        """What an operator should know; None: all is well."""
        if self.trouble is None:
            return None
        return f"counts alone for {time.monotonic() - self._last_at:.0f} s: {self.trouble}"

    async def run(self) -> None:
        """One round. Raises StoreError."""
        if not self._checked:
            await self._exchange.check()
            self._checked = True
        await self._beat()
        if await self._exchange.run(self._hear):
            if self._ledger.tell_missing(self._present):
                self._wake.set()
            self._present, self._reading = {}, False
        if time.monotonic() - self._expired_at >= EXPIRE_EVERY:
            self._expired_at = time.monotonic()
            await self._exchange.expire()

    def _hear(self, facts: list[Fact], begins: bool) -> None:
        if begins:
            self._present, self._reading = {}, True
        if self._reading:
            self._present |= {fact.key: fact for fact in facts}
        self._ledger.merge(facts, self._clock())

    async def _beat(self) -> None:
        if time.monotonic() - self._beat_at < BEAT_EVERY:
            return
        while not await self._exchange.beat(self._node):
            before, self._node = self._node, await renew(self._ledger.store)
            self._confirmed = False
            self._exchange.rename(self._node.id)
            self._sharing.rename(self._node.id)
            log.warning("guard.renamed", cell=self._name, before=before.id.hex(), node=self._node.id.hex())
        self.machines = await self._exchange.machines()
        self._beat_at = time.monotonic()
        if not self._confirmed:
            await confirm(self._ledger.store, self._node)
            self._node = Node(self._node.id, self._node.holder)
            self._confirmed = True

    async def _run_always(self) -> None:
        while True:
            last = self._closing
            self._wake.clear()
            try:
                await self.run()
                self._succeeded()
            except StoreError as error:
                self._failed(self._words(error))
            except Exception:  # our bug: it must go on all the same
                log.exception("guard.alone", cell=self._name, reason="the exchange failed")
                self._failed("the exchange failed; see the log", said=True)
            self._first.set()
            AGE.set(time.monotonic() - self._last_at)
            if last:
                return
            await self._pause()

    async def _pause(self) -> None:
        if self._failures:
            pause = _PAUSES[min(self._failures, len(_PAUSES)) - 1]
            await asyncio.sleep(0 if self._closing else pause)
            return
        if not self._closing:
            await asyncio.sleep(URGENT_AFTER)
        if len(self._exchange.outbox) < BACKLOG:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), EVERY - URGENT_AFTER)

    def _succeeded(self) -> None:
        self._failures = 0
        self._last_at = time.monotonic()
        if self.trouble is not None:
            log.info("guard.together", cell=self._name)
            self.trouble = None

    def _failed(self, reason: str, *, said: bool = False) -> None:
        self._failures += 1
        self._checked = False
        self._beat_at = -BEAT_EVERY
        if self.trouble is None and not said:
            log.error("guard.alone", cell=self._name, reason=reason)
        self.trouble = reason

    def _words(self, error: Exception) -> str:
        advice = "; `pillarbox cluster upgrade` brings it up" if isinstance(error, SchemaTooOld | Denied) else ""
        return f"cell {self._name}: {error}{advice}"
