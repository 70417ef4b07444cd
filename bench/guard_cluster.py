"""What the exchange of the guards costs: a second's worth of failures, 200 in all, told and heard by 1, 2, 8 nodes.

    python -m bench.guard_cluster [--seconds 20] [--failures 200]

Starts a PostgreSQL of its own (one node, fsync off: this is about work, not disks). A second is not waited for: each
node counts its share of the failures, each from a prefix of its own, then makes its exchange; so many seconds are
played through, for each number of nodes. Prints, for each exchange: processor time of the node (with counting what
it heard) and of the server, statements, round trips, rows heard. Ends after a minute at the latest.
"""

import argparse
import asyncio
import itertools
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.guard.machines import Machine, make_tables
from tests.support.clock import FakeClock
from tests.support.postgres import running_postgres

from pillarbox.guard.facts import Fact
from pillarbox.guard.ledger import Ledger
from pillarbox.store import postgresql

NODES = (1, 2, 8)
LONGEST = 18.0
"""Seconds for one number of nodes."""
_TICK = 1000 / os.sysconf("SC_CLK_TCK")


@dataclass
class Asked:
    """What went to the server."""

    statements: int = 0
    round_trips: int = 0


def count_statements() -> Asked:
    """Counts at the one place where all of them pass."""
    asked, run = Asked(), postgresql._Session.run

    async def counted(session: postgresql._Session, statements: Sequence[postgresql.Statement]) -> list[str]:
        asked.statements += len(statements)
        asked.round_trips += 1
        return await run(session, statements)

    postgresql._Session.run = counted  # type: ignore[method-assign, assignment]  # no other way to count what the driver is asked
    return asked


def server_time(pids: Sequence[int]) -> float:
    """Processor milliseconds of the server's processes."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(each[11]) + int(each[12]) for each in fields) * _TICK


class Heard:
    """Counts the facts that machines hear."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        self.facts = 0
        for machine in machines:
            self._listen(machine.ledger)

    def _listen(self, ledger: Ledger) -> None:
        merge = ledger.merge

        def counted(facts: list[Fact], now: float) -> None:
            self.facts += len(facts)
            merge(facts, now)

        ledger.merge = counted  # type: ignore[method-assign]  # the ledger itself has no use for such a count


def address(number: int) -> str:
    """Another prefix for each number."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


async def measure(dsn: str, folder: Path, nodes: int, seconds: int, failures: int, asked: Asked) -> str:
    """A row of the table."""
    await make_tables(dsn)
    clock = FakeClock()
    machines = [await Machine.open(folder / str(number), dsn, clock) for number in range(nodes)]
    for machine in machines:
        await machine.run()
    pids = [(await machine.store.read(("SELECT pg_backend_pid()", ())))[0][0][0] for machine in machines]
    numbers = itertools.count()
    heard = Heard(machines)
    exchanges = 0
    spent = 0.0
    asked.statements = asked.round_trips = 0
    server, ends_at = server_time(pids), time.monotonic() + LONGEST
    for _ in range(seconds):
        if time.monotonic() > ends_at:
            break
        for machine in machines:
            for number in itertools.islice(numbers, failures // nodes):
                machine.fail(number, login=f"user{number % 1000}", place=address(number))
            began = time.process_time()
            await machine.rounds.run()
            spent += time.process_time() - began
            exchanges += 1
        clock.advance(1)
    server = server_time(pids) - server
    for machine in machines:
        await machine.kill()
    return (
        f"| {nodes} | {exchanges} | {1000 * spent / exchanges:.1f} | {server / exchanges:.1f} | "
        f"{asked.statements / exchanges:.1f} | {asked.round_trips / exchanges:.1f} | {heard.facts / exchanges:.0f} |"
    )


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description="what the exchange of the guards costs")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--failures", type=int, default=200)
    options = parser.parse_args()
    asked = count_statements()
    print("| nodes | exchanges | node, CPU ms | server, CPU ms | statements | round trips | rows heard |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with running_postgres() as server:
        for nodes in NODES:
            with tempfile.TemporaryDirectory(prefix="pb-guard-") as folder:
                dsn = server.create_database()
                row = measure(dsn, Path(folder), nodes, options.seconds, options.failures, asked)
                print(asyncio.run(row), flush=True)


if __name__ == "__main__":
    main()
