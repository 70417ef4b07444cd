"""What the spool alone carries: its service in its own process, producers in this one, over the UNIX socket.

    python bench/spool_commit.py [--seconds 5] [--producers 16] [--size 8192] [--directory DIR] [--drain] [--depth N]
                                 [--slow-sync MS]

Prints commits per second, p50/p99, CPU per message of both processes, and the disk's own fsyncs per second beside
them. ``--drain`` lets a third process lease and settle what was committed at the same time; ``--depth`` fills the
queue with so many messages (due tomorrow) first. ``--slow-sync`` adds milliseconds to each sync of the spool process
(slow_sync.c, compiled with cc).
"""

import argparse
import asyncio
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from pillarbox.control.channel import serve
from pillarbox.control.link import Link
from pillarbox.message.envelope import Envelope, queue_id
from pillarbox.spool.base import INLINE_LIMIT, Delivered, Settlement
from pillarbox.spool.embedded import EmbeddedSpool, open_spool
from pillarbox.spool.remote import RemoteIntake, RemoteOutbox
from pillarbox.spool.service import ERRORS, intake_handlers, outbox_handlers
from pillarbox.spool.settings import EmbeddedSettings

TOMORROW = 86_400.0
ARRIVING = 65_536
"""Octets of a large content that arrive at once."""


def cpu_seconds() -> float:
    """This process's CPU time so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def envelope(number: int, size: int, domain: str = "example.net") -> Envelope:
    """One of many envelopes."""
    name = queue_id(time.time(), os.urandom(10))
    return Envelope(name, "alice@example.org", (f"user{number}@{domain}",), time.time(), size, login="alice")


async def fill(spool: EmbeddedSpool, depth: int) -> None:
    """Messages due tomorrow, in 1,000 domains."""
    began = time.monotonic()
    clock, spool.owner.clock = spool.owner.clock, lambda: time.time() + TOMORROW
    content = os.urandom(512)
    for start in range(0, depth, 500):
        each = (envelope(n, 512, f"d{n % 1000}.example") for n in range(start, min(start + 500, depth)))
        await asyncio.gather(*(spool.commit(one, content) for one in each))
    spool.owner.clock = clock
    print(f"filled with {depth} in {time.monotonic() - began:.1f} s", file=sys.stderr)


async def serve_spool(directory: Path, depth: int) -> None:
    """The spool process: until its standard input ends; then one line with its CPU seconds."""
    spool = await open_spool(EmbeddedSettings(directory / "spool", 0))
    if depth:
        await fill(spool, depth)
    handlers = {**intake_handlers(spool), **outbox_handlers(spool), "cpu": lambda channel, body: cpu_seconds()}
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
    print(json.dumps({"settled": settled, "cpu": cpu_seconds()}), flush=True)
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


async def produce(intake: RemoteIntake, until: float, size: int, waits: list[float]) -> None:
    """One producer: the next message when the last one is durable."""
    content = os.urandom(size)
    number = 0
    while (began := time.perf_counter()) < until:
        await commit(intake, envelope(number, size), content)
        waits.append(time.perf_counter() - began)
        number += 1


def fsync_rate(directory: Path) -> float:
    """fdatasync of one appended page, again and again for half a second."""
    descriptor = os.open(directory / "probe", os.O_RDWR | os.O_CREAT)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < 0.5:
        os.pwrite(descriptor, b"x" * 8192, 8192 * (count % 512))
        os.fdatasync(descriptor)
        count += 1
    os.close(descriptor)
    return count / (time.perf_counter() - began)


async def child(*arguments: str, environment: dict[str, str] | None = None) -> asyncio.subprocess.Process:
    """This script again, in another role."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, __file__, *arguments, stdin=pipe, stdout=pipe, env={**os.environ, **(environment or {})}
    )


def slow_disk(directory: Path, milliseconds: float) -> dict[str, str]:
    """The environment of a process whose syncs take so much longer. Needs a C compiler."""
    library = directory / "slow_sync.so"
    source = Path(__file__).with_name("slow_sync.c")
    command = (shutil.which("cc") or "cc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl")
    subprocess.run(command, check=True)  # noqa: S603  its arguments are our own
    return {"LD_PRELOAD": str(library), "SLOW_SYNC_MS": str(milliseconds)}


async def measure(options: argparse.Namespace, directory: Path) -> None:
    """Starts the processes, lets the producers run, prints the figures."""
    environment = slow_disk(directory, options.slow_sync) if options.slow_sync else None
    spool = ("--role", "spool", "--directory", str(directory), "--depth", str(options.depth))
    server = await child(*spool, environment=environment)
    assert server.stdout is not None  # noqa: S101  # it was asked for as a pipe
    await server.stdout.readline()
    link = Link(directory / "socket", errors=ERRORS)
    intake = RemoteIntake(link, EmbeddedSettings(directory / "spool").incoming)
    await link.start(5.0)
    drainer = await child("--role", "drain", "--directory", str(directory)) if options.drain else None
    spool_cpu, own_cpu, began = await link.request("cpu"), cpu_seconds(), time.perf_counter()
    waits: list[float] = []
    until = began + options.seconds
    await asyncio.gather(*(produce(intake, until, options.size, waits) for _ in range(options.producers)))
    took = time.perf_counter() - began
    own_cpu, spool_cpu = cpu_seconds() - own_cpu, await link.request("cpu") - spool_cpu
    settled = json.loads((await drainer.communicate(b""))[0]) if drainer else {"settled": 0, "cpu": 0.0}
    await intake.close()
    await link.close()
    await server.communicate(b"")
    cuts = statistics.quantiles(waits, n=1000)
    figures = {
        "commits/s": f"{len(waits) / took:,.0f}",
        "settled/s": f"{settled['settled'] / took:,.0f}",
        "p50 ms": f"{cuts[499] * 1e3:.2f}",
        "p99 ms": f"{cuts[989] * 1e3:.2f}",
        "max ms": f"{max(waits) * 1e3:.1f}",
        "CPU us/message, producers": f"{own_cpu / len(waits) * 1e6:.0f}",
        "spool": f"{spool_cpu / len(waits) * 1e6:.0f}",
        "delivery": f"{settled['cpu'] / max(settled['settled'], 1) * 1e6:.0f}",
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
        uvloop.run(serve_spool(directory, options.depth))
    elif options.role == "drain":
        uvloop.run(drain(directory))
    else:
        try:
            uvloop.run(measure(options, directory))
        finally:
            if options.directory is None:
                shutil.rmtree(directory)


if __name__ == "__main__":
    main()
