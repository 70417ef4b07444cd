"""The hub: where the operator asks and where our processes report. It owns control.sock and hub.sock.

To operators (control.sock, 0660):
    status      None -> {version, pid, since, config, reloaded_at, ready, processes: [...], spool: {...} or None}
    reload      None -> {processes: number}     raises ReloadRefused with all mistakes; the old settings stay
    pending     None -> [line]                  what in the file needs a restart by now; nothing when it has mistakes
    drain       None -> None                    graceful stop, as SIGTERM
    sessions    None -> [{worker, ...}]         of all submission workers
    metrics     None -> text                    what the Prometheus endpoint shows
    ledger.*, user.*, guard.*                   forwarded to the spool process; ledger.retry and ledger.release lift
                                                the suspensions of next hops first
To our roles (hub.sock):
    settings    None -> text                    the configuration in force, whatever the file says by now
    hello       {role, worker, pid} -> None     of the role whose user asks, and no other
    ready       None                            note
    report      {counters, status}              note, each second

A reload is in two phases: every role is given the text and prepares it (certificates and all); only when none
refused, all are told to commit. Changes that need a restart refuse the reload, each by name.

ERRORS
    ReloadRefused, NotRunning (a process that is needed is away) cross the channel by name.
"""

import asyncio
import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pillarbox
from pillarbox.config import ConfigError, Settings
from pillarbox.control.channel import (
    ChannelClosed,
    ChannelServer,
    Handlers,
    RemoteError,
    UnixChannel,
    serve,
)
from pillarbox.control.link import Link
from pillarbox.daemon import paths
from pillarbox.daemon.audit import audit
from pillarbox.daemon.metrics import Endpoint, Totals
from pillarbox.daemon.notify import notify, notify_reloading
from pillarbox.daemon.restart import changes_that_need_a_restart
from pillarbox.submission.settings import Address
from pillarbox.telemetry import counters
from pillarbox.telemetry.events import get_logger

_TRIES_NOW = ("ledger.retry", "ledger.release")
"""Verbs by which an operator wants to see a next hop spoken to: no delivery worker leaves one alone any more."""

PREPARE_TIME = 30.0
"""Seconds a role may take to prepare a reload."""

RELOADS = counters.counter("reloads_total", "Reloads of the configuration by result", ("result",))
PROCESSES = counters.gauge("processes", "Role processes that are ready", ("role",))

log = get_logger("daemon")


class ReloadRefused(Exception):
    """The new configuration was refused; ``str()`` is every reason, one a line."""


class NotRunning(Exception):
    """A process that is needed does not answer."""


@dataclass(slots=True)
class Process:
    """One role process that is connected."""

    role: str
    worker: int
    pid: int
    channel: UnixChannel
    since: float
    ready: bool = False
    status: dict[str, Any] = field(default_factory=dict)


class Hub:
    """See the module's text. ``on_change`` is called when a process became ready or left; ``units``: each role is a
    unit of its own."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        *,
        forward: Collection[str] = (),
        on_drain: Callable[[], None] | None = None,
        on_change: Callable[[], None] = lambda: None,
        operator_group: int = -1,
        units: bool = False,
    ) -> None:
        self.settings = settings
        self.totals = Totals()
        self.processes: dict[UnixChannel, Process] = {}
        self.restarts: dict[tuple[str, int], int] = {}
        self._load = load
        self._forward = forward
        self._on_drain = on_drain or self._drain_roles
        self._on_change = on_change
        self._operator_group = operator_group
        self._units = units
        self._since = time.time()
        self._reloaded_at: float | None = None
        self._servers: list[ChannelServer] = []
        self._reloading = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._spool = Link(paths.spool_socket(settings.server.run_directory, "operator"), name="spool")
        self._endpoint = Endpoint(self._rows)

    async def start(self) -> None:
        """Serves both sockets and the metrics. Raises OSError naming what cannot be used."""
        run_directory = self.settings.server.run_directory
        roles: dict[str, Any] = {
            "settings": lambda _channel, _body: self.settings.text,
            "hello": self._hello,
            "ready": self._ready,
            "report": self._report,
            "reload": self._reload_wanted,
        }
        self._servers.append(
            await serve(paths.hub_socket(run_directory), paths.for_users(roles, *paths.ALL_ROLES), mode=0o660)
        )
        self._servers.append(
            await serve(
                paths.control_socket(run_directory),
                self._for_operators,
                mode=0o660,
                group=self._operator_group,
                errors=(ReloadRefused, NotRunning),
            )
        )
        if self.settings.metrics is not None:
            self._endpoint.start(self.settings.metrics.host, self.settings.metrics.port)
        await self._spool.start()

    async def close(self) -> None:
        """Stops serving."""
        for task in tuple(self._tasks):
            task.cancel()
        await self._spool.close()
        for server in self._servers:
            await server.close()
        self._endpoint.stop()

    def ready(self, role: str) -> int:
        """How many processes of ``role`` are ready."""
        return sum(process.ready for process in self.processes.values() if process.role == role)

    async def reload(self) -> int:
        """Reads the file and has every process take it, or none. Returns how many did. Raises ReloadRefused."""
        async with self._reloading:
            notify_reloading()
            try:
                count = await self._reload()
            except ReloadRefused as refusal:
                RELOADS.add(1, "refused")
                log.error("config.refused", path=str(self.settings.path), reasons=str(refusal).splitlines())
                raise
            finally:
                notify("READY=1")
            RELOADS.add(1, "taken")
            log.info("config.reloaded", path=str(self.settings.path), processes=count)
            return count

    # -- reload

    async def _reload(self) -> int:
        try:
            settings = await asyncio.to_thread(self._load)
        except ConfigError as error:
            raise ReloadRefused(str(error)) from None
        fixed = changes_that_need_a_restart(self.settings, settings, units=self._units)
        if fixed:
            raise ReloadRefused("\n".join(fixed))
        processes = list(self.processes.values())
        answers = await asyncio.gather(*(self._prepare(process, settings.text) for process in processes))
        refusals = [reason for reason in answers if reason is not None]
        if refusals:
            for process in processes:
                process.channel.note("reload.abort")
            raise ReloadRefused("\n".join(dict.fromkeys(refusals)))
        await asyncio.gather(*(self._ask(process, "reload.commit") for process in processes))
        self._take(settings)
        return len(processes)

    async def _prepare(self, process: Process, text: str) -> str | None:
        """None, or why this process does not take the text. A process that ended starts anew with what holds then."""
        try:
            async with asyncio.timeout(PREPARE_TIME):
                await process.channel.request("reload.prepare", text)
        except ChannelClosed:
            return None
        except RemoteError as error:
            return str(error)
        except TimeoutError:
            return f"the {process.role} process {process.pid} did not answer within {PREPARE_TIME:g} s"
        return None

    def _take(self, settings: Settings) -> None:
        before, self.settings = self.settings, settings
        self._reloaded_at = time.time()
        if before.metrics != settings.metrics:
            self._endpoint.stop()
            if settings.metrics is not None:
                try:
                    self._endpoint.start(settings.metrics.host, settings.metrics.port)
                except OSError as error:
                    log.error("metrics.failed", reason=str(error))

    # -- what operators ask

    def _for_operators(self, peer: Any) -> Handlers | None:
        """Operators are whom the file's mode lets in, but never the roles that talk to the internet."""
        if peer.uid in paths.users("submission", "delivery") - paths.users("control"):
            return None
        own: dict[str, Any] = {
            "status": self._status,
            "reload": self._reload_asked,
            "pending": self._pending,
            "drain": self._drain,
            "sessions": self._sessions,
            "metrics": lambda _channel, _body: self._endpoint.text(),
        }
        return own | {verb: partial(self._to_spool, verb) for verb in self._forward}

    async def _to_spool(self, verb: str, channel: UnixChannel, body: Any) -> Any:
        if verb in _TRIES_NOW:
            # first: what becomes due is leased at once, and must not meet the pause that it is to end
            delivery = [process for process in self.processes.values() if process.role == "delivery"]
            await asyncio.gather(*(self._ask(process, "next_hops.lift") for process in delivery))
        try:
            answer = await self._spool.request(verb, body, patience=2.0)
        except ChannelClosed:
            raise NotRunning("the spool process does not answer; nothing is known of the request's outcome") from None
        audit(verb, channel.peer, body, answer)
        return answer

    async def _reload_asked(self, _channel: UnixChannel, _body: Any) -> dict[str, Any]:
        return {"processes": await self.reload()}

    async def _pending(self, _channel: UnixChannel, _body: Any) -> list[str]:
        try:
            settings = await asyncio.to_thread(self._load)
        except ConfigError:
            return []
        return changes_that_need_a_restart(self.settings, settings, units=self._units)

    def _drain(self, _channel: UnixChannel, _body: Any) -> None:
        log.info("drain.requested")
        asyncio.get_running_loop().call_soon(self._on_drain)  # the reply goes first

    def _drain_roles(self) -> None:
        for process in self.processes.values():
            if process.role != "spool":
                process.channel.note("drain")

    async def _sessions(self, _channel: UnixChannel, _body: Any) -> list[dict[str, Any]]:
        processes = [process for process in self._in_order() if process.role == "submission"]
        answers = await asyncio.gather(*(self._ask(process, "sessions") for process in processes))
        return [
            {"worker": process.worker, **session}
            for process, sessions in zip(processes, answers, strict=True)
            for session in sessions or ()
        ]

    async def _status(self, _channel: UnixChannel, _body: Any) -> dict[str, Any]:
        return {
            "version": pillarbox.__version__,
            "pid": os.getpid(),
            "since": self._since,
            "config": str(self.settings.path),
            "reloaded_at": self._reloaded_at,
            "ready": all(self.ready(role) for role in paths.needed(self.settings)),
            "processes": [
                {
                    "role": process.role,
                    "worker": process.worker,
                    "pid": process.pid,
                    "since": process.since,
                    "ready": process.ready,
                    "restarts": self.restarts.get((process.role, process.worker), 0),
                    **process.status,
                }
                for process in self._in_order()
            ],
        }

    def _in_order(self) -> list[Process]:
        return sorted(self.processes.values(), key=lambda process: (process.role, process.worker))

    @staticmethod
    async def _ask(process: Process, verb: str) -> Any:
        try:
            async with asyncio.timeout(5.0):
                return await process.channel.request(verb)
        except (ChannelClosed, RemoteError, TimeoutError):
            return None

    # -- what roles say

    def _hello(self, channel: UnixChannel, body: dict[str, Any]) -> None:
        role, peer = str(body["role"]), channel.peer
        if role not in paths.ALL_ROLES or peer.uid not in paths.users(role):
            # with one user per role: who took one role over must not speak, count or be ready for another
            log.warning("channel.refused", pid=peer.pid, uid=peer.uid, gid=peer.gid)
            channel.close()
            return
        pid = peer.pid or int(body["pid"])  # 0: it lives in a pid namespace that we do not see
        process = Process(role, int(body["worker"]), pid, channel, time.time())
        self.processes[channel] = process
        channel.on_close(partial(self._left, process))

    def _ready(self, channel: UnixChannel, _body: Any) -> None:
        process = self.processes[channel]
        process.ready = True
        self._changed(process.role)

    def _report(self, channel: UnixChannel, body: dict[str, Any]) -> None:
        process = self.processes[channel]
        self.totals.put((process.role, process.pid), body["counters"])
        process.status = body["status"]

    def _reload_wanted(self, _channel: UnixChannel, _body: Any) -> None:
        """A role got SIGHUP: what is meant is everybody."""
        self.reload_soon()

    def reload_soon(self) -> None:
        """Reloads without anybody who waits for the answer: it is in the log."""
        task = asyncio.get_running_loop().create_task(self._reload_and_log())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload_and_log(self) -> None:
        try:
            await self.reload()
        except ReloadRefused:
            return

    def _left(self, process: Process) -> None:
        self.processes.pop(process.channel, None)
        self.totals.end((process.role, process.pid))
        self._changed(process.role)

    def _changed(self, role: str) -> None:
        PROCESSES.set(self.ready(role), role)
        self._on_change()

    def _rows(self) -> list[counters.Row]:
        self.totals.put(("hub", os.getpid()), counters.snapshot())
        return self.totals.rows()


def all_addresses(settings: Settings) -> list[Address]:
    """Every address to listen on, once, in the order of the file."""
    return list(dict.fromkeys(a for site in settings.sites for a in (*site.submission, *site.submissions)))
