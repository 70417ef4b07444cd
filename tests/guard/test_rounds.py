"""rounds.py and node.py over a real PostgreSQL: restarts, kill -9, the cell away, a copied data directory."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.guard.machines import HERE, Machine, make_tables, settle
from tests.support.clock import FakeClock
from tests.support.postgres import Postgres

from pillarbox.guard.node import take
from pillarbox.store.errors import SchemaTooOld, Undone, Unknown
from pillarbox.store.migrations import migrate
from pillarbox.store.postgresql import Store

LIMIT = 100


@pytest.fixture
async def dsn(postgres: Postgres) -> str:
    made = await asyncio.to_thread(postgres.create_database)
    await make_tables(made)
    return made


@pytest.fixture
def open_machine(tmp_path: Path, dsn: str) -> Callable[..., Awaitable[Machine]]:
    clock = FakeClock()

    async def open_(name: str) -> Machine:
        return await Machine.open(tmp_path / name, dsn, clock)

    return open_


Opener = Callable[[str], Awaitable[Machine]]


async def rows(machine: Machine, kind: str) -> int:
    ((count,),) = (await machine.store.read(("SELECT count(*) FROM guard_fact WHERE kind = %s", (kind,))))[0]
    return int(count)


def copy_files(directory: Path, name: str, new: str) -> None:
    for path in directory.glob(f"{name}*"):
        shutil.copy(path, directory / path.name.replace(name, new))


async def used(machine: Machine) -> int:
    return machine.ledger.used("bob", machine.clock())


async def test_each_learns_how_many_machines_count(open_machine: Opener) -> None:
    one, two = await open_machine("one"), await open_machine("two")
    assert str(one.rounds.machines) == "None", "not known before it has asked"
    await one.run()
    await two.run()
    assert (one.rounds.machines, two.rounds.machines) == (1, 2)
    one.rounds._beat_at = float("-inf")  # some seconds later
    await one.run()
    assert one.rounds.machines == 2
    await one.close()
    again = await open_machine("one")
    await again.run()
    assert again.rounds.machines == 2, "a restart is no other machine"
    await again.close()
    await two.close()


async def test_a_restart_keeps_the_name_and_counts_nothing_twice(open_machine: Opener) -> None:
    one, two = await open_machine("one"), await open_machine("two")
    one.fail(*range(5))
    assert await one.ledger.take("bob", 6, LIMIT, one.clock())
    await settle(one, two)
    await one.close()
    one = await open_machine("one")
    await settle(one, two)
    assert [machine.failures() for machine in (one, two)] == [5, 5]
    assert [await used(machine) for machine in (one, two)] == [6, 6]
    assert (await rows(one, "f"), await rows(one, "q")) == (5, 1)
    await one.close()
    await two.close()


async def test_what_was_counted_and_lifted_while_the_cell_was_away_is_told_after_a_restart(
    open_machine: Opener,
) -> None:
    one, two = await open_machine("one"), await open_machine("two")
    one.fail(*range(12), place="198.51.100.7")
    one.fail(*range(3), login="carol")
    await settle(one, two)
    one.clock.advance(60)
    # the cell is away: nothing is exchanged until the next start
    one.ledger.unblock_prefix("198.51.100.7", one.clock())
    one.ledger.forget_login("carol")
    one.fail(*range(100, 104))
    assert await one.ledger.take("bob", 6, LIMIT, one.clock())
    await one.ledger.close()
    await one.store.close()
    one = await open_machine("one")
    await settle(one, two)
    for machine in (one, two):
        assert not machine.blocked("198.51.100.7")
        assert (machine.failures("198.51.100.7"), machine.failures()) == (0, 4)
        assert await used(machine) == 6
    await one.close()
    await two.close()


async def test_kill_9_after_telling_and_before_writing_forgets_nothing_and_doubles_nothing(
    open_machine: Opener,
) -> None:
    one, two = await open_machine("one"), await open_machine("two")
    assert await one.ledger.take("bob", 4, LIMIT, one.clock())
    await settle(one, two)
    await one.ledger.flush()
    assert await one.ledger.take("bob", 5, LIMIT, one.clock())
    one.fail(*range(7))
    await settle(one, two)
    await one.kill()  # guard.db knows of 4 recipients and no failure
    one = await open_machine("one")
    assert await used(one) == 4
    assert await one.ledger.take("bob", 2, LIMIT, one.clock())  # before the cell is heard
    await settle(one, two)
    assert [await used(machine) for machine in (one, two)] == [11, 11]
    assert [machine.failures() for machine in (one, two)] == [7, 7]
    await one.close()
    await two.close()


async def test_kill_9_after_writing_and_before_telling_is_told_by_the_next_start(open_machine: Opener) -> None:
    one, two = await open_machine("one"), await open_machine("two")
    await settle(one, two)
    assert await one.ledger.take("bob", 4, LIMIT, one.clock())
    one.fail(*range(12))
    await one.ledger.flush()
    await one.kill()
    one = await open_machine("one")
    await settle(one, two)
    assert await used(two) == 4
    assert two.blocked()
    await one.close()
    await two.close()


async def test_an_exchange_whose_commit_is_not_known_is_repeated_and_counts_once(
    open_machine: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction is carried out, its outcome is not heard."""
    one, two = await open_machine("one"), await open_machine("two")
    await settle(one, two)
    write = one.store.write

    async def deaf(work: Any, *, deadline: float) -> Any:
        await write(work, deadline=deadline)
        raise Unknown("the connection ended during a commit")

    one.fail(*range(5))
    assert await one.ledger.take("bob", 6, LIMIT, one.clock())
    with monkeypatch.context() as patched:
        patched.setattr(one.store, "write", deaf)
        with pytest.raises(Unknown):
            await one.rounds.run()
    assert await rows(two, "f") == 5, "it was carried out"
    await settle(one, two)
    assert (two.failures(), await used(two), await rows(two, "f"), await rows(two, "q")) == (5, 6, 5, 1)
    await one.close()
    await two.close()


async def test_of_two_copies_of_a_data_directory_one_takes_another_name(open_machine: Opener, tmp_path: Path) -> None:
    one, three = await open_machine("one"), await open_machine("three")
    await settle(one, three)
    await one.close()
    await asyncio.to_thread(copy_files, tmp_path, "one", "two")
    one, two = await open_machine("one"), await open_machine("two")
    await settle(one, two, three)
    assert await one.ledger.take("bob", 3, LIMIT, one.clock())
    assert await two.ledger.take("bob", 4, LIMIT, two.clock())
    await settle(one, two, three)
    assert [await used(machine) for machine in (one, two, three)] == [7, 7, 7]
    for machine in (one, two, three):
        await machine.close()


async def test_each_start_has_a_holder_of_its_own_and_knows_those_before_that_the_cell_may_have(
    open_machine: Opener,
) -> None:
    one = await open_machine("one")
    first = await take(one.ledger.store)
    second = await take(one.ledger.store)
    assert (first.id, first.holder != second.holder) == (second.id, True)
    assert second.formers[-1] == first.holder
    assert await one.exchange.beat(second)
    assert not await one.exchange.beat(first)
    await one.kill()


async def test_a_round_with_nothing_to_tell_notices_a_server_that_nobody_follows(open_machine: Opener) -> None:
    one = await open_machine("one")
    await one.run()
    assert not await one.exchange.run(lambda _facts, _begins: None)
    one.store.quorum = True  # this server waits for no standby
    assert not await one.exchange.run(lambda _facts, _begins: None), "reading alone notices nothing"
    again = await open_machine("again")
    again.store.quorum = True
    with pytest.raises(Undone):
        await again.rounds.run()
    await one.kill()
    await again.kill()


async def test_a_cell_that_lost_what_it_had_is_told_again_by_those_who_know(open_machine: Opener) -> None:
    """As after a fail-over to a server that was behind, or a backup: its numbers are lower than they were."""
    one, two = await open_machine("one"), await open_machine("two")
    one.fail(*range(12))
    two.fail(*range(20, 23), place="198.51.100.7")
    assert await two.ledger.take("bob", 6, LIMIT, two.clock())
    await settle(one, two)
    await one.store.read(("DELETE FROM guard_fact", ()), ("ALTER SEQUENCE guard_number RESTART", ()))
    await settle(one, two)
    three = await open_machine("three")
    await three.run()
    assert three.blocked()
    assert (three.failures(), three.failures("198.51.100.7"), await used(three)) == (12, 3, 6)
    assert [await used(machine) for machine in (one, two)] == [6, 6]
    for machine in (one, two, three):
        await machine.kill()


async def test_the_end_of_the_process_tells_what_is_left(open_machine: Opener) -> None:
    one, two = await open_machine("one"), await open_machine("two")
    one.rounds.start()
    await one.rounds.settled(60)
    assert one.rounds.status() is None
    one.fail(*range(12))
    await one.rounds.close()
    await two.run()
    assert two.blocked()
    await one.kill()
    await two.close()


async def test_a_cell_without_the_tables_is_said_and_the_machine_counts_alone(
    postgres: Postgres, tmp_path: Path
) -> None:
    dsn = await asyncio.to_thread(postgres.create_database)
    store = Store(dsn, size=1)
    await migrate(store, "other", [["SELECT 1"]])
    await store.close()
    one = await Machine.open(tmp_path / "one", dsn, FakeClock())
    with pytest.raises(SchemaTooOld):
        await one.rounds.run()
    one.rounds.start()
    await one.rounds.settled(60)
    status = one.rounds.status()
    assert status is not None and "pillarbox cluster upgrade" in status
    one.fail(*range(12))
    assert one.blocked(HERE)
    await make_tables(dsn)
    async with asyncio.timeout(60):
        while one.rounds.status() is not None:  # noqa: ASYNC110  # it has no event for tests
            await asyncio.sleep(0.02)
    await one.rounds.close()
    assert await rows(one, "b") == 1
    await one.kill()
