"""A program for test_full_disk: what the spool does on a small file system that fills up, as facts in JSON.

`unshare -m python -m tests.spool.full_disk DIRECTORY SCENARIO` mounts a tmpfs of its own on DIRECTORY.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from tests.spool.messages import envelope, open_remote, read_all, settlement, soon

from pillarbox.spool.base import INLINE_LIMIT, Delivered, Filter, Full, SpoolError, Unavailable
from pillarbox.spool.embedded import EmbeddedSpool, open_spool
from pillarbox.spool.settings import EmbeddedSettings

MEBIBYTE = 1 << 20
FAR = 10**10


def fill(directory: Path, leave: int) -> Path:
    """A file that leaves so many octets free."""
    ballast = directory / "ballast"
    with ballast.open("ab", buffering=0) as file:
        while True:
            numbers = os.statvfs(directory)
            more = min(numbers.f_bavail * numbers.f_frsize - leave, MEBIBYTE)
            if more <= 0:
                return ballast
            with contextlib.suppress(OSError):
                file.write(b"x" * more)
                continue
            return ballast


async def outcome(call: Any) -> str:
    """ "ok", or the error's name."""
    try:
        await call
    except SpoolError as error:
        return type(error).__name__
    return "ok"


async def below_reserve(directory: Path) -> dict[str, Any]:
    """min_free: new mail is refused, what is there flows on, and mail is taken again when there is room."""
    spool = await open_spool(EmbeddedSettings(directory / "spool", 8 * MEBIBYTE))
    for _ in range(5):
        await spool.commit(envelope(), os.urandom(1000))
    facts: dict[str, Any] = {"before": refused(spool, 1000), "large before": refused(spool, 60 * MEBIBYTE)}
    ballast = fill(directory, 5 * MEBIBYTE)
    await soon(lambda: spool.owner.space.full)
    facts["below"] = [refused(spool, 1000), await outcome(spool.commit(envelope(), b"x"))]
    facts["reason"] = spool.unhealthy_reason()
    writer = spool.writer("0100000000000000000001ARGE")
    facts["large"] = await outcome(writer.write(b"x" * (INLINE_LIMIT + 1)))
    leases = await spool.lease(FAR, 10)
    facts["lent"] = len(leases)
    facts["settled"] = [
        await outcome(spool.settle(each, settlement(each, Delivered("250", "hop")))) for each in leases
    ]
    ballast.unlink()
    await soon(lambda: not spool.owner.space.full)
    facts["after"] = [refused(spool, 1000), await outcome(spool.commit(envelope(), b"x")), spool.unhealthy_reason()]
    facts["files"] = os.listdir(directory / "spool" / "content")
    await spool.close()
    return facts


def refused(spool: EmbeddedSpool, size: int) -> str | None:
    """The name of the refusal."""
    refusal = spool.refusal(size)
    return type(refusal).__name__ if refusal else None


async def at_zero(directory: Path) -> dict[str, Any]:
    """No reserve and nothing left: what was acknowledged stays, delivery pauses, all goes on without a restart."""
    spool = await open_spool(EmbeddedSettings(directory / "spool", 0))
    acknowledged = []
    first = envelope()
    await spool.commit(first, b"x")
    (lent,) = await spool.lease(FAR, 10)
    ballast = fill(directory, 0)
    error = ""
    while not error:
        each = envelope()
        error = await outcome(spool.commit(each, os.urandom(100_000)))
        if not error or error == "ok":
            acknowledged.append(each.queue_id)
            error = ""
    facts: dict[str, Any] = {"error": error, "reason": spool.unhealthy_reason(), "refused": refused(spool, 0)}
    facts["lent"] = len(await spool.lease(FAR, 10))
    facts["settled"] = await outcome(spool.settle(lent, settlement(lent, Delivered("250", "hop"))))
    facts["still held"] = spool.extend(lent) or facts["settled"] == "ok"
    writer = spool.writer("0100000000000000000001ARGE")
    facts["large"] = await outcome(writer.write(b"x" * (INLINE_LIMIT + 1)))
    waiting = asyncio.create_task(spool.wait_due(100))
    ballast.unlink()
    await soon(lambda: not spool.owner.paused)
    if spool.extend(lent):
        facts["settled later"] = await outcome(spool.settle(lent, settlement(lent, Delivered("250", "hop"))))
    facts["commit later"] = await outcome(spool.commit(envelope(queue_id="0900000000000000000001ATER"), b"x"))
    await asyncio.wait_for(waiting, 20)
    kept = [message.envelope.queue_id for message in await spool.list(Filter(), 0.0, 100_000)]
    facts["kept"] = kept == sorted([*acknowledged, "0900000000000000000001ATER"])
    facts["healthy"] = spool.unhealthy_reason()
    await spool.close()
    spool = await open_spool(EmbeddedSettings(directory / "spool", 0))
    facts["kept after a restart"] = [m.envelope.queue_id for m in await spool.list(Filter(), 0.0, 100_000)] == kept
    await spool.close()
    return facts


async def large(directory: Path) -> dict[str, Any]:
    """The disk ends in the middle of a large content that a worker writes beside the channel."""
    remote = await open_remote(directory / "spool", 0, lambda: 5_000.0)
    incoming = directory / "spool" / "incoming"
    ballast = fill(directory, 3 * MEBIBYTE)
    writer = remote.writer("010000000000000000T001ARGE")
    content = os.urandom(MEBIBYTE)
    facts: dict[str, Any] = {}
    with mock.patch.object(remote, "refusal", return_value=None):  # heard a moment ago that there is room
        for number in range(10):
            facts["refused"] = await outcome(writer.write(content))
            if facts["refused"] != "ok":
                facts["written before"] = number
                break
    facts["parts"] = os.listdir(incoming)
    await remote.spool.commit(envelope(queue_id="020000000000000000000SMA11"), b"small")
    writer = remote.writer("0300000000000000000000F1TS")
    await writer.write(content)
    facts["fits"] = await outcome(writer.commit(envelope(queue_id="0300000000000000000000F1TS", size=MEBIBYTE)))
    ballast.unlink()
    writer = remote.writer("0400000000000000000001ATER")
    with mock.patch.object(remote, "refusal", return_value=None):
        for _ in range(10):
            await writer.write(content)
        facts["later"] = await outcome(
            writer.commit(envelope(queue_id="0400000000000000000001ATER", size=10 * MEBIBYTE))
        )
    facts["whole"] = await read_all(remote.open("0400000000000000000001ATER")) == content * 10
    facts["kept"] = [message.envelope.queue_id for message in await remote.list(Filter(), 0.0, 10)]
    facts["parts later"] = os.listdir(incoming)
    await remote.close()
    return facts


async def restart_when_full(directory: Path) -> dict[str, Any]:
    """A start on a full disk: what is there can be seen, nothing is lent, and it goes on when there is room."""
    spool = await open_spool(EmbeddedSettings(directory / "spool", 0))
    await spool.commit(envelope(queue_id="0100000000000000000000KEPT"), os.urandom(50_000))
    await spool.close()
    ballast = fill(directory, 0)
    facts: dict[str, Any] = {}
    try:
        spool = await open_spool(EmbeddedSettings(directory / "spool", 4 * MEBIBYTE))
    except (Unavailable, Full, SpoolError) as error:
        facts["opened"] = str(error)
        ballast.unlink()
        spool = await open_spool(EmbeddedSettings(directory / "spool", 4 * MEBIBYTE))
    else:
        facts["lent while full"] = len(await spool.lease(FAR, 10))
        ballast.unlink()
        await soon(lambda: not spool.owner.paused)
    facts["lent"] = [lease.envelope.queue_id for lease in await spool.lease(FAR, 10)]
    await spool.close()
    return facts


def main() -> None:
    """One scenario on a file system of its own."""
    directory = Path(sys.argv[1])
    options = ["-t", "tmpfs", "-o", "size=32m", "tmpfs"]
    subprocess.run(["mount", *options, str(directory)], check=True)
    facts = asyncio.run(globals()[sys.argv[2]](directory))
    print("FACTS " + json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
