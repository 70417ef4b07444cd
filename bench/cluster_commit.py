"""What the spool over PostgreSQL carries: producers in this process, the cell's nodes beside it, on one machine.

    python -m bench.cluster_commit [--seconds 5] [--producers 16] [--size 8192] [--standbys 2] [--drain] [--depth N]
                                   [--dsn DSN]

Without ``--dsn`` it starts PostgreSQL itself (fsync on), with so many standbys of which a commit waits for any one.
Prints commits per second, p50/p99, CPU per message of the producers' process and of all the nodes' processes, and the
disk's own fsyncs per second beside them. ``--drain`` lets a second process lease and settle what was committed at the
same time; ``--depth`` fills the queue with so many messages (due tomorrow) first.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop
from bench.spool_commit import TOMORROW, cpu_seconds, envelope, fsync_rate
from tests.support.ports import steady_ports
from tests.support.postgres import MODEST, Postgres, programs, run, running_postgres, scratch_folder
from tests.support.processes import descendants

from pillarbox.spool.base import Delivered, Settlement
from pillarbox.spool.cluster.spool import ClusterSpool, make_tables, open_cluster
from pillarbox.spool.settings import ClusterSettings

ROOMY = {"shared_buffers": "256MB", "max_wal_size": "2GB"}


class Standby(Postgres):
    """A node that follows another."""

    def __init__(self, primary: Postgres, name: str) -> None:
        self.folder = scratch_folder("pg-")
        self.data = self.folder / "data"
        self.log_path = self.folder / "log"
        self.port = steady_ports(1)[0]
        self.settings = {**MODEST, **ROOMY, "cluster_name": name}
        self.process = None
        where = f"host={primary.folder} port={primary.port} user=postgres application_name={name}"
        tool = str(programs() / "pg_basebackup")
        run((tool, "-D", str(self.data), "-R", "-X", "stream", "-c", "fast", "-d", where), self.folder)


@contextlib.contextmanager
def nodes(standbys: int) -> Iterator[tuple[str, list[int]]]:
    """A DSN, and the process of each node."""
    with running_postgres(durable=True, settings=ROOMY) as primary:
        dsn = primary.create_database()
        followers = [Standby(primary, f"standby{number}") for number in range(standbys)]
        for follower in followers:
            follower.start()
        if standbys:
            for query in ("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'", "SELECT pg_reload_conf()"):
                run(
                    (str(programs() / "psql"), "-X", "-q", "-d", primary.dsn("postgres"), "-c", query), primary.folder
                )
        try:
            yield dsn, [node.process.pid for node in (primary, *followers) if node.process is not None]
        finally:
            for follower in followers:
                follower.kill9()


def cpu_of(processes: list[int]) -> float:
    """CPU seconds of these and all below them that still live."""
    used = 0
    for process in processes:
        for each in (process, *descendants(process)):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
                used += sum(map(int, fields[11:15]))  # with its children that ended
    return used / os.sysconf("SC_CLK_TCK")


async def fill(spool: ClusterSpool, depth: int) -> None:
    """Messages due tomorrow, in 1,000 domains."""
    began = time.monotonic()
    clock, spool.cell.clock = spool.cell.clock, lambda: time.time() + TOMORROW
    content = os.urandom(512)
    for start in range(0, depth, 2000):
        each = (envelope(n, 512, f"d{n % 1000}.example") for n in range(start, min(start + 2000, depth)))
        await asyncio.gather(*(spool.commit(one, content) for one in each))
    spool.cell.clock = clock
    print(f"filled with {depth} in {time.monotonic() - began:.1f} s", file=sys.stderr)


async def drain(dsn: str) -> None:
    """The delivery process: leases and settles until its standard input ends; prints messages and CPU seconds."""
    spool = await open_cluster(ClusterSettings(dsn, "pillarbox delivery"))
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    settled = 0

    async def settle_all() -> int:
        leases = await spool.lease(time.time(), 100)
        await asyncio.gather(
            *(spool.settle(one, Settlement(one.envelope.queue_id, {0: Delivered("250 ok", "hop")})) for one in leases)
        )
        return len(leases)

    while not ended.done():
        count = sum(await asyncio.gather(settle_all(), settle_all()))
        settled += count
        if not count:
            await spool.wait_due(0.2)
    print(json.dumps({"settled": settled, "cpu": cpu_seconds()}), flush=True)
    await spool.close()


async def produce(spool: ClusterSpool, until: float, size: int, waits: list[float]) -> None:
    """One producer: the next message when the last one is durable."""
    content = os.urandom(size)
    number = 0
    while (began := time.perf_counter()) < until:
        await spool.commit(envelope(number, size), content)
        waits.append(time.perf_counter() - began)
        number += 1


async def measure(options: argparse.Namespace, dsn: str, processes: list[int]) -> None:
    """Lets the producers run, prints the figures."""
    await make_tables(ClusterSettings(dsn))
    spool = await open_cluster(ClusterSettings(dsn, "pillarbox submission"))
    await fill(spool, options.depth)
    command = (sys.executable, "-m", "bench.cluster_commit", "--role", "drain", "--dsn", dsn)
    pipe = asyncio.subprocess.PIPE
    drainer = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe) if options.drain else None
    waits: list[float] = []
    await produce(spool, time.perf_counter() + 0.5, options.size, [])
    nodes_cpu, own_cpu, began = cpu_of(processes), cpu_seconds(), time.perf_counter()
    until = began + options.seconds
    await asyncio.gather(*(produce(spool, until, options.size, waits) for _ in range(options.producers)))
    took = time.perf_counter() - began
    own_cpu, nodes_cpu = cpu_seconds() - own_cpu, cpu_of(processes) - nodes_cpu
    settled = json.loads((await drainer.communicate(b""))[0]) if drainer else {"settled": 0, "cpu": 0.0}
    await spool.close()
    cuts = statistics.quantiles(waits, n=1000)
    figures = {
        "commits/s": f"{len(waits) / took:,.0f}",
        "settled/s": f"{settled['settled'] / took:,.0f}",
        "p50 ms": f"{cuts[499] * 1e3:.2f}",
        "p99 ms": f"{cuts[989] * 1e3:.2f}",
        "max ms": f"{max(waits) * 1e3:.1f}",
        "CPU us/message, producers": f"{own_cpu / len(waits) * 1e6:.0f}",
        "nodes": f"{nodes_cpu / len(waits) * 1e6:.0f}",
        "delivery": f"{settled['cpu'] / max(settled['settled'], 1) * 1e6:.0f}",
        "fsyncs/s of the disk": f"{fsync_rate(Path(tempfile.gettempdir())):,.0f}",
    }
    print("   ".join(f"{name} {figure}" for name, figure in figures.items()))


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--role", choices=("measure", "drain"), default="measure", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--producers", type=int, default=16)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--standbys", type=int, default=2)
    parser.add_argument("--depth", type=int, default=0)
    parser.add_argument("--drain", action="store_true")
    parser.add_argument("--dsn")
    options = parser.parse_args()
    if options.role == "drain":
        uvloop.run(drain(options.dsn))
    elif options.dsn:
        uvloop.run(measure(options, options.dsn, []))
    else:
        with nodes(options.standbys) as (dsn, processes):
            uvloop.run(measure(options, dsn, processes))


if __name__ == "__main__":
    main()
