"""How many wrong passwords of one person may still go to the server behind, as a submission worker asks for it.

    try_ = await budget.reserve("corp", person.key, allowed=5, window=1800.0)     # None: no more
    budget.give_back(try_)                                                        # it was right, or never got there

The spool process counts, for all workers of the machine: tries.py, which has the verbs.

ERRORS
    NotReached: the spool process cannot be reached; then nothing is passed on.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol

from pillarbox.control.channel import ChannelClosed, RemoteError
from pillarbox.control.frames import from_body
from pillarbox.control.link import LinkLike
from pillarbox.directory.base import NotReached

PATIENCE = 2.0
ANSWER_TIME = 5.0


@dataclass(frozen=True, slots=True)
class Try:
    """One that was reserved."""

    directory: str
    person: str
    number: int


class Budget(Protocol):
    """What Upstream needs."""

    async def reserve(self, directory: str, person: str, allowed: int, window: float) -> Try | None:
        """Counts a try; None when there were ``allowed`` within ``window`` seconds. Raises NotReached."""
        ...

    def give_back(self, try_: Try) -> None:
        """It was none. Does not wait."""
        ...


class RemoteBudget:
    """The same, in a submission worker."""

    def __init__(self, link: LinkLike) -> None:
        self._link = link
        self._telling: set[asyncio.Task[Any]] = set()

    async def reserve(self, directory: str, person: str, allowed: int, window: float) -> Try | None:
        body = (directory, person, allowed, window)
        try:
            async with asyncio.timeout(ANSWER_TIME):
                number = await self._link.request("upstream.reserve", body, patience=PATIENCE)
        except (ChannelClosed, TimeoutError, RemoteError) as error:
            raise NotReached(f"the spool process cannot count the try: {str(error) or 'no answer'}") from error
        return None if number is None else Try(directory, person, from_body(int, number))

    def give_back(self, try_: Try) -> None:
        task = asyncio.create_task(self._tell(try_))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, try_: Try) -> None:
        body = (try_.directory, try_.person, try_.number)
        try:
            async with asyncio.timeout(ANSWER_TIME):
                await self._link.request("upstream.give_back", body, patience=PATIENCE, repeat=True)
        except (ChannelClosed, TimeoutError, RemoteError):
            return  # it counts as a wrong one until its window ends
