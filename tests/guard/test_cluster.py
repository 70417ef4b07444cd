"""cluster.py: two machines tell each other facts over a real PostgreSQL; nothing is skipped or doubled."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.support.clock import FakeClock
from tests.support.link import Link
from tests.support.ports import steady_ports
from tests.support.postgres import Postgres

from pillarbox.guard import schema
from pillarbox.guard.cluster import Exchange
from pillarbox.guard.facts import Elsewhere, Fact, Outbox
from pillarbox.guard.node import Node
from pillarbox.store.errors import Transient
from pillarbox.store.migrations import migrate
from pillarbox.store.postgresql import Store, Transaction

HERE = "192.0.2.1/32"


def failure(number: int, clock: FakeClock, login: str = "bob") -> Fact:
    return Fact("f", HERE, login, number.to_bytes(16, "big"), clock(), clock() + 3600, 1)


async def hear(exchange: Exchange) -> list[Fact]:
    """One exchange; what was heard."""
    facts: list[Fact] = []
    await exchange.run(lambda page, _begins: facts.extend(page))
    return facts


class Machines:
    """Two exchanges over one database, each with a store of its own."""

    def __init__(self, dsn: str, clock: FakeClock) -> None:
        self.dsn, self.clock = dsn, clock
        self.stores = [Store(dsn, name=f"guard {number}", size=1) for number in range(2)]
        self.one, self.two = (Exchange(store, bytes([number]), clock) for number, store in enumerate(self.stores))

    async def count(self) -> int:
        (((rows,),),) = await self.stores[0].read(("SELECT count(*) FROM guard_fact", ()))
        return int(rows)


@pytest.fixture
async def machines(postgres: Postgres) -> AsyncIterator[Machines]:
    dsn = await asyncio.to_thread(postgres.create_database)
    made = Machines(dsn, FakeClock())
    await migrate(made.stores[0], schema.ROOM, schema.MIGRATIONS)
    yield made
    for store in made.stores:
        await store.close()


async def test_the_machines_of_the_last_hour_are_counted(machines: Machines) -> None:
    assert await machines.one.machines() == 0
    for number, exchange in enumerate((machines.one, machines.two, machines.one)):
        assert await exchange.beat(Node(bytes([number % 2]), b"holder"))
        assert await exchange.machines() == min(number + 1, 2)

    async def leave(transaction: Transaction) -> None:
        transaction.add("UPDATE guard_node SET seen_at = now() - interval '61 min' WHERE node = %s", (bytes([1]),))

    await machines.stores[0].write(leave)
    assert await machines.two.machines() == 1


async def test_what_one_machine_tells_the_other_hears_once_with_its_own_clock(machines: Machines) -> None:
    clock = machines.clock
    told = Fact("f", HERE, "a\0b\udce9", b"x" * 16, clock() - 100, clock() + 50, 1)
    machines.one.outbox.put(told)
    assert await hear(machines.one) == []
    (heard,) = await hear(machines.two)
    assert heard.key == told.key
    assert abs(heard.at - told.at) < 30
    assert abs(heard.ends - told.ends) < 30
    assert await hear(machines.two) == []


async def test_a_machine_that_starts_hears_everything_that_lives_its_own_words_too(machines: Machines) -> None:
    for number in range(3):
        machines.one.outbox.put(failure(number, machines.clock))
    await hear(machines.one)
    again = Exchange(machines.stores[0], bytes([0]), machines.clock)
    assert len(await hear(again)) == 3


async def test_a_fact_that_is_told_twice_is_one_row_and_a_changed_one_is_heard_again(machines: Machines) -> None:
    clock = machines.clock
    quota = Fact("q", "", "bob", b"node+minute", clock(), clock() + 3600, 5)
    for _ in range(2):
        machines.one.outbox.put(quota)
        machines.one.outbox.put(failure(1, clock))
        await hear(machines.one)
    assert await machines.count() == 2
    await hear(machines.two)
    machines.one.outbox.put(quota._replace(amount=3))
    await hear(machines.one)
    assert [(fact.kind, fact.amount) for fact in await hear(machines.two)] == [("q", 3)]


async def test_a_slow_writer_is_not_skipped_by_who_reads_meanwhile(machines: Machines) -> None:
    """A row drawn earlier and committed later must still be heard: the lock keeps numbers in commit order."""
    holder = Store(machines.dsn, name="slow", size=1)
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def slow(transaction: Transaction) -> None:
        await transaction.fetch("SELECT pg_advisory_xact_lock(hashtext('pillarbox guard'))")
        await transaction.fetch(
            "INSERT INTO guard_fact (kind, place, login, id, node, at, expires_at, amount) "
            "VALUES ('f', 'p', 'slow', 'i', 'n', now(), now() + interval '1 hour', 1)"
        )
        inside.set()
        await go_on.wait()

    writing = holder.write(slow)
    await inside.wait()
    machines.one.outbox.put(failure(1, machines.clock, "quick"))
    quick = asyncio.ensure_future(hear(machines.one))
    heard = await hear(machines.two)
    go_on.set()
    await writing
    heard += await quick
    heard += await hear(machines.two)
    await holder.close()
    assert {fact.login for fact in heard} == {"slow", "quick"}


async def test_the_cell_away_and_back_loses_nothing_and_doubles_nothing(
    postgres: Postgres, machines: Machines
) -> None:
    (front,) = steady_ports(1)
    name = machines.dsn.split("dbname=")[1].split()[0]
    dsn = postgres.dsn(name, tcp=True).replace(f"port={postgres.port}", f"port={front}")
    link = Link([(front, postgres.port)])
    await asyncio.to_thread(link.start)
    store = Store(dsn, name="guard far", size=1)
    far = Exchange(store, b"far", machines.clock)
    try:
        await hear(far)
        await asyncio.to_thread(link.snap)
        far.outbox.put(failure(7, machines.clock))
        with pytest.raises(Transient):
            await hear(far)
        assert len(far.outbox) == 1
        await asyncio.to_thread(link.start)
        await hear(far)
        assert len(far.outbox) == 0
    finally:
        await store.close()
        await asyncio.to_thread(link.snap)
    assert [fact.id for fact in await hear(machines.one)] == [(7).to_bytes(16, "big")]
    assert await machines.count() == 1


async def test_rows_leave_when_they_have_expired(machines: Machines) -> None:
    clock = machines.clock
    machines.one.outbox.put(Fact("b", HERE, "", b"", clock() - 900, clock() - 1, 12))
    await hear(machines.one)
    assert await hear(machines.two) == []
    await machines.one.expire()
    assert await machines.count() == 0


def test_what_waits_is_merged_by_key_and_bounded() -> None:
    outbox, clock = Outbox(ceiling=10), FakeClock()
    for number in range(100):
        outbox.put(failure(number % 20, clock))
    assert len(outbox) == 10
    batch = outbox.take(4)
    newer = batch[0]._replace(amount=9)
    outbox.put(newer)
    outbox.put_back(batch)
    kept = outbox.take(100)
    assert len(kept) == len({fact.key for fact in kept}) == 10
    assert newer in kept


def test_recipients_of_other_machines_replace_and_slide_out() -> None:
    elsewhere, clock = Elsewhere(), FakeClock()
    elsewhere.put("bob", b"one", clock(), 5)
    elsewhere.put("bob", b"two", clock(), 3)
    elsewhere.put("bob", b"one", clock(), 4)
    assert elsewhere.used("bob", clock()) == 7
    clock.advance(62 * 60)
    assert elsewhere.used("bob", clock()) == 0
    elsewhere.prune(clock())
    assert elsewhere.used("bob", clock()) == 0
