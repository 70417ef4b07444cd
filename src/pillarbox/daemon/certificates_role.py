"""The certificates role: asks an ACME authority for the certificates of the sites with certificate = "acme".

It is there only when there is such a site, and once: it answers the authority's http-01 challenges on sockets that
were opened for it, and writes files that the submission workers read. Nothing else is asked of it.

ERRORS
    CannotStart: no site wants it, the library is missing, no socket for an address.
"""

import asyncio
import os
from functools import partial
from typing import Any

from pillarbox.certificates.challenge import Responder
from pillarbox.certificates.keeper import Keeper
from pillarbox.certificates.settings import AcmeSettings, missing_library
from pillarbox.config import Settings
from pillarbox.control.channel import Handler
from pillarbox.daemon import notify, sockets
from pillarbox.daemon.process import CannotStart, Commit, PrepareRefused
from pillarbox.daemon.sockets import Sockets
from pillarbox.submission.settings import Address


def addresses(settings: Settings) -> list[Address]:
    """Where the responder listens; nowhere with a hook, or when no site wants an authority's certificate."""
    acme = settings.acme
    return [] if acme is None or acme.hook else [Address(host, port) for host, port in acme.listen]


class CertificatesRole:
    """Keeps certificates new."""

    def __init__(self, settings: Settings, worker: int) -> None:
        self._settings = settings
        self._responder = Responder()
        self._keeper: Keeper | None = None
        self._drained = asyncio.Event()

    async def start(self) -> None:
        acme = _wanted(self._settings)
        if isinstance(acme, str):
            raise CannotStart(acme)
        from pillarbox.certificates.authority import AcmeAuthority  # late: without the extra there is none

        try:
            found = _find_sockets(self._settings)
        except ValueError as error:
            raise CannotStart(str(error)) from None
        await self._responder.listen(found.values())
        self._keeper = Keeper(acme, AcmeAuthority, self._responder)

    async def run(self) -> None:
        if self._keeper is None:
            return
        keeping = asyncio.create_task(self._keeper.run())
        drained = asyncio.create_task(self._drained.wait())
        await asyncio.wait((keeping, drained), return_when=asyncio.FIRST_COMPLETED)
        drained.cancel()
        if not keeping.done():
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        else:
            await keeping

    async def prepare(self, settings: Settings) -> Commit:
        acme = _wanted(settings)
        if isinstance(acme, str):
            raise PrepareRefused(acme)
        return partial(self._take, settings, acme)

    def _take(self, settings: Settings, acme: AcmeSettings) -> None:
        self._settings = settings
        if self._keeper is not None:
            self._keeper.apply(acme)

    async def drain(self, seconds: float) -> None:
        """An order in hand is given up: the next process asks anew."""
        self._drained.set()

    async def close(self) -> None:
        await self._responder.close()

    def status(self) -> dict[str, Any]:
        return {"acme": self._keeper.status() if self._keeper is not None else {}}

    def verbs(self) -> dict[str, Handler]:
        return {}


def _wanted(settings: Settings) -> AcmeSettings | str:
    """What is to be done, or why it cannot be."""
    if settings.acme is None:
        return 'no site has certificate = "acme"'
    return missing_library() or settings.acme


def _find_sockets(settings: Settings) -> Sockets:
    """Inherited, handed over by systemd, or bound here. Raises OSError, ValueError."""
    wanted = addresses(settings)
    inherited = sockets.inherit(os.environ)
    if inherited:
        return inherited
    passed = notify.take_listen_fds(os.environ)
    if passed:
        return sockets.adopt(passed, wanted)
    return sockets.bind(wanted, 1)[0]
