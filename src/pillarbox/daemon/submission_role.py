"""The submission role: inherited sockets, and what a session needs of the spool process.

The sockets come from the supervisor, or from systemd's socket activation, or, when a single role is started without
either, are bound here.

ERRORS
    CannotStart: no certificate or key of tokens that can be used, no socket for an address.
"""

import asyncio
import os
import time
from typing import Any

from pillarbox.config import Settings
from pillarbox.control.channel import Handler
from pillarbox.control.link import Link
from pillarbox.daemon import loop, notify, paths, sockets, spools
from pillarbox.daemon.directories import Directories
from pillarbox.daemon.expiry import CertificateWatch
from pillarbox.daemon.hub import all_addresses
from pillarbox.daemon.process import CannotStart, Commit, PrepareRefused
from pillarbox.daemon.sockets import Sockets
from pillarbox.directory.app_password_service import Uses
from pillarbox.directory.app_passwords import AppPasswords
from pillarbox.directory.base import Unusable
from pillarbox.directory.budget import RemoteBudget
from pillarbox.directory.chain import Member
from pillarbox.directory.remote import RemoteAccounts
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


def most_sessions(files: int) -> int:
    """How many sessions a process that may open so many files can have."""
    return max(1, files - min(RESERVED_FILES, files // 2))


class SubmissionRole:
    """Listens to the internet."""

    def __init__(self, settings: Settings, worker: int) -> None:
        handlers: dict[str, Handler] = {}
        self._settings = settings
        self._sockets: Sockets = {}
        self._drained = asyncio.Event()
        self._link = Link(paths.spool_socket(settings.server.run_directory, "submission"), handlers, name="spool")
        self._guard = RemoteGuard(self._link, settings.guard)
        self._accounts = RemoteAccounts(self._link)
        self._intake = spools.make_intake(settings, self._link, worker)
        handlers.update(self._guard.handlers())
        handlers.update(self._accounts.handlers())
        self._directories = Directories(self._accounts, RemoteBudget(self._link))
        uses = Uses(self._link)
        app_passwords = AppPasswords(self._accounts, used=uses.used, now=time.time)
        services = Services(self._intake, self._guard, time.time, os.urandom, app_passwords)
        self._submission = Submission(services, ceiling=most_sessions(loop.raise_file_limit()))
        self._accounts.on_change(self._submission.account_changed)
        self._watch = CertificateWatch(first=worker == 0, renewed=self._take_renewed)
        self._members: dict[str, Member] = {}
        self._not_loaded = ""

    async def start(self) -> None:
        stamps = self._watch.stamps(self._settings)
        try:
            prepared = self._directories.prepare(self._settings)
            self._submission.apply(make_plans(self._settings.sites, prepared.members))
            self._sockets = _find_sockets(self._settings)
        except (CertificateError, ValueError) as error:
            raise CannotStart(str(error)) from None
        self._directories.apply(prepared)
        self._members = prepared.members
        self._watch.look(self._settings, stamps)
        await self._link.start(FIRST_CONNECTION)
        await self._intake.start()
        for address, listening in self._sockets.items():
            await self._submission.listen(address, listening)

    async def run(self) -> None:
        watching = asyncio.create_task(self._watch.run())
        try:
            await self._drained.wait()
        finally:
            watching.cancel()

    async def prepare(self, settings: Settings) -> Commit:
        stamps = self._watch.stamps(settings)
        try:
            prepared = self._directories.prepare(settings)
            plans = await asyncio.to_thread(make_plans, settings.sites, prepared.members)
        except (CertificateError, Unusable) as error:
            raise PrepareRefused(str(error)) from None

        async def commit() -> None:
            self._guard.apply(settings.guard)
            self._submission.apply(plans)
            await self._submission.refresh()
            self._directories.apply(prepared)
            self._settings, self._members = settings, prepared.members
            self._watch.look(settings, stamps)

        return commit

    async def _take_renewed(self) -> None:
        """An authority's certificate is new: new sessions get it, open ones keep what they began with."""
        settings, stamps = self._settings, self._watch.stamps(self._settings)
        try:
            plans = await asyncio.to_thread(make_plans, settings.sites, self._members)
        except CertificateError as error:  # of another site, which was changed and not reloaded
            if str(error) != self._not_loaded:  # it is tried again in a moment
                self._not_loaded = str(error)
                log.warning("certificate.not_loaded", reason=str(error))
            return
        if settings is not self._settings:  # a reload came in between, and has read it
            return
        self._submission.apply(plans)
        await self._submission.refresh()
        self._watch.look(settings, stamps)
        log.info("certificate.loaded", sites=[site.name for site in settings.sites if site.acme])

    async def drain(self, seconds: float) -> None:
        await self._submission.drain(seconds)
        self._drained.set()

    async def close(self) -> None:
        await self._submission.drain(0)
        self._guard.close()
        await self._intake.close()
        await self._link.close()
        self._directories.close()
        sockets.close((self._sockets,))

    def status(self) -> dict[str, Any]:
        return {
            "sessions": len(self._submission.sessions()),
            "spool": spools.is_there(self._intake, self._link),
            "certificates": self._watch.status(),
        }

    def verbs(self) -> dict[str, Handler]:
        return {"sessions": lambda _channel, _body: self._submission.sessions()}


def _find_sockets(settings: Settings) -> Sockets:
    """Inherited, handed over by systemd, or bound here. Raises OSError, ValueError."""
    inherited = sockets.inherit(os.environ)
    if inherited:
        return inherited
    passed = notify.take_listen_fds(os.environ)
    if passed:
        return sockets.adopt(passed, all_addresses(settings))
    return sockets.bind(all_addresses(settings), 1)[0]
