"""Messages through a cell's queue, commit, lease and settle: whether tables, indexes and latency stay as they are.

Used by bench.cluster. Producers are in this process, the worker that leases and settles is another one
(``python -m bench.bloat``: the DSN in its environment), autovacuum does what the schema tells it to.
"""

import asyncio
import json
import os
import sys
import time
from typing import Any

import psycopg
import uvloop
from bench.cluster_parts import open_cell
from bench.figures import Row, own_cpu, quantile
from bench.place import Database, Place, per_message
from bench.spool_commit import envelope

from pillarbox.spool.base import Delivered, Settlement
from pillarbox.spool.cluster.spool import ClusterSpool

SIZE = 2048
"""Octets of a message: enough to lie out of line."""
PRODUCERS = 48
AHEAD = 5_000
"""Messages that may wait for the worker."""
TOLD = 2_000
_DSN = "PILLARBOX_BENCH_DSN"

_SIZES = """
SELECT pg_relation_size('message'), pg_indexes_size('message'), pg_relation_size(c.reltoastrelid),
    pg_total_relation_size(c.reltoastrelid) - pg_relation_size(c.reltoastrelid),
    pg_relation_size('recipient'), pg_indexes_size('recipient')
FROM pg_class c WHERE c.oid = 'message'::regclass
"""
SIZES = ("message", "message indexes", "TOAST", "TOAST index", "recipient", "recipient indexes")


async def worker(dsn: str) -> None:
    """Leases and settles until its standard input ends; a line for every TOLD messages."""
    spool = await open_cell(dsn)
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    settled, told, calls = 0, 0, list[float]()

    async def settle_all() -> int:
        began = time.perf_counter()
        leases = await spool.lease(time.time(), 100)
        calls.append((time.perf_counter() - began) * 1e3)
        await asyncio.gather(
            *(spool.settle(one, Settlement(one.envelope.queue_id, {0: Delivered("250 ok", "hop")})) for one in leases)
        )
        return len(leases)

    while not ended.done():
        count = sum(await asyncio.gather(settle_all(), settle_all()))
        settled += count
        if settled - told >= TOLD or not count:
            print(json.dumps({"settled": settled, "cpu": own_cpu(), "lease_ms": calls}), flush=True)
            told = settled
            calls.clear()
        if not count:
            await spool.wait_due(0.2)
    await spool.close()


class _Stretch:
    """The messages between two looks."""

    def __init__(self) -> None:
        self.commits: list[float] = []
        self.leases: list[float] = []
        self.began = time.perf_counter()


class _Run:
    """One run over a database."""

    def __init__(self, where: Place, database: Database, total: int, every: int, ends_at: float) -> None:
        self._where, self._database = where, database
        self._total, self._every, self._ends_at = total, every, ends_at
        self._committed = self._settled = 0
        self._stretch = _Stretch()
        self.rows: list[Row] = []

    async def run(self) -> None:
        """Until all went through, or time is over."""
        spool = await open_cell(self._database.dsn)
        command = (sys.executable, "-m", "bench.bloat")
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, limit=1 << 20, env={**os.environ, _DSN: self._database.dsn}
        )
        try:
            await asyncio.gather(*(self._produce(spool) for _ in range(PRODUCERS)), self._watch(child))
        finally:
            await child.communicate(b"")
            await spool.close()

    async def _produce(self, spool: ClusterSpool) -> None:
        content = os.urandom(SIZE)
        while self._committed < self._total and time.monotonic() < self._ends_at:
            if self._committed - self._settled > AHEAD:
                await asyncio.sleep(0.02)
                continue
            self._committed += 1
            began = time.perf_counter()
            await spool.commit(envelope(self._committed, SIZE, f"d{self._committed % 500}.example"), content)
            self._stretch.commits.append((time.perf_counter() - began) * 1e3)

    async def _watch(self, child: asyncio.subprocess.Process) -> None:
        assert child.stdout is not None  # noqa: S101  # it was asked for as a pipe
        nodes, client, worker_cpu, last = self._where.nodes_cpu(), own_cpu(), 0.0, 0
        while True:
            line = await child.stdout.readline()
            if not line:
                raise RuntimeError("the worker has ended")
            heard = json.loads(line)
            self._settled = heard["settled"]
            self._stretch.leases += heard["lease_ms"]
            over = self._settled >= self._total or time.monotonic() >= self._ends_at
            if self._settled - last >= self._every or (over and self._settled > last):
                count, last = self._settled - last, self._settled
                now = self._where.nodes_cpu()
                row = await asyncio.to_thread(self._look)
                spent = per_message(nodes, now, count)
                row |= {"client_us": (own_cpu() - client) / count * 1e6}
                row |= {"delivery_us": (heard["cpu"] - worker_cpu) / count * 1e6, **spent}
                nodes, client, worker_cpu = now, own_cpu(), heard["cpu"]
                self.rows.append(row)
                print(f"bloat    {row['settled']:9,} {row['per_second']:,.0f}/s {row['mib']}", flush=True)
            if over:
                return

    def _look(self) -> Row:
        with psycopg.connect(self._database.root, autocommit=True) as connection:
            connection.execute("SET search_path = pillarbox")
            sizes: Any = connection.execute(_SIZES).fetchone()
        stretch, self._stretch = self._stretch, _Stretch()
        return {
            "kind": "cell",
            "settled": self._settled,
            "per_second": len(stretch.commits) / (time.perf_counter() - stretch.began),
            "commit_p50_ms": quantile(stretch.commits, 0.5),
            "commit_p99_ms": quantile(stretch.commits, 0.99),
            "lease_p50_ms": quantile(stretch.leases, 0.5),
            "lease_p99_ms": quantile(stretch.leases, 0.99),
            "mib": {name: round(octets / (1 << 20), 1) for name, octets in zip(SIZES, sizes, strict=True)},
        }


def through(where: Place, total: int, ends_at: float) -> list[Row]:
    """A row for each tenth of ``total``; fewer when time is over."""
    run = _Run(where, where.database(0, "bloat"), total, max(total // 10, 1), ends_at)
    uvloop.run(run.run())
    return run.rows


if __name__ == "__main__":
    uvloop.run(worker(os.environ[_DSN]))
