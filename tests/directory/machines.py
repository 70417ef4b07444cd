"""Machines that share the accounts of one cell, for tests: the spool process's part of each."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.support.administrator import Administrator
from tests.support.postgres import Postgres

from pillarbox.directory.accounts import AccountsStore
from pillarbox.directory.base import Account
from pillarbox.directory.cluster import ClusterAccounts
from pillarbox.directory.schema import MIGRATIONS, ROOM
from pillarbox.store.migrations import migrate
from pillarbox.store.postgresql import Store, Transaction


def account(login: str, **fields: object) -> Account:
    made = Account(login, ("bob@example.org",), (), False, None, False, 0, 1.5, 2.5, "$argon2id$x", None)
    return replace(made, **fields)  # type: ignore[arg-type]  # made of the right parts


def disabled(one: Account) -> Account:
    return replace(one, disabled=True)


class Machine:
    """The spool process's accounts on one machine."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self.folder, self.dsn = folder, dsn
        self.told: list[str] = []
        self.copy: AccountsStore
        self.accounts: ClusterAccounts
        self.store: Store

    async def open(self, *, asking: bool = True) -> "Machine":
        """``asking``: each second, by itself."""
        self.folder.mkdir(exist_ok=True)
        self.store = Store(self.dsn)
        self.copy = await AccountsStore.open(self.folder / "accounts.db", copy=True)
        self.copy.on_change(self._hear)
        self.accounts = ClusterAccounts(self.store, self.copy, name="a")
        if asking:
            await self.accounts.start()
        return self

    async def _hear(self, login: str, _generation: int) -> None:
        self.told.append(login)

    async def close(self) -> None:
        await self.accounts.close()
        await self.copy.close()
        await self.store.close()

    async def until(self, true: Callable[[Account | None], bool], login: str = "bob") -> None:
        async with asyncio.timeout(60):
            while not true(await self.accounts.find(login)):  # noqa: ASYNC110  # another machine's change
                await asyncio.sleep(0.01)

    async def until_well(self) -> None:
        async with asyncio.timeout(60):
            while self.accounts.status() is not None:  # noqa: ASYNC110  # the next question is nobody's event
                await asyncio.sleep(0.01)

    async def until_copied(self, administrator: Administrator) -> None:
        """Until the copy is as the cell is."""
        async with asyncio.timeout(60):
            while True:
                state = self.copy.copy_state
                if administrator.ask(
                    "SELECT mark, generation FROM pillarbox.directory NATURAL JOIN pillarbox.directory_history"
                ) == [(state and state.id, state and state.generation)]:
                    return
                await asyncio.sleep(0.01)

    async def content(self) -> list[Account]:
        return [replace(one, generation=0) for one in await self.accounts.list()]


async def new_cell(node: Postgres) -> str:
    dsn = await asyncio.to_thread(node.create_database)
    store = Store(dsn)
    await migrate(store, ROOM, MIGRATIONS)
    await store.close()
    return dsn


_emptied: dict[Path, str] = {}
"""By the node's folder: a later node may have the port of one that ended."""


async def empty_cell(node: Postgres) -> str:
    """The DSN of a cell without accounts: the same one, emptied, for each test of a node."""
    dsn = _emptied.get(node.folder)
    if dsn is None:
        dsn = _emptied[node.folder] = await new_cell(node)
        return dsn
    store = Store(dsn)

    async def work(transaction: Transaction) -> None:
        transaction.add("TRUNCATE account, account_removed, account_certificate")
        transaction.add("UPDATE directory SET generation = 0")
        transaction.add("DELETE FROM directory_history WHERE generation <> 0")
        transaction.add("UPDATE directory_history SET mark = gen_random_uuid()::text")

    await store.write(work)
    await store.close()
    return dsn
