"""Several servers of one directory, in order of preference, with a circuit breaker for each.

    servers = Servers(("ldap1:636", "ldap2:636"), timeout=10.0, directory="corp")
    answer = await servers.ask(work)         # work(server) raises ServerFailed when that server cannot say

Each server gets its share of the time; one that failed a moment ago comes after the others. One that failed
``FAILURES`` times on end is not asked for a while (5 s, twice as long each time, a minute at most), then by one
question at a time until it answers. So a dead server costs a question its share of the time a few times, not for
ever, and a slow one holds nobody up for long.

ERRORS
    Unavailable: no server could say; names them all with their causes.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from pillarbox.directory.base import NotReached, Unavailable
from pillarbox.telemetry.counters import gauge
from pillarbox.telemetry.events import get_logger

log = get_logger("directory")

PAUSED = gauge(
    "directory_servers_paused", "Workers that leave a server alone since it failed", ("directory", "server")
)

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


class NotJudged(ServerFailed):
    """The server is well, and cannot say about this person: it has judged no password, the next server may be asked,
    and nobody else is kept from this one."""


class Breaker:
    """Whether a server may be asked. Times monotonic. A *probe* is the one question after a pause."""

    __slots__ = ("_answered_at", "_failed_at", "_failures", "_pause", "_probed", "_until", "cause")

    def __init__(self) -> None:
        self._failures = 0
        self._answered_at = self._failed_at = float("-inf")
        self._pause = FIRST_PAUSE
        self._until = 0.0
        self._probed = False
        self.cause = ""

    @property
    def paused(self) -> bool:
        """Whether it failed too often, and has not answered since."""
        return self._failures >= FAILURES

    def allows(self, now: float) -> bool:
        """False while it is paused, and after a pause for all but one question at a time."""
        return not self.paused or (now >= self._until and not self._probed)

    def doubtful(self, now: float) -> bool:
        """Whether it failed a moment ago."""
        return self._failures > 0 and now < self._failed_at + FIRST_PAUSE

    def begins(self) -> bool:
        """A question is asked; whether it is the probe."""
        if self.paused:
            self._probed = True
        return self.paused

    def left(self, probe: bool) -> None:
        """Whoever asked has gone before there was an answer; that says nothing."""
        if probe:
            self._probed = False

    def answered_since(self, moment: float) -> bool:
        """Whether it answered somebody after that."""
        return self._answered_at > moment

    def succeeded(self, now: float) -> None:
        """It answered, whatever it said."""
        self._answered_at = now
        self._failures, self._pause, self._probed, self.cause = 0, FIRST_PAUSE, False, ""

    def failed(self, now: float, cause: str, probe: bool) -> float:
        """It did not answer. Returns for how many seconds it is not asked from now on, 0: nothing changes. Of many
        questions that fail together only one begins a pause."""
        self._failures += 1
        self._failed_at, self.cause = now, cause
        if self._failures != FAILURES and not probe:
            return 0.0
        pause = self._pause
        self._until, self._pause, self._probed = now + pause, min(2 * pause, LONGEST_PAUSE), False
        return pause


class Servers(Generic[Server]):
    """See the module's text. ``servers``: what ``work`` is called with; ``str()`` of each is its name in messages.
    ``directory``: whose they are, for log and metrics."""

    def __init__(
        self,
        servers: Sequence[Server],
        timeout: float,
        *,
        directory: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._breakers = [(server, Breaker()) for server in servers]
        self._timeout = timeout
        self._directory = directory
        self._clock = clock
        for server in servers:
            PAUSED.set(0, directory, str(server))

    async def ask(self, work: Callable[[Server], Awaitable[Answer]], *, again: bool = True) -> Answer:
        """What the first server that can says. ``again=False``: none is asked after one that a password may have
        reached, for the next would count the same try a second time. Raises Unavailable (NotReached where no password
        can have reached any), and what else ``work`` raises."""
        now = self._clock()
        ends_at = now + self._timeout
        order = sorted(self._breakers, key=lambda one: one[1].doubtful(now))
        causes: list[str] = []
        reached = False
        for number, (server, breaker) in enumerate(order):
            now = self._clock()
            if not breaker.allows(now):
                causes.append(f"{server}: not asked for a while: {breaker.cause}")
                continue
            others = sum(later.allows(now) for _, later in order[number + 1 :])
            try:
                return await self._ask(server, breaker, work, max(0.0, ends_at - now) / (1 + others))
            except ServerFailed as error:
                causes.append(f"{server}: {error}")
                reached = reached or error.reached
                if reached and not again:
                    break
        raise (Unavailable if reached else NotReached)("; ".join(causes))

    async def _ask(
        self, server: Server, breaker: Breaker, work: Callable[[Server], Awaitable[Answer]], share: float
    ) -> Answer:
        """Raises ServerFailed, also when the time is over."""
        began, probe = self._clock(), breaker.begins()
        try:
            async with asyncio.timeout(share):
                answer = await work(server)
        except NotJudged:
            breaker.left(probe)
            raise
        except ServerFailed as error:
            self._failed(server, breaker, str(error), probe)
            raise
        except TimeoutError as error:  # whatever was under way may have arrived
            cause = str(error) or f"no answer within {share:g} s"
            self._late(server, breaker, cause, began, probe)
            raise ServerFailed(cause, reached=True) from None
        except asyncio.CancelledError:
            waited = self._clock() - began
            if waited >= share / 2:  # whoever gave up has waited long enough to say that it does not answer
                self._late(server, breaker, f"no answer within {waited:.1f} s", began, probe)
            else:
                breaker.left(probe)
            raise
        except BaseException:
            breaker.left(probe)
            raise
        if breaker.paused:
            log.info("directory.server_resumed", directory=self._directory, server=str(server))
            PAUSED.set(0, self._directory, str(server))
        breaker.succeeded(self._clock())
        return answer

    def _late(self, server: Server, breaker: Breaker, cause: str, began: float, probe: bool) -> None:
        """No answer in time: a failure, unless it answered others meanwhile, for then it is slow with this one only,
        as servers are that let whoever had a wrong password wait."""
        if breaker.answered_since(began):
            breaker.left(probe)
        else:
            self._failed(server, breaker, cause, probe)

    def _failed(self, server: Server, breaker: Breaker, cause: str, probe: bool) -> None:
        fresh = not breaker.paused
        seconds = breaker.failed(self._clock(), cause, probe)
        if seconds and fresh:
            name = str(server)
            log.warning("directory.server_paused", directory=self._directory, server=name, reason=cause)
            PAUSED.set(1, self._directory, name)
