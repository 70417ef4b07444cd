"""import_service.py: what becomes of an account that is imported again and again."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.directory.machines import Machine, account, empty_cell

from pillarbox.directory.accounts import AccountsStore
from pillarbox.directory.aliases import changed
from pillarbox.directory.base import Alias, InvalidAccount
from pillarbox.directory.import_service import import_handlers

OLD, NEW = "(355E98E7C7B59BD810ED845AD0FD2FC4)", "(GDJ0nDZI8l8RJzlRbemg)"
LOGIN = "anna@example.org"


class Importing:
    """The verb, called as the operator's channel does."""

    def __init__(self, accounts: Any) -> None:
        self.accounts = accounts
        self.ambiguous: list[str] = []
        self.verb = import_handlers(accounts, lambda: 7.5)["user.import"]

    async def __call__(
        self, stored: str = OLD, *addresses: str, dry_run: bool = False, names: tuple[str, ...] = ()
    ) -> str:
        body = {
            "login": LOGIN,
            "addresses": addresses or (LOGIN,),
            "password_hash": stored,
            "dry_run": dry_run,
            "names": names,
        }
        answer = await self.verb(None, body)
        self.ambiguous = answer["ambiguous"]
        return str(answer["done"])

    async def found(self) -> Any:
        return await self.accounts.find(LOGIN)


@pytest.fixture(params=["embedded", "cluster"])
async def importing(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Importing]:
    owner: Any
    if request.param == "cluster":
        owner = await Machine(tmp_path, await empty_cell(request.getfixturevalue("postgres"))).open()
        yield Importing(owner.accounts)
    else:
        owner = await AccountsStore.open(tmp_path / "accounts.db")
        yield Importing(owner)
    await owner.close()


async def test_a_person_is_added_and_follows_the_import_until_the_password_is_ours(importing: Importing) -> None:
    assert await importing(dry_run=True) == "added" and await importing.found() is None
    assert await importing() == "added"
    assert (await importing.found()).password_hash == OLD
    assert await importing() == "unchanged"
    assert await importing(NEW, dry_run=True) == "updated" and (await importing.found()).password_hash == OLD
    assert await importing(NEW) == "updated" and (await importing.found()).password_hash == NEW
    await importing.accounts.change(LOGIN, lambda found: replace(found, password_hash="$argon2id$x"))
    assert await importing(OLD) == "unchanged" and (await importing.found()).password_hash == "$argon2id$x"
    assert await importing(OLD, LOGIN, "as@example.org") == "updated"
    found = await importing.found()
    assert found.addresses == (LOGIN, "as@example.org") and found.password_hash == "$argon2id$x"


async def test_an_account_of_somebody_else_is_left_alone(importing: Importing) -> None:
    await importing.accounts.add(account(LOGIN, addresses=("other@example.org",), password_hash="$argon2id$x"))
    assert await importing(OLD, "third@example.org") == "skipped"
    assert (await importing.found()).password_hash == "$argon2id$x"


async def test_names_follow_the_import_and_what_an_operator_gave_stays(importing: Importing) -> None:
    assert await importing(names=("Anna Smith", "Anna")) == "added"
    await importing.accounts.change(LOGIN, lambda found: changed(found, add=["asmith"]))
    assert await importing(names=("Anna Smith", "Anna")) == "unchanged"
    assert await importing(names=("anna smith", "Anna Jones"), dry_run=True) == "updated"
    assert await importing(names=("Anna Smith", "Anna Jones")) == "updated"
    assert [alias.name for alias in (await importing.found()).aliases] == ["asmith", "Anna Smith", "Anna Jones"]
    assert importing.ambiguous == []


async def test_a_name_that_another_account_has_is_told_also_before_anything_is_done(importing: Importing) -> None:
    await importing.accounts.add(account("Anna", aliases=(Alias("Anna Smith"),)))
    for dry_run in (True, False, True):
        await importing(names=("Anna Smith", "Anna", "A. Smith"), dry_run=dry_run)
        assert importing.ambiguous == ["Anna Smith", "Anna"]


async def test_an_internet_address_that_is_anothers_alias_becomes_an_account(importing: Importing) -> None:
    await importing.accounts.add(account("other@example.org", aliases=(Alias(LOGIN),)))
    assert await importing() == "added"
    assert (await importing.found()).login == LOGIN
    assert len(await importing.accounts.list()) == 2


@pytest.mark.parametrize(
    "stored", ["{NTLM}x", "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b4dWQ", "(G)"]
)
async def test_a_hash_that_could_not_be_verified_is_refused(importing: Importing, stored: str) -> None:
    with pytest.raises(InvalidAccount):
        await importing(stored)
