"""What the guard counts, as the spool process has it: guard.db, and with a cluster what its other machines counted.

    counts = await Counts.open(settings)
    counts.ledger                 # what workers ask, and the operator
    await counts.settled()        # with a cluster: after its first exchange, or a few seconds
    await counts.close()

ERRORS
    CellUnusable: the way to the first cell cannot be used as configured. StoreError: the file cannot be opened.
"""

import time
from typing import TYPE_CHECKING

from pillarbox.config import Settings
from pillarbox.console.way import open_store
from pillarbox.guard.ledger import Ledger
from pillarbox.guard.node import take
from pillarbox.guard.rounds import Rounds
from pillarbox.guard.sharing import Sharing
from pillarbox.spool.settings import CellsSettings

if TYPE_CHECKING:
    from pillarbox.store.postgresql import Store

FIRST_LOOK = 3.0
"""Seconds that a start waits for what others counted; then it serves by what it knows itself."""


class Counts:
    """See the module's text. Made by open()."""

    def __init__(self, ledger: Ledger, rounds: Rounds | None, store: "Store | None") -> None:
        self.ledger = ledger
        self._rounds, self._store = rounds, store

    @classmethod
    async def open(cls, settings: Settings) -> "Counts":
        """Opens the file; with a cluster, begins to exchange with its first cell. Raises CellUnusable, StoreError."""
        ledger = await Ledger.open(settings.server.data_directory / "guard.db", settings.guard)
        if not isinstance(settings.spool, CellsSettings):
            return cls(ledger, None, None)
        try:
            first = settings.spool.cells[0]
            store = open_store(first, "keeper", name="pillarbox guard", connections=1)
            store.quorum = settings.spool.durability == "quorum"
            from pillarbox.guard.cluster import Exchange  # the driver is there now

            node = await take(ledger.store)
        except BaseException:
            await ledger.close()
            raise
        exchange = Exchange(store, node.id, time.time)
        sharing = Sharing(exchange.outbox, node.id)
        ledger.share(sharing)
        rounds = Rounds(ledger, exchange, sharing, node, name=first.name)
        rounds.start()
        return cls(ledger, rounds, store)

    async def settled(self) -> None:
        """Until what others counted is known, but not long."""
        if self._rounds is not None:
            await self._rounds.settled(FIRST_LOOK)

    async def close(self) -> None:
        """Tells and writes what is left, and closes the file."""
        if self._rounds is not None:
            await self._rounds.close()
        await self.ledger.close()
        if self._store is not None:
            await self._store.close()

    def machines(self) -> int | None:
        """How many machines count, this one among them; None: not known yet."""
        return 1 if self._rounds is None else self._rounds.machines

    def status(self) -> str | None:
        """What an operator should know; None: all is well."""
        return None if self._rounds is None else self._rounds.status()
