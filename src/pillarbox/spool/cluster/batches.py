"""Group commit: what waits while the last transaction is confirmed shares the next one.

    batches = Batches(carry_out, most=200, octets=8 << 20, side_by_side=2)
    batches.put(job)
    await asyncio.shield(job.future)

``carry_out`` gets a list of jobs, no two with the same key, and settles each one's future. ``side_by_side``: how many
lists are on their way at the same time. A caller that goes away takes nothing back.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar


class Job(Protocol):
    """Something to be done within a transaction. ``weight``: octets, about."""

    @property
    def key(self) -> str: ...

    @property
    def weight(self) -> int: ...

    @property
    def future(self) -> "asyncio.Future[Any]": ...


J = TypeVar("J", bound=Job)


class Batches(Generic[J]):
    """See the module's text."""

    def __init__(
        self, carry_out: Callable[[list[J]], Awaitable[None]], *, most: int, octets: int, side_by_side: int = 1
    ) -> None:
        self._carry_out = carry_out
        self._most, self._octets, self._side_by_side = most, octets, side_by_side
        self._waiting: deque[J] = deque()
        self._under_way: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, job: J) -> None:
        """It waits for its turn from now on."""
        self._waiting.append(job)
        if len(self._tasks) < self._side_by_side:
            task = asyncio.get_running_loop().create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        """Returns when nothing waits."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def _work(self) -> None:
        while batch := self._take():
            self._under_way.update(job.key for job in batch)
            try:
                await self._carry_out(batch)
            except Exception as error:  # whatever it is, those who wait must hear of it
                fail(batch, error)
            finally:
                self._under_way.difference_update(job.key for job in batch)

    def _take(self) -> list[J]:
        """Those that wait longest; a key whose job is under way has to wait."""
        batch: list[J] = []
        keys = set(self._under_way)
        passed: list[J] = []
        octets = 0
        while self._waiting and len(batch) < self._most and octets < self._octets:
            job = self._waiting.popleft()
            if job.key in keys:
                passed.append(job)
                continue
            keys.add(job.key)
            batch.append(job)
            octets += job.weight
        self._waiting.extendleft(reversed(passed))
        return batch


def done(job: Job, value: Any = None) -> None:
    """Its caller hears of the result, unless it went away."""
    if not job.future.done():
        job.future.set_result(value)


def fail(jobs: "list[Any]", error: Exception) -> None:
    """Those whose callers still wait hear of the error."""
    for job in jobs:
        if not job.future.done():
            job.future.set_exception(error)
            with contextlib.suppress(Exception):
                job.future.exception()  # heard, even if nobody waits any more
