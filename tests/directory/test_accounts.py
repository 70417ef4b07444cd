"""accounts.py: the accounts' file, generations, and who is told."""

import asyncio
from pathlib import Path

import pytest

from pillarbox.directory.accounts import MIGRATIONS, AccountsStore
from pillarbox.directory.base import Account, AccountExists, Unavailable, UnknownAccount
from pillarbox.store.sqlite import SchemaTooNew, open_store


def account(login: str, **fields: object) -> Account:
    values: dict[str, object] = {
        "login": login,
        "addresses": ("bob@example.org", "b\u00f6b@example.org"),
        "domains": ("app.example.org",),
        "may_redirect": True,
        "recipients_per_hour": 7,
        "disabled": False,
        "generation": 0,
        "created_at": 1.5,
        "password_changed_at": 2.5,
        "password_hash": "$argon2id$x",
        "scram": "SCRAM-SHA-256$x",
    }
    return Account(**{**values, **fields})  # type: ignore[arg-type]  # made of the right parts above


async def test_what_is_stored_is_found_after_a_restart(tmp_path: Path) -> None:
    store = await AccountsStore.open(tmp_path / "accounts.db")
    await store.add(account("Bob"))
    await store.add(account("carol", recipients_per_hour=None, scram=None, may_redirect=False, disabled=True))
    await store.close()
    again = await AccountsStore.open(tmp_path / "accounts.db")
    assert await again.find("BOB") == account("Bob", generation=1)
    assert await again.find("carol") == account(
        "carol", generation=2, recipients_per_hour=None, scram=None, may_redirect=False, disabled=True
    )
    assert [one.login for one in await again.list()] == ["Bob", "carol"]
    assert await again.find("nobody") is None
    assert await again.find("\0") is None
    await again.close()


async def test_an_added_account_is_taken_whatever_its_case(tmp_path: Path) -> None:
    store = await AccountsStore.open(tmp_path / "accounts.db")
    await store.add(account("Bob"))
    with pytest.raises(AccountExists):
        await store.add(account("bOB"))
    with pytest.raises(UnknownAccount, match="carol"):
        await store.replace(account("carol"))
    with pytest.raises(UnknownAccount, match="carol"):
        await store.remove("carol")
    assert len(await store.list()) == 1
    await store.close()


async def test_generations_are_never_used_twice(tmp_path: Path) -> None:
    store = await AccountsStore.open(tmp_path / "accounts.db")
    seen = []
    for _ in range(3):
        await store.add(account("bob"))
        for _ in range(3):
            found = await store.find("bob")
            assert found is not None
            seen.append((await store.replace(found)).generation)
        await store.remove("bob")
        await store.close()
        store = await AccountsStore.open(tmp_path / "accounts.db")
    assert seen == sorted(set(seen))
    await store.close()


async def test_listeners_are_awaited_before_the_verb_returns(tmp_path: Path) -> None:
    store = await AccountsStore.open(tmp_path / "accounts.db")
    heard: list[tuple[str, int]] = []
    gate = asyncio.Event()

    async def listener(login: str, generation: int) -> None:
        await gate.wait()
        heard.append((login, generation))

    stop = store.on_change(listener)
    adding = asyncio.create_task(store.add(account("Bob")))
    await store.changes_since(None)  # a whole turn of the store: the write before it is durable
    assert not adding.done()
    gate.set()
    await adding
    await store.replace(account("BOB"))
    await store.remove("bob")
    stop()
    await store.add(account("bob"))
    assert heard == [("Bob", 1), ("BOB", 2), ("BOB", 3)]
    await store.close()


async def test_changes_since_tells_of_changed_and_removed_ones(tmp_path: Path) -> None:
    store = await AccountsStore.open(tmp_path / "accounts.db")
    for login in ("a", "b", "c"):
        await store.add(account(login))
    await store.replace(account("a"))
    await store.remove("b")
    last, changed = await store.changes_since(3)
    assert (last, sorted(changed)) == (5, [("a", 4), ("b", 5)])
    assert await store.changes_since(None) == (5, [])
    assert await store.changes_since(5) == (5, [])
    await store.add(account("b"))
    assert await store.changes_since(4) == (6, [("b", 6)])
    await store.close()


async def test_concurrent_changes_leave_the_newest_in_memory(tmp_path: Path) -> None:
    store = await AccountsStore.open(tmp_path / "accounts.db")
    await store.add(account("bob"))
    await asyncio.gather(*(store.replace(account("bob", recipients_per_hour=n)) for n in range(1, 30)))
    remembered = await store.find("bob")
    await store.close()
    again = await AccountsStore.open(tmp_path / "accounts.db")
    assert remembered == await again.find("bob")
    await again.close()


async def test_a_closed_file_is_unavailable_and_a_newer_one_refused(tmp_path: Path) -> None:
    store = await AccountsStore.open(tmp_path / "accounts.db")
    await store.close()
    with pytest.raises(Unavailable):
        await store.find("bob")
    newer = await open_store(tmp_path / "accounts.db", [*MIGRATIONS, "CREATE TABLE later (x INTEGER)"])
    await newer.close()
    with pytest.raises(SchemaTooNew):
        await AccountsStore.open(tmp_path / "accounts.db")
