"""What the spool alone carries: its service in its own process, producers in this one, over the UNIX socket.

    python -m bench.spool_commit [--seconds 5] [--producers 16] [--size 8192] [--directory DIR] [--drain] [--depth N]
                                 [--slow-sync MS]

Prints commits per second, p50/p99, CPU per message of both processes, and the disk's own fsyncs per second beside
them. ``--drain`` lets a third process lease and settle what was committed at the same time; ``--depth`` fills the
queue with so many messages (filling.py) first. ``--slow-sync`` adds milliseconds to each sync of the spool process
(slow_sync.c, compiled with cc).
"""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import uvloop
from bench.figures import Row, fsync_rate, own_cpu, quantile
from bench.filling import fill_embedded

from pillarbox.control.channel import serve
from pillarbox.control.link import Link
from pillarbox.message.envelope import Envelope, queue_id
from pillarbox.spool.base import INLINE_LIMIT, Delivered, Settlement
from pillarbox.spool.embedded import open_spool
from pillarbox.spool.remote import RemoteIntake, RemoteOutbox
from pillarbox.spool.service import ERRORS, intake_handlers, outbox_handlers
from pillarbox.spool.settings import EmbeddedSettings

WARM_UP = 0.5
"""Seconds that one producer works before anything is counted."""
ARRIVING = 65_536
"""Octets of a large content that arrive at once."""


def envelope(number: int, size: int, domain: str = "example.net") -> Envelope:
    """One of many envelopes."""
    name = queue_id(time.time(), os.urandom(10))
    return Envelope(name, "alice@example.org", (f"user{number}@{domain}",), time.time(), size, login="alice")


async def serve_spool(directory: Path) -> None:
    """The spool process: until its standard input ends."""
    spool = await open_spool(EmbeddedSettings(directory / "spool", 0))
    handlers = {**intake_handlers(spool), **outbox_handlers(spool), "cpu": lambda channel, body: own_cpu()}
    server = await serve(directory / "socket", lambda peer: handlers, errors=ERRORS)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.close()
    await spool.close()


async def drain(directory: Path) -> None:
    """The delivery process: leases and settles until its standard input ends; prints messages and CPU seconds."""
    link = Link(directory / "socket", errors=ERRORS)
    outbox = RemoteOutbox(link)
    await link.start(5.0)
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    settled = 0
    while not ended.done():
        leases = await outbox.lease(time.time(), 100)
        if not leases:
            await outbox.wait_due(0.2)
        await asyncio.gather(
            *(
                outbox.settle(one, Settlement(one.envelope.queue_id, {0: Delivered("250 ok", "hop")}))
                for one in leases
            )
        )
        settled += len(leases)
    print(json.dumps({"settled": settled, "cpu": own_cpu()}), flush=True)
    await outbox.close()
    await link.close()


async def commit(intake: RemoteIntake, each: Envelope, content: bytes) -> None:
    """As the submission role does it: content above INLINE_LIMIT goes through a writer, in chunks as they arrive."""
    if len(content) <= INLINE_LIMIT:
        await intake.commit(each, content)
        return
    writer = intake.writer(each.queue_id)
    for start in range(0, len(content), ARRIVING):
        await writer.write(content[start : start + ARRIVING])
    await writer.commit(each)


async def produce(
    commit: Callable[[Envelope, bytes], Awaitable[None]], until: float, size: int, waits: list[float]
) -> None:
    """One producer: the next message when the last one is durable."""
    content = os.urandom(size)
    number = 0
    while (began := time.perf_counter()) < until:
        await commit(envelope(number, size), content)
        waits.append(time.perf_counter() - began)
        number += 1


def in_figures(waits: list[float], took: float) -> Row:
    """What producers waited for, in a row."""
    return {
        "commits": len(waits),
        "per_second": len(waits) / took,
        "p50_ms": quantile(waits, 0.5) * 1e3,
        "p99_ms": quantile(waits, 0.99) * 1e3,
        "max_ms": max(waits) * 1e3,
    }


async def child(*arguments: str, environment: dict[str, str] | None = None) -> asyncio.subprocess.Process:
    """This script again, in another role."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.spool_commit",
        *arguments,
        stdin=pipe,
        stdout=pipe,
        env={**os.environ, **(environment or {})},
    )


def slow_disk(directory: Path, milliseconds: float) -> dict[str, str]:
    """The environment of a process whose syncs take so much longer. Needs a C compiler."""
    library = directory / "slow_sync.so"
    source = Path(__file__).with_name("slow_sync.c")
    command = (shutil.which("cc") or "cc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl")
    subprocess.run(command, check=True)  # noqa: S603  its arguments are our own
    return {"LD_PRELOAD": str(library), "SLOW_SYNC_MS": str(milliseconds)}


async def measured(options: argparse.Namespace, directory: Path) -> Row:
    """Starts the processes and lets the producers run. ``options``: seconds, producers, size, drain, slow_sync."""
    environment = slow_disk(directory, options.slow_sync) if options.slow_sync else None
    server = await child("--role", "spool", "--directory", str(directory), environment=environment)
    assert server.stdout is not None  # noqa: S101  # it was asked for as a pipe
    await server.stdout.readline()
    link = Link(directory / "socket", errors=ERRORS)
    intake = RemoteIntake(link, EmbeddedSettings(directory / "spool").incoming)
    await link.start(5.0)
    drainer = await child("--role", "drain", "--directory", str(directory)) if options.drain else None
    await produce(partial(commit, intake), time.perf_counter() + WARM_UP, options.size, [])
    spool_cpu, client_cpu, began = await link.request("cpu"), own_cpu(), time.perf_counter()
    waits: list[float] = []
    until = began + options.seconds
    await asyncio.gather(
        *(produce(partial(commit, intake), until, options.size, waits) for _ in range(options.producers))
    )
    took = time.perf_counter() - began
    client_cpu, spool_cpu = own_cpu() - client_cpu, await link.request("cpu") - spool_cpu
    settled = json.loads((await drainer.communicate(b""))[0]) if drainer else {"settled": 0, "cpu": 0.0}
    await intake.close()
    await link.close()
    await server.communicate(b"")
    return {
        **in_figures(waits, took),
        "client_us": client_cpu / len(waits) * 1e6,
        "server_us": spool_cpu / len(waits) * 1e6,
        "settled_per_second": settled["settled"] / took,
        "delivery_us": settled["cpu"] / max(settled["settled"], 1) * 1e6,
    }


async def measure(options: argparse.Namespace, directory: Path) -> None:
    """Prints the figures of one run."""
    row = await measured(options, directory)
    figures = {
        "commits/s": f"{row['per_second']:,.0f}",
        "settled/s": f"{row['settled_per_second']:,.0f}",
        "p50 ms": f"{row['p50_ms']:.2f}",
        "p99 ms": f"{row['p99_ms']:.2f}",
        "max ms": f"{row['max_ms']:.1f}",
        "CPU us/message, producers": f"{row['client_us']:.0f}",
        "spool": f"{row['server_us']:.0f}",
        "delivery": f"{row['delivery_us']:.0f}",
        "fsyncs/s of the disk": f"{fsync_rate(directory):,.0f}",
    }
    print("   ".join(f"{name} {figure}" for name, figure in figures.items()))


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--role", choices=("measure", "spool", "drain"), default="measure", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--producers", type=int, default=16)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--depth", type=int, default=0)
    parser.add_argument("--drain", action="store_true")
    parser.add_argument("--slow-sync", type=float, default=0.0)
    parser.add_argument("--directory", type=Path)
    options = parser.parse_args()
    directory = options.directory or Path(tempfile.mkdtemp(prefix="pillarbox-bench"))
    if options.role == "spool":
        uvloop.run(serve_spool(directory))
    elif options.role == "drain":
        uvloop.run(drain(directory))
    else:
        try:
            if options.depth:
                fill_embedded(directory / "spool", options.depth)
            uvloop.run(measure(options, directory))
        finally:
            if options.directory is None:
                shutil.rmtree(directory)


if __name__ == "__main__":
    main()
