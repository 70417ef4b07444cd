"""The users of a cell and the accounts: the keeper does its whole work with its own rights, others see nothing."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.directory.machines import Machine, account, disabled
from tests.support.cell_users import make_owned
from tests.support.postgres import Postgres, running_postgres

from pillarbox.directory import cluster
from pillarbox.directory.accounts import AccountsStore
from pillarbox.spool.settings import CellSettings, Role


@pytest.fixture(scope="module")
def node() -> Iterator[Postgres]:
    """A node of this module's own, for users are those of all its databases."""
    with running_postgres() as running:
        yield running


@pytest.fixture
async def made(node: Postgres) -> CellSettings:
    return await make_owned(node)


async def test_the_keeper_does_all_of_its_work_with_its_own_rights(
    made: CellSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "ASK_EVERY", 0.05)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        before = await AccountsStore.open(tmp_path / name / "accounts.db")
        await before.add(account("ada", password_hash=name, certificates=("cn:ada",)))
        await before.add(account(f"own-{name}", certificates=(f"cn:{name}",)))
        await before.close()
    one, two = [await Machine(tmp_path / name, made.of("keeper").dsn).open() for name in ("one", "two")]
    done = await one.accounts.publish()
    assert (done.published, done.refused) == (["ada", "own-one"], [])
    await one.accounts.add(account("bob", certificates=("cn:bob",)))
    await two.until(lambda found: found is not None)
    await two.accounts.change("bob", disabled)
    await one.until(lambda found: found is not None and found.disabled)
    assert await one.accounts.remove("bob") == "bob"
    await two.until(lambda found: found is None)
    await two.accounts.add(account("bob"))
    done = await two.accounts.publish()
    assert (done.published, done.superseded) == (["own-two"], ["ada"])
    await one.until(lambda found: found is not None, "own-two")
    assert await one.content() == await two.content()
    assert one.accounts.status() is None and two.accounts.status() is None
    for each in (one, two):  # and a cell that is an older one of itself is renewed
        await each.close()

    def bring_back() -> None:
        with psycopg.connect(made.of("owner").dsn, autocommit=True) as connection:
            for table in ("account", "account_removed", "directory_history"):
                connection.execute(f"DELETE FROM pillarbox.{table} WHERE generation > 1".encode())  # noqa: S608  # made of constants
            connection.execute("UPDATE pillarbox.directory SET generation = 1")

    await asyncio.to_thread(bring_back)
    await one.open()
    await one.until(lambda found: found is None)
    await one.until_well()
    await one.close()


TABLES = ("directory", "directory_history", "account", "account_removed", "account_certificate")
READING = tuple(
    f"SELECT {column} FROM {table}"  # noqa: S608  # made of constants
    for table in TABLES
    for column in ("1", "*", "count(*)")
)
CHANGING = (
    "UPDATE account SET password_hash = 'theirs'",
    "UPDATE directory SET generation = 0",
    "DELETE FROM account",
    "DELETE FROM account_removed",
    "INSERT INTO account_certificate VALUES ('cn:eve', 'bob')",
    "INSERT INTO account_removed VALUES ('bob', 'bob', 9)",
    "TRUNCATE account CASCADE",
    "DELETE FROM account_certificate",
)
NOT_THE_KEEPERS = (
    "UPDATE directory_history SET mark = ''",
    "DELETE FROM directory_history",
    "SELECT mark_generations()",
    "DELETE FROM directory",
    "INSERT INTO directory VALUES (false, '', 0, '')",
    "TRUNCATE account CASCADE",
    "ALTER TABLE account DROP COLUMN scram",
    "DROP TABLE account CASCADE",
)


@pytest.mark.parametrize(
    ("role", "statements"),
    [("submission", READING + CHANGING), ("delivery", READING + CHANGING), ("keeper", NOT_THE_KEEPERS)],
)
async def test_nobody_else_sees_or_changes_an_account(
    made: CellSettings, role: Role, statements: tuple[str, ...]
) -> None:
    def attack() -> list[str]:
        succeeded = []
        with psycopg.connect(made.of(role).dsn, autocommit=True, options="-c search_path=pillarbox") as connection:
            for statement in statements:
                try:
                    connection.execute(statement.encode())
                    succeeded.append(statement)
                except psycopg.errors.InsufficientPrivilege:
                    continue
        return succeeded

    assert await asyncio.to_thread(attack) == []
