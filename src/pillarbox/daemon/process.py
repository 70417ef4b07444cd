"""One role process: from its settings to its end. Knows signals, the hub and time; the role knows its work.

    exit code = run_role("submission", worker, path, make)     # blocks

The configuration comes from the hub when it answers: what holds is what the hub accepted last, not what somebody is
writing into the file while this process starts anew. Without a hub it is the file.

SIGTERM drains and ends; a second one ends at once. SIGHUP asks the hub for a reload. SIGINT is the supervisor's to
hear when there is one. A process whose supervisor died drains and ends.

ERRORS
    Exit code 0 after a drain, 1 when the role failed (the reason is in the log), 78 when it cannot start as
    configured (EX_CONFIG): starting it again would not help.
"""

import asyncio
import gc
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from pillarbox.config import ConfigError, Settings, load, parse
from pillarbox.control.channel import ChannelClosed, Handler, RemoteError, connect
from pillarbox.control.link import Link
from pillarbox.daemon import loop, paths, stray
from pillarbox.daemon.notify import keep_watchdog, notify
from pillarbox.daemon.privileges import end_with_parent
from pillarbox.spool.settings import CellsSettings
from pillarbox.telemetry import counters, domino_lines, events

REPORT_EVERY = 1.0
"""Seconds between two reports to the hub."""

EX_CONFIG = 78

HUB, PARENT = "PILLARBOX_HUB", "PILLARBOX_SUPERVISOR"
"""Variables of the supervisor's children: the hub's socket, the supervisor's pid."""

Commit = Callable[[], Awaitable[None] | None]

log = events.get_logger("daemon")


class CannotStart(Exception):
    """The role cannot start as configured; ``str()`` says what to change."""


class PrepareRefused(Exception):
    """A role does not take the new settings; ``str()`` says why."""


class Role(Protocol):
    """What a process does for a living."""

    async def start(self) -> None:
        """Returns when it can do its work. Raises CannotStart; OSError is taken for one."""
        ...

    async def run(self) -> None:
        """Works until drained. Raises when it cannot go on."""
        ...

    async def prepare(self, settings: Settings) -> Commit:
        """Gets everything ready for new settings (reads certificates) and returns what puts them in force.
        Raises PrepareRefused."""
        ...

    async def drain(self, seconds: float) -> None:
        """Begins nothing new and finishes what is in hand, for at most ``seconds``; then run() returns."""
        ...

    async def close(self) -> None:
        """Lets go of everything, at once. Never raises."""
        ...

    def status(self) -> dict[str, Any]:
        """Plain data for ``pillarbox status``; cheap: asked each second."""
        ...

    def verbs(self) -> dict[str, Handler]:
        """What the hub may ask of this role and of no other."""
        ...


Make = Callable[[Settings, int], Role]
"""A role from the settings and the worker's number."""


def run_role(name: str, worker: int, path: Path, make: Make) -> int:
    """Runs a role in this process until it ends. Returns the exit code."""
    if PARENT in os.environ:
        end_with_parent(int(os.environ.pop(PARENT)))
    loop.raise_file_limit()
    loop.forbid_core_dumps()
    return loop.run(_run_role(name, worker, path, make))


async def _run_role(name: str, worker: int, path: Path, make: Make) -> int:
    stray.watch(asyncio.get_running_loop())
    try:
        settings = await _find_settings(path)
    except ConfigError as error:
        log.error("config.refused", path=str(path), reasons=str(error).splitlines())
        return EX_CONFIG
    _configure_log(settings, name, worker)
    process = RoleProcess(name, worker, settings, make)
    try:
        return await process.run()
    except (CannotStart, OSError) as error:
        log.error("role.failed", reason=in_words(error))
        return EX_CONFIG if not process.started else 1
    except Exception:
        log.exception("role.failed", reason="bug")
        return 1


async def _find_settings(path: Path) -> Settings:
    """What the hub has in force, else the file. Raises ConfigError when there is neither."""
    own: Settings | ConfigError
    try:
        own = load(path)
    except ConfigError as error:
        own = error
    where = os.environ.get(HUB)
    if where is None and not isinstance(own, ConfigError):
        where = str(paths.hub_socket(own.server.run_directory))
    if where is not None:
        try:
            channel = await connect(Path(where))
            try:
                async with asyncio.timeout(5.0):
                    return parse(await channel.request("settings"), path)
            finally:
                channel.close()
        except (OSError, ChannelClosed, RemoteError, TimeoutError):
            log.debug("hub.missing", path=where)
    if isinstance(own, ConfigError):
        raise own
    return own


def _configure_log(settings: Settings, name: str, worker: int) -> None:
    events.configure(
        form="json" if settings.log.form == "json" else "readable",
        level=settings.log.level,
        role=name,
        worker=worker,
    )
    domino_lines.configure(settings.log.domino_lines if name == "submission" else None)
    if isinstance(settings.spool, CellsSettings) and settings.spool.durability == "local":  # units have a log each
        log.warning("durability.local", reason="a 250 means one machine's disk, not a quorum of machines")


def in_words(error: Exception) -> str:
    """The error's text, without the number that Python puts before an operating system's."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


class RoleProcess:
    """One role, its link to the hub, its signals."""

    def __init__(self, name: str, worker: int, settings: Settings, make: Make) -> None:
        self.started = False
        self._name = name
        self._worker = worker
        self._settings = settings
        self._role = make(settings, worker)
        self._prepared: tuple[Settings, Commit] | None = None
        self._ending = asyncio.Event()
        self._at_once = asyncio.Event()
        handlers: dict[str, Handler] = {
            "reload.prepare": self._prepare,
            "reload.commit": self._commit,
            "reload.abort": self._abort,
            "drain": lambda _channel, _body: self._ending.set(),
            **self._role.verbs(),
        }
        hub = os.environ.get(HUB) or paths.hub_socket(settings.server.run_directory)
        self._link = Link(Path(hub), handlers, errors=(PrepareRefused,), name="hub")
        self._link.on_connect(self._introduce)

    async def run(self) -> int:
        """Starts the role, works, drains, ends."""
        self._hear_signals()
        await self._link.start()
        helpers: list[asyncio.Task[None]] = []
        try:
            await self._role.start()
            _keep_what_is_loaded()
            self.started = True
            log.info("role.started")
            notify("READY=1")
            self._link.note("ready")
            helpers = [asyncio.create_task(self._report_always()), asyncio.create_task(keep_watchdog())]
            await self._work()
            self._report()
            await self._link.drain()
        finally:
            for helper in helpers:
                helper.cancel()
            await self._role.close()
            await self._link.close()
        log.info("role.ended")
        return 0

    async def _work(self) -> None:
        running = asyncio.create_task(self._role.run())
        ending = asyncio.create_task(self._ending.wait())
        await asyncio.wait((running, ending), return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if not running.done():
            notify("STOPPING=1")
            log.info("role.draining", seconds=self._settings.server.drain_time)
            draining = asyncio.create_task(self._drain(running))
            at_once = asyncio.create_task(self._at_once.wait())
            await asyncio.wait((draining, at_once), return_when=asyncio.FIRST_COMPLETED)
            for task in (at_once, draining, running):
                task.cancel()
            await asyncio.gather(at_once, draining, return_exceptions=True)
        try:
            await running
        except asyncio.CancelledError:
            return

    async def _drain(self, running: "asyncio.Task[None]") -> None:
        await self._role.drain(self._settings.server.drain_time)
        await asyncio.wait((running,))

    def _hear_signals(self) -> None:
        asked = asyncio.get_running_loop().add_signal_handler
        asked(signal.SIGTERM, self._end)
        asked(signal.SIGHUP, self._ask_for_reload)
        if HUB in os.environ:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        else:
            asked(signal.SIGINT, self._end)

    def _end(self) -> None:
        if self._ending.is_set():
            self._at_once.set()
        self._ending.set()

    def _ask_for_reload(self) -> None:
        if HUB not in os.environ:  # in a tree the supervisor got the signal too
            self._link.note("reload")

    # -- the hub

    async def _introduce(self) -> None:
        await self._link.request("hello", {"role": self._name, "worker": self._worker, "pid": os.getpid()})
        if self.started:
            await self._link.request("ready")
            self._report()

    async def _report_always(self) -> None:
        while True:
            self._report()
            await asyncio.sleep(REPORT_EVERY)

    def _report(self) -> None:
        self._link.note("report", {"counters": counters.snapshot(), "status": self._role.status()})

    async def _prepare(self, _channel: object, text: str) -> None:
        self._prepared = None
        try:
            settings = parse(text, self._settings.path)
        except ConfigError as error:
            raise PrepareRefused(str(error)) from None
        self._prepared = (settings, await self._role.prepare(settings))

    async def _commit(self, _channel: object, _body: object) -> None:
        if self._prepared is None:
            return
        (settings, commit), self._prepared = self._prepared, None
        self._settings = settings
        _configure_log(settings, self._name, self._worker)
        waiting = commit()
        if waiting is not None:
            await waiting
        log.info("role.reloaded")

    def _abort(self, _channel: object, _body: object) -> None:
        self._prepared = None


def _keep_what_is_loaded() -> None:
    """Modules and their kin stay until the end: what looks for garbage need not walk through them, 50 to 75 ms each
    time in which every session of a worker waits."""
    gc.collect()
    gc.freeze()
