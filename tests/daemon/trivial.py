"""A role that does nothing, as a program: the supervisor's tests start it in place of the real ones.

    python trivial_role.py ROLE WORKER CONFIG

What it does is steered by files beside the configuration: ``ROLE.crash`` (exit code 3 at once), ``ROLE.cannot``
(cannot start), ``ROLE.refuses`` (does not prepare a reload), ``ROLE.hangs`` (never drains).
"""

import asyncio
import gc
import sys
from pathlib import Path
from typing import Any

from pillarbox.config import Settings
from pillarbox.control.channel import Handler
from pillarbox.daemon.process import CannotStart, Commit, PrepareRefused, run_role
from pillarbox.daemon.sockets import inherit
from pillarbox.telemetry import counters

STARTS = counters.counter("trivial_starts_total", "Starts", ("role",))
KEEPS = counters.gauge("trivial_keeps_modules", "1: no collection of garbage looks at what is loaded", ("role",))


class TrivialRole:
    """See the module's text."""

    def __init__(self, name: str, settings: Settings) -> None:
        import os

        self.name = name
        self.settings = settings
        self.drained = asyncio.Event()
        self.sockets = inherit(os.environ)
        self.servers: list[asyncio.AbstractServer] = []

    def told(self, what: str) -> bool:
        return (self.settings.path.parent / f"{self.name}.{what}").exists()

    async def start(self) -> None:
        if self.told("crash"):
            sys.exit(3)
        if self.told("cannot"):
            raise CannotStart("told not to")
        STARTS.add(1, self.name)
        for listening in self.sockets.values():
            self.servers.append(await asyncio.start_server(self.greet, sock=listening))

    async def greet(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        import os

        writer.write(f"{os.getpid()}\n".encode())
        writer.close()

    async def run(self) -> None:
        KEEPS.set(gc.get_freeze_count() > 10_000, self.name)
        await self.drained.wait()

    async def prepare(self, settings: Settings) -> Commit:
        if self.told("refuses"):
            raise PrepareRefused(f"{self.name}: told to refuse")

        def commit() -> None:
            self.settings = settings

        return commit

    async def drain(self, seconds: float) -> None:
        if self.told("hangs"):
            await asyncio.sleep(3600)
        self.drained.set()

    async def close(self) -> None:
        for server in self.servers:
            server.close()

    def status(self) -> dict[str, Any]:
        return {"drain_time": self.settings.server.drain_time}

    def verbs(self) -> dict[str, Handler]:
        return {"sessions": lambda _channel, _body: [{"of": self.name}]}


if __name__ == "__main__":
    role, worker, path = sys.argv[1:]
    sys.exit(run_role(role, int(worker), Path(path), lambda settings, _: TrivialRole(role, settings)))
