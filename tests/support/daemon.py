"""The real daemon as a process: `pillarbox serve` on free loopback ports, with a user or two, and its log as JSON.

    def test_something(daemon: Callable[..., RunningDaemon]) -> None:      # fixture in tests/conftest.py or below
        server = start_daemon(tmp_path, authority)
        server.user("anna", "secret", ["anna@example.org"])
        ... smtplib to server.submission / server.submissions, trusting server.ca ...
        line = server.wait_for("message.accepted")
        assert server.stop() == 0

Everything is synchronous; in an async test call it through asyncio.to_thread where it may block (start, wait_for,
stop). ``start_daemon`` kills the whole process group at the end of the test if the test did not end it (pass the
``request.addfinalizer`` of pytest as ``at_end``).
"""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.certs import Authority, Issued
from tests.support.ports import steady_ports

from pillarbox.control.channel import connect

SITE = "mail.example.org"
"""The site's name, in the certificate beside localhost and 127.0.0.1."""

START_TIME = 30.0
"""Seconds until the daemon must be ready, on a busy machine."""


@dataclass
class RunningDaemon:
    """One daemon, running or stopped; ``start`` again after ``stop`` or ``kill9`` uses the same files and ports."""

    directory: Path
    config: Path
    run_dir: Path
    data_dir: Path
    ca: Path
    submission: int
    submissions: int
    metrics: int
    maildir: Path
    log_path: Path
    process: subprocess.Popen[bytes] | None = None
    _read: int = field(default=0, repr=False)

    # -- life

    def start(self) -> None:
        """Starts `pillarbox serve` and returns when it is ready. Raises AssertionError with its output otherwise."""
        before = len(self.log())
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                (sys.executable, "-P", "-m", "pillarbox", "serve", "--config", str(self.config)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.wait_for("server.ready", after=before, timeout=START_TIME)

    def stop(self, timeout: float = 30.0) -> int:
        """SIGTERM; returns the exit code. Raises AssertionError when it does not end in time."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise AssertionError(f"no end within {timeout} s:\n{self.tail()}") from None

    def kill9(self) -> None:
        """SIGKILL for the whole tree at once: the moment that the lights go out."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        deadline = time.monotonic() + 10
        while _group_lives(self.process.pid) and time.monotonic() < deadline:
            time.sleep(0.01)

    def reload(self) -> None:
        """SIGHUP to the supervisor; wait_for("config.reloaded") or ("config.refused") says what came of it."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def pids(self, role: str) -> list[int]:
        """The processes of a role (supervisor's view), by worker number."""
        return [process["pid"] for process in self.ask("status")["processes"] if process["role"] == role]

    # -- the operator's side

    def ask(self, verb: str, body: Any = None) -> Any:
        """One verb over control.sock. Raises RemoteError, OSError."""
        return _in_thread(lambda: _ask(self.run_dir / "control.sock", verb, body))

    def user(self, login: str, password: str, addresses: Iterable[str] = (), **more: Any) -> dict[str, Any]:
        """Adds an account; ``more`` as in user.add (domains, may_redirect, recipients_per_hour, disabled)."""
        body = {"login": login, "password": password, "addresses": list(addresses), **more}
        added: dict[str, Any] = self.ask("user.add", body)
        return added

    # -- what it says

    def log(self) -> list[dict[str, Any]]:
        """Every line so far that is JSON, oldest first."""
        lines = []
        for line in self.log_path.read_bytes().splitlines() if self.log_path.exists() else ():
            try:
                lines.append(json.loads(line))
            except ValueError:
                continue
        return lines

    def wait_for(self, event: str, *, after: int = 0, timeout: float = 10.0, **fields: Any) -> dict[str, Any]:
        """The first line (from number ``after`` on) with this event and these fields, as soon as it is there."""
        deadline = time.monotonic() + timeout
        while True:
            for line in self.log()[after:]:
                if line.get("event") == event and fields.items() <= line.items():
                    return line
            ended = self.process is not None and self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise AssertionError(f"no {event} {fields} in the log:\n{self.tail()}")
            time.sleep(0.02)

    def tail(self, lines: int = 40) -> str:
        """The end of its output, for a failed assertion."""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def delivered(self) -> list[bytes]:
        """The messages in the maildir of the default route."""
        return [path.read_bytes() for path in sorted((self.maildir / "new").glob("*"))]


def start_daemon(
    directory: Path,
    authority: Authority,
    *,
    at_end: Callable[[Callable[[], None]], None] | None = None,
    routes: str | None = None,
    server: Sequence[str] = (),
    site: Sequence[str] = (),
    extra: str = "",
    start: bool = True,
) -> RunningDaemon:
    """Writes a configuration and a certificate into ``directory`` and starts the daemon.

    Args:
        directory: where everything but the sockets goes (a socket's path has room for 107 octets only).
        authority: issues the certificate.
        at_end: pytest's ``request.addfinalizer``: whatever still runs at the end of the test is killed.
        routes: TOML of the [[route]] tables; default: all mail into ``directory/maildir``.
        server, site: lines of TOML for those tables, such as ``'submission_workers = 2'``.
        extra: further TOML tables.
        start: False: only write the files.
    """
    run_dir = Path(tempfile.mkdtemp(prefix=f"pb-{secrets.token_hex(3)}-"))
    submission, submissions, metrics = steady_ports(3)
    issued = authority.issue(SITE, "localhost", "127.0.0.1")
    daemon = RunningDaemon(
        directory=directory,
        config=directory / "pillarbox.toml",
        run_dir=run_dir,
        data_dir=directory / "data",
        ca=issued.ca,
        submission=submission,
        submissions=submissions,
        metrics=metrics,
        maildir=directory / "maildir",
        log_path=directory / "pillarbox.log",
    )
    tables = routes if routes is not None else f'[[route]]\nkind = "maildir"\npath = "{daemon.maildir}"\n'
    daemon.config.write_text(_configuration(daemon, issued, server, site, tables + "\n" + extra))

    def end() -> None:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill9()
        shutil.rmtree(run_dir, ignore_errors=True)

    if at_end is not None:
        at_end(end)
    if start:
        daemon.start()
    return daemon


def _configuration(
    daemon: RunningDaemon, issued: Issued, server: Sequence[str], site: Sequence[str], tables: str
) -> str:
    lines = (
        "[server]",
        f'data_directory = "{daemon.data_dir}"',
        f'run_directory = "{daemon.run_dir}"',
        f"run_as_root = {'true' if os.geteuid() == 0 else 'false'}",
        *_unless("submission_workers", server, "submission_workers = 1"),
        *_unless("drain_time", server, 'drain_time = "10s"'),
        *server,
        "[log]",
        'form = "json"',
        'level = "debug"',
        "[metrics]",
        f'listen = "127.0.0.1:{daemon.metrics}"',
        "[[site]]",
        f'name = "{SITE}"',
        f'submission = ["127.0.0.1:{daemon.submission}"]',
        f'submissions = ["127.0.0.1:{daemon.submissions}"]',
        f'certificate = "{issued.certificate}"',
        f'key = "{issued.key}"',
        *site,
        tables,
    )
    return "\n".join(lines)


def _unless(key: str, lines: Iterable[str], line: str) -> list[str]:
    return [] if any(own.split("=")[0].strip() == key for own in lines) else [line]


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


async def _ask(path: Path, verb: str, body: Any) -> Any:
    channel = await connect(path)
    try:
        async with asyncio.timeout(30):
            return await channel.request(verb, body)
    finally:
        channel.close()
        await asyncio.sleep(0)


def _in_thread(make: Callable[[], Any]) -> Any:
    """Runs a coroutine to its end in a thread of its own, so that sync and async tests may both call."""
    results: list[Any] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(asyncio.run(make()))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
