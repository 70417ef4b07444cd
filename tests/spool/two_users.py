"""A program for test_incoming: the spool and a worker as two users that share one group.

    python -m tests.spool.two_users DIRECTORY OWNER WORKER GROUP      # as root

Prints what happened, and which errors the kernel has for what a worker should not be able to do.
"""

import asyncio
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.spool.messages import envelope, read_all

from pillarbox.control.channel import serve
from pillarbox.control.link import Link
from pillarbox.spool.base import INLINE_LIMIT, Filter
from pillarbox.spool.embedded import open_spool
from pillarbox.spool.remote import RemoteIntake
from pillarbox.spool.service import ERRORS, intake_handlers
from pillarbox.spool.settings import EmbeddedSettings

LARGE = b"0123456789" * INLINE_LIMIT
SENT = envelope(queue_id="0100000000000000000001ARGE", size=len(LARGE))


def become(user: int, group: int) -> None:
    """For good, with the umask of the units."""
    os.setgroups([group])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    os.umask(0o077)


def as_user(user: int, group: int, work: Callable[[], None]) -> int:
    """Runs ``work`` in a child of that user; the child's pid."""
    child = os.fork()
    if child == 0:
        try:
            become(user, group)
            work()
        except BaseException as error:
            print("FAILED", repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return child


def own(directory: Path, ready: int, stop: int) -> None:
    """The spool's process: serves until ``stop`` can be read; then a damaged file is saved from."""

    async def main() -> None:
        settings = EmbeddedSettings(directory / "spool", 0)
        spool = await open_spool(settings)
        handlers = intake_handlers(spool)
        server = await serve(directory / "run" / "s", lambda peer: handlers, mode=0o666, errors=ERRORS)
        os.write(ready, b"x")
        await asyncio.to_thread(os.read, stop, 1)
        await server.close()
        await spool.close()
        (directory / "spool" / "spool.db.suspect").touch()
        spool = await open_spool(settings)
        (message,) = await spool.list(Filter(), 0.0, 10)
        assert message.envelope == SENT
        assert await read_all(spool.open("0100000000000000000001ARGE")) == LARGE
        say("salvaged")
        await spool.close()

    asyncio.run(main())


def submit(directory: Path) -> None:
    """The worker's process."""
    incoming = directory / "spool" / "incoming"

    async def main() -> None:
        link = Link(directory / "run" / "s", errors=ERRORS)
        intake = RemoteIntake(link, incoming)
        await link.start(20.0)
        writer = intake.writer("0100000000000000000001ARGE")
        await writer.write(LARGE[:1_000_000])
        await writer.write(LARGE[1_000_000:])
        await writer.commit(SENT)
        await intake.close()
        await link.close()
        say("committed")

    asyncio.run(main())
    refused("list", os.listdir, incoming)
    refused("content", os.open, directory / "spool" / "content" / "0100000000000000000001ARGE", os.O_RDONLY)
    refused("database", os.open, directory / "spool" / "spool.db", os.O_RDONLY)
    refused("replace", os.rename, incoming, directory / "spool" / "other")


def refused(what: str, call: Callable[..., Any], *arguments: Any) -> None:
    """Says the error's name."""
    try:
        call(*arguments)
    except OSError as error:
        say(f"{what}:{errno.errorcode[error.errno or 0]}")
    else:
        say(f"{what}:allowed")


def say(fact: str) -> None:
    """To standard output, past any buffer."""
    os.write(facts, fact.encode() + b"\n")


facts = -1


def main() -> None:
    """Both processes, one after the other's beginning."""
    global facts  # inherited by both children
    directory = Path(sys.argv[1])
    owner, worker, group = map(int, sys.argv[2:5])
    reading, facts = os.pipe()
    ready, started = os.pipe()
    ended, stop = os.pipe()
    first = as_user(owner, group, lambda: own(directory, started, ended))
    os.close(started)
    os.read(ready, 1)
    second = as_user(worker, group, lambda: submit(directory))
    codes = [os.waitpid(second, 0)[1]]
    os.write(stop, b"x")
    codes.append(os.waitpid(first, 0)[1])
    os.close(facts)
    with os.fdopen(reading) as said:
        print("FACTS", said.read(), flush=True)
    sys.exit(any(codes))


if __name__ == "__main__":
    main()
