"""Every fault on the whole product, again and again in random order, under load; writes what came of it as a page.

    python -m tests.cluster.chaos --minutes 30 --page docs/reports/chaos-cluster.md
    python -m tests.cluster.chaos --minutes 4 --only switchover --only power_of_primary --page /tmp/page.md
    python -m tests.cluster.chaos --list

The page is written after every fault, and so is there also when the run is interrupted (Ctrl-C, SIGTERM: it adds up
and ends in order). Exit code 0 when nothing was lost or there twice unexplained and all became well again, else 1.
`make chaos-cluster` installs what it needs.
"""

import argparse
import asyncio
import datetime
import os
import platform
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.faults import FAULTS, Fault, repair
from tests.cluster.load import percentile, replies
from tests.cluster.stage import Balance, Stage, performed
from tests.support.postgres import programs

QUIET = 8.0
"""Seconds after it is well in which the figures "after" are taken."""


@dataclass(slots=True)
class Row:
    """What was seen of one fault: ``began`` to ``well`` is during, ``well`` to ``ended`` after (monotonic)."""

    fault: Fault
    began: float
    well: float
    ended: float
    problem: str = ""


@dataclass(slots=True)
class Run:
    """A run so far."""

    began_at: datetime.datetime
    rate: float
    command: str
    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    balance: Balance | None = None
    seconds: float = 0.0

    def good(self) -> bool:
        """Whether the promise held, as far as it was looked at."""
        balance = self.balance
        return bool(
            balance
            and not self.problems
            and self.rows
            and balance.lost == 0
            and balance.doubles["unexplained"] == 0
            and balance.bounced_twice == 0
        )


def version_of_server() -> str:
    """As the program itself says."""
    done = subprocess.run((str(programs(tls=True) / "postgres"), "--version"), capture_output=True, text=True)
    return done.stdout.strip().removeprefix("postgres (PostgreSQL) ")


def line(stage: Stage, name: str, rows: list[Row]) -> str:
    """A fault's line of the table, over all its times: sums, medians of percentiles, the longest pause."""
    books = stage.books
    during = sorted(took for row in rows for took in books.took(row.began, row.well))
    after = sorted(took for row in rows for took in books.took(row.well, row.ended))
    pause = max(books.pause(row.began, row.ended) for row in rows)
    put_off = sum(replies(books, row.began, row.ended) for row in rows)
    at_mail = sorted(took for row in rows for took in stage.probes.put_off(row.began, row.ended))
    ended = sum(stage.probes.ended(row.began, row.ended) for row in rows)
    gone = sum(row.began <= when < row.ended for row in rows for when in books.lost_connections)
    people = [stage.probes.signed_in(row.began, row.ended) for row in rows]
    doubles: Counter[str] = Counter()
    for row in rows:
        doubles += books.doubles(row.began, row.ended)
    healing = max(row.well - row.began for row in rows)

    def times(values: list[float]) -> str:
        return f"{1000 * percentile(values, 0.5):.0f} / {1000 * percentile(values, 0.99):.0f}"

    twice = ", ".join(f"{count} {why}" for why, count in sorted(doubles.items())) or "0"
    return (
        f"| {FAULTS[name].what} | {len(rows)} | {len(during) + len(after)} | {times(during)} | {times(after)} "
        f"| {pause:.1f} | {healing:.0f} | {put_off} | {gone} | {len(at_mail)} | {times(at_mail) if at_mail else '-'} "
        f"| {ended} | {' / '.join(str(sum(counts)) for counts in zip(*people, strict=True))} | {twice} |"
    )


def page(run: Run, stage: Stage) -> str:
    """The page, in Markdown."""
    balance = run.balance
    by_name: dict[str, list[Row]] = {}
    nodes = "Three nodes" if len(stage.cells) == 1 else f"{len(stage.cells)} cells of three nodes"
    for row in run.rows:
        by_name.setdefault(row.fault.name, []).append(row)
    lines = [
        "# Chaos on a cluster",
        "",
        f"{run.began_at:%Y-%m-%d}, {run.seconds / 60:.0f} minutes, `{run.command}`: Python "
        f"{platform.python_version()}, PostgreSQL {version_of_server()}, Linux "
        f"{platform.release().partition('-')[0]}, {os.cpu_count()} cores, all on one machine and one disk.",
        "",
        f"{nodes} (etcd, Patroni, PostgreSQL; ttl 20 s), two submission and two delivery machines, clients over "
        f"TLS that send {run.rate:g} messages a second and repeat what was not accepted. Written by the program.",
        "",
    ]
    if balance is None:
        lines += ["The run is not over, or was broken off: what follows is as of the last fault.", ""]
    else:
        twice = ", ".join(f"{count} {why}" for why, count in sorted(balance.doubles.items())) or "none"
        lines += [
            "| accepted | delivered | bounced | still queued | lost | delivered twice | bounced twice |",
            "|---:|---:|---:|---:|---:|---|---:|",
            f"| {balance.accepted} | {balance.delivered} | {balance.bounced} | {balance.queued} | "
            f"**{balance.lost}** | {twice} | {balance.bounced_twice} |",
            "",
        ]
    lines += [
        "Twice *by the client*: its connection was lost, or it got a 451, after the final dot, and it sent the "
        "message again. *By a delivery*: the next hop took it, and the settlement was not confirmed before the "
        "process died or lost its lease.",
        "",
        "| what happened | times | accepted | ms during, p50 / p99 | ms after, p50 / p99 | longest pause, s | well "
        "after at most, s | 451 or 452 | connections lost | asked: 451 or 452 | ms to that, p50 / p99 | asking "
        "sessions lost | sign-ins: 235 / refused / no answer | twice |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|",
        *(line(stage, name, rows) for name, rows in by_name.items()),
        "",
        "The milliseconds are from MAIL to the 250 of what was accepted; who got a 451 first is counted there. "
        "*Asked*: a session at each submission machine says MAIL and RSET four times a second, whatever happens, and "
        "sends nothing; so its refusals are those at MAIL, and its session should stay unless its own process dies. "
        "*Sign-ins*: a new connection at each of them each second; no answer is what a dead process gives.",
    ]
    if stage.notes:
        lines += ["", "## What was seen", "", *(f"- {note}" for note in stage.notes)]
    if run.problems:
        lines += ["", "## What did not go well", "", *(f"- {problem}" for problem in run.problems)]
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    """All of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.replace(path)


async def one(stage: Stage, fault: Fault) -> Row:
    """A fault, and until all is well again and some seconds longer."""
    row = Row(fault, time.monotonic(), 0.0, 0.0)
    try:
        await asyncio.to_thread(fault.happen, stage)
        await stage.healthy()
    except (AssertionError, LookupError, OSError) as error:
        row.problem = f"{fault.name}: {str(error).splitlines()[0][:300] if str(error) else type(error).__name__}"
        await asyncio.to_thread(repair, stage)
    row.well = time.monotonic()
    await asyncio.sleep(0 if stage.hurry.is_set() else QUIET)
    row.ended = time.monotonic()
    return row


async def faults_until(stage: Stage, run: Run, names: list[str], until: float, path: Path) -> None:
    """Rounds of all faults, each round in an order of its own, until the time is over."""
    chance = random.Random()
    while True:
        for name in chance.sample(names, len(names)):
            if time.monotonic() >= until or stage.hurry.is_set():
                return
            say(f"== {name}: {FAULTS[name].what}")
            row = await one(stage, FAULTS[name])
            run.rows.append(row)
            if row.problem:
                run.problems.append(row.problem)
                say(f"!! {row.problem}")
            run.seconds = row.ended - run.rows[0].began
            write(path, page(run, stage))
            books = stage.books
            say(f"   well after {row.well - row.began:.0f} s; accepted {len(books.accepted)}, queue {stage.queue}")


def possible(fault: Fault, cells: int) -> bool:
    """Whether it can be done here; says what is left out."""
    why = ""
    if fault.needs_root and os.geteuid() != 0:
        why = "needs root: it mounts a small file system"
    elif fault.cells > cells:
        why = f"needs --cells {fault.cells}"
    if why:
        say(f"-- left out: {fault.name}, {why}")
    return not why


def say(text: str) -> None:
    """One line, at once, with the time."""
    print(f"{datetime.datetime.now(datetime.UTC):%H:%M:%S} {text}", flush=True)


async def chaos(options: argparse.Namespace) -> int:
    """The exit code."""
    words = " ".join(f"--only {name}" for name in options.only)
    words = " ".join(filter(None, (f"--cells {options.cells}" if options.cells > 1 else "", words)))
    command = f"make chaos-cluster MINUTES={options.minutes:g}" + (f" ARGS='{words}'" if words else "")
    run = Run(datetime.datetime.now(datetime.UTC), options.rate, command)
    names = [name for name in options.only or FAULTS if possible(FAULTS[name], options.cells)]
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)

    async def play(stage: Stage) -> int:
        until = time.monotonic() + 60 * options.minutes
        work = asyncio.create_task(faults_until(stage, run, names, until, options.page))
        told = asyncio.create_task(stopping.wait())
        await asyncio.wait((work, told), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            say("interrupted: ends in order, which may take a minute or two")
            stage.hurry.set()  # a fault is never left half done: its thread would start what nobody ends
            await asyncio.wait((work,))
            run.problems.append("interrupted")
        told.cancel()
        await asyncio.gather(work, told, return_exceptions=True)
        if work.done() and not work.cancelled() and work.exception() is not None:
            run.problems.append(f"the program failed: {work.exception()!r}")
        await asyncio.to_thread(repair, stage)
        run.balance = await stage.settle()
        write(options.page, page(run, stage))
        say(str(run.balance))
        if not run.good():
            print(stage.tail(), file=sys.stderr)
        return 0 if run.good() else 1

    return await performed(play, stopping, rate=options.rate, cells=options.cells, say=say)


def main() -> int:
    """Reads the arguments, runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (default 30)")
    parser.add_argument("--rate", type=float, default=25.0, help="messages per second (default 25)")
    parser.add_argument("--cells", type=int, default=1, choices=(1, 2), help="cells of three nodes (default 1)")
    parser.add_argument("--page", type=Path, default=Path("docs/reports/chaos-cluster.md"), help="where to write")
    parser.add_argument("--only", action="append", default=[], choices=list(FAULTS), help="this fault; repeatable")
    parser.add_argument("--list", action="store_true", help="name the faults and end")
    options = parser.parse_args()
    if options.list:
        for fault in FAULTS.values():
            print(f"{fault.name:22} {fault.what}")
        return 0
    return asyncio.run(chaos(options))


if __name__ == "__main__":
    sys.exit(main())
