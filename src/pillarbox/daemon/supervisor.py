"""The supervisor: starts the role processes, keeps their listening sockets, restarts what crashes, ends all in order.

    exit code = await Supervisor(path, settings, sockets).run()

It keeps one listening socket per submission worker and address for ever, so that a worker that crashed leaves its
connections in the backlog for its successor. A child that ends unasked is started again after a pause that doubles
from 0.1 s to 30 s; one that lived for a minute has earned a fresh start. SIGTERM (SIGINT): submission finishes the
transactions in hand, then delivery, then spool; a second one ends everything at once. SIGHUP reloads. Without
children it is the control role of contrib/systemd: the hub alone.

ERRORS
    Exit code 0 after an orderly end, 1 when a role could not start as configured or would not end in time.
"""

import asyncio
import grp
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pillarbox.config import Settings, load
from pillarbox.daemon import notify, paths
from pillarbox.daemon import sockets as listening
from pillarbox.daemon.hub import Hub
from pillarbox.daemon.process import EX_CONFIG, HUB, PARENT
from pillarbox.daemon.sockets import Sockets
from pillarbox.telemetry import counters
from pillarbox.telemetry.events import get_logger

FIRST_PAUSE, LONGEST_PAUSE, PROVEN = 0.1, 30.0, 60.0
"""Seconds before a restart, at first and at most; seconds of life after which a child starts afresh."""

GRACE = 5.0
"""Seconds beyond drain_time that a role may take to end."""

RESTARTS = counters.counter("process_restarts_total", "Role processes started again after a crash", ("role",))

log = get_logger("daemon")

Command = Callable[[str, int, Path], Sequence[str]]
"""(role, worker, configuration) -> argv of its process."""


def role_command(role: str, worker: int, path: Path) -> Sequence[str]:
    """This interpreter on pillarbox.daemon; -P keeps the working directory out of the import path."""
    return (sys.executable, "-P", "-m", "pillarbox.daemon", role, str(worker), str(path))


@dataclass(slots=True)
class Child:
    """One role process and its successors."""

    role: str
    worker: int
    sockets: Sockets
    process: asyncio.subprocess.Process | None = None
    keeper: asyncio.Task[None] | None = None
    pause: float = FIRST_PAUSE

    def signal(self, number: int) -> None:
        """To the process, if it lives."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)


class Supervisor:
    """See the module's text. ``sockets``: one mapping per submission worker; None: no children at all.
    ``responder``: those of the certificates role, which there is when a site wants it."""

    def __init__(
        self,
        path: Path,
        settings: Settings,
        sockets: Sequence[Sockets] | None,
        *,
        responder: Sockets | None = None,
        forward: Collection[str] = (),
        command: Command = role_command,
    ) -> None:
        self._path = path
        self._settings = settings
        self._sockets = sockets or ()
        self._responder = responder or {}
        self._command = command
        self._children: list[Child] = []
        self._ending = asyncio.Event()
        self._at_once = asyncio.Event()
        self._stirred = asyncio.Event()
        self._was_ready = False
        self._failed = False
        self._exit_code = 0
        if sockets is not None:
            self._children = [
                Child("spool", 0, {}),
                *(Child("submission", worker, own) for worker, own in enumerate(sockets)),
                *(Child("delivery", worker, {}) for worker in range(settings.server.delivery_workers)),
                *(Child(paths.CERTIFICATES, 0, self._responder) for _ in range(settings.acme is not None)),
            ]
        self._hub = Hub(
            settings,
            partial(load, path),
            forward=forward,
            on_drain=self._end if sockets is not None else None,
            on_change=self._stirred.set,
            operator_group=_operator_group(),
            units=sockets is None,
        )

    async def run(self) -> int:
        """Starts, serves until told to end, ends. Returns the exit code. Raises OSError when it cannot begin."""
        self._hear_signals()
        watchdog = asyncio.create_task(notify.keep_watchdog())
        try:
            await self._hub.start()
            for child in self._children:
                child.keeper = asyncio.create_task(self._keep(child), name=f"{child.role} {child.worker}")
            await self._until_ready()
            await self._ending.wait()
            await self._end_children()
        finally:
            watchdog.cancel()
            await self._kill_children()
            await self._hub.close()
            listening.close((*self._sockets, self._responder))
        log.info("server.ended", code=self._exit_code)
        return self._exit_code

    # -- signals

    def _hear_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._end)
        loop.add_signal_handler(signal.SIGINT, self._end)
        loop.add_signal_handler(signal.SIGHUP, self._hub.reload_soon)

    def _end(self) -> None:
        if self._ending.is_set():
            self._at_once.set()
        self._ending.set()
        self._stirred.set()

    # -- the beginning

    async def _until_ready(self) -> None:
        """Returns when every child is ready, or the end has begun."""
        wanted = {role: sum(child.role == role for child in self._children) for role in paths.ALL_ROLES}
        while not self._ending.is_set():
            if all(self._hub.ready(role) >= count for role, count in wanted.items()):
                self._was_ready = True
                addresses = [str(address) for own in self._sockets[:1] for address in own]
                log.info("server.ready", config=str(self._path), addresses=addresses)
                notify.notify("READY=1", f"MAINPID={os.getpid()}")
                return
            self._stirred.clear()
            await self._stirred.wait()

    async def _keep(self, child: Child) -> None:
        """Runs a child's processes one after the other, until the end has begun."""
        while True:
            started_at = time.monotonic()
            code = await self._run_once(child)
            if self._ending.is_set():
                return
            log.error("process.ended", of=child.role, number=child.worker, reason=_how_it_ended(code))
            if code == EX_CONFIG and not self._was_ready:
                self._exit_code = 1
                self._end()
                return
            if time.monotonic() - started_at >= PROVEN:
                child.pause = FIRST_PAUSE
            ending = asyncio.ensure_future(self._ending.wait())
            await asyncio.wait((ending,), timeout=child.pause)
            ending.cancel()
            if self._ending.is_set():
                return
            child.pause = min(child.pause * 2, LONGEST_PAUSE)
            RESTARTS.add(1, child.role)
            key = (child.role, child.worker)
            self._hub.restarts[key] = self._hub.restarts.get(key, 0) + 1

    async def _run_once(self, child: Child) -> int:
        descriptors = [own.fileno() for own in child.sockets.values()]
        child.process = await asyncio.create_subprocess_exec(
            *self._command(child.role, child.worker, self._path),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=descriptors,
            env=self._environment(os.environ, child),
        )
        if self._ending.is_set():  # it was being started while the end began
            child.signal(signal.SIGTERM)
        log.info("process.started", of=child.role, number=child.worker, pid=child.process.pid)
        return await child.process.wait()

    def _environment(self, own: Mapping[str, str], child: Child) -> dict[str, str]:
        environment = {key: value for key, value in own.items() if key not in notify.OURS}
        environment[HUB] = str(paths.hub_socket(self._settings.server.run_directory))
        environment[PARENT] = str(os.getpid())
        if child.sockets:
            environment[listening.VARIABLE] = listening.describe(child.sockets)
        return environment

    # -- the end

    async def _end_children(self) -> None:
        """In order: whoever takes mail first, the spool last."""
        notify.notify("STOPPING=1")
        log.info("server.ending")
        if not self._was_ready:
            self._exit_code = 1
        patience = self._hub.settings.server.drain_time + GRACE
        for role in ("submission", "delivery", paths.CERTIFICATES, "spool"):
            keepers = self._signal(role, signal.SIGTERM)
            if not keepers:
                continue
            ended = asyncio.ensure_future(asyncio.wait(keepers))
            at_once = asyncio.ensure_future(self._at_once.wait())
            await asyncio.wait((ended, at_once), timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done() and not self._at_once.is_set():
                log.error("drain.expired", of=role, seconds=patience)
                self._exit_code = 1
            ended.cancel()
            at_once.cancel()

    def _signal(self, role: str, number: int) -> list["asyncio.Task[None]"]:
        children = [child for child in self._children if child.role == role]
        for child in children:
            child.signal(number)
        return [child.keeper for child in children if child.keeper is not None]

    async def _kill_children(self) -> None:
        """Whoever is left has had its time: asked once more, then killed."""
        self._ending.set()
        keepers = [child.keeper for child in self._children if child.keeper is not None]
        for number in (signal.SIGTERM, signal.SIGKILL):
            left = [keeper for keeper in keepers if not keeper.done()]
            if not left:
                return
            for child in self._children:
                child.signal(number)
            await asyncio.wait(left, timeout=2.0)


def _how_it_ended(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _operator_group() -> int:
    """The operators' group when we are in it: control.sock is then theirs."""
    try:
        group = grp.getgrnam(paths.OPERATORS).gr_gid
    except KeyError:
        return -1
    return group if group in os.getgroups() or os.geteuid() == 0 else -1
