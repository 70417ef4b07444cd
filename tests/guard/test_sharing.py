"""Two machines' ledgers over one real PostgreSQL: what is counted on one is judged on the other."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.clock import FakeClock
from tests.support.postgres import Postgres

from pillarbox.guard import schema
from pillarbox.guard.base import Attempt
from pillarbox.guard.cluster import Exchange
from pillarbox.guard.facts import Fact
from pillarbox.guard.ledger import Ledger
from pillarbox.guard.settings import GuardSettings
from pillarbox.guard.sharing import Sharing
from pillarbox.store.migrations import migrate
from pillarbox.store.postgresql import Store

HERE = "192.0.2.1"


class Machine:
    """A ledger and its exchange."""

    def __init__(self, ledger: Ledger, store: Store, node: bytes, clock: FakeClock) -> None:
        self.ledger, self.store, self.clock = ledger, store, clock
        self.exchange = Exchange(store, node, clock)
        ledger.share(Sharing(self.exchange.outbox, node))

    async def run(self) -> None:
        await self.exchange.run(self.hear)

    def hear(self, facts: list[Fact], _begins: bool) -> None:
        self.ledger.merge(facts, self.clock())

    def fail(self, *numbers: int, login: str = "bob") -> None:
        for number in numbers:
            self.ledger.failed(Attempt(HERE, login, number.to_bytes(16, "big"), self.clock()))


@pytest.fixture
async def machines(postgres: Postgres, tmp_path: Path) -> AsyncIterator[list[Machine]]:
    dsn, clock = await asyncio.to_thread(postgres.create_database), FakeClock()
    made = []
    for node in (b"1", b"2"):
        store = Store(dsn, size=1)
        await migrate(store, schema.ROOM, schema.MIGRATIONS)
        ledger = await Ledger.open(tmp_path / node.decode(), GuardSettings(), clock=clock)
        made.append(Machine(ledger, store, node, clock))
    yield made
    for machine in made:
        await machine.ledger.close()
        await machine.store.close()


async def settle(machines: list[Machine]) -> None:
    for machine in [*machines, *machines]:
        await machine.run()


async def test_a_block_made_on_one_machine_is_in_force_on_the_other(machines: list[Machine]) -> None:
    one, two = machines
    one.fail(*range(12))
    await settle(machines)
    assert two.ledger.admit(HERE, two.clock()) is not None


async def test_failures_of_both_machines_add_up_to_a_block_on_both(machines: list[Machine]) -> None:
    one, two = machines
    one.fail(*range(6))
    two.fail(*range(6))
    await settle(machines)
    assert all(machine.ledger.admit(HERE, machine.clock()) is not None for machine in machines)


async def test_an_unblock_lifts_everywhere_and_old_rows_do_not_block_again(machines: list[Machine]) -> None:
    one, two = machines
    one.fail(*range(12))
    await settle(machines)
    one.clock.advance(5)
    two.ledger.unblock_prefix(HERE, two.clock())
    await settle(machines)
    late = Exchange(one.store, b"3", one.clock)  # hears everything anew
    await late.run(one.hear)
    for machine in machines:
        assert machine.ledger.admit(HERE, machine.clock()) is None
        assert machine.ledger.standings(machine.clock(), 10) == ([], [])


async def test_a_place_known_on_one_machine_is_never_blocked_on_the_other(machines: list[Machine]) -> None:
    one, two = machines
    one.ledger.succeeded(Attempt(HERE, "alice", b"\0" * 16, one.clock()))
    await settle(machines)
    two.fail(*range(40))
    await settle(machines)
    for machine in machines:
        assert machine.ledger.admit(HERE, machine.clock()) is None
        assert machine.ledger.known(HERE, machine.clock())


async def test_a_quota_holds_over_both_machines_once_they_have_exchanged(machines: list[Machine]) -> None:
    one, two = machines
    assert await one.ledger.take("bob", 6, 10, one.clock())
    await settle(machines)
    assert not await two.ledger.take("bob", 5, 10, two.clock())
    assert await two.ledger.take("bob", 4, 10, two.clock())
    one.ledger.give_back("bob", 6, one.clock())
    await settle(machines)
    assert [machine.ledger.used("bob", machine.clock()) for machine in machines] == [4, 4]
