"""Two machines and one cell against a model in memory: any order of verbs, questions, restarts, of accounts that a
machine had alone, and of backups that are brought back."""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tests.directory.machines import Machine, account, empty_cell
from tests.support.administrator import Administrator
from tests.support.postgres import Postgres

from pillarbox.directory.accounts import AccountsStore
from pillarbox.directory.base import (
    Account,
    AccountExists,
    CertificateTaken,
    InvalidAccount,
    Unavailable,
    UnknownAccount,
)

NAMES = ("ada", "bob", "eve")
TABLES = ("directory", "directory_history", "account", "account_removed", "account_certificate")
MARKS = ("cn:x", "cn:y")
names = st.sampled_from(NAMES)
marks = st.sets(st.sampled_from(MARKS)).map(lambda found: tuple(sorted(found)))
which = st.sampled_from((0, 1))


@dataclass
class Cell:
    """What the cluster has, and had; ``history``: of its states, each with a number that is used once."""

    accounts: dict[str, Account] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    history: list[int] = field(default_factory=lambda: [0])

    def copy(self) -> "Cell":
        return Cell(dict(self.accounts), set(self.removed), list(self.history))

    def taken(self, key: str, wanted: tuple[str, ...]) -> bool:
        return any(set(wanted) & set(one.certificates) for other, one in self.accounts.items() if other != key)

    def put(self, key: str, one: Account) -> None:
        if self.taken(key, one.certificates):
            raise CertificateTaken(key)
        self.accounts[key] = one
        self.removed.discard(key)


@dataclass
class Copy:
    """What a machine has: of the cluster's, as of its last look, and alone."""

    copied: dict[str, Account] = field(default_factory=dict)
    alone: dict[str, Account] = field(default_factory=dict)
    state: int = 0

    def follow(self, cell: Cell) -> None:
        self.state = cell.history[-1]
        self.copied = dict(cell.accounts)
        held = {mark for one in cell.accounts.values() for mark in one.certificates}
        self.alone = {
            key: replace(one, certificates=tuple(mark for mark in one.certificates if mark not in held))
            for key, one in self.alone.items()
            if key not in cell.accounts and key not in cell.removed
        }


class Machines(RuleBasedStateMachine):
    """Each rule does the same to both and compares what they say. Nothing asks by itself: a rule does."""

    node: Postgres

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.dsn = self.do(empty_cell(self.node))
        self.cell, self.copies = Cell(), [Copy(), Copy()]
        self.machines = [Machine(Path(self.folder.name) / str(number), self.dsn) for number in (0, 1)]
        for number in (0, 1):
            self.open(number)
        self.count = 0
        self.saved: Cell | None = None

    def do(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(call)

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        for machine in self.machines:
            self.do(machine.close())
        self.do(self.loop.shutdown_default_executor())
        self.loop.close()
        self.folder.cleanup()

    def open(self, number: int) -> None:
        self.do(self.machines[number].open(asking=False))
        self.ask(number)

    def new(self, name: str, held: tuple[str, ...]) -> Account:
        self.count += 1
        return account(name, password_hash=f"$argon2id${self.count}", certificates=held)

    def verb(self, number: int, call: Coroutine[Any, Any, Any], modelled: Callable[[], Any]) -> None:
        """The same to both; a verb that succeeds has brought the copy up."""
        expected: type[Exception] | None = None
        try:
            self.check_known(number)
            modelled()
        except (AccountExists, CertificateTaken, InvalidAccount, Unavailable, UnknownAccount) as error:
            expected = type(error)
        if expected is not None:
            with pytest.raises(expected):
                self.do(call)
        else:
            self.do(call)
            self.step()
            self.copies[number].follow(self.cell)
        self.compare(number)

    def check_known(self, number: int) -> None:
        """A copy of what is not the cell's past changes nothing there until it has asked."""
        if self.copies[number].state not in self.cell.history:
            raise Unavailable

    def step(self) -> None:
        self.count += 1
        self.cell.history.append(self.count)

    def compare(self, number: int) -> None:
        model = self.copies[number]
        found = self.do(self.machines[number].content())
        assert {one.login: one for one in found} == {**model.copied, **model.alone}
        assert {one.login for one in self.do(self.machines[number].copy.list_alone())} == set(model.alone)

    @rule(number=which, name=names, held=marks)
    def add(self, number: int, name: str, held: tuple[str, ...]) -> None:
        made = self.new(name, held)

        def modelled() -> None:
            if name in self.copies[number].alone or name in self.cell.accounts:
                raise AccountExists(name)
            self.cell.put(name, made)

        self.verb(number, self.machines[number].accounts.add(made), modelled)

    @rule(number=which, name=names, held=marks)
    def change(self, number: int, name: str, held: tuple[str, ...]) -> None:
        made = self.new(name, held)

        def modelled() -> None:
            if name in self.cell.accounts:
                self.cell.put(name, made)
            else:
                raise InvalidAccount if name in self.copies[number].alone else UnknownAccount(name)

        self.verb(number, self.machines[number].accounts.change(name, lambda _: made), modelled)

    @rule(number=which, name=names)
    def remove(self, number: int, name: str) -> None:
        model = self.copies[number]
        if name in model.alone:
            self.do(self.machines[number].accounts.remove(name))
            del model.alone[name]
            self.compare(number)
            return

        def modelled() -> None:
            if self.cell.accounts.pop(name, None) is None:
                raise UnknownAccount(name)
            self.cell.removed.add(name)

        self.verb(number, self.machines[number].accounts.remove(name), modelled)

    @rule(number=which)
    def publish(self, number: int) -> None:
        model = self.copies[number]
        if model.alone and model.state not in self.cell.history:
            with pytest.raises(Unavailable):
                self.do(self.machines[number].accounts.publish())
            return
        published, refused = [], []
        for name, one in sorted(model.alone.items()):
            known = name in self.cell.removed or name in self.cell.accounts
            if self.cell.accounts.get(name) == one:
                published.append(name)
            elif known or self.cell.taken(name, one.certificates):
                refused.append(name)
            else:
                self.cell.put(name, one)
                published.append(name)
        had_some = bool(model.alone)
        done = self.do(self.machines[number].accounts.publish())
        assert (list(done.published), [login for login, _ in done.refused]) == (published, refused)
        if had_some:
            self.step()
            model.follow(self.cell)
        self.compare(number)

    @rule(number=which)
    def ask(self, number: int) -> None:
        self.do(self.machines[number].accounts._ask(30.0))
        self.copies[number].follow(self.cell)
        self.compare(number)

    @rule(number=which)
    def restart(self, number: int) -> None:
        self.do(self.machines[number].close())
        self.open(number)

    @rule(number=which, name=names, held=marks)
    def embed(self, number: int, name: str, held: tuple[str, ...]) -> None:
        """For a while its spool is embedded: all that it has is its own, and changed there; then it is back."""
        model, made = self.copies[number], self.new(name, held)
        model.copied, model.alone = {}, {**model.copied, **model.alone}
        others = [one for key, one in model.alone.items() if key != name]
        if not any(set(held) & set(one.certificates) for one in others):
            model.alone[name] = made

        async def change() -> None:
            own = await AccountsStore.open(self.machines[number].folder / "accounts.db")
            if model.alone.get(name) is made:
                known = await own.find(name) is not None
                await (own.replace(made) if known else own.add(made))
            await own.close()

        self.do(self.machines[number].close())
        self.do(change())
        self.open(number)

    @rule()
    def back_up(self) -> None:
        self.saved = self.cell.copy()
        copied = (f"CREATE TABLE backup.{table} AS TABLE pillarbox.{table}" for table in TABLES)
        self.administer("DROP SCHEMA IF EXISTS backup CASCADE", "CREATE SCHEMA backup", *copied)

    @precondition(lambda self: self.saved is not None)
    @rule()
    def bring_back(self) -> None:
        assert self.saved is not None
        self.cell = self.saved.copy()
        for table in TABLES:
            self.administer(
                f"DELETE FROM pillarbox.{table}",  # noqa: S608  # made of constants
                f"INSERT INTO pillarbox.{table} SELECT * FROM backup.{table}",  # noqa: S608  # as above
            )

    def administer(self, *statements: str) -> None:
        administrator = Administrator(self.dsn)
        for statement in statements:
            administrator.ask(statement)
        administrator.close()


@pytest.fixture(scope="module", autouse=True)
def _node(postgres: Postgres) -> None:
    """A unittest.TestCase takes no fixture as an argument."""
    Machines.node = postgres


TestTwoMachines = Machines.TestCase
TestTwoMachines.settings = settings(max_examples=25, stateful_step_count=20, derandomize=True, deadline=None)
