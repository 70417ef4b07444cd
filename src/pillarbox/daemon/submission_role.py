"""The submission role: inherited sockets, and what a session needs of the spool process.

The sockets come from the supervisor, or from systemd's socket activation, or, when a single role is started without
either, are bound here. Directories are kept over a reload while their settings are the same, with their caches.

ERRORS
    CannotStart: no certificate or key of tokens that can be used, no socket for an address.
"""

import asyncio
import os
import time
from typing import Any

from pillarbox.config import Settings
from pillarbox.config.certificate import examine_pair, now_utc
from pillarbox.control.channel import Handler
from pillarbox.control.link import Link
from pillarbox.daemon import loop, notify, paths, sockets, spools
from pillarbox.daemon.hub import all_addresses
from pillarbox.daemon.process import CannotStart, Commit, PrepareRefused
from pillarbox.daemon.sockets import Sockets
from pillarbox.directory.local import LocalDirectory
from pillarbox.directory.remote import RemoteAccounts
from pillarbox.directory.settings import LocalSettings
from pillarbox.directory.token import KeyUnusable
from pillarbox.doctor.report import Severity
from pillarbox.guard.remote import RemoteGuard
from pillarbox.net.tls import CertificateError
from pillarbox.submission.listener import Submission
from pillarbox.submission.site import Services, make_plans
from pillarbox.telemetry.events import get_logger

log = get_logger("daemon")

FIRST_CONNECTION = 5.0
"""Seconds to wait at the start for the spool process, so that the first mail is not answered 451."""

RESERVED_FILES = 2_112
"""Open files that are no sessions: channels, content being written, and what two full backlogs bring in one turn of
the loop before it can be turned away."""

OLD_DIRECTORY_TIME = 600.0
"""Seconds after which a directory that a reload replaced is closed."""


def most_sessions(files: int) -> int:
    """How many sessions a process that may open so many files can have."""
    return max(1, files - min(RESERVED_FILES, files // 2))


class SubmissionRole:
    """Listens to the internet."""

    def __init__(self, settings: Settings, worker: int) -> None:
        handlers: dict[str, Handler] = {}
        self._settings = settings
        self._first = worker == 0
        self._sockets: Sockets = {}
        self._drained = asyncio.Event()
        self._link = Link(paths.spool_socket(settings.server.run_directory, "submission"), handlers, name="spool")
        self._guard = RemoteGuard(self._link, settings.guard)
        self._accounts = RemoteAccounts(self._link)
        self._intake = spools.make_intake(settings, self._link, worker)
        handlers.update(self._guard.handlers())
        handlers.update(self._accounts.handlers())
        self._directories: dict[LocalSettings, LocalDirectory] = {}
        services = Services(self._intake, self._guard, time.time, os.urandom)
        self._submission = Submission(services, ceiling=most_sessions(loop.raise_file_limit()))
        self._accounts.on_change(self._submission.account_changed)

    async def start(self) -> None:
        try:
            directories = self._directories_for(self._settings)
            self._submission.apply(make_plans(self._settings.sites, _by_name(directories)))
            self._sockets = _find_sockets(self._settings)
        except (CertificateError, ValueError) as error:
            raise CannotStart(str(error)) from None
        self._directories = directories
        self._warn_of_certificates(self._settings)
        await self._link.start(FIRST_CONNECTION)
        await self._intake.start()
        for address, listening in self._sockets.items():
            await self._submission.listen(address, listening)

    async def run(self) -> None:
        await self._drained.wait()

    async def prepare(self, settings: Settings) -> Commit:
        try:
            directories = self._directories_for(settings)
            plans = await asyncio.to_thread(make_plans, settings.sites, _by_name(directories))
        except CertificateError as error:
            raise PrepareRefused(str(error)) from None
        except KeyUnusable as error:
            raise PrepareRefused(f"token_key {error}") from None

        async def commit() -> None:
            self._guard.apply(settings.guard)
            self._submission.apply(plans)
            await self._submission.refresh()
            loop = asyncio.get_running_loop()
            for kept, directory in self._directories.items():
                if kept not in directories:  # open sessions may still ask it, until they have signed in or given up
                    loop.call_later(OLD_DIRECTORY_TIME, directory.close)
            self._directories, self._settings = directories, settings
            self._warn_of_certificates(settings)

        return commit

    def _warn_of_certificates(self, settings: Settings) -> None:
        """What clients will trip over, though we can serve: an expired certificate, one for another name."""
        for site in settings.sites if self._first else ():
            for finding in examine_pair(site.name, site.certificate, site.key, now_utc(), site.name):
                if finding.severity in (Severity.WARNING, Severity.ERROR):
                    log.warning("certificate.doubtful", site=site.name, reason=finding.message, advice=finding.advice)

    async def drain(self, seconds: float) -> None:
        await self._submission.drain(seconds)
        self._drained.set()

    async def close(self) -> None:
        await self._submission.drain(0)
        self._guard.close()
        await self._intake.close()
        await self._link.close()
        for directory in self._directories.values():
            directory.close()
        sockets.close((self._sockets,))

    def status(self) -> dict[str, Any]:
        return {"sessions": len(self._submission.sessions()), "spool": spools.is_there(self._intake, self._link)}

    def verbs(self) -> dict[str, Handler]:
        return {"sessions": lambda _channel, _body: self._submission.sessions()}

    def _directories_for(self, settings: Settings) -> dict[LocalSettings, LocalDirectory]:
        """One for each [[directory]]: the one there is when nothing about it changed."""
        return {
            wanted: self._directories.get(wanted) or LocalDirectory(self._accounts, wanted)
            for wanted in settings.directories
        }


def _by_name(directories: dict[LocalSettings, LocalDirectory]) -> dict[str, LocalDirectory]:
    return {settings.name: directory for settings, directory in directories.items()}


def _find_sockets(settings: Settings) -> Sockets:
    """Inherited, handed over by systemd, or bound here. Raises OSError, ValueError."""
    inherited = sockets.inherit(os.environ)
    if inherited:
        return inherited
    passed = notify.take_listen_fds(os.environ)
    if passed:
        return sockets.adopt(passed, all_addresses(settings))
    return sockets.bind(all_addresses(settings), 1)[0]
