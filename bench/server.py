"""The server under measurement: its roles as processes in a folder of its own, and what they cost.

    with Server(folder, relay=port) as server: ... server.cpu(), server.memory()

    server = Server(folder, spool=TOML)                # the queue's tables of the configuration: a cell, say
    server.prepare()                                   # certificate, configuration, account
    with server: ...

The roles are started one by one (`pillarbox serve --role ...`), so that accept-only is the same server without the
delivery role, and each process's figures belong to a role by construction.

ERRORS
    RuntimeError: a role did not become ready; its log is in the text.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from pillarbox.cli.certificate import make_self_signed

USER, PASSWORD = "alice@example.org", "correct horse battery staple"
PROGRAM = (sys.executable, "-P", "-m", "pillarbox")
START_TIME = 30.0
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that were free a moment ago."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


@dataclass
class Server:
    """See the module's text. ``relay``: the port of a sink on 127.0.0.1; None: accept only. ``spool``: TOML of
    [spool]; "": the embedded one."""

    folder: Path
    relay: int | None = None
    spool: str = ""
    port: int = 0
    starttls_port: int = 0
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def prepare(self) -> None:
        """All that a first start needs, once. Raises RuntimeError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port, self.starttls_port = free_ports(2)
        certificate, key = make_self_signed("bench.invalid")
        (self.folder / "certificate.pem").write_bytes(certificate)
        (self.folder / "key.pem").touch(mode=0o600)
        (self.folder / "key.pem").write_bytes(key)
        self.config.write_text(self._configuration())
        if self.spool:
            self._command("cluster", "init")
        self._command("user", "add", USER, "--recipients-per-hour", "2000000000", "--password-stdin")

    def _command(self, *command: str) -> None:
        done = subprocess.run(  # noqa: S603  # our own program
            (*PROGRAM, *command, "--config", self.config), input=PASSWORD.encode(), check=False, capture_output=True
        )
        there = b"there is a user" in done.stderr  # from an earlier round over the same data
        if done.returncode and not there:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout.decode()}{done.stderr.decode()}")

    def __enter__(self) -> "Server":
        if not self.port:
            self.prepare()
        try:
            for role in ("control", "spool", "submission", *(("delivery",) if self.relay is not None else ())):
                self._start(role)
            self._wait_for_port()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def config(self) -> Path:
        """Its pillarbox.toml."""
        return self.folder / "pillarbox.toml"

    @property
    def ca(self) -> Path:
        """What its clients trust."""
        return self.folder / "certificate.pem"

    def _configuration(self) -> str:
        root = "true" if os.geteuid() == 0 else "false"
        return f"""\
[server]
data_directory = "data"
run_directory = "run"
run_as_root = {root}
submission_workers = 1
delivery_workers = 1
drain_time = "2s"
{self.spool}
[[site]]
name = "bench.invalid"
submission = ["127.0.0.1:{self.starttls_port}"]
submissions = ["127.0.0.1:{self.port}"]
certificate = "certificate.pem"
key = "key.pem"
max_sessions = 20000
max_sessions_per_address = 20000
[[route]]
kind = "smarthost"
host = "127.0.0.1"
port = {self.relay or 9}
tls = "none"
"""

    def _start(self, role: str) -> None:
        with (self.folder / f"{role}.log").open("wb") as log:
            self.processes[role] = subprocess.Popen(  # noqa: S603  # our own program
                (*PROGRAM, "serve", "--role", role, "--config", self.config),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait_for_port(self) -> None:
        deadline = time.monotonic() + START_TIME
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
            except OSError:
                ended = [role for role, process in self.processes.items() if process.poll() is not None]
                if ended or time.monotonic() > deadline:
                    role = ended[0] if ended else "submission"
                    text = (self.folder / f"{role}.log").read_text()[-2000:]
                    raise RuntimeError(f"the role {role} does not start:\n{text}") from None
                time.sleep(0.05)
            else:
                return

    def _stop(self) -> None:
        for role in ("submission", "delivery", "spool", "control"):
            process = self.processes.get(role)
            if process is None:
                continue
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    # --- what it costs

    def cpu(self) -> dict[str, float]:
        """CPU seconds (user and system) of each role so far."""
        return {role: cpu_seconds(process.pid) for role, process in self.processes.items()}

    def memory(self) -> dict[str, tuple[int, int]]:
        """Octets (resident, proportional) of each role now."""
        return {role: memory(process.pid) for role, process in self.processes.items()}


def cpu_seconds(pid: int) -> float:
    """utime + stime of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory(pid: int) -> tuple[int, int]:
    """Octets (resident, proportional) of a process."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size = line.split()[:2]
        found[name] = int(size) * 1024
    return found["Rss:"], found["Pss:"]


def resident(pid: int) -> int:
    """Octets of anonymous memory of a process that are resident: cheap enough to ask often."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * PAGE


class Peak(threading.Thread):
    """The most anonymous memory that each role had while the context lasted."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.pids = {role: process.pid for role, process in server.processes.items()}
        self.before = {role: resident(pid) for role, pid in self.pids.items()}
        self.most = dict(self.before)
        self._ended = threading.Event()

    def __enter__(self) -> "Peak":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        """Looks every 20 ms."""
        while not self._ended.wait(0.02):
            for role, pid in self.pids.items():
                self.most[role] = max(self.most[role], resident(pid))

    def grown(self) -> dict[str, int]:
        """Octets above what was there before."""
        return {role: self.most[role] - self.before[role] for role in self.pids}
