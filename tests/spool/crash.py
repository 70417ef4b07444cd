"""A program for test_crash: kills a process at each of the steps by which the spool reaches the disk.

    python -m tests.spool.crash DIRECTORY

One process that has imported everything forks a child for each number N. The child does the same work on a fresh
spool and kills itself (SIGKILL) just before its N-th step: a write, sync, truncation or removal by SQLite or for a
content file, a commit, or a reply. What it was told is done it says through a pipe. Then another child opens what is
left. One JSON line for each N; the first N at which the work got to its end is the last.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
from tests.spool.messages import bounce, envelope, read_all, settlement

import pillarbox.spool.content
import pillarbox.store.sqlite
from pillarbox.spool.base import INLINE_LIMIT, Deferred, Delivered, Failed, Filter, Spool, SpoolError
from pillarbox.spool.embedded import open_spool
from pillarbox.spool.settings import EmbeddedSettings

NOW = 5_000.0
LARGE = bytes(range(256)) * (2 * INLINE_LIMIT // 256) + b"end"

SMALL = envelope("bob@example.net", queue_id="010000000000000000000SMA11")
BIG = replace(
    envelope("bob@example.net", "carol@example.net", queue_id="02000000000000000000000B1G", size=len(LARGE)),
    ret="HDRS",
    envid="QQ314159",
    notify=("SUCCESS,FAILURE", ""),
    original_recipients=("", "rfc822;carol@old.example"),
    deliver_by=NOW + 600.0,
    deliver_by_mode="N",
    priority=3,
    require_tls=True,
)
NOTICE = bounce(queue_id="03000000000000000000N0T1CE")
REST = envelope("dave@example.net", queue_id="0400000000000000000000REST")


class Steps:
    """Counts, and ends the process at the N-th."""

    def __init__(self, last: int) -> None:
        self._left = last

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with a step in front."""

        def counted(*arguments: Any, **named: Any) -> Any:
            self()
            return function(*arguments, **named)

        return counted


class CountedFile(apsw.VFSFile):
    """SQLite's file with its steps counted."""

    steps: Steps

    def xWrite(self, *arguments: Any) -> None:  # the driver's name
        self.steps()
        super().xWrite(*arguments)

    def xSync(self, *arguments: Any) -> None:  # as above
        self.steps()
        super().xSync(*arguments)

    def xTruncate(self, *arguments: Any) -> None:  # as above
        self.steps()
        super().xTruncate(*arguments)


class CountedSystem(apsw.VFS):
    """SQLite's file system with its steps counted."""

    def __init__(self, steps: Steps) -> None:
        super().__init__("counted", "unix", makedefault=True)
        self._steps = steps

    def xOpen(self, name: Any, flags: Any) -> CountedFile:  # as above
        file = CountedFile("unix", name, flags)
        file.steps = self._steps
        return file

    def xDelete(self, *arguments: Any) -> None:  # as above
        self._steps()
        super().xDelete(*arguments)


async def work(directory: Path, say: Callable[[str], None]) -> None:
    """Commits, settlements and an operator's verb, each said when it was promised."""
    spool = await open_spool(EmbeddedSettings(directory, 0), clock=lambda: NOW)
    await spool.commit(SMALL, b"small")
    say("committed SMALL")
    writer = spool.intake.writer(BIG.queue_id)
    for start in range(0, len(LARGE), 200_000):
        await writer.write(LARGE[start : start + 200_000])
    await writer.finish()
    say("uploaded BIG")
    await spool.intake.adopt(BIG)
    say("committed BIG")
    await go_on(spool, say)
    await spool.close()
    say("closed")


async def go_on(spool: Spool, say: Callable[[str], None]) -> None:
    """What follows the commits of SMALL and BIG, in a spool of any kind."""
    small, big = sorted(await spool.lease(NOW, 10), key=lambda lease: lease.envelope.queue_id)
    say("settling SMALL")
    await spool.settle(small, settlement(small, Delivered("250 ok", "hop")))
    say("settled SMALL")
    await spool.settle(big, settlement(big, Delivered("250 ok", "hop"), Deferred("451 x", "hop", NOW)))
    say("deferred BIG")
    (big,) = await spool.lease(NOW, 10)
    say("settling BIG")
    await spool.settle(big, settlement(big, Failed("550 no", "hop", "5.1.1"), messages=(NOTICE,)))
    say("settled BIG")
    await spool.commit(REST, b"rest")
    say("committed REST")
    await spool.hold(Filter(queue_ids=(REST.queue_id,)), NOW)
    say("held REST")


async def whole_messages(spool: Spool) -> dict[str, Any]:
    """What is in it, by queue id: whether it is as it was, and the states of its recipients."""
    found = {}
    for message in await spool.list(Filter(), NOW, 100):
        queue_id = message.envelope.queue_id
        content = await read_all(spool.open(queue_id))
        found[queue_id] = {
            "whole": message.envelope in (SMALL, BIG, NOTICE.envelope, REST),
            "content": content in (b"small", LARGE, NOTICE.content, b"rest"),
            "recipients": {str(r.key): r.state.value for r in message.recipients},
        }
    return found


async def look(directory: Path, repeat: bool) -> dict[str, Any]:
    """What a new start finds; and, with ``repeat``, what it finds after the worker that outlived the crash has asked
    again, twice, for its large content to be adopted."""
    spool = await open_spool(EmbeddedSettings(directory, 0), clock=lambda: NOW)
    found = await whole_messages(spool)
    files = len(os.listdir(directory / "content"))
    aside = len([name for name in os.listdir(directory) if ".corrupt" in name])
    leased = [lease.envelope.queue_id for lease in await spool.lease(NOW, 100)]
    repeated = []
    for _ in range(2 if repeat else 0):
        try:
            await spool.intake.adopt(BIG)
        except SpoolError as error:
            repeated.append(repr(error))
        else:
            here = [m.envelope for m in await spool.list(Filter(), NOW, 100) if m.envelope.queue_id == BIG.queue_id]
            whole = await read_all(spool.open(BIG.queue_id)) == LARGE
            repeated.append("one whole" if (here, whole) == ([BIG], True) else repr((here, whole)))
    await spool.close()
    parts = os.listdir(directory / "incoming")
    return {"found": found, "files": files, "aside": aside, "leased": leased, "repeated": repeated, "parts": parts}


def in_child(write_to: int, work: Callable[[], Any]) -> int:
    """Runs ``work`` in a forked child, without a word from its log; the child's wait status."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            work()
        except BaseException as error:
            os.write(write_to, f"failed {error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    os.close(write_to)
    return os.waitpid(child, 0)[1]


def crash_at(step: int, directory: Path) -> list[str]:
    """What the child that is killed before its ``step``-th step had said."""
    reading, writing = os.pipe()

    def child() -> None:
        steps = Steps(step)
        sent = os.writev  # not one of the steps
        system = CountedSystem(steps)
        pillarbox.store.sqlite._resolve = steps.before(pillarbox.store.sqlite._resolve)
        for name in ("fsync", "write", "writev", "rename", "unlink", "open"):
            setattr(os, name, steps.before(getattr(os, name)))

        def say(said: str) -> None:
            sent(writing, [said.encode(), b"\n"])

        asyncio.run(work(directory, say))
        del system

    status = in_child(writing, child)
    with os.fdopen(reading) as pipe:
        said = pipe.read().splitlines()
    if os.WIFSIGNALED(status):
        said.append("killed")
    return said


def look_after(directory: Path, repeat: bool) -> dict[str, Any]:
    """look() in a child of its own."""
    reading, writing = os.pipe()
    in_child(writing, lambda: os.write(writing, json.dumps(asyncio.run(look(directory, repeat))).encode()))
    with os.fdopen(reading) as pipe:
        return dict(json.loads(pipe.read()))


def main() -> None:
    """All steps."""
    for step in range(1, 1000):
        directory = Path(sys.argv[1]) / str(step)
        directory.mkdir()
        said = crash_at(step, directory)
        repeat = "uploaded BIG" in said and "settling BIG" not in said
        print(json.dumps({"step": step, "said": said, **look_after(directory, repeat)}), flush=True)
        if "killed" not in said:
            break


if __name__ == "__main__":
    main()
