"""The cluster at work: load, a kill -9 of a random process every few seconds, and a live table of what is going on.

    python -m tests.cluster.show                        # 120 seconds; Ctrl-C ends it cleanly
    python -m tests.cluster.show --seconds 300 --every 8 --rate 40
    python -m tests.cluster.show | cat                  # lines instead of a table

Three nodes (etcd, Patroni, PostgreSQL), two submission and two delivery machines, a next hop. At the end it adds up;
exit code 1 when anything was lost. `make cluster` installs what it needs.
"""

import argparse
import asyncio
import collections
import contextlib
import itertools
import math
import os
import random
import shutil
import signal
import sys
import time

import pytest
from tests.cluster.faults import repair
from tests.cluster.load import Books, percentile
from tests.cluster.stage import Balance, Stage, performed
from tests.support.cell_node import Node, Part

PARTS: tuple[Part, ...] = ("postgres", "patroni", "etcd")
BACK = 6.0
"""Seconds until the show starts Patroni or etcd again, as a service manager would."""


class Screen:
    """A table that is drawn anew each second, or lines where there is no terminal."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.news: collections.deque[str] = collections.deque(maxlen=9)
        self._drawn = False
        self._began = time.monotonic()
        self._before = (self._began, 0)

    def say(self, text: str) -> None:
        """Something happened."""
        stamped = f"{time.monotonic() - self._began:6.1f} s  {text}"
        self.news.append(stamped)
        if not self._drawn:
            print(stamped, flush=True)

    def draw(self, stage: Stage, members: dict[str, str], left: float) -> None:
        """What is going on now."""
        now, accepted = time.monotonic(), len(stage.books.accepted)
        before, counted = self._before
        rate = (accepted - counted) / max(now - before, 0.001)
        self._before = (now, accepted)
        took = percentile(stage.books.took(now - 10, now), 0.99)
        totals = (
            f"accepted {accepted} ({rate:.0f}/s, p99 {1000 * took:.0f} ms)  delivered {stage.books.delivered}  "
            f"bounced {len(stage.books.bounces)}  queue {stage.queue}  451 {len(stage.books.put_off)}"
        )
        nodes = [f"{name} {members.get(name, 'away')}" for name in members]
        if not self.live:
            print(f"{now - self._began:6.1f} s  {totals}  [{', '.join(nodes)}]", flush=True)
            return
        rows = [f"Pillarbox on a cluster: {left:.0f} s left, Ctrl-C ends it", "", totals, ""]
        rows += [f"  {node}" for node in nodes]
        for machine in stage.machines:
            states = [
                f"{unit.role} {'up' if unit.process is not None else 'down'} ({unit.starts} starts)"
                for unit in machine.units.values()
            ]
            rows.append(f"  {machine.name} {machine.host}  " + "  ".join(states))
        rows += ["", *self.news]
        width, height = shutil.get_terminal_size()
        text = "\n".join(row[: width - 1] for row in rows[: height - 1])
        # a screen of its own, without a cursor: what was there before comes back at the end
        print(("" if self._drawn else "\x1b[?1049h\x1b[?25l") + "\x1b[H\x1b[2J" + text, flush=True)
        self._drawn = True

    def close(self) -> None:
        """The screen as it was before; what is said from now on is lines."""
        if self._drawn:
            self._drawn = False
            print("\x1b[?25h\x1b[?1049l" + "\n".join(self.news), flush=True)


def roles(stage: Stage) -> dict[str, str]:
    """Each node's role, as Patroni says."""
    found = {}
    for tag, cell in zip("ab", stage.cells, strict=False):
        try:
            said = {member["name"]: f"{member['role']}, {member['state']}" for member in cell.members()}
        except OSError:
            said = {}
        found.update({f"{tag} {node.name}": said.get(node.name, "away") for node in cell.nodes})
    return found


def kill_something(stage: Stage, chance: random.Random) -> tuple[str, Node | None]:
    """Kills a random process; returns (what it was, the node that needs a start later)."""
    if chance.random() < 0.5:
        machine = chance.choice(stage.machines)
        role = chance.choice(machine.roles)
        machine.kill(role)
        return f"{machine.name}: {role}", None
    cell = chance.choice(stage.cells)
    node, what = chance.choice(cell.nodes), ""
    if chance.random() < 0.5:
        with contextlib.suppress(LookupError):
            node, what = cell.primary(), " of the primary"
    part = chance.choice(PARTS)
    cell.kill(node, part)
    return f"{'ab'[stage.cells.index(cell)]} {node.name}: {part}{what}", node if part != "postgres" else None


async def play(
    stage: Stage, screen: Screen, options: argparse.Namespace, stopping: asyncio.Event, kills: list[tuple[float, str]]
) -> None:
    """Kills and draws until the time is over; enters (when, what) of each kill into ``kills``."""
    chance = random.Random(options.seed)
    ends_at = time.monotonic() + options.seconds
    next_kill = time.monotonic() + options.every
    starts: list[tuple[float, Node]] = []
    while (now := time.monotonic()) < ends_at and not stopping.is_set():
        if now >= next_kill and now < ends_at - options.every:
            next_kill = now + options.every * chance.uniform(0.7, 1.3)
            # one failure at a time is what a cell of three survives without a pause for its administrator
            if not starts:
                what, node = await asyncio.to_thread(kill_something, stage, chance)
                kills.append((now, what))
                screen.say(f"kill -9 {what}")
                if node is not None:
                    starts.append((now + BACK, node))
        while starts and starts[0][0] <= now:
            _, again = starts.pop(0)
            screen.say(f"started again: {again.name}")
            await asyncio.to_thread(again.start)
        screen.draw(stage, await asyncio.to_thread(roles, stage), ends_at - now)
        try:
            async with asyncio.timeout(1.0 if screen.live else 5.0):
                await stopping.wait()
        except TimeoutError:
            continue


def conclusion(balance: Balance, books: Books, kills: list[tuple[float, str]]) -> str:
    """The last lines, with what was there twice by the kill that it came after."""
    lines = [
        "",
        f"accepted {balance.accepted} = delivered {balance.delivered} + bounced {balance.bounced} + still queued "
        f"{balance.queued} + lost {balance.lost}",
        f"twice: {_counts(balance.doubles) or 'none'}",
    ]
    for (since, what), (until, _) in itertools.pairwise((*kills, (math.inf, ""))):
        counts = _counts(books.doubles(since, until))
        if counts:
            lines.append(f"  after kill -9 {what}: {counts}")
    if balance.doubles:
        lines.append(
            "by the client: it repeated what it had no answer for; by a delivery: ended between the next hop's 250 "
            "and the settlement"
        )
    return "\n".join(lines)


def _counts(doubles: collections.Counter[str]) -> str:
    return ", ".join(f"{count} {why}" for why, count in sorted(doubles.items()))


async def show(options: argparse.Namespace) -> int:
    """The exit code."""
    screen = Screen()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stopping.set)

    async def all_acts(stage: Stage) -> int:
        kills: list[tuple[float, str]] = []
        try:
            await play(stage, screen, options, stopping, kills)
        finally:
            screen.close()
        screen.say("no more load: repair, and wait until the queue is empty")
        await asyncio.to_thread(repair, stage)
        balance = await stage.settle()
        print(conclusion(balance, stage.books, kills), flush=True)
        return 0 if balance.lost == 0 and balance.accepted else 1

    return await performed(all_acts, stopping, rate=options.rate, cells=options.cells, say=screen.say)


def main() -> int:
    """Reads the arguments, runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long things are killed (default 120)")
    parser.add_argument("--every", type=float, default=6.0, help="seconds between two kills, about (default 6)")
    parser.add_argument("--rate", type=float, default=25.0, help="messages per second (default 25)")
    parser.add_argument("--cells", type=int, default=1, choices=(1, 2), help="cells of three nodes (default 1)")
    parser.add_argument("--seed", type=int, help="the same victims again")
    try:
        return asyncio.run(show(parser.parse_args()))
    except (AssertionError, pytest.skip.Exception) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
