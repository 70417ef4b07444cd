"""Connections that are ready for a sign-in: greeted, in TLS, capabilities known, nobody signed in.

    pool = Pool(open_connection, spares=4)
    connection = await pool.take(server)     # ready already, or made now

A connection signs in one person and ends: signed in, it is that person's, and after a no servers count and wait. So
what saves time is one made ahead. Each that is taken has a successor made in the background: a busy directory finds
them ready, and an idle one, after ``SPARE_TIME``, has none open.

ERRORS
    ServerFailed: a connection cannot be made. Of those made ahead nobody hears.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from pillarbox.directory.mailbox.connection import Connection
from pillarbox.directory.servers import ServerFailed
from pillarbox.directory.upstream import Narrate, silent
from pillarbox.directory.wire import Place

SPARE_TIME = 30.0
"""Seconds; servers end a connection without a sign-in after a minute at the earliest."""

MAKING = "directory-spare"
"""The name of the tasks that make one ahead."""

Open = Callable[[Place, Narrate], Awaitable[Connection]]


class Pool:
    """See the module's text. ``spares``: the most of one server, with those that are being made. ``open_`` has a time
    limit of its own."""

    def __init__(self, open_: Open, spares: int) -> None:
        self._open = open_
        self._limit = spares
        self._spares: dict[Place, deque[Connection]] = {}
        self._making: dict[asyncio.Task[None], Place] = {}
        self._closed = False

    async def take(self, place: Place, narrate: Narrate) -> Connection:
        """The caller's from now on. Raises ServerFailed."""
        connection = self._ready(place)
        if connection is not None:
            narrate(f"{place}: a connection is ready")
        else:
            connection = await self._open(place, narrate)
        self._replace(place)
        return connection

    def _ready(self, place: Place) -> Connection | None:
        spares = self._spares.setdefault(place, deque())
        while spares:
            connection = spares.popleft()
            if connection.wire.quiet:
                return connection
            connection.wire.abort()  # the server ended it, or said goodbye
        return None

    def _replace(self, place: Place) -> None:
        there = len(self._spares[place]) + sum(made == place for made in self._making.values())
        if self._closed or there >= self._limit:
            return
        task = asyncio.create_task(self._make(place), name=MAKING)
        self._making[task] = place
        task.add_done_callback(self._making.pop)

    async def _make(self, place: Place) -> None:
        try:
            connection = await self._open(place, silent)
        except ServerFailed:
            return  # whoever asks next is told
        if self._closed:
            connection.leave()
            return
        self._spares[place].append(connection)
        asyncio.get_running_loop().call_later(SPARE_TIME, self._expire, place, connection)

    def _expire(self, place: Place, connection: Connection) -> None:
        if connection in self._spares[place]:
            self._spares[place].remove(connection)
            connection.leave()

    def forget(self, place: Place) -> None:
        """Ends the spares of a server that failed: what is ready there may be left over from before."""
        spares = self._spares.get(place, deque())
        while spares:
            spares.popleft().wire.abort()

    def close(self) -> None:
        """Ends the spares, and those that are being made as soon as they are there; makes no more."""
        self._closed = True
        for spares in self._spares.values():
            while spares:
                spares.popleft().leave()
