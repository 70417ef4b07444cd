"""Machines of a cluster as the guard sees them: a ledger each, over one real PostgreSQL; a test says when they talk.

one = await Machine.open(tmp_path / "one", dsn, clock)
await one.run()                    # one round: what is new here is told, the rest heard
await settle(one, two)
await one.kill()                   # as kill -9 does: nothing more is written or told
"""

from pathlib import Path

from tests.support.clock import FakeClock

from pillarbox.guard import schema
from pillarbox.guard.base import Attempt
from pillarbox.guard.cluster import Exchange
from pillarbox.guard.ledger import Ledger
from pillarbox.guard.node import take
from pillarbox.guard.rounds import Rounds
from pillarbox.guard.settings import GuardSettings
from pillarbox.guard.sharing import Sharing
from pillarbox.store.migrations import migrate
from pillarbox.store.postgresql import Store

HERE = "192.0.2.1"
NEVER = 1e9
"""Seconds: the file is written when a test says so."""


class Machine:
    """See the module's text. Made by open()."""

    def __init__(self, ledger: Ledger, store: Store, rounds: Rounds, exchange: Exchange, clock: FakeClock) -> None:
        self.ledger, self.store, self.rounds, self.exchange, self.clock = ledger, store, rounds, exchange, clock

    @classmethod
    async def open(cls, path: Path, dsn: str, clock: FakeClock) -> "Machine":
        """Opens guard.db and the way to the cell, as the spool process does."""
        ledger = await Ledger.open(path, GuardSettings(), clock=clock, flush_every=NEVER)
        store = Store(dsn, name="guard", size=1)
        node = await take(ledger.store)
        exchange = Exchange(store, node.id, clock)
        sharing = Sharing(exchange.outbox, node.id)
        ledger.share(sharing)
        return cls(ledger, store, Rounds(ledger, exchange, sharing, node, name="a", clock=clock), exchange, clock)

    async def run(self) -> None:
        """One round, and what it left waiting."""
        await self.rounds.run()
        while len(self.exchange.outbox):
            await self.rounds.run()

    async def close(self) -> None:
        """The usual end."""
        await self.run()
        await self.ledger.close()
        await self.store.close()

    async def kill(self) -> None:
        """What was not written is lost, and what was not told is not told."""
        await self.ledger.store.close()
        await self.store.close()

    def fail(self, *numbers: int, login: str = "bob", place: str = HERE) -> None:
        for number in numbers:
            self.ledger.failed(Attempt(place, login, number.to_bytes(16, "big"), self.clock()))

    def blocked(self, place: str = HERE) -> bool:
        return self.ledger.admit(place, self.clock()) is not None

    def failures(self, place: str = HERE) -> int:
        prefixes, _ = self.ledger.standings(self.clock(), 100)
        return sum(standing.failures for standing in prefixes if standing.name == f"{place}/32")


async def make_tables(dsn: str) -> None:
    store = Store(dsn, size=1)
    await migrate(store, schema.ROOM, schema.MIGRATIONS)
    await store.close()


async def settle(*machines: Machine) -> None:
    """Each hears what every other one knows."""
    for machine in (*machines, *machines):
        await machine.run()
