"""Several servers of one directory, in order of preference, with a circuit breaker for each.

    servers = Servers(("ldap1:636", "ldap2:636"), timeout=10.0)
    answer = await servers.ask(work)         # work(server) raises ServerFailed when that server cannot say

Each server gets its share of the time; one that failed ``FAILURES`` times on end is not asked for a while (5 s, twice
as long each time, a minute at most), then by one question at a time until it answers. So a dead server costs a
question its share of the time a few times, not for ever, and a slow one holds nobody up for long.

ERRORS
    Unavailable: no server could say; names them all with their causes.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from pillarbox.directory.base import NotReached, Unavailable

FAILURES = 3
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 60.0

Server = TypeVar("Server")
Answer = TypeVar("Answer")


class ServerFailed(Exception):
    """This server cannot say now; ``str()`` is the cause, for the log, without secrets. ``reached``: a password may
    have come to it, so that it may have counted a failure."""

    def __init__(self, cause: str, *, reached: bool = False) -> None:
        super().__init__(cause)
        self.reached = reached


class Breaker:
    """Whether a server may be asked. Times monotonic."""

    __slots__ = ("_failures", "_pause", "_trying", "_until", "cause")

    def __init__(self) -> None:
        self._failures = 0
        self._pause = FIRST_PAUSE
        self._until = 0.0
        self._trying = False
        self.cause = ""

    def allows(self, now: float) -> bool:
        """False while it is paused, and after a pause for all but one question at a time."""
        if self._failures < FAILURES:
            return True
        return now >= self._until and not self._trying

    def begins(self) -> None:
        """A question is asked."""
        self._trying = self._failures >= FAILURES

    def left(self) -> None:
        """Whoever asked has gone before there was an answer; that says nothing."""
        self._trying = False

    def succeeded(self) -> None:
        """It answered, whatever it said."""
        self._failures, self._pause, self._trying, self.cause = 0, FIRST_PAUSE, False, ""

    def failed(self, now: float, cause: str) -> None:
        """It did not answer."""
        self._failures += 1
        self._trying, self.cause = False, cause
        if self._failures >= FAILURES:
            self._until = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)


class Servers(Generic[Server]):
    """See the module's text. ``servers``: what ``work`` is called with; ``str()`` of each is its name in messages."""

    def __init__(
        self, servers: Sequence[Server], timeout: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._breakers = [(server, Breaker()) for server in servers]
        self._timeout = timeout
        self._clock = clock

    async def ask(self, work: Callable[[Server], Awaitable[Answer]], *, again: bool = True) -> Answer:
        """What the first server that can says. ``again=False``: none is asked after one that a password may have
        reached, for the next would count the same try a second time. Raises Unavailable (NotReached where no password
        can have reached any), and what else ``work`` raises."""
        ends_at = self._clock() + self._timeout
        causes: list[str] = []
        reached = False
        for number, (server, breaker) in enumerate(self._breakers):
            now = self._clock()
            if not breaker.allows(now):
                causes.append(f"{server}: not asked for a while: {breaker.cause}")
                continue
            share = max(0.0, ends_at - now) / (len(self._breakers) - number)
            breaker.begins()
            try:
                async with asyncio.timeout(share):
                    answer = await work(server)
            except (ServerFailed, TimeoutError) as error:
                cause = str(error) or f"no answer within {share:g} s"
                breaker.failed(self._clock(), cause)
                causes.append(f"{server}: {cause}")
                reached = reached or not isinstance(error, ServerFailed) or error.reached
                if reached and not again:
                    break
            except BaseException:
                breaker.left()
                raise
            else:
                breaker.succeeded()
                return answer
        raise (Unavailable if reached else NotReached)("; ".join(causes))
