"""The spool role: the only process that opens the files; serves three sockets, each with only what its users may do.

ERRORS
    CannotStart: another process has the data directory. OSError: a file cannot be opened, a socket not be made.
"""

import asyncio
import time
from functools import partial
from typing import Any

from pillarbox.config import Settings
from pillarbox.control.channel import ChannelServer, Handler, Handlers, serve
from pillarbox.daemon import lock, paths, privileges, spools
from pillarbox.daemon.process import CannotStart, Commit
from pillarbox.daemon.storehouse import ERRORS, Storehouse
from pillarbox.telemetry import counters
from pillarbox.telemetry.events import get_logger

PREDECESSOR_TIME = 30.0
"""Seconds to wait for a predecessor that still holds the data directory."""

COUNT_EVERY = 5.0
"""Seconds between two counts of the queue, at least; a count takes at most a fiftieth of the time."""

MESSAGES = counters.gauge("spool_messages", "Messages in the spool")
RECIPIENTS = counters.gauge("spool_recipients", "Recipients in the spool by state", ("state",))
OLDEST = counters.gauge(
    "spool_oldest_seconds",
    "How long the oldest message has waited, from its release time if its sender asked for one; 0 when none waits",
)
CELL_MESSAGES = counters.gauge("cell_messages", "Messages in a cell, when it was last counted", ("cell",))
CELL_HEALTHY = counters.gauge("cell_healthy", "1 when a cell is to be relied on, else 0", ("cell",))
CELL_OCTETS = counters.gauge("cell_octets", "Octets of a cell's database", ("cell",))

log = get_logger("daemon")


class SpoolRole:
    """Owns the files and serves them."""

    def __init__(self, settings: Settings, worker: int) -> None:
        self._settings = settings
        self._storehouse: Storehouse | None = None
        self._operator: dict[str, Any] = {}
        self._servers: list[ChannelServer] = []
        self._drained = asyncio.Event()
        self._depth: dict[str, Any] = {}

    async def start(self) -> None:
        try:
            self._storehouse = storehouse = await Storehouse.open(self._settings, PREDECESSOR_TIME, strict=True)
        except lock.InUse as error:
            raise CannotStart(str(error)) from None
        self._operator.update(storehouse.for_operator())
        await self._serve("submission", storehouse.for_submission(), "submission")
        await self._serve("delivery", storehouse.for_delivery(), "delivery")
        await self._serve("operator", self._operator, "control")

    async def _serve(self, who: str, handlers: Handlers, role: str) -> None:
        path = paths.spool_socket(self._settings.server.run_directory, who)
        privileges.make_directory(path.parent, 0o750, None)
        self._servers.append(await serve(path, paths.for_users(handlers, role), mode=0o660, errors=ERRORS))

    async def run(self) -> None:
        counting = asyncio.create_task(self._count_always())
        try:
            await self._drained.wait()
        finally:
            counting.cancel()

    async def prepare(self, settings: Settings) -> Commit:
        return partial(self._take, settings)

    def _take(self, settings: Settings) -> None:
        """Password hashing and the guard; all else needs a restart (daemon.restart)."""
        if self._storehouse is not None:
            self._storehouse.apply(settings)
            self._operator.update(self._storehouse.for_operator())
        self._settings = settings

    async def drain(self, seconds: float) -> None:
        """What was asked but not answered is asked again by its asker: a commit under its queue id."""
        self._drained.set()

    async def close(self) -> None:
        for server in self._servers:
            await server.close()
        if self._storehouse is not None:
            await self._storehouse.close()

    def status(self) -> dict[str, Any]:
        unhealthy = self._storehouse.spool.unhealthy_reason() if self._storehouse is not None else "not open"
        users = self._storehouse.users.status() if self._storehouse is not None else None
        guard = self._storehouse.counts.status() if self._storehouse is not None else None
        promise = spools.weaker_promise(self._settings)
        return {**self._depth, "unhealthy": unhealthy, "promise": promise, "users": users, "guard": guard}

    def verbs(self) -> dict[str, Handler]:
        return {}

    async def _count_always(self) -> None:
        while self._storehouse is not None:
            began = time.monotonic()
            try:
                await self._count(self._storehouse)
            except Exception as error:
                if self._storehouse.spool.unhealthy_reason() is None:  # else it was said, and once is enough
                    log.warning("queue.uncounted", reason=str(error))
            await asyncio.sleep(max(COUNT_EVERY, 50 * (time.monotonic() - began)))

    async def _count(self, storehouse: Storehouse) -> None:
        now = time.time()
        depth = await storehouse.spool.depth(now)
        MESSAGES.set(depth.messages)
        for state, number in depth.recipients.items():
            RECIPIENTS.set(number, state)
        OLDEST.set(max(0.0, now - depth.oldest_at) if depth.oldest_at is not None else 0.0)
        for cell in depth.cells:
            CELL_HEALTHY.set(cell.reason is None, cell.name)
            if cell.messages is not None:
                CELL_MESSAGES.set(cell.messages, cell.name)
            if cell.size is not None:
                CELL_OCTETS.set(cell.size, cell.name)
        self._depth = {"messages": depth.messages}
