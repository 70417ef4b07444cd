"""What Pillarbox does here: the workloads W1 to W4, idle sessions and large messages, against a server of its own.

    python -m bench.run [--rounds 3] [--seconds 4] [--only W1,W2,...] [--idle 1000] [--directory DIR] [--out DIR]

| workload | |
|---|---|
| W1 | a TLS session and a sign-in per message, 16 at once, 8 KiB |
| W2 | 100 messages per connection, 16 connections, 8 KiB |
| W3 | as W2, relayed to a sink; the rate is until the sink has them all |
| W4 | 5 MiB, 4 connections |
| idle | idle signed-in TLS sessions: memory of each, fresh, and when each has sent 1 MiB |
| flat | 16 clients send 50 MiB each: memory above idle |

Each run has a fresh server (TLS 1.3, AUTH PLAIN, one submission worker, one delivery worker) on a fresh directory;
the rounds are interleaved. The load client runs beside the server on the same machine and takes its share of it, as
the table says. Writes latest.md and latest.json.
"""

import argparse
import asyncio
import json
import os
import shutil
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop
from bench.figures import Row, machine_facts, middle
from bench.server import PASSWORD, PROGRAM, USER, Peak, Server, cpu_seconds, free_ports

from pillarbox.bench.content import Messages
from pillarbox.bench.idle import hold
from pillarbox.bench.load import run as run_load
from pillarbox.bench.settings import Load, Target
from pillarbox.daemon.loop import raise_file_limit
from pillarbox.smtp.events import Mail, Rcpt
from pillarbox.smtp.path import Mailbox

KIB, MIB = 1 << 10, 1 << 20
SENDER, RECIPIENT = Mailbox("alice", "example.org"), Mailbox("bob", "relay.invalid")
LOAD = Load(SENDER, (RECIPIENT,))
WARM_UP = replace(LOAD, messages=160, per_connection=10)
RELAYED = 3000


def target_of(server: Server) -> Target:
    """How the load client signs in there."""
    context = ssl.create_default_context(cafile=server.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return Target("127.0.0.1", server.port, USER, PASSWORD, context)


async def measured(server: Server, load: Load) -> Row:
    """The load's figures with the CPU that it cost, by role."""
    before, own = server.cpu(), time.process_time()
    tally = await run_load(target_of(server), load)
    after = server.cpu()
    row = tally.as_data()
    row["cpu_ms"] = per_message(before, after, tally.accepted)
    row["client_cpu_ms"] = round((time.process_time() - own) * 1000 / max(tally.accepted, 1), 3)
    row["memory"] = {role: [rss, pss] for role, (rss, pss) in server.memory().items()}
    return row


def per_message(before: dict[str, float], after: dict[str, float], messages: int) -> dict[str, float]:
    """CPU milliseconds of each role for each message, and of all of them."""
    spent = {role: (after[role] - before[role]) * 1000 / max(messages, 1) for role in after}
    return {role: round(value, 4) for role, value in {**spent, "all": sum(spent.values())}.items()}


async def accepting(folder: Path, load: Load) -> Row:
    """A workload that is only accepted."""
    with Server(folder) as server:
        await run_load(target_of(server), WARM_UP)
        return await measured(server, load)


async def w1(folder: Path, options: argparse.Namespace) -> Row:
    """A session per message."""
    return await accepting(folder, replace(LOAD, seconds=options.seconds, per_connection=1))


async def w2(folder: Path, options: argparse.Namespace) -> Row:
    """100 messages per connection."""
    return await accepting(folder, replace(LOAD, seconds=options.seconds))


async def w4(folder: Path, options: argparse.Namespace) -> Row:
    """5 MiB."""
    return await accepting(
        folder, replace(LOAD, seconds=options.seconds, connections=4, per_connection=5, size=5 * MIB)
    )


async def w3(folder: Path, options: argparse.Namespace) -> Row:
    """Accepted and relayed."""
    port = free_ports(1)[0]
    with (folder.parent / "sink.log").open("wb") as log:
        sink = await asyncio.create_subprocess_exec(
            *PROGRAM, "bench", "--sink", f"127.0.0.1:{port}", "--json", stdout=asyncio.subprocess.PIPE, stderr=log
        )
    try:
        with Server(folder, relay=port) as server:
            await run_load(target_of(server), WARM_UP)
            await until_empty(server)
            before, sink_cpu, began = server.cpu(), cpu_seconds(sink.pid), time.perf_counter()
            tally = await run_load(target_of(server), replace(LOAD, messages=RELAYED))
            await until_empty(server)
            took, after = time.perf_counter() - began, server.cpu()
            row = tally.as_data()
            row["accept_only_per_second"] = row["accepted_per_second"]
            row["accepted_per_second"] = round(tally.accepted / took, 1)
            row["cpu_ms"] = per_message(before, after, tally.accepted)
            row["sink_cpu_ms"] = round((cpu_seconds(sink.pid) - sink_cpu) * 1000 / tally.accepted, 3)
            row["memory"] = {role: [rss, pss] for role, (rss, pss) in server.memory().items()}
    finally:
        sink.terminate()
        output, _ = await sink.communicate()
    row["relayed"] = json.loads(output)["accepted"] - WARM_UP.messages
    return row


async def until_empty(server: Server) -> None:
    """Until the queue is empty, asked over one channel (a minute at most)."""
    from pillarbox.control.channel import connect

    channel = await connect(server.folder / "run" / "control.sock")
    try:
        async with asyncio.timeout(60):
            # asked again and again: nobody is told when a queue has become empty
            while (await channel.request("ledger.depth", time.time()))["messages"]:  # noqa: ASYNC110  # the reason is above
                await asyncio.sleep(0.01)
    finally:
        channel.close()
        await asyncio.sleep(0)


async def idle(folder: Path, options: argparse.Namespace) -> Row:
    """Memory of idle sessions, fresh and when each has sent 1 MiB; and W2 beside them."""
    with Server(folder) as server:
        target = target_of(server)
        await run_load(target, WARM_UP)
        await asyncio.sleep(1)
        before = server.memory()["submission"][0]
        began = time.perf_counter()
        async with hold(target, options.idle) as sessions:
            opened = time.perf_counter() - began
            await asyncio.sleep(1)
            fresh = server.memory()["submission"][0]
            beside = await measured(server, replace(LOAD, seconds=options.seconds))
            content = Messages(SENDER, (RECIPIENT,), MIB, "Thu, 01 Jan 2026 00:00:00 +0000", "idle")
            waiting = iter(sessions)

            async def send() -> None:
                for session in waiting:
                    reply = await session.submit(Mail(SENDER), (Rcpt(RECIPIENT),), content.next())
                    assert reply.code == 250, reply  # noqa: S101  # a benchmark that is refused measures nothing

            await asyncio.gather(*(send() for _ in range(16)))
            await asyncio.sleep(1)
            used = server.memory()["submission"][0]
    return {
        "sessions": options.idle,
        "opened_seconds": round(opened, 2),
        "fresh_kib_each": round((fresh - before) / options.idle / KIB, 1),
        "after_1_mib_kib_each": round((used - before) / options.idle / KIB, 1),
        "w2_beside_per_second": beside["accepted_per_second"],
        "w2_beside_cpu_ms": beside["cpu_ms"]["all"],
    }


async def flat(folder: Path, options: argparse.Namespace) -> Row:
    """Memory while 16 clients send 50 MiB each."""
    with Server(folder) as server:
        target = target_of(server)
        await run_load(target, WARM_UP)
        with Peak(server) as peak:
            row = await measured(server, replace(LOAD, messages=16, per_connection=1, size=50 * MIB))
        row["grown_mib"] = {role: round(octets / MIB, 1) for role, octets in peak.grown().items()}
        return row


WORKLOADS: dict[str, Callable[[Path, argparse.Namespace], Coroutine[Any, Any, Row]]] = {
    "W1": w1,
    "W2": w2,
    "W3": w3,
    "W4": w4,
    "idle": idle,
    "flat": flat,
}


# --- the table


def cpu_of(role: str) -> Callable[[Row], float | None]:
    """Picks a role's CPU milliseconds for each message."""
    return lambda row: row["cpu_ms"].get(role)


def table(results: dict[str, list[Row]], machine: Row) -> str:
    """The page."""
    lines = ["# Measured with `make bench`", "", *(f"- {key}: {value}" for key, value in machine.items()), ""]
    lines += [
        "| workload | runs | messages/s | p50 ms | p99 ms | CPU ms/message: all | submission | spool | delivery "
        "| client | refused, failed | PSS MiB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in ("W1", "W2", "W3", "W4", "flat"):
        rows = results.get(name, [])
        if rows:
            cells = [
                name,
                str(len(rows)),
                middle(rows, lambda row: row["accepted_per_second"]),
                middle(rows, lambda row: row["transaction_ms"]["p50"], 2),
                middle(rows, lambda row: row["transaction_ms"]["p99"], 2),
                *(middle(rows, cpu_of(role), 3) for role in ("all", "submission", "spool", "delivery")),
                middle(rows, lambda row: row.get("client_cpu_ms"), 3),
                str(sum(row["refused"] + row["failed"] for row in rows)),
                middle(rows, lambda row: sum(pss for _, pss in row["memory"].values()) / MIB),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    lines += [""]
    for row in results.get("W3", []):
        lines.append(f"- W3: {row['relayed']} of {row['accepted']} arrived at the sink")
    for row in results.get("idle", []):
        lines.append(
            f"- {row['sessions']} idle signed-in TLS sessions in one worker: {row['fresh_kib_each']} KiB each, "
            f"{row['after_1_mib_kib_each']} KiB when each has sent 1 MiB; opened in {row['opened_seconds']} s; "
            f"W2 beside them {row['w2_beside_per_second']}/s at {row['w2_beside_cpu_ms']} CPU ms"
        )
    for row in results.get("flat", []):
        grown = ", ".join(f"{role} {mib} MiB" for role, mib in row["grown_mib"].items())
        lines.append(f"- 16 clients sending 50 MiB each, memory above idle at its most: {grown}")
    return "\n".join(lines) + "\n"


def run(options: argparse.Namespace, directory: Path) -> dict[str, list[Row]]:
    """All workloads, round after round; idle and flat once."""
    results: dict[str, list[Row]] = {}
    for number in range(options.rounds):
        for name in options.only:
            if number and name in ("idle", "flat"):
                continue
            row = uvloop.run(WORKLOADS[name](directory / f"{name}-{number}", options))
            row["load_average"] = os.getloadavg()[0]
            results.setdefault(name, []).append(row)
            shutil.rmtree(directory / f"{name}-{number}")
            brief = {key: value for key, value in row.items() if isinstance(value, int | float | str)}
            print(name, brief, row.get("cpu_ms", ""), row.get("grown_mib", ""), file=sys.stderr, flush=True)
    return results


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(WORKLOADS), help="W1,W2,...")
    parser.add_argument("--idle", type=int, default=1000, help="idle sessions")
    parser.add_argument("--directory", type=Path, help="where the servers' files lie (default: a temporary one)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    unknown = set(options.only) - set(WORKLOADS)
    if unknown:
        parser.error(f"no such workload: {', '.join(sorted(unknown))}")
    raise_file_limit()
    directory = Path(tempfile.mkdtemp(prefix="pillarbox-bench-", dir=options.directory))
    try:
        machine = machine_facts(directory)
        results = run(options, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    options.out.mkdir(parents=True, exist_ok=True)
    page = table(results, machine)
    (options.out / "latest.md").write_text(page)
    (options.out / "latest.json").write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n")
    print(page)


if __name__ == "__main__":
    main()
