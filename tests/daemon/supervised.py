"""A real supervisor, as a process, over trivial roles (trivial.py): started, asked, stopped.

python -m tests.daemon.supervised CONFIG      # run by Supervised.start
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from pillarbox.config import load
from pillarbox.control.channel import connect
from pillarbox.daemon import loop, sockets
from pillarbox.daemon.hub import all_addresses
from pillarbox.daemon.supervisor import Supervisor
from pillarbox.telemetry import events

CONFIG = """
[server]
data_directory = "data"
run_directory = "{run}"
run_as_root = true
submission_workers = 2
drain_time = "{drain_time}"
[log]
level = "debug"
[metrics]
listen = "127.0.0.1:{metrics}"
[[site]]
name = "mail.example.org"
submission = ["127.0.0.1:{port}"]
certificate = "certificate.pem"
key = "key.pem"
[[route]]
kind = "maildir"
path = "maildir"
"""


class Supervised:
    """One supervisor over trivial roles. Its directory steers the roles, see trivial.py."""

    def __init__(self, directory: Path, run: Path, port: int, metrics_port: int) -> None:
        self.directory = directory
        self.run = run
        self.port = port
        self.metrics_port = metrics_port
        self.config = directory / "pillarbox.toml"
        self.log_path = directory / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.configure()

    def configure(self, drain_time: str = "5s", **more: str) -> None:
        """Writes the configuration; ``more``: texts to replace."""
        text = CONFIG.format(run=self.run, port=self.port, metrics=self.metrics_port, drain_time=drain_time)
        for old, new in more.items():
            text = text.replace(old, new)
        self.config.write_text(text)

    def start(self, **environment: str) -> None:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                (sys.executable, "-m", "tests.daemon.supervised", str(self.config)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **environment},
            )

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, timeout: float = 30) -> int:
        assert self.process is not None
        return self.process.wait(timeout)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """The end of a test: nothing may be left."""
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return
            self.process.wait(10)

    async def ask(self, verb: str, body: Any = None) -> Any:
        channel = await connect(self.run / "control.sock")
        try:
            async with asyncio.timeout(20):
                return await channel.request(verb, body)
        finally:
            channel.close()
            await asyncio.sleep(0)

    async def until_each(self, key: str, value: Any) -> None:
        """Returns when every process reports ``value`` under ``key``: reports come each second."""
        async with asyncio.timeout(20):
            while await self._differs(key, value):  # noqa: ASYNC110  the event is in other processes
                await asyncio.sleep(0.05)

    async def _differs(self, key: str, value: Any) -> bool:
        return any(process.get(key) != value for process in (await self.ask("status"))["processes"])

    async def metrics(self) -> dict[str, float]:
        """What the endpoint shows now."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        octets = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=10).read())
        lines = [line.rsplit(" ", 1) for line in octets.decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in lines}

    async def until_metric(self, name: str, value: float) -> dict[str, float]:
        """All metrics, once this one has the value."""
        async with asyncio.timeout(20):
            while (found := await self.metrics()).get(name) != value:  # noqa: ASYNC110  as above
                await asyncio.sleep(0.05)
        return found

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_path.read_bytes().splitlines() if line.startswith(b"{")]

    async def until(self, event: str, count: int = 1, **fields: Any) -> list[dict[str, Any]]:
        """The lines with this event and these fields, once there are ``count``."""
        deadline = time.monotonic() + 30
        while True:
            found = [line for line in self.lines() if line["event"] == event and fields.items() <= line.items()]
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline, f"no {event} {fields}:\n{self.log_path.read_text()}"
            await asyncio.sleep(0.02)


def main(path: Path) -> int:
    settings = load(path)
    events.configure(form="json", level="debug", role="supervisor")
    (settings.server.run_directory / "spool").mkdir(parents=True, exist_ok=True)
    trivial = str(Path(__file__).with_name("trivial.py"))

    async def supervise() -> int:
        bound = sockets.bind(all_addresses(settings), settings.server.submission_workers)
        supervisor = Supervisor(
            path,
            settings,
            bound,
            command=lambda role, worker, _: (sys.executable, trivial, role, str(worker), str(path)),
        )
        return await supervisor.run()

    return loop.run(supervise())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
