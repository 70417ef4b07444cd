"""Further login names of accounts: who is found by one, over the embedded and the cluster's accounts."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.directory.machines import Machine, account, empty_cell
from tests.support.administrator import Administrator

from pillarbox.directory import cluster
from pillarbox.directory.accounts import MIGRATIONS, AccountsStore
from pillarbox.directory.aliases import ALIAS_CEILING, changed, check_aliases, followed
from pillarbox.directory.base import Account, Alias, Denied, InvalidAccount
from pillarbox.directory.local import LocalDirectory
from pillarbox.directory.schema import MIGRATIONS as SCHEMA
from pillarbox.directory.schema import ROOM
from pillarbox.directory.scram import create_secret
from pillarbox.directory.settings import LocalSettings
from pillarbox.sasl.mechanism import ProvenCredentials
from pillarbox.store.migrations import migrate
from pillarbox.store.postgresql import Store
from pillarbox.store.sqlite import Database, SchemaTooNew, open_store

FULL = "Anna Smith/Sales/Acme"


@pytest.fixture(params=["embedded", "cluster"])
async def accounts(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    owner: Any
    if request.param == "cluster":
        owner = await Machine(tmp_path, await empty_cell(request.getfixturevalue("postgres"))).open()
        yield owner.accounts
    else:
        owner = await AccountsStore.open(tmp_path / "accounts.db")
        yield owner
    await owner.close()


def named(login: str, *aliases: str, imported: bool = False) -> Account:
    return account(login, aliases=tuple(Alias(name, imported) for name in aliases))


async def who(accounts: Any, login: str) -> str:
    found = await accounts.find(login)
    return "" if found is None else str(found.login)


@pytest.mark.parametrize(
    "login",
    [
        FULL,
        "CN=Anna Smith/OU=Sales/O=Acme",
        "cn=anna smith/ou=sales/o=ACME",
        "CN=Anna Smith,OU=Sales,O=Acme",
        "anna  smith/sales/acme",
        "Anna@Example.org",
    ],
)
async def test_an_account_is_found_by_an_alias_however_it_is_written(accounts: Any, login: str) -> None:
    await accounts.add(named("anna@example.org", FULL))
    for _ in range(2):  # as it is stored, and as it is remembered
        assert await who(accounts, login) == "anna@example.org"
    for other in ("Anna Smith", "Anna Smith/Sales", "Sales", "", "CN="):
        assert await who(accounts, other) == ""


async def test_an_alias_of_two_is_nobodys_until_one_of_them_has_it_no_more(accounts: Any) -> None:
    await accounts.add(named("anna@example.org", "Anna Smith"))
    assert await who(accounts, "anna smith") == "anna@example.org"
    await accounts.add(named("a.smith@example.org", "ANNA  Smith"))
    assert await who(accounts, "anna smith") == "" and await accounts.list_void() == {"anna smith"}
    assert await accounts.owners_of(["Anna Smith", "x"], "anna@example.org") == {"Anna Smith": "a.smith@example.org"}
    await accounts.change("a.smith@example.org", lambda found: replace(found, disabled=True))
    assert await who(accounts, "anna smith") == "", "whom it means does not hang on who is disabled"
    await accounts.remove("a.smith@example.org")
    assert await who(accounts, "anna smith") == "anna@example.org" and await accounts.list_void() == set()
    await accounts.change("anna@example.org", lambda found: replace(found, aliases=()))
    assert await who(accounts, "anna smith") == ""


async def test_an_alias_never_wins_over_a_login_and_names_nobody_where_there_is_one(accounts: Any) -> None:
    await accounts.add(named("anna@example.org", "bob"))
    assert await who(accounts, "Bob") == await who(accounts, "CN=Bob") == "anna@example.org"
    await accounts.add(named("bob"))
    assert await who(accounts, "Bob") == "bob" and await who(accounts, "CN=Bob") == ""
    assert await accounts.list_void() == {"bob"}
    assert await accounts.owners_of(["Bob"], "anna@example.org") == {"Bob": "bob"}
    assert await accounts.owners_of(["Bob"], "bob") == {"Bob": "anna@example.org"}


SPELLINGS = (
    "Anna Smith/Acme",
    "anna  smith/acme",
    "CN=Anna Smith/O=Acme",
    "cn=anna smith,o=acme",
    "CN= Anna Smith/Acme",
)


@pytest.mark.parametrize("whose", ["an alias", "a login", "nobody's", "two aliases", "a disabled one's"])
async def test_scram_has_one_salt_for_all_spellings_of_a_name_whoever_has_it(tmp_path: Path, whose: str) -> None:
    accounts = await AccountsStore.open(tmp_path / "accounts.db")
    secret = create_secret("pencil", salt=b"salt of one person")
    one = replace(named("anna@example.org", "Anna Smith/Acme"), scram=secret)
    kept = {
        "an alias": [one],
        "a login": [replace(named("Anna Smith/Acme"), scram=secret)],
        "nobody's": [],
        "two aliases": [one, replace(one, login="a.smith@example.org")],
        "a disabled one's": [replace(one, disabled=True)],
    }
    for each in kept[whose]:
        await accounts.add(each)
    directory = LocalDirectory(accounts, LocalSettings(argon2_memory=64, argon2_time=1, scram=True))
    secrets = [await directory.scram_secret(spelling) for spelling in SPELLINGS]
    assert len({(secret.iterations, secret.salt) for secret in secrets}) == 1
    assert (secrets[0].salt == b"salt of one person") is (whose in ("an alias", "a login"))
    assert (await directory.scram_secret("Anna Smyth/Acme")).salt != secrets[0].salt
    directory.close()
    await accounts.close()


async def test_a_login_is_proven_by_its_own_spelling_alone_and_others_get_no_signature(tmp_path: Path) -> None:
    accounts = await AccountsStore.open(tmp_path / "accounts.db")
    await accounts.add(replace(named("anna smith"), scram=create_secret("pencil")))
    directory = LocalDirectory(accounts, LocalSettings(argon2_memory=64, argon2_time=1, scram=True))
    own, other = await directory.scram_secret("Anna Smith"), await directory.scram_secret("CN=Anna Smith")
    assert own.salt == other.salt
    assert own.stored_key != other.stored_key and own.server_key != other.server_key
    assert isinstance(await directory.verify_proof(ProvenCredentials("CN=Anna Smith", "", own)), Denied)
    assert not isinstance(await directory.verify_proof(ProvenCredentials("Anna Smith", "", own)), Denied)
    directory.close()
    await accounts.close()


async def test_verbs_go_by_the_login_alone(accounts: Any) -> None:
    await accounts.add(named("anna@example.org", "anna"))
    await accounts.add(named("anna"))
    await accounts.remove("ANNA")
    assert [one.login for one in await accounts.list()] == ["anna@example.org"]
    assert (await accounts.find("anna")).aliases == (Alias("anna"),)


async def test_machines_hear_of_each_others_aliases(
    postgres: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "ASK_EVERY", 0.05)
    dsn = await empty_cell(postgres)
    one = await Machine(tmp_path / "one", dsn).open()
    two = await Machine(tmp_path / "two", dsn).open()
    await one.accounts.add(named("anna@example.org", FULL, imported=True))
    await two.until(lambda found: found is not None, FULL)
    assert await one.content() == await two.content() == [named("anna@example.org", FULL, imported=True)]
    await two.accounts.change("anna@example.org", lambda found: replace(found, aliases=()))
    await one.until(lambda found: found is None, FULL)
    await one.close()
    await two.close()


async def test_accounts_of_the_schema_before_are_kept_and_a_copy_of_then_is_taken_anew(tmp_path: Path) -> None:
    path = tmp_path / "accounts.db"
    before = await open_store(path, MIGRATIONS[:4])
    row = ("anna", "Anna", '["a@example.org"]', "[]", 0, 7, 0, 3, 1.5, 2.5, "$argon2id$x", "secret", "[]", 1)
    query = (
        "INSERT INTO accounts (key, login, addresses, domains, may_redirect, recipients_per_hour, disabled,"
        " generation, created_at, password_changed_at, password_hash, scram, app_passwords, copied)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
    )
    await before.write(lambda db: db.execute(query, row).fetchall())
    await before.write(lambda db: db.execute("INSERT INTO certificates VALUES ('cn:Anna', 'anna')").fetchall())
    await before.write(lambda db: db.execute("INSERT INTO copy VALUES ('mark', 9, 5.0)").fetchall())
    await before.close()
    store = await AccountsStore.open(path, copy=True)
    assert await store.find("ANNA") == Account(
        *("Anna", ("a@example.org",), (), False, 7, False, 3, 1.5, 2.5, "$argon2id$x", "secret"),
        certificates=("cn:Anna",),
    )
    assert await store.find("bob") is None, "there is a copy still"
    assert store.copy_state is not None and (store.copy_state.id, store.copy_state.generation) == ("", 9)
    await store.close()
    with pytest.raises(SchemaTooNew):
        await open_store(path, MIGRATIONS[:4])


async def test_accounts_of_an_older_cell_are_kept_and_a_program_of_before_takes_no_alias_away(
    postgres: Any, tmp_path: Path
) -> None:
    dsn = await asyncio.to_thread(postgres.create_database)
    store = Store(dsn)
    await migrate(store, ROOM, SCHEMA[:3])
    administrator = Administrator(dsn)
    old = """
        INSERT INTO pillarbox.account (key, login, addresses, domains, may_redirect, recipients_per_hour, disabled,
            generation, created_at, password_changed_at, password_hash, scram, app_passwords)
        VALUES ('anna', 'Anna', ARRAY['a@example.org'], ARRAY['example.org'], true, 7, false, {0}, 1.5, 2.5,
            '$argon2id$x', 'secret', '[]')
        ON CONFLICT (key) DO UPDATE SET generation = EXCLUDED.generation, password_hash = '$argon2id$y'
    """
    administrator.ask("UPDATE pillarbox.directory SET generation = 1")
    administrator.ask(old.format(1))
    administrator.ask("INSERT INTO pillarbox.account_certificate VALUES ('cn:Anna', 'anna')")
    await migrate(store, ROOM, SCHEMA)
    await store.close()
    machine = await Machine(tmp_path / "one", dsn).open(asking=False)
    await machine.accounts._ask(30.0)
    kept = Account(
        *("Anna", ("a@example.org",), ("example.org",), True, 7, False, 0, 1.5, 2.5, "$argon2id$x", "secret"),
        certificates=("cn:Anna",),
    )
    assert await machine.content() == [kept]
    await machine.accounts.change("anna", lambda found: changed(found, add=[FULL]))
    administrator.ask("UPDATE pillarbox.directory SET generation = generation + 1")
    administrator.ask(old.format(3))
    administrator.close()
    await machine.accounts._ask(30.0)
    assert await machine.content() == [replace(kept, password_hash="$argon2id$y", aliases=(Alias(FULL),))]
    await machine.close()


async def test_a_copy_of_before_takes_the_aliases_that_it_could_not_read(postgres: Any, tmp_path: Path) -> None:
    dsn = await empty_cell(postgres)
    one = await Machine(tmp_path / "one", dsn).open()
    await one.accounts.add(named("anna@example.org", FULL))
    await one.close()

    def as_before(db: Database) -> None:
        """The file as a program of before made it of the same cell, and as it then comes out of the migration."""
        db.execute("UPDATE accounts SET aliases = '[]'")
        db.execute("DELETE FROM aliases")
        db.execute("UPDATE copy SET id = ''")

    file = await open_store(tmp_path / "one" / "accounts.db", MIGRATIONS)
    await file.write(as_before)
    await file.close()
    again = await Machine(tmp_path / "one", dsn).open()
    assert await who(again.accounts, FULL) == "anna@example.org" and again.accounts.status() is None
    await again.close()


def test_what_an_operator_gave_stays_and_what_an_import_gave_follows_it() -> None:
    one = changed(account("anna@example.org"), add=["Anna", "Anna Smith"])
    one = followed(one, ["Anna Smith", FULL, "anna@EXAMPLE.org"])
    assert one.aliases == (Alias("Anna"), Alias("Anna Smith"), Alias(FULL, imported=True))
    one = followed(one, ["Anna Jones"])
    assert one.aliases == (Alias("Anna"), Alias("Anna Smith"), Alias("Anna Jones", imported=True))
    one = changed(one, add=["CN=Anna Jones"], remove=["ANNA"])
    assert one.aliases == (Alias("Anna Smith"), Alias("CN=Anna Jones"))
    with pytest.raises(InvalidAccount, match="no alias 'Anna'"):
        changed(one, remove=["Anna"])


@pytest.mark.parametrize("name", ["", " ", "CN=", "a\0b", "x" * 256, " Anna"])
def test_a_name_that_nobody_can_have_is_no_alias(name: str) -> None:
    with pytest.raises(InvalidAccount):
        check_aliases([name])


def test_there_are_only_so_many() -> None:
    many = [f"name {number}" for number in range(ALIAS_CEILING)]
    one = changed(account("anna"), add=many)
    with pytest.raises(InvalidAccount, match="at most"):
        changed(one, add=["one more"])
    assert followed(one, ["one more"]) == one, "an import never fails of it"
    assert check_aliases([*many, *many]) == tuple(many)
