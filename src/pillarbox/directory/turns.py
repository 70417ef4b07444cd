"""How many questions a directory asks at a time, and how many more may wait for their turn.

    turns = Turns(8, timeout=10.0)
    async with turns.turn():
        ...

ERRORS
    NotReached: as many as may (``WAITING``) wait already, or there was no turn within the time.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from pillarbox.directory.base import NotReached

WAITING = 256


class Turns:
    """See the module's text. ``timeout``: seconds that a question waits. ``most``: how many may wait."""

    def __init__(self, count: int, timeout: float, most: int = WAITING) -> None:
        self._turns = asyncio.Semaphore(count)
        self._timeout = timeout
        self._most = most
        self._waiting = 0

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Raises NotReached."""
        if self._waiting >= self._most:
            raise NotReached("too many sign-ins are waiting for it already")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._timeout):
                await self._turns.acquire()
        except TimeoutError:
            raise NotReached(f"no turn within {self._timeout:g} s") from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turns.release()
