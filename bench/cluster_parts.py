"""The measurements of bench.cluster: commits, acceptance, start-up, verbs, leases beside a dead domain.

Each gives rows: dicts with ``kind`` (cell or embedded), ``depth`` and figures. Everything is taken in turns, round by
round, so that what else the machine does meets all of them.
"""

import argparse
import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import uvloop
from bench.figures import Row, own_cpu, quantile
from bench.filling import DEAD, clear_cell, clear_embedded
from bench.place import Database, Place, per_message
from bench.run import LOAD, WARM_UP, measured, target_of
from bench.server import Server, free_ports
from bench.spool_commit import envelope, in_figures, produce
from bench.spool_commit import measured as embedded_commits

from pillarbox.bench.load import run as run_load
from pillarbox.spool.base import Delivered, Filter, Settlement, State
from pillarbox.spool.cluster.spool import ClusterSpool, open_cluster
from pillarbox.spool.embedded import EmbeddedSpool, open_spool
from pillarbox.spool.settings import ClusterSettings, EmbeddedSettings

KINDS = ("cell", "embedded")
PRODUCERS, SIZE = 16, 8192
PACE = 100.0
"""Messages a second for other domains beside a dead one."""
Options = argparse.Namespace
Verb = Callable[[], Awaitable[Any]]


@contextlib.asynccontextmanager
async def opened(where: Place, kind: str, depth: int) -> AsyncIterator[ClusterSpool | EmbeddedSpool]:
    """The spool of that kind and depth, in this process."""
    spool: ClusterSpool | EmbeddedSpool
    if kind == "cell":
        spool = await open_cell(where.database(depth).dsn)
    else:
        spool = await open_spool(EmbeddedSettings(where.server(depth) / "data" / "spool", 0))
    try:
        yield spool
    finally:
        await spool.close()


async def open_cell(dsn: str) -> ClusterSpool:
    """As a server's process does it: each commit looks at what it waits for."""
    spool = await open_cluster(ClusterSettings(dsn, "bench"))
    spool.cell.store.quorum = True
    return spool


def prepare(where: Place, kind: str, depth: int) -> None:
    """Fills before anything is measured."""
    if kind == "cell":
        where.database(depth)
    else:
        where.server(depth)


def clear(where: Place, kind: str, depth: int) -> None:
    """Only what was filled in stays."""
    if kind == "cell":
        clear_cell(where.database(depth).root)
    else:
        clear_embedded(where.server(depth) / "data" / "spool")


def turns(options: Options, ways: list[Any]) -> Iterator[tuple[int, Any]]:
    """(round, way): each round begins with another one; ends when time is over."""
    for number in range(options.rounds):
        for place in range(len(ways)):
            if time.monotonic() > options.ends_at:
                return
            yield number, ways[(place + number) % len(ways)]


# --- commits


async def cell_commits(where: Place, database: Database, options: Options) -> Row:
    """Producers in this process, the nodes beside it."""
    spool = await open_cell(database.dsn)
    waits: list[float] = []
    await produce(spool.commit, time.perf_counter() + 0.5, SIZE, [])
    nodes, client, began = where.nodes_cpu(), own_cpu(), time.perf_counter()
    until = began + options.seconds
    await asyncio.gather(*(produce(spool.commit, until, SIZE, waits) for _ in range(PRODUCERS)))
    took, client = time.perf_counter() - began, own_cpu() - client
    spent = per_message(nodes, where.nodes_cpu(), len(waits))
    await spool.close()
    row = {**in_figures(waits, took), "client_us": client / len(waits) * 1e6, **spent}
    return {**row, "server_us": sum(spent.values())}


def commits(where: Place, options: Options) -> list[Row]:
    """Commits per second, how long they take and what they cost, at each depth."""
    ways = [(depth, kind) for depth in options.depths for kind in KINDS]
    for depth, kind in ways:
        prepare(where, kind, depth)
    rows = []
    how = argparse.Namespace(seconds=options.seconds, producers=PRODUCERS, size=SIZE, drain=False, slow_sync=0.0)
    for number, (depth, kind) in turns(options, ways):
        if kind == "cell":
            row = uvloop.run(cell_commits(where, where.database(depth), options))
        else:
            row = uvloop.run(embedded_commits(how, where.server(depth) / "data"))
        clear(where, kind, depth)
        row["all_us"] = row["client_us"] + row["server_us"]
        rows.append({"round": number, "kind": kind, "depth": depth, **row})
        say("commit", rows[-1], "per_second", "p50_ms", "p99_ms", "all_us")
    return rows


# --- the whole server


async def load(server: Server, options: Options) -> Row:
    """16 clients over TLS."""
    await run_load(target_of(server), WARM_UP)
    return await measured(server, replace(LOAD, seconds=options.seconds))


def accepted(where: Place, options: Options) -> list[Row]:
    """Messages per second that a whole server accepts, over the cell and over the embedded spool."""
    database = where.database(0, "accept")
    rows = []
    for number, kind in turns(options, list(KINDS)):
        folder = where.folder / f"accept-{kind}-{number}"
        spool = where.configuration(database) if kind == "cell" else ""
        before = where.nodes_cpu()
        with Server(folder, spool=spool) as server:
            row = uvloop.run(load(server, options))
        nodes = per_message(before, where.nodes_cpu(), row["accepted"] + WARM_UP.messages) if kind == "cell" else {}
        shutil.rmtree(folder)
        if kind == "cell":
            clear_cell(database.root)
        cpu = {f"{role}_ms": spent for role, spent in row["cpu_ms"].items()}
        figures = {
            "per_second": row["accepted_per_second"],
            "p50_ms": row["transaction_ms"]["p50"],
            "p99_ms": row["transaction_ms"]["p99"],
            "client_ms": row["client_cpu_ms"],
            "failed": row["refused"] + row["failed"],
        }
        rows.append({"round": number, "kind": kind, "depth": 0, **figures, **cpu, **nodes})
        say("accept", rows[-1], "per_second", "p50_ms", "p99_ms", "failed")
    return rows


# --- start-up


async def start(server: Server, port: int) -> Row:
    """From the start of the processes until the first 250, and until the first lease shows as a connection."""
    attempted: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not attempted.done():
            attempted.set_result(time.perf_counter())
        writer.write(b"421 4.3.2 later\r\n")
        writer.close()

    hop = await asyncio.start_server(connected, "127.0.0.1", port)
    began = time.perf_counter()
    try:
        await asyncio.to_thread(server.__enter__)
        tally = await run_load(target_of(server), replace(LOAD, messages=1, connections=1))
        accepted_after = time.perf_counter() - began
        async with asyncio.timeout(60):
            leased_after = await attempted - began
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)
        hop.close()
    if not tally.accepted:
        raise RuntimeError("the first message was not accepted")
    return {"accepted_after_s": accepted_after, "leased_after_s": leased_after}


def starts(where: Place, options: Options) -> list[Row]:
    """A server's start over an empty and over the deepest queue."""
    ways = [(depth, kind) for depth in sorted({0, max(options.depths)}) for kind in KINDS]
    rows = []
    for number, (depth, kind) in turns(argparse.Namespace(rounds=3, ends_at=options.ends_at), ways):
        prepare(where, kind, depth)
        (port,) = free_ports(1)
        if kind == "cell":
            folder, spool = where.folder / f"start{depth}-{number}", where.configuration(where.database(depth))
        else:
            folder, spool = where.server(depth), ""
        server = Server(folder, relay=port, spool=spool)
        server.prepare()
        rows.append({"round": number, "kind": kind, "depth": depth, **uvloop.run(start(server, port))})
        clear(where, kind, depth)
        say("start", rows[-1], "accepted_after_s", "leased_after_s")
    return rows


# --- the operator


def _verbs(spool: ClusterSpool | EmbeddedSpool, depth: int) -> dict[str, Verb]:
    """What an operator asks, each as the console does it: 100 messages at most."""
    ledger, now = spool.ledger, time.time()

    def found(after: str = "", **conditions: Any) -> Verb:
        return partial(ledger.list, Filter(**conditions), now, 100, after)

    last = f"user{depth - 1}@d{(depth - 1) % 1000}.example"
    name = f"{depth // 2 + 1:026X}"
    one, someone = Filter(queue_ids=(name,)), Filter(recipient=last)
    return {
        "list, the first": found(),
        "list, from the middle": found(name),
        "show": partial(ledger.show, name),
        "by sender": found(sender="sender4321@example.org"),
        "by sender, nobody": found(sender="nobody@example.org"),
        "by login": found(login="login4321"),
        "by login, nobody": found(login="nobody"),
        "by recipient, the last": found(recipient=last),
        "by recipient, nobody": found(recipient="nobody@d1.example"),
        "by recipient, *77777@*": found(recipient="*77777@*"),
        "by domain": found(domain="d123.example"),
        "by domain, nobody": found(domain="nobody.example"),
        "held": found(state=State.HELD),
        "hold one": partial(ledger.hold, one, now),
        "release one": partial(ledger.release, one, now),
        "retry one": partial(ledger.retry, one, now),
        "hold by recipient": partial(ledger.hold, someone, now),
        "release by recipient": partial(ledger.release, someone, now),
        "hold a domain of 1 in 1,000": partial(ledger.hold, Filter(domain="d123.example"), now),
        "release it": partial(ledger.release, Filter(domain="d123.example"), now),
        "depth": partial(ledger.depth, now),
    }


async def verbs_of(where: Place, kind: str, depth: int, number: int) -> Row:
    """Milliseconds of each."""
    took: Row = {}
    async with opened(where, kind, depth) as spool:
        gone = f"{depth // 2 + 3 + 10 * number:026X}"
        every: dict[str, Verb] = {**_verbs(spool, depth), "delete one": partial(spool.ledger.expunge, gone)}
        for name, verb in every.items():
            began = time.perf_counter()
            await verb()
            took[name] = (time.perf_counter() - began) * 1e3
    return took


def verbs(where: Place, options: Options) -> list[Row]:
    """The operator's verbs at the deepest queue."""
    depth = max(options.depths)
    rows = []
    for number, kind in turns(argparse.Namespace(rounds=3, ends_at=options.ends_at), list(KINDS)):
        prepare(where, kind, depth)
        took = uvloop.run(verbs_of(where, kind, depth, number))
        rows.append({"round": number, "kind": kind, "depth": depth, "ms": took})
        slow = {name: round(ms) for name, ms in took.items() if ms > 300}
        print(f"verbs    {kind:8} {depth:9,} over 300 ms: {slow}", flush=True)
    return rows


# --- leases beside a dead domain


async def lease_latency(where: Place, kind: str, depth: int, options: Options) -> Row:
    """From the end of a commit until a worker has the message, at a steady pace, while DEAD is skipped."""
    committed: dict[str, float] = {}
    waits: list[float] = []
    calls: list[float] = []
    async with opened(where, kind, depth) as spool:
        ends_at = time.perf_counter() + options.seconds

        async def send() -> None:
            for number in range(int(PACE * options.seconds)):
                each = envelope(number, 512, f"other{number % 200}.example")
                await spool.commit(each, b"x" * 512)
                committed[each.queue_id] = time.perf_counter()
                await asyncio.sleep(1 / PACE)

        async def take() -> None:
            while time.perf_counter() < ends_at + 1:
                began = time.perf_counter()
                leases = await spool.lease(time.time(), 100, frozenset((DEAD,)))
                now = time.perf_counter()
                calls.append(now - began)
                for lease in leases:
                    since = committed.get(lease.envelope.queue_id, now)
                    waits.append(max(0.0, now - since))
                    outcome = Settlement(lease.envelope.queue_id, {0: Delivered("250 ok", "hop")})
                    await spool.settle(lease, outcome)
                if not leases:
                    await spool.wait_due(0.5)

        await asyncio.gather(send(), take())
    return {
        "lease_p50_ms": quantile(waits, 0.5) * 1e3,
        "lease_p99_ms": quantile(waits, 0.99) * 1e3,
        "call_p50_ms": quantile(calls, 0.5) * 1e3,
        "call_p99_ms": quantile(calls, 0.99) * 1e3,
        "leased": len(waits),
    }


def leases(where: Place, options: Options) -> list[Row]:
    """Others' leases beside nobody, and beside a dead domain with a tenth of the deepest queue."""
    ways = [(depth, kind) for depth in sorted({0, max(options.depths)}) for kind in KINDS]
    rows = []
    for number, (depth, kind) in turns(argparse.Namespace(rounds=3, ends_at=options.ends_at), ways):
        prepare(where, kind, depth)
        row = uvloop.run(lease_latency(where, kind, depth, options))
        rows.append({"round": number, "kind": kind, "depth": depth, **row})
        clear(where, kind, depth)
        say("lease", rows[-1], "lease_p50_ms", "lease_p99_ms", "call_p50_ms")
    return rows


def say(part: str, row: Row, *names: str) -> None:
    """One line for whoever watches."""
    figures = "   ".join(f"{name} {row[name]:,.2f}" for name in names)
    print(f"{part:8} {row['kind']:8} {row['depth']:9,} {figures}", flush=True)
