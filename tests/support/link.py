"""A stretch of network that a test can cut: forwards TCP between ports of 127.0.0.1, in a process of its own.

    with Link([(front, back), ...]) as link:      # whoever connects to front reaches back
        link.cut()                                # silence, as of a cable that is pulled: nobody is told
        link.mend()                               # what was sent meanwhile arrives
        link.snap()                               # all connections reset, new ones refused; start() is the repair

A cut is SIGSTOP: the kernel still completes handshakes and buffers octets, nobody forwards them. So a peer sees what
it sees of a lost network, and must notice by its own time-outs.

As a program: python -m tests.support.link FRONT:BACK...; it says "ready" when it listens, and ends with its input.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parent.parent.parent


class Link:
    """A running link, or one that was snapped. Also a context manager."""

    def __init__(self, pairs: Iterable[tuple[int, int]]) -> None:
        self._pairs = list(pairs)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def fronts(self) -> list[int]:
        """The ports that it listens at."""
        return [front for front, _ in self._pairs]

    def start(self) -> None:
        """Returns when it listens at every front port. Does nothing while it runs."""
        if self._process is not None:
            return
        self._process = subprocess.Popen(
            (sys.executable, "-m", "tests.support.link", *(f"{a}:{b}" for a, b in self._pairs)),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n", "the link did not come up"

    def cut(self) -> None:
        """From now on nothing passes, and nobody is told."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def mend(self) -> None:
        """All passes again, with what piled up."""
        self.start()
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def snap(self) -> None:
        """Ends it: connections are reset, new ones refused."""
        if self._process is not None:
            self._process.kill()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.snap()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while octets := await source.read(65_536):
        target.write(octets)
        await target.drain()
    if target.can_write_eof():
        target.write_eof()


async def _forward(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        finally:
            far_writer.close()
    writer.close()


async def _main(words: list[str]) -> None:
    servers = []
    running: set[asyncio.Task[None]] = set()  # the loop itself keeps no strong reference
    for word in words:
        front, back = map(int, word.split(":"))

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int = back) -> None:
            task = asyncio.create_task(_forward(port, reader, writer))
            running.add(task)
            task.add_done_callback(running.discard)

        servers.append(await asyncio.start_server(accept, "127.0.0.1", front))
    print("ready", flush=True)
    # the end of its input is the end of whoever started it, however that came about
    await asyncio.to_thread(sys.stdin.buffer.read)
    for server in servers:
        server.close()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
    os._exit(0)
