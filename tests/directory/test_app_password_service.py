"""The app passwords' verbs: on one machine and over a cluster, for accounts and for people of other directories."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.directory.machines import Machine, account, new_cell
from tests.support.postgres import Postgres

from pillarbox.control.channel import Handlers
from pillarbox.directory import cluster
from pillarbox.directory.app_password_service import app_password_handlers, use_handlers
from pillarbox.directory.base import Alias, InvalidAccount, UnknownAccount
from pillarbox.directory.service import operator_handlers
from pillarbox.directory.settings import LocalSettings

NOW = 1_800_000_000.0
CHEAP = LocalSettings(argon2_memory=64, argon2_time=1)


class Desk:
    """An operator's verbs at one machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.handlers: Handlers = {
            **app_password_handlers(machine.accounts, machine.copy, clock=lambda: NOW),
            **use_handlers(machine.copy, clock=lambda: NOW + 60),
            **operator_handlers(machine.accounts, CHEAP),
        }

    async def say(self, verb: str, body: Any) -> Any:
        answer: Any = self.handlers[verb]
        return await answer(None, body)

    async def add(self, login: str, *, directory: str = "", **more: Any) -> dict[str, Any]:
        body = {"label": "phone", "expires_at": None, "networks": (), "addresses": (), **more}
        made: dict[str, Any] = await self.say(
            "user.app_password_add", {"login": login, "directory": directory, **body}
        )
        return made


@pytest.fixture
async def desks(tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Desk]]:
    """Two machines of one cluster."""
    monkeypatch.setattr(cluster, "ASK_EVERY", 0.05)
    dsn = await new_cell(postgres)
    machines = [await Machine(tmp_path / name, dsn).open() for name in ("one", "two")]
    yield [Desk(machine) for machine in machines]
    for machine in machines:
        await machine.close()


async def test_one_that_is_made_on_a_machine_is_good_on_the_other_and_revoked_everywhere(desks: list[Desk]) -> None:
    one, two = desks
    await one.machine.accounts.add(account("bob"))
    made = await one.add("Bob", networks=("10.0.0.0/8",), addresses=("Bob@example.org",), expires_at=NOW + 5)
    await two.machine.until(lambda found: found is not None and len(found.app_passwords) == 1)
    found = await two.machine.accounts.find("bob")
    known = await one.machine.accounts.find("bob")
    assert found is not None and known is not None
    assert found.app_passwords == known.app_passwords
    assert made["password"].replace("-", "") not in repr(found)
    await two.say("user.app_password_revoke", {"login": "bob", "id": made["id"]})
    await one.machine.until(lambda found: found is not None and not found.app_passwords)
    assert one.machine.told[-1] == two.machine.told[-1] == "bob", "sessions of every machine hear of it"


async def test_by_an_alias_it_is_the_accounts_and_nothing_of_that_name_is_made(desks: list[Desk]) -> None:
    one, _ = desks
    await one.machine.accounts.add(account("bob", aliases=(Alias("Bob Wood/Sales"),)))
    made = await one.add("CN=Bob Wood/OU=Sales", directory="corp")
    (bob,) = await one.machine.accounts.list()
    assert bob.login == "bob" and [each.id for each in bob.app_passwords] == [made["id"]]
    (listed,) = await one.say("user.app_password_list", {"login": "Bob Wood/Sales"})
    await one.say("user.app_password_revoke", {"login": "Bob Wood/Sales", "id": listed["id"]})
    assert (await one.machine.accounts.list())[0].app_passwords == ()


async def test_another_directorys_person_is_held_as_long_as_there_is_one(desks: list[Desk]) -> None:
    one, two = desks
    with pytest.raises(UnknownAccount):
        await one.add("anna@example.org")
    first = await one.add("anna@example.org", directory="corp")
    second = await one.add("ANNA@example.org", directory="corp")
    await two.machine.until(lambda found: found is not None and len(found.app_passwords) == 2, "anna@example.org")
    held = await two.machine.accounts.find("anna@example.org")
    assert held is not None and held.elsewhere
    assert [each.directory for each in held.app_passwords] == ["corp", "corp"]
    with pytest.raises(InvalidAccount, match="say of which"):
        await one.add("anna@example.org")
    for made in (first, second):
        await two.say("user.app_password_revoke", {"login": "anna@example.org", "id": made["id"]})
    await one.machine.until(lambda found: found is None, "anna@example.org")


@pytest.mark.parametrize("verb", ["user.password", "user.disable", "user.enable", "user.certify", "user.modify"])
async def test_who_is_held_for_another_directory_never_becomes_an_account(desks: list[Desk], verb: str) -> None:
    one, _ = desks
    await one.add("anna", directory="corp")
    with pytest.raises(InvalidAccount, match="another directory"):
        await one.say(verb, {"login": "anna", "password": "x", "mark": "cn:Anna", "domains": ("example.org",)})
    held = await one.machine.accounts.find("anna")
    assert held is not None and held.elsewhere


async def test_a_use_is_noted_where_it_was(desks: list[Desk]) -> None:
    one, two = desks
    made = await one.add("anna", directory="corp")
    await two.machine.until(lambda found: found is not None, "anna")
    await one.say("account.app_password_used", ("anna", made["id"], "192.0.2.7"))
    (here,) = await one.say("user.app_password_list", {"login": "anna"})
    (there,) = await two.say("user.app_password_list", {"login": "anna"})
    assert (here["used_at"], here["used_from"]) == (NOW + 60, "192.0.2.7")
    assert (there["id"], there["used_at"]) == (made["id"], None)


async def test_fifty_are_enough(desks: list[Desk]) -> None:
    one, _ = desks
    for _ in range(50):
        await one.add("anna", directory="corp")
    with pytest.raises(InvalidAccount, match="revoke one first"):
        await one.add("anna", directory="corp")
