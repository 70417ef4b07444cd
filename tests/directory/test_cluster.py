"""cluster.py: the accounts of two machines over one real PostgreSQL."""

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.directory.machines import Machine, account, disabled, new_cell
from tests.support.administrator import Administrator
from tests.support.postgres import Postgres, running_postgres

from pillarbox.directory import cell, cluster
from pillarbox.directory.accounts import AccountsStore
from pillarbox.directory.base import (
    AccountExists,
    CertificateTaken,
    InvalidAccount,
    Unavailable,
    UnknownAccount,
)
from pillarbox.directory.copy import Batch, Change
from pillarbox.directory.schema import MIGRATIONS, ROOM
from pillarbox.store.errors import Unreachable
from pillarbox.store.migrations import migrate
from pillarbox.store.postgresql import Store


@pytest.fixture
async def dsn(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(cluster, "ASK_EVERY", 0.05)
    return await new_cell(postgres)


@pytest.fixture
async def one(tmp_path: Path, dsn: str) -> AsyncIterator[Machine]:
    machine = await Machine(tmp_path / "one", dsn).open()
    yield machine
    await machine.close()


@pytest.fixture
async def two(tmp_path: Path, dsn: str) -> AsyncIterator[Machine]:
    machine = await Machine(tmp_path / "two", dsn).open()
    yield machine
    await machine.close()


async def test_what_is_done_on_one_machine_holds_on_the_other(one: Machine, two: Machine) -> None:
    bob = account("Bob", addresses=("b@example.org", "b\u00f6b@example.org"), certificates=("cn:Bob",), scram="s")
    await one.accounts.add(bob)
    assert await one.content() == [bob] and one.told == ["Bob"]
    await two.until(lambda found: found is not None)
    assert await two.content() == [bob]
    await two.accounts.change("BOB", disabled)
    await one.until(lambda found: found is not None and found.disabled)
    await one.accounts.remove("bob")
    await two.until(lambda found: found is None and len(two.told) == 3)  # it is told a moment after it is gone
    assert two.told == ["Bob", "Bob", "Bob"]


async def test_of_two_that_add_one_login_exactly_one_wins(one: Machine, two: Machine) -> None:
    adding = [machine.accounts.add(account("bob", password_hash=str(n))) for n, machine in enumerate((one, two))]
    done = await asyncio.gather(*adding, return_exceptions=True)
    assert [type(result) for result in done if result is not None] == [AccountExists]
    winner = str(done.index(None))
    for machine in (one, two):
        await machine.until(lambda found: found is not None and found.password_hash == winner)


async def test_changes_made_on_two_machines_at_once_are_both_kept(one: Machine, two: Machine) -> None:
    await one.accounts.add(account("bob"))
    changes = [
        machine.accounts.change(
            "bob", lambda found: replace(found, domains=(*found.domains, f"d{len(found.domains)}"))
        )
        for machine in (one, two) * 5
    ]
    await asyncio.gather(*changes)
    await one.until(lambda found: found is not None and len(found.domains) == 10)


async def test_errors_are_exact_whatever_the_copy_knows(one: Machine, two: Machine) -> None:
    await one.accounts.add(account("bob", certificates=("cn:x",)))
    with pytest.raises(AccountExists):
        await two.accounts.add(account("BOB"))
    with pytest.raises(CertificateTaken, match="bob"):
        await two.accounts.add(account("carol", certificates=("cn:x",)))
    for verb in (two.accounts.remove("dave"), two.accounts.change("dave", disabled)):
        with pytest.raises(UnknownAccount, match="dave"):
            await verb
    assert [found.login for found in await one.content()] == ["bob"]


async def test_a_new_machine_takes_all_in_pages_and_has_the_cells_key(
    one: Machine, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell, "PAGE", 3)
    monkeypatch.setattr(cell, "_CHANGES", cell._CHANGES.replace("LIMIT 1000", "LIMIT 3"))
    for number in range(10):
        await one.accounts.add(account(f"user{number}"))
    await one.accounts.remove("user3")
    new = await Machine(tmp_path / "new", dsn).open()
    assert await new.content() == await one.content() and len(await new.content()) == 9
    assert new.copy.scram_state is not None and one.copy.scram_state is not None
    assert new.copy.scram_state.key == one.copy.scram_state.key
    await new.close()


async def test_a_first_copy_that_breaks_off_serves_whom_it_has_and_is_made_whole_later(
    one: Machine, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell, "PAGE", 3)
    monkeypatch.setattr(cell, "_CHANGES", cell._CHANGES.replace("LIMIT 1000", "LIMIT 3"))
    for number in range(7):
        await one.accounts.add(account(f"user{number}"))
    new = await Machine(tmp_path / "new", dsn).open(asking=False)
    fetch = new.accounts._fetch

    async def break_off(since: int, mark: str, deadline: float) -> tuple[cell.Head, tuple[Change, ...]]:
        if since:
            raise Unreachable("the cell died")
        return await fetch(since, mark, deadline)

    monkeypatch.setattr(new.accounts, "_fetch", break_off)
    with pytest.raises(Unreachable):
        await new.accounts._ask(30.0)
    assert await new.accounts.find("user2") == replace(account("user2"), generation=3)
    with pytest.raises(Unavailable):
        await new.accounts.find("user5")
    assert new.copy.copy_state is None
    administrator = Administrator(dsn)  # as if an older state had been brought back meanwhile
    administrator.ask("DELETE FROM pillarbox.account WHERE key = 'user1'")
    administrator.close()
    monkeypatch.setattr(new.accounts, "_fetch", fetch)
    await new.accounts._ask(30.0)
    assert [found.login for found in await new.content()] == [f"user{number}" for number in (0, 2, 3, 4, 5, 6)]
    await new.close()


async def test_a_first_copy_that_broke_off_is_the_machines_own_when_the_spool_is_embedded_again(
    one: Machine, tmp_path: Path
) -> None:
    await one.accounts.add(account("bob"))
    found = await one.accounts.find("bob")
    other = await AccountsStore.open(tmp_path / "accounts.db", copy=True)
    await other.take(Batch(None, bytes(32), (Change("bob", "bob", 1, found),)))
    assert not await other.is_alone("bob")
    await other.close()
    own = await AccountsStore.open(tmp_path / "accounts.db")
    assert await own.is_alone("bob")
    await own.close()


async def test_accounts_of_one_machine_alone_sign_in_there_until_they_are_published(
    one: Machine, dsn: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    old = await AccountsStore.open(folder / "accounts.db")
    await old.add(account("ada", certificates=("cn:ada",)))
    await old.add(account("bob", password_hash="theirs"))
    await old.close()
    await one.accounts.add(account("Bob", password_hash="the cluster's"))
    machine = await Machine(folder, dsn).open()
    assert "accounts.unpublished" in "".join(capfd.readouterr())
    assert "1 not in the cluster" in str(machine.accounts.status())
    assert [found.login for found in await machine.content()] == ["ada", "Bob"]
    with pytest.raises(AccountExists):
        await machine.accounts.add(account("Ada"))
    with pytest.raises(InvalidAccount, match="pillarbox user publish"):
        await machine.accounts.change("ada", disabled)
    done = await machine.accounts.publish()
    assert (done.published, done.refused, done.superseded) == (["ada"], [], ["bob"])
    assert machine.accounts.status() is None
    await one.until(lambda found: found is not None and found.certificates == ("cn:ada",), "ada")
    assert (await machine.accounts.publish()).published == []
    found = await machine.accounts.find("bob")
    assert found is not None and found.password_hash == "the cluster's"
    await machine.close()


async def test_a_file_that_was_a_copy_is_the_machines_own_when_the_spool_is_embedded_again(
    one: Machine, tmp_path: Path
) -> None:
    await one.accounts.add(account("bob"))
    await one.copy.close()
    own = await AccountsStore.open(one.folder / "accounts.db")
    assert [found.login for found in await own.list()] == ["bob"]
    assert own.copy_state is None and await own.is_alone("bob")
    await own.close()


async def test_a_cell_that_was_brought_back_from_a_backup_is_taken_anew_by_all(
    one: Machine, two: Machine, dsn: str
) -> None:
    for login in ("bob", "carol"):
        await one.accounts.add(account(login))
    await two.until(lambda found: found is not None, "carol")
    administrator = Administrator(dsn)
    administrator.ask(
        "WITH gone AS (DELETE FROM pillarbox.account WHERE key = 'carol'), "
        "history AS (DELETE FROM pillarbox.directory_history WHERE generation > 1) "
        "UPDATE pillarbox.directory SET generation = 1"
    )
    administrator.close()
    for machine in (one, two):
        await machine.until(lambda found: found is None, "carol")
    await one.accounts.add(account("carol", password_hash="new"))
    await two.until(lambda found: found is not None and found.password_hash == "new", "carol")


@pytest.fixture(scope="module")
def node() -> Iterator[Postgres]:
    """A node to be killed."""
    with running_postgres() as running:
        yield running


async def test_while_the_cell_is_away_the_copy_serves_and_verbs_say_so_and_then_all_goes_on(
    node: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "ASK_EVERY", 0.05)
    monkeypatch.setattr(cluster, "_PAUSES", (0.05,))
    dsn = await new_cell(node)
    machine = await Machine(tmp_path / "one", dsn).open()
    await machine.accounts.add(account("bob"))
    await asyncio.to_thread(node.kill9)
    with pytest.raises(Unavailable, match="nothing was changed: cell a"):
        await machine.accounts.change("bob", disabled)
    assert await machine.accounts.find("bob") is not None
    await machine.close()
    capfd.readouterr()
    machine = await Machine(tmp_path / "one", dsn).open()  # starts while the cell is away: its copy serves
    new = await Machine(tmp_path / "new", dsn).open()  # it never had one
    out = "".join(capfd.readouterr())
    assert "accounts.behind" in out and "age" in out and "accounts.missing" in out
    assert "s old" in str(machine.accounts.status()) and "none yet" in str(new.accounts.status())
    assert await machine.accounts.find("bob") is not None
    with pytest.raises(Unavailable):
        await new.accounts.find("bob")
    await asyncio.to_thread(node.start)
    for each in (machine, new):
        await each.until_well()
        assert [found.login for found in await each.content()] == ["bob"]
    await new.accounts.change("bob", disabled)
    await machine.until(lambda found: found is not None and found.disabled)
    for each in (machine, new):
        await each.close()


KILLED = """
    import asyncio, os, signal, sys
    from pathlib import Path
    from tests.directory.machines import Machine, account
    from pillarbox.directory.accounts import AccountsStore

    async def die(self, batch):
        os.kill(os.getpid(), signal.SIGKILL)

    async def main():
        machine = await Machine(Path(sys.argv[1]), sys.argv[2]).open()
        AccountsStore.take = die
        await machine.accounts.add(account("bob"))

    asyncio.run(main())
"""


async def test_a_process_killed_between_the_cell_and_its_copy_has_the_change_after_its_restart(
    one: Machine, dsn: str, tmp_path: Path
) -> None:
    command = (sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "killed"), dsn)
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    assert done.returncode == -9, done.stderr
    await one.until(lambda found: found is not None)  # the cell has it
    plain = await AccountsStore.open(tmp_path / "killed" / "accounts.db", copy=True)
    assert await plain.find("bob") is None
    await plain.close()
    again = await Machine(tmp_path / "killed", dsn).open()
    assert await again.content() == await one.content() == [account("bob")]
    await again.close()


async def test_a_cell_that_waits_for_no_standby_is_not_changed_where_a_quorum_is_demanded(one: Machine) -> None:
    await one.accounts.add(account("bob"))
    one.store.quorum = True
    with pytest.raises(Unavailable, match="nothing was changed"):
        await one.accounts.change("bob", disabled)
    found = await one.accounts.find("bob")
    assert found is not None and not found.disabled


OLD_ACCOUNT = """
    INSERT INTO pillarbox.account
    VALUES ('{0}', '{0}', ARRAY[]::text[], ARRAY[]::text[], false, NULL, false, {1}, 1.5, 2.5, '$argon2id$x', NULL)
"""


async def test_the_accounts_of_an_older_cell_are_kept_and_followed_after_the_upgrade(
    postgres: Postgres, tmp_path: Path
) -> None:
    """Programs of before the upgrade may go on changing accounts: what they number is marked, too."""
    dsn = await asyncio.to_thread(postgres.create_database)
    store = Store(dsn)
    await migrate(store, ROOM, MIGRATIONS[:1])
    administrator = Administrator(dsn)
    administrator.ask("UPDATE pillarbox.directory SET generation = 7")
    administrator.ask(OLD_ACCOUNT.format("ada", 3))
    await migrate(store, ROOM, MIGRATIONS)
    await store.close()
    machine = await Machine(tmp_path / "one", dsn).open(asking=False)
    await machine.accounts._ask(30.0)
    administrator.ask("UPDATE pillarbox.directory SET generation = generation + 1")
    administrator.ask(OLD_ACCOUNT.format("bob", 8))
    administrator.close()
    await machine.accounts._ask(30.0)
    assert [found.login for found in await machine.content()] == ["ada", "bob"]
    await machine.accounts.change("bob", disabled)
    state = machine.copy.copy_state
    assert state is not None and state.generation == 9 and machine.accounts.status() is None
    await machine.close()
