"""How many wrong passwords of one person may still go to the server behind: counted in the spool process, for all
workers of this machine.

    try_ = await budget.reserve("corp", person.key, allowed=5, window=1800.0)     # None: no more
    budget.give_back(try_)                                                        # it was right, or never got there

A try is counted before it is made, so that a thousand at once are no more than ``allowed``. A worker that dies gives
nothing back.

    upstream.reserve    [directory, person, allowed, window] -> number of the try or None
    upstream.give_back  [directory, person, number]

ERRORS
    Unavailable: the spool process cannot be reached; then nothing is passed on.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from pillarbox.control.channel import Channel, ChannelClosed, Handlers, RemoteError
from pillarbox.control.frames import from_body
from pillarbox.control.link import LinkLike
from pillarbox.directory.base import NotReached

PEOPLE_CEILING = 100_000
"""People whose tries are remembered; beyond, whose last try is longest ago is forgotten."""

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


class Tries:
    """The counts themselves; satisfies Budget. ``clock`` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._number = 0
        self._people: OrderedDict[tuple[str, str], deque[tuple[float, int]]] = OrderedDict()

    async def reserve(self, directory: str, person: str, allowed: int, window: float) -> Try | None:
        now = self._clock()
        made = self._people.setdefault((directory, person), deque())
        while made and made[0][0] <= now - window:
            made.popleft()
        if len(made) >= allowed:
            return None
        self._number += 1
        made.append((now, self._number))
        self._people.move_to_end((directory, person))
        if len(self._people) > PEOPLE_CEILING:
            self._people.popitem(last=False)
        return Try(directory, person, self._number)

    def give_back(self, try_: Try) -> None:
        key = (try_.directory, try_.person)
        made = self._people.get(key)
        if made is None:
            return
        left = deque(each for each in made if each[1] != try_.number)
        if left:
            self._people[key] = left
        else:
            del self._people[key]


def budget_handlers(tries: Tries) -> Handlers:
    """What a submission worker may ask of the spool process."""

    async def reserve(_channel: Channel, body: Any) -> int | None:
        directory, person, allowed, window = from_body(tuple[str, str, int, float], body)
        try_ = await tries.reserve(directory, person, allowed, window)
        return None if try_ is None else try_.number

    def give_back(_channel: Channel, body: Any) -> None:
        tries.give_back(Try(*from_body(tuple[str, str, int], body)))

    return {"upstream.reserve": reserve, "upstream.give_back": give_back}


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
        try:
            async with asyncio.timeout(ANSWER_TIME):
                await self._link.request("upstream.give_back", (try_.directory, try_.person, try_.number))
        except (ChannelClosed, TimeoutError, RemoteError):
            return  # it counts as a wrong one until its window ends
