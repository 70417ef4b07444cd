"""An honest user while 200 wrong passwords a second come from 50 addresses. Part of bench.directories.

The guesses are for twenty people, the honest one among them, of a directory whose server behind counts what comes.
Guessers run in time that nobody else wants (SCHED_IDLE), as if they had a machine of their own.
"""

import asyncio
import contextlib
import multiprocessing
import os
import ssl
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from bench.figures import Row, column, quantile
from bench.scripted_imap import RIGHT, running_imap
from bench.sign_ins import sign_in
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon

RATE = 200.0
ADDRESSES = 50
PEOPLE = 20
HONEST = 10.0
"""Sign-ins of the honest user a second."""
ALLOWED = 5
"""wrong_tries."""
_DIRECTORY = """
[[directory]]
name = "mailbox"
kind = "imap"
servers = ["127.0.0.1:{port}"]
tls = "none"
domains = ["example.org"]
wrong_tries = {allowed}
"""


def guessed(folder: Path, authority: Authority, rounds: int, seconds: float, say: Callable[[str], None]) -> list[str]:
    """The third table; each round has a daemon of its own, since addresses stay blocked."""
    rows: list[Row] = []
    for number in range(rounds):
        house = folder / f"guessed-{number}"
        house.mkdir()
        rows.append(_round(house, authority, seconds))
        row = rows[-1]
        say(f"{number + 1}/{rounds} guessing quiet p99 {row['quiet99']:.1f} ms, attacked {row['p99']:.1f} ms, "
            f"{row['guesses']} guesses, {row['behind']} went on, {row['most']} of one person")  # fmt: skip
    most = max(row["most"] for row in rows)
    return [
        f"{RATE:g} guesses a second from {ADDRESSES} addresses for {PEOPLE} people; the honest user of one of these "
        f"signs in {HONEST:g} times a second from a known place; wrong_tries = {ALLOWED}.",
        "",
        "| quiet p50 ms | quiet p99 | under attack p50 | p99 | times | guesses | reached the server behind | most "
        "of one person |",
        "|---|---|---|---|---|---|---|---|",
        f"| {' | '.join(column(rows, key) for key in ('quiet50', 'quiet99', 'p50', 'p99'))} "
        f"| {column(rows, 'times', 2)} | {column(rows, 'guesses', 0)} | {column(rows, 'behind', 0)} | {most} |",
    ]


def _round(house: Path, authority: Authority, seconds: float) -> Row:
    ends: list[Callable[[], None]] = []
    with running_imap(0.01) as server:
        daemon = start_daemon(
            house,
            authority,
            at_end=ends.append,
            site=('directories = ["mailbox"]',),
            extra=_DIRECTORY.format(port=server.port, allowed=ALLOWED),
        )
        try:
            context = ssl.create_default_context(cafile=str(daemon.ca))
            asyncio.run(_honest(daemon, context, 1.0))
            quiet = asyncio.run(_honest(daemon, context, seconds))
            spawn = multiprocessing.get_context("spawn")
            end, guesses = spawn.Event(), spawn.Value("q", 0)
            process = spawn.Process(target=_guessers, args=(daemon.submissions, daemon.ca, end, guesses))
            process.start()
            deadline = time.monotonic() + 30
            while guesses.value < RATE / 4 and time.monotonic() < deadline:
                time.sleep(0.05)
            attacked = asyncio.run(_honest(daemon, context, seconds))
            end.set()
            process.join(30)
        finally:
            for close in ends:
                close()
    return {
        "times": quantile(attacked, 0.99) / quantile(quiet, 0.99),
        "quiet50": quantile(quiet, 0.5) * 1e3,
        "quiet99": quantile(quiet, 0.99) * 1e3,
        "p50": quantile(attacked, 0.5) * 1e3,
        "p99": quantile(attacked, 0.99) * 1e3,
        "guesses": guesses.value,
        "behind": sum(server.wrong.values()),
        "most": max(server.wrong.values(), default=0),
    }


async def _honest(daemon: RunningDaemon, context: ssl.SSLContext, seconds: float) -> list[float]:
    """Seconds of each whole sign-in, from the connection on."""
    times: list[float] = []

    async def one() -> None:
        began = time.perf_counter()
        code, _ = await sign_in(daemon.submissions, context, ("person0", RIGHT))
        if code != b"235":
            raise RuntimeError(f"the honest user was refused: {code!r}")
        times.append(time.perf_counter() - began)

    tasks = []
    for _ in range(int(seconds * HONEST)):
        tasks.append(asyncio.create_task(one()))
        await asyncio.sleep(1 / HONEST)
    await asyncio.gather(*tasks)
    return times


def _guessers(port: int, ca: Path, end: Event, guesses: Any) -> None:
    """The guessers' process."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    context = ssl.create_default_context(cafile=str(ca))

    async def one(number: int) -> None:
        person = f"person{number % PEOPLE}", f"guess {number}"
        with contextlib.suppress(OSError, TimeoutError):  # turned away
            await sign_in(port, context, person, f"127.0.1.{number % ADDRESSES + 1}")
        guesses.value += 1

    async def main() -> None:
        tasks: set[asyncio.Task[None]] = set()
        number, began = 0, time.monotonic()
        while not end.is_set():
            while number < (time.monotonic() - began) * RATE:
                task = asyncio.create_task(one(number))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                number += 1
            await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
