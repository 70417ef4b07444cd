"""The delivery role: never listens; lends from the spool, relays, settles.

ERRORS
    CannotStart: a CA or client certificate of a route cannot be used.
"""

from functools import partial
from typing import Any

from pillarbox.config import Settings
from pillarbox.control.channel import Handler
from pillarbox.control.link import Link
from pillarbox.daemon import paths, spools
from pillarbox.daemon.process import CannotStart, Commit, PrepareRefused
from pillarbox.delivery.scheduler import Scheduler
from pillarbox.delivery.settings import DeliverySettings, SmarthostRoute
from pillarbox.delivery.tls_policy import TlsSettingsError, client_context
from pillarbox.spool.settings import CellsSettings


class DeliveryRole:
    """Lends, relays, settles."""

    def __init__(self, settings: Settings, worker: int) -> None:
        self._settings = settings
        self._link = Link(paths.spool_socket(settings.server.run_directory, "delivery"), name="spool")
        self._outbox = spools.make_outbox(settings, self._link, worker)
        cells = [cell.name for cell in settings.spool.cells] if isinstance(settings.spool, CellsSettings) else [""]
        self._scheduler = Scheduler(self._outbox, settings.delivery, cells=cells)

    async def start(self) -> None:
        try:
            _check_routes(self._settings.delivery)
        except TlsSettingsError as error:
            raise CannotStart(str(error)) from None
        await self._link.start()
        await self._outbox.start()

    async def run(self) -> None:
        await self._scheduler.run()

    async def prepare(self, settings: Settings) -> Commit:
        try:
            _check_routes(settings.delivery)
        except TlsSettingsError as error:
            raise PrepareRefused(str(error)) from None
        return partial(self._scheduler.apply, settings.delivery)

    async def drain(self, seconds: float) -> None:
        await self._scheduler.drain(seconds)

    async def close(self) -> None:
        await self._outbox.close()
        await self._link.close()

    def status(self) -> dict[str, Any]:
        return {"spool": spools.is_there(self._outbox, self._link)}

    def verbs(self) -> dict[str, Handler]:
        return {"next_hops.lift": lambda _channel, _body: self._scheduler.lift_suspensions()}


def _check_routes(settings: DeliverySettings) -> None:
    """Whether each route's CA and client certificate can be used now. Raises TlsSettingsError."""
    for route in settings.routes:
        if isinstance(route, SmarthostRoute):
            client_context(route)
