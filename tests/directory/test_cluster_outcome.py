"""A verb whose COMMIT reached the cell and whose answer was lost: it says so, and is right when done again."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict
from tests.directory.machines import Machine, account, disabled, new_cell
from tests.support.administrator import Administrator
from tests.support.link import Link
from tests.support.ports import steady_ports
from tests.support.postgres import Postgres, running_postgres

from pillarbox.directory import cluster
from pillarbox.directory.accounts import AccountsStore
from pillarbox.directory.base import Account, AccountExists, Unavailable, UnknownAccount

Verb = Callable[[Machine], Coroutine[Any, Any, Any]]


@pytest.fixture(scope="module")
def node() -> Iterator[Postgres]:
    """A node that is told to wait for standbys that are not there."""
    with running_postgres() as running:
        yield running


@pytest.fixture
async def administrator(node: Postgres, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Administrator]:
    monkeypatch.setattr(cluster, "ASK_EVERY", 0.05)
    monkeypatch.setattr(cluster, "_PAUSES", (0.05,))
    opened = Administrator(await new_cell(node))
    yield opened
    await opened.demand_nothing()
    opened.close()


@pytest.fixture
def link(node: Postgres) -> Iterator[Link]:
    (front,) = steady_ports(1)
    with Link([(front, int(str(conninfo_to_dict(node.dsn("postgres", tcp=True))["port"])))]) as running:
        yield running


@pytest.fixture
async def one(tmp_path: Path, administrator: Administrator, node: Postgres, link: Link) -> AsyncIterator[Machine]:
    """It reaches the cell by the link, and has an account of its own alone: ada. Bob is everybody's."""
    (tmp_path / "one").mkdir()
    before = await AccountsStore.open(tmp_path / "one" / "accounts.db")
    await before.add(account("ada", certificates=("cn:b", "cn:a")))
    await before.close()
    (found,) = administrator.ask("SELECT current_database()")
    database = str(found[0])
    dsn = node.dsn(database, tcp=True)
    port = conninfo_to_dict(dsn)["port"]
    machine = await Machine(tmp_path / "one", dsn.replace(f"port={port}", f"port={link.fronts[0]}")).open()
    await machine.accounts.add(account("bob"))
    yield machine
    await machine.close()


async def not_heard_of(verb: Verb, machine: Machine, administrator: Administrator, link: Link) -> None:
    """Has the verb's COMMIT wait at the cell, and cuts the network there."""
    await administrator.demand_a_standby()
    doing = asyncio.create_task(verb(machine))
    await administrator.until_a_commit_waits_for_a_standby()
    await asyncio.to_thread(link.snap)
    with pytest.raises(Unavailable, match=r"is not known: cell a: .*do it again: that does no harm"):
        await doing
    await administrator.demand_nothing()
    administrator.ask("SELECT 1 FROM pillarbox.directory FOR UPDATE")  # behind the COMMIT


async def add(machine: Machine) -> None:
    await machine.accounts.add(account("carol"))


async def change(machine: Machine) -> Account:
    return await machine.accounts.change("bob", disabled)


async def remove(machine: Machine) -> str:
    return await machine.accounts.remove("bob")


async def publish(machine: Machine) -> tuple[list[str], list[object], list[str]]:
    done = await machine.accounts.publish()
    return list(done.published), list(done.refused), list(done.superseded)


@pytest.mark.parametrize("followed", [False, True], ids=["at once", "when the copy has followed"])
@pytest.mark.parametrize("verb", [add, change, remove, publish])
async def test_a_verb_whose_outcome_is_not_known_is_right_when_it_is_done_again(
    verb: Verb, followed: bool, one: Machine, administrator: Administrator, link: Link
) -> None:
    await not_heard_of(verb, one, administrator, link)
    if followed:
        await asyncio.to_thread(link.start)
        await one.until_copied(administrator)
    else:  # nothing is asked meanwhile
        await one.accounts.close()
        await asyncio.to_thread(link.start)
    if verb is add:
        with pytest.raises(AccountExists):
            await verb(one)
    elif verb is remove:
        with pytest.raises(UnknownAccount):
            await verb(one)
    elif verb is publish:
        assert await verb(one) == ([] if followed else ["ada"], [], [])
        assert not await one.copy.is_alone("ada")
    else:
        assert (await verb(one)).disabled
    await one.accounts.start()
    await one.until_copied(administrator)
    found = {each.login: each.disabled for each in await one.content()}
    expected = {"ada": False, "bob": verb is change} | ({"carol": False} if verb is add else {})
    assert found == {login: value for login, value in expected.items() if verb is not remove or login != "bob"}
