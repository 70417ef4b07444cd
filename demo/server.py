"""Pillarbox as the demo runs it: `pillarbox init`, a few lines of the configuration changed, `pillarbox serve`.

    with Server(directory, next_hop_port) as server:
        server.submission, server.submissions             # ports on 127.0.0.1
        server.wait_for("message.accepted", after=mark)  # an event, from the log

Nothing is taken from inside the server: it is started by its own command and watched through its own log.

ERRORS
    NotHeld: with the reason and the end of the command's or server's output.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
NAME = "localhost"
LOGIN = "ada@example.org"

_PILLARBOX = (sys.executable, "-P", "-m", "pillarbox")
_COMMAND_TIME = 60.0
_START_TIME = 60.0
_STOP_TIME = 30.0
_SOCKET_ROOM = 60  # of the 107 octets that a socket's path may have: what the folder may take


class NotHeld(Exception):
    """A step of the demo did not hold; the text says which and why."""


def free_port(wanted: int, taken: tuple[int, ...] = ()) -> int:
    """``wanted`` if nobody has it on 127.0.0.1, else any other."""
    for port in (wanted, 0):
        try:
            with socket.create_server((HOST, port)) as held:
                found: int = held.getsockname()[1]
        except OSError:
            continue
        if found not in taken:
            return found
    raise NotHeld("there is no free port on 127.0.0.1")


class Server:
    """See the module's text. ``stop`` may be called early, to see the exit code."""

    def __init__(self, directory: Path, password: str, next_hop: int) -> None:
        self.directory = directory
        self.config = directory / "pillarbox.toml"
        self.certificate = directory / "certificate.pem"
        self.log_path = directory / "pillarbox.log"
        self.submission = free_port(2587)
        self.submissions = free_port(2465, (self.submission,))
        self._metrics = free_port(9587, (self.submission, self.submissions))
        self._password = password
        self._next_hop = next_hop
        self._run_directory = _short_folder()
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: list[dict[str, Any]] = []
        self._read = 0

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._run_directory, ignore_errors=True)

    # -- life

    def init(self) -> None:
        """`pillarbox init`, then what the demo wants otherwise."""
        command = [
            *(*_PILLARBOX, "init", "--name", NAME, "--relay", f"{HOST}:{self._next_hop}"),
            *("--user", LOGIN, "--password-stdin", "--directory", str(self.directory)),
            *("--run-directory", str(self._run_directory), "--listen", HOST),
            *("--ports", f"{self.submission},{self.submissions}", "--yes"),
        ]
        done = subprocess.run(  # noqa: S603  # our own command
            command,
            input=f"{self._password}\n".encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_COMMAND_TIME,
        )
        if done.returncode:
            raise NotHeld(f"pillarbox init ended with {done.returncode}:\n{done.stdout.decode(errors='replace')}")
        self._adapt()

    def _adapt(self) -> None:
        """JSON lines, to be read here; a free port for metrics; small room and a short end, for a short life."""
        text = self.config.read_text()
        root = "run_as_root = true\n" if os.geteuid() == 0 else ""
        for old, new in (
            ("[server]\n", f'[server]\n{root}drain_time = "5s"\n'),
            ('form = "readable"', 'form = "json"'),
            ('listen = "127.0.0.1:9587"', f'listen = "{HOST}:{self._metrics}"'),
            ("\n[metrics]\n", '\n[spool]\nmin_free = "16MiB"\n\n[metrics]\n'),
        ):
            if text.count(old) != 1:
                raise NotHeld(f"pillarbox init wrote a configuration without {old.strip()!r}")
            text = text.replace(old, new)
        self.config.write_text(text)

    def serve(self) -> dict[str, Any]:
        """`pillarbox serve`, until it says that it is ready; that event. In a session of its own: Ctrl-C is ours."""
        with self.log_path.open("wb") as log, _interrupted_afterwards():
            self._process = subprocess.Popen(  # noqa: S603  # our own command
                (*_PILLARBOX, "serve", "--config", str(self.config)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.wait_for("server.ready", timeout=_START_TIME)

    def stop(self) -> int:
        """SIGTERM, and the exit code; what does not end in time is killed. A second call gives the same code."""
        process = self._process
        if process is None:
            return 0
        if process.poll() is None:
            process.terminate()
        try:
            return process.wait(_STOP_TIME)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait(_STOP_TIME)

    def ended(self) -> bool:
        """Whether the server is not running (any more)."""
        return self._process is None or self._process.poll() is not None

    # -- what it says

    def events(self) -> list[dict[str, Any]]:
        """Every whole line of the log so far, oldest first; ``line`` is the line as printed."""
        with self.log_path.open("rb") as log:
            log.seek(self._read)
            octets = log.read()
        whole = octets.rpartition(b"\n")[0]
        self._read += len(whole) + 1 if whole else 0
        for line in whole.splitlines():
            try:
                fields = json.loads(line)
            except ValueError:
                continue  # not an event: what an interpreter prints, for example
            self._lines.append({**fields, "line": line.decode()})
        return self._lines

    def wait_for(self, event: str, *, after: int = 0, timeout: float = 15.0, **fields: Any) -> dict[str, Any]:
        """The first event (from number ``after`` on) with this name and these fields."""
        deadline = time.monotonic() + timeout
        while True:
            ended = self.ended()
            for each in self.events()[after:]:
                if each.get("event") == event and fields.items() <= each.items():
                    return each
            if ended:
                raise NotHeld(f"pillarbox serve has ended:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise NotHeld(f"no {event} within {timeout:.0f} s. The end of its log:\n{self.tail()}")
            time.sleep(0.005)

    def tail(self) -> str:
        """The end of the log, for a complaint."""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-12:])


@contextlib.contextmanager
def _interrupted_afterwards() -> Iterator[None]:
    """Ctrl-C and its like wait until the block is done: what it started is known then, and can be ended."""
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, lambda number, _frame: came.append(number)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def _short_folder() -> Path:
    """A fresh folder for sockets: the path of a socket has room for 107 octets only."""
    place = tempfile.gettempdir()
    if len(place.encode()) > _SOCKET_ROOM:
        place = "/tmp"  # noqa: S108  # mkdtemp makes a folder that only we may enter
    return Path(tempfile.mkdtemp(prefix="pillarbox-demo-", dir=place))
