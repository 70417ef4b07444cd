"""Where messages go among ten cells while cells fail: a simulation with the composite spool's own choice.

    python -m bench.placement

Time is simulated and chance seeded, so it says the same each time. WORKERS processes commit at RATE messages a
second in all; each knows what a worker knows: how long its own commits took, how many are under way, and whether a
cell refuses, which it learns only when a commit to it has hung for NOTICED seconds. A cell serves one message after
the other; one is slower than the others, one fails over, one stays dead.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any

from pillarbox.message.envelope import Envelope, queue_id
from pillarbox.spool.base import SpoolError, Unavailable
from pillarbox.spool.cluster.composite import CompositeSpool

CELLS, WORKERS, RATE, SECONDS = 10, 8, 400.0, 90.0
SERVICE = 1 / 80
"""Seconds of a cell for a message: ten carry twice RATE."""
NOTICED = 3.0
SLOW, FAILS_OVER, DEAD = "c1", "c2", "c3"
AWAY = {FAILS_OVER: (20.0, 45.0), DEAD: (30.0, float("inf"))}


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer when nothing is ready."""

    _virtual = 0.0

    def time(self) -> float:
        """Seconds since the start of the simulation."""
        return self._virtual

    def _run_once(self) -> None:
        inner: Any = self  # the loop's own names, which its stubs leave out
        if not inner._ready and inner._scheduled:
            self._virtual = max(self._virtual, inner._scheduled[0].when())
        super()._run_once()  # type: ignore[misc]  # not in the stubs


class _Cell:
    """What all workers share: a queue of commits, and whether it answers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.service = SERVICE * (2 if name == SLOW else 1)
        self.free_at = 0.0
        self.taken: list[float] = []

    def away_until(self, now: float) -> float | None:
        begins, ends = AWAY.get(self.name, (0.0, 0.0))
        return ends if begins <= now < ends else None


class _Member:
    """One worker's way to a cell. What a spool has beside it is not used here."""

    def __init__(self, cell: _Cell) -> None:
        self._cell = cell
        self._trouble: float | None = None

    def refusal(self, size: int) -> SpoolError | None:
        now = asyncio.get_running_loop().time()
        if self._trouble is not None and self._cell.away_until(now) is None and now >= self._trouble + 1.0:
            self._trouble = None  # the probe of each second was confirmed
        return None if self._trouble is None else Unavailable("away")

    async def commit(self, envelope: Envelope, content: bytes) -> None:
        loop = asyncio.get_running_loop()
        if self._cell.away_until(loop.time()) is not None:
            await asyncio.sleep(NOTICED)
            self._trouble = loop.time()
            raise Unavailable("away")
        self._cell.free_at = max(self._cell.free_at, loop.time()) + self._cell.service
        await asyncio.sleep(self._cell.free_at - loop.time())
        self._cell.taken.append(loop.time())


async def _worker(cells: list[_Cell], source: random.Random, refused: list[float]) -> None:
    members: dict[str, Any] = {cell.name: _Member(cell) for cell in cells}
    spool = CompositeSpool(members, random=source.random)
    loop = asyncio.get_running_loop()

    async def send() -> None:
        name = queue_id(loop.time(), source.randbytes(10), spool.tag())
        try:
            await spool.commit(Envelope(name, "", ("a@example.org",), 0.0, 1), b"")
        except Unavailable:
            refused.append(loop.time())

    tasks = []
    while loop.time() < SECONDS:
        tasks.append(loop.create_task(send()))
        await asyncio.sleep(source.expovariate(RATE / WORKERS))
    await asyncio.gather(*tasks)


async def _all(seed: int) -> tuple[list[_Cell], list[float]]:
    cells = [_Cell(f"c{number}") for number in range(CELLS)]
    refused: list[float] = []
    await asyncio.gather(*(_worker(cells, random.Random(seed + n), refused) for n in range(WORKERS)))  # noqa: S311  # a simulation
    return cells, refused


def simulate(seed: int = 1) -> str:
    """The report."""
    loop = VirtualLoop()
    try:
        cells, refused = loop.run_until_complete(_all(seed))
    finally:
        loop.close()
    lines = [
        "| messages of | all cells there (0–20 s) | one or two away (20–45 s) | one dead (45–90 s) |",
        "|---|---|---|---|",
    ]
    spans = ((0.0, 20.0), (20.0, 45.0), (45.0, SECONDS))
    every = {cell.name: [_within(cell.taken, span) for span in spans] for cell in cells}
    alike = [counts for name, counts in every.items() if name not in (SLOW, FAILS_OVER, DEAD)]
    lines.append("| each of seven alike: least to most | " + _row(alike, lambda each: f"{min(each)} to {max(each)}"))
    for name, title in ((SLOW, "the slow one"), (FAILS_OVER, "away from 20 to 45 s"), (DEAD, "dead from 30 s on")):
        lines.append(f"| {title} | " + _row([every[name]], lambda each: str(each[0])))
    lines.append(
        "| refused with 451 | " + _row([[_within(refused, span) for span in spans]], lambda each: str(each[0]))
    )
    return "\n".join(lines)


def _row(counts: list[list[int]], say: Callable[[list[int]], str]) -> str:
    return " | ".join(say(list(each)) for each in zip(*counts, strict=True)) + " |"


def _within(times: list[float], span: tuple[float, float]) -> int:
    return sum(span[0] <= each < span[1] for each in times)


if __name__ == "__main__":
    print(simulate())
