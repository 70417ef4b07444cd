"""A machine with Pillarbox on a cell: its roles as processes, started again as a service manager would.

    machine = Machine("sub1", ("control", "spool", "submission"), folder, host="127.0.0.11", ...)
    machine.user("ada", password)
    machine.start()
    while ...: machine.tend()                  # starts again what ended a second ago (Restart=on-failure)
    machine.kill("submission")                 # SIGKILL
    machine.lose_power(); machine.start()

It reaches the cell over a Link of its own, so that it alone can be cut off: ``machine.link.cut()``, ``mend()``.
Everything is synchronous.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.certs import Issued
from tests.support.link import Link

from pillarbox.control.channel import ChannelClosed, RemoteError, connect

PROGRAM = (sys.executable, "-P", "-m", "pillarbox")
RESTART_AFTER = 1.0
"""Seconds, RestartSec of contrib/systemd."""
BLOCK = 5
"""Failures of one place at which the guard refuses it."""

TOLD = ("cell.failed", "cell.recovered", "cell.awaited", "cell.accepted", "cell.refused", "cell.full", "worker.lost")
TOLD_TOO = ("delivery.lease_lost", "delivery.stopped", "delivery.unsettled", "delivery.crashed", "role.failed")
"""Events that ``tend`` tells; all are counted."""


@dataclass(slots=True)
class Unit:
    """One role's process and its successors."""

    role: str
    process: subprocess.Popen[bytes] | None = None
    ended_at: float = 0.0
    starts: int = 0
    read: int = 0
    """Octets of its log that were looked at."""


@dataclass
class Machine:
    """See the module's text. ``cell``: TOML of [[spool.cell]] without its header; ``relay``: port of the next hop."""

    name: str
    roles: tuple[str, ...]
    folder: Path
    host: str
    port: int
    link: Link
    certificate: Issued
    cell: str
    relay: int
    run_dir: Path = field(init=False)
    units: dict[str, Unit] = field(init=False)
    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often each (role, event) was in the log."""
    up: bool = False
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        (self.folder / "data").mkdir(mode=0o700)  # as tmpfiles.d does for units
        # a socket's path has room for 107 octets only
        self.run_dir = Path(tempfile.mkdtemp(prefix=f"pb-{self.name}-"))
        self.units = {role: Unit(role) for role in self.roles}
        self.config.write_text(self._configuration())

    @property
    def config(self) -> Path:
        """Its pillarbox.toml."""
        return self.folder / "pillarbox.toml"

    def _configuration(self) -> str:
        root = "true" if os.geteuid() == 0 else "false"
        return f"""\
[server]
data_directory = "{self.folder / "data"}"
run_directory = "{self.run_dir}"
run_as_root = {root}
submission_workers = 1
delivery_workers = 1
drain_time = "5s"
[log]
form = "json"
level = "info"
[spool]
kind = "cluster"
[[spool.cell]]
{self.cell}
[delivery]
retry = ["2s", "5s", "10s"]
[[site]]
name = "mail.example.org"
submissions = ["{self.host}:{self.port}"]
certificate = "{self.certificate.certificate}"
key = "{self.certificate.key}"
recipients_per_hour = 2000000000
failed_sign_in_time = "200ms"
[guard]
block_failures = {BLOCK}
max_delay = "1s"
[[route]]
host = "127.0.0.1"
port = {self.relay}
tls = "none"
"""

    # -- the operator's side

    def command(self, *words: str, given: str = "", timeout: float = 60.0) -> str:
        """`pillarbox WORDS`; returns what it printed. Raises AssertionError with that when it fails or hangs."""
        try:
            done = subprocess.run(
                (*PROGRAM, *words, "--config", str(self.config)),
                input=given,
                capture_output=True,
                text=True,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            raise AssertionError(f"pillarbox {' '.join(words)}: no end within {timeout} s") from None
        assert done.returncode == 0, f"pillarbox {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def ask(self, verb: str, body: Any = None) -> Any:
        """One verb over its control socket, in a thread without a loop. Raises OSError when there is no answer."""

        async def work() -> Any:
            channel = await connect(self.run_dir / "control.sock")
            try:
                async with asyncio.timeout(30):
                    return await channel.request(verb, body)
            finally:
                channel.close()
                await asyncio.sleep(0)

        try:
            return asyncio.run(work())
        except (ChannelClosed, RemoteError) as error:
            raise OSError(f"{self.name}: {verb}: {error}") from None

    def user(self, login: str, password: str, recipients_per_hour: int = 2_000_000_000) -> None:
        """Adds the account, unless another machine on the same cell has added it."""
        words = ("user", "add", login, "--recipients-per-hour", str(recipients_per_hour), "--password-stdin")
        try:
            self.command(*words, given=password)
        except AssertionError:
            if login not in self.command("user", "list"):
                raise

    def queued(self) -> list[str]:
        """The queue ids of what waits in the whole cell, 100,000 at most."""
        listed = self.command("queue", "list", "--limit", "100000", "--json", timeout=120)
        return re.findall(r'"queue_id": ?"([^"]+)"', listed)

    # -- life

    def start(self) -> None:
        """Starts every role; returns at once."""
        with self._lock:
            self.link.start()
            self.up = True
            for unit in self.units.values():
                if unit.process is None:
                    self._spawn(unit)

    def _spawn(self, unit: Unit) -> None:
        with self._log_of(unit.role).open("ab") as log:
            unit.process = subprocess.Popen(
                (*PROGRAM, "serve", "--role", unit.role, "--config", str(self.config)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        unit.starts += 1

    def tend(self) -> list[str]:
        """Starts again what ended some time ago; returns what there is to tell. To be called often."""
        with self._lock:
            for unit in self.units.values() if self.up else ():
                if unit.process is not None and unit.process.poll() is not None:
                    unit.process, unit.ended_at = None, time.monotonic()
                if unit.process is None and time.monotonic() - unit.ended_at >= RESTART_AFTER:
                    self._spawn(unit)
            return self._news()

    def well(self) -> bool:
        """Whether it is up with all its processes."""
        return self.up and all(u.process is not None and u.process.poll() is None for u in self.units.values())

    def kill(self, role: str) -> None:
        """SIGKILL for one process; ``tend`` starts its successor."""
        process = self.units[role].process
        if process is not None:
            process.kill()

    def lose_power(self) -> None:
        """SIGKILL for all at once, and nobody starts them again before ``start``."""
        with self._lock:
            self.up = False
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for unit in self.units.values():
                    if unit.process is not None:
                        unit.process.send_signal(number)
            for unit in self.units.values():
                if unit.process is not None:
                    unit.process.wait()
                    unit.process = None

    def end(self) -> None:
        """Everything of it is killed and its sockets' folder removed."""
        self.lose_power()
        self.link.snap()
        shutil.rmtree(self.run_dir, ignore_errors=True)

    # -- what it says

    def _log_of(self, role: str) -> Path:
        return self.folder / f"{role}.log"

    def _news(self) -> list[str]:
        told = []
        for unit in self.units.values():
            path = self._log_of(unit.role)
            if not path.exists():
                continue
            with path.open("rb") as log:
                log.seek(unit.read)
                octets = log.read()
            whole = octets[: octets.rfind(b"\n") + 1]
            unit.read += len(whole)
            for line in whole.splitlines():
                event = _event(line)
                name = str(event.get("event", ""))
                self.events[unit.role, name] += 1
                if name in TOLD or name in TOLD_TOO:
                    told.append(f"{self.name} {unit.role}: {name} {str(event.get('reason', ''))[:90]}".strip())
        return told

    def tail(self, lines: int = 15) -> str:
        """The ends of its logs."""
        text = []
        for role in self.roles:
            path = self._log_of(role)
            text.append(f"-- {self.name} {role}")
            text += path.read_text(errors="replace").splitlines()[-lines:] if path.exists() else []
        return "\n".join(text)


def _event(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
