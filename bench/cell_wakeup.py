"""How delivery learns that something was committed to a cell: NOTIFY in the commit, NOTIFY beside it, or polling.

    python -m bench.cell_wakeup [--seconds 4] [--rounds 3] [--committers 16] [--size 8192] [--tls]

Starts a cell of its own (tests/support/cell.py: three nodes, quorum commit, one disk). For each way, in turn and so
many rounds: ``committers`` connections that commit a message each as fast as they can, then a trickle of 20 a second;
and a worker in another process that takes what there is. Prints medians of the rounds: commits per second and their
p50/p99, the time from the end of a commit until the worker had the message, the worker's statements a second.

    silent    nobody is told, nobody takes: what commits alone cost
    notify    every commit has a NOTIFY in its transaction
    beside    a connection of its own says NOTIFY at most every 20 ms, after commits
    poll      the worker asks: at once after it found something, else after 5 ms, 10 ms, ... 250 ms
"""

import argparse
import asyncio
import contextlib
import itertools
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

import psycopg
import uvloop
from tests.support.cell import running_cell
from tests.support.certs import Authority

WAYS = ("silent", "notify", "beside", "poll")
SHORTEST, LONGEST = 0.005, 0.25
TRICKLE = 20.0
TAKE = (
    "DELETE FROM waiting WHERE n IN (SELECT n FROM waiting ORDER BY n LIMIT 200 FOR UPDATE SKIP LOCKED) RETURNING n"
)


@dataclass
class Sample:
    """One round of one way under one load."""

    commits: float
    commit_ms: list[float]
    wake_ms: list[float]
    asked: float = 0.0
    committed: dict[int, float] = field(default_factory=dict)


async def taker(dsn: str, way: str, stop: Event, results: Connection) -> None:
    """The worker: what it took and when, and how often it asked."""
    taken: dict[int, float] = {}
    asked = 0
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute("LISTEN waiting")
        pause = SHORTEST
        results.send("ready")
        while not stop.is_set():
            asked += 1
            rows = await (await connection.execute(TAKE, prepare=True)).fetchall()
            now = time.time()
            taken.update((n, now) for (n,) in rows)
            if rows:
                pause = SHORTEST
            elif way == "poll":
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST)
            else:
                async for _ in connection.notifies(timeout=LONGEST, stop_after=1):
                    pass
    results.send((taken, asked))


def taker_process(dsn: str, way: str, stop: Event, results: Connection) -> None:
    """Entry of the second process."""
    uvloop.run(taker(dsn, way, stop, results))


@contextlib.asynccontextmanager
async def beside(dsn: str) -> AsyncIterator[asyncio.Event]:
    """An event; after it was set, a NOTIFY goes out, at most one in 20 ms."""
    wish = asyncio.Event()

    async def tell() -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            while True:
                await wish.wait()
                wish.clear()
                await connection.execute("NOTIFY waiting")
                await asyncio.sleep(0.02)

    task = asyncio.create_task(tell())
    yield wish
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def commits(dsn: str, way: str, arguments: argparse.Namespace, rate: float | None) -> Sample:
    """Commits for so many seconds: as fast as it goes, or ``rate`` a second by one connection."""
    sample = Sample(0, [], [])
    numbers = itertools.count(1)
    content = os.urandom(arguments.size)
    statements = ["INSERT INTO waiting VALUES (%s, %s)", *(["NOTIFY waiting"] if way == "notify" else [])]

    async def commit(connection: psycopg.AsyncConnection, wish: asyncio.Event) -> None:
        number, began = next(numbers), time.time()
        async with connection.pipeline():
            await connection.execute("BEGIN")
            await connection.execute(statements[0], (number, content), prepare=True)
            for statement in statements[1:]:
                await connection.execute(statement)
            await connection.execute("COMMIT")
        sample.committed[number] = ended = time.time()
        sample.commit_ms.append((ended - began) * 1000)
        if way == "beside":
            wish.set()

    async def work(wish: asyncio.Event, end: float) -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            while time.monotonic() < end:
                await commit(connection, wish)
                if rate:
                    await asyncio.sleep(random.expovariate(rate))  # a load, not a secret

    async with beside(dsn) as wish:
        began = time.monotonic()
        end = began + arguments.seconds
        await asyncio.gather(*(work(wish, end) for _ in range(1 if rate else arguments.committers)))
        sample.commits = len(sample.committed) / (time.monotonic() - began)
    return sample


def measure(dsn: str, way: str, arguments: argparse.Namespace, rate: float | None) -> Sample:
    """One round, with the worker beside it unless the way is ``silent``."""
    with psycopg.connect(dsn) as connection:
        connection.execute("DROP TABLE IF EXISTS waiting")
        connection.execute("CREATE TABLE waiting (n bigint PRIMARY KEY, content bytea)")
    if way == "silent":
        return uvloop.run(commits(dsn, way, arguments, rate))
    spawn = multiprocessing.get_context("spawn")
    results, far = spawn.Pipe()
    stop = spawn.Event()
    process = spawn.Process(target=taker_process, args=(dsn, way, stop, far))
    process.start()
    results.recv()
    began = time.monotonic()
    sample = uvloop.run(commits(dsn, way, arguments, rate))
    time.sleep(1)
    stop.set()
    taken, asked = results.recv()
    sample.asked = asked / (time.monotonic() - began)
    process.join()
    ends = sample.committed
    sample.wake_ms = [max(0.0, taken[n] - ends[n]) * 1000 for n in ends if n in taken]
    return sample


def quantile(values: list[float], part: float) -> float:
    """0.5 is the median; NaN of nothing."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else float("nan")


def row(samples: list[Sample]) -> str:
    """Medians of the rounds, with the spread of the rate."""
    rates = sorted(sample.commits for sample in samples)

    def middle(name: str, part: float) -> str:
        return f"{statistics.median(quantile(getattr(sample, name), part) for sample in samples):.1f}"

    return (
        f"{statistics.median(rates):.0f} ({rates[0]:.0f} to {rates[-1]:.0f}) | {middle('commit_ms', 0.5)} /"
        f" {middle('commit_ms', 0.99)} | {middle('wake_ms', 0.5)} / {middle('wake_ms', 0.99)} |"
        f" {statistics.median(sample.asked for sample in samples):.0f}"
    )


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--committers", type=int, default=16)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--tls", action="store_true", help="Debian's server with TLS, not the wheel's without")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_cell(Authority(Path(folder)), tls=arguments.tls) as cell:
        dsn = cell.create_database("mail", owner="submitter")
        print("| load | way | commits/s | commit p50 / p99 ms | taken after p50 / p99 ms | statements/s |")
        print("|---|---|---|---|---|---|")
        for load, rate in ((f"{arguments.committers} committers", None), ("20 a second", TRICKLE)):
            samples: dict[str, list[Sample]] = {way: [] for way in WAYS}
            for _ in range(arguments.rounds):
                for way in WAYS:
                    samples[way].append(measure(dsn, way, arguments, rate))
            for way in WAYS:
                print(f"| {load} | {way} | {row(samples[way])} |", flush=True)


if __name__ == "__main__":
    main()
