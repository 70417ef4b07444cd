"""Two machines and their cell against a model: any order of what people and operators do, of exchanges, restarts and
kill -9; afterwards both know the same, and it is what was told or written.

The model is a log: a machine knows a set of operations, and what counts follows from the set alone. The server's
clock is made to go with the machines' own.
"""

import asyncio
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from tests.guard.machines import Machine, make_tables, settle
from tests.support.clock import FakeClock
from tests.support.postgres import Postgres

from pillarbox.guard import cluster
from pillarbox.guard.base import Attempt
from pillarbox.guard.settings import GuardSettings
from pillarbox.store.postgresql import Store

PLACES, LOGINS = ("192.0.2.1", "198.51.100.7"), ("ada", "bob")
LIMIT = 40
STEP = 7.0
"""Seconds between two operations: more than what counts as clocks that differ."""

ROOMY = GuardSettings(free_failures=200)
"""So that no failure leaves its window for another one."""

places, logins, which = st.sampled_from(PLACES), st.sampled_from(LOGINS), st.sampled_from((0, 1))


class Operation(NamedTuple):
    """f, p, l, g, c as in schema.py."""

    kind: str
    place: str
    login: str
    number: int
    at: float


@dataclass
class Knowledge:
    """Operations that somebody knows, and recipients by machine, login and minute."""

    operations: frozenset[Operation] = frozenset()
    recipients: dict[tuple[int, str, int], int] = field(default_factory=dict)

    def copy(self) -> "Knowledge":
        return Knowledge(self.operations, dict(self.recipients))

    def failures(self, place: str, login: str = "") -> set[tuple[str, int]]:
        """Those that count."""
        undone = [one for one in self.operations if one.kind in "lgc"]
        return {
            (one.login, one.number)
            for one in self.operations
            if (one.kind, one.place) == ("f", place) and login in ("", one.login)
            if not any(
                one.at <= other.at and other.place in ("", place) and other.login in ("", one.login)
                for other in undone
            )
        }

    def knows(self, place: str) -> bool:
        return any((one.kind, one.place) == ("p", place) for one in self.operations)

    def used(self, login: str) -> int:
        return sum(count for key, count in self.recipients.items() if key[1] == login)


class Node:
    """What a machine has in memory and in its file; ``loaded``: until the first exchange, what the file had."""

    def __init__(self) -> None:
        self.memory, self.file = Knowledge(), Knowledge()
        self.loaded: Knowledge | None = Knowledge()

    def exchange(self, number: int, cell: Knowledge) -> None:
        if self.loaded is not None:
            for key, count in cell.recipients.items():
                more = count - self.loaded.recipients.get(key, 0)
                if key[0] == number and more > 0:
                    self.memory.recipients[key] = self.memory.recipients.get(key, 0) + more
            self.loaded = None
        cell.operations |= self.memory.operations
        cell.recipients |= {key: count for key, count in self.memory.recipients.items() if key[0] == number}
        self.memory.operations |= cell.operations
        self.memory.recipients |= cell.recipients

    def written(self, number: int) -> None:
        own = {key: count for key, count in self.memory.recipients.items() if key[0] == number}
        self.file = Knowledge(self.memory.operations, own)

    def restart(self) -> None:
        self.memory, self.loaded = self.file.copy(), self.file.copy()


class Machines(RuleBasedStateMachine):
    """Each rule does the same to machines and model."""

    node: Postgres

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = FakeClock()
        self.dsn = self.node.create_database()
        self.do(make_tables(self.dsn))
        self.administrator = Store(self.dsn, size=1)
        self.do(self.make_clock())
        self.lives, self.life = 0, [0, 0]
        self.machines = [self.do(self.open(number)) for number in (0, 1)]
        self.nodes, self.cell = [Node(), Node()], Knowledge()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    async def open(self, number: int) -> Machine:
        self.lives += 1
        self.life[number] = self.lives
        machine = await Machine.open(Path(self.folder.name) / str(number), self.dsn, self.clock)
        machine.ledger.apply(ROOMY)
        return machine

    async def make_clock(self) -> None:
        await self.administrator.read(("CREATE TABLE clock (at float8)", ()))
        await self.administrator.read(("INSERT INTO clock VALUES (%s)", (self.clock(),)))
        time = "RETURNS timestamptz STABLE LANGUAGE sql AS 'SELECT to_timestamp(at) FROM clock'"
        await self.administrator.read((f"CREATE FUNCTION our_time() {time}", ()))

    def step(self) -> float:
        self.clock.advance(STEP)
        self.do(self.set_clock())
        return self.clock()

    async def set_clock(self) -> None:
        await self.administrator.read(("UPDATE clock SET at = %s", (self.clock(),)))

    def note(self, number: int, operation: Operation) -> None:
        self.nodes[number].memory.operations |= {operation}

    @rule(number=which, place=places, login=logins, guesses=st.sets(st.integers(0, 12), min_size=1, max_size=9))
    def guess(self, number: int, place: str, login: str, guesses: set[int]) -> None:
        at = self.step()
        for guess in sorted(guesses):
            identity = f"{login} {guess}".ljust(16).encode()
            key = 100 * self.life[number] + guess  # each life has its own key: the same guess counts once in each
            there = self.nodes[number].memory.failures(place)
            self.machines[number].ledger.failed(Attempt(place, login, identity, at))
            if (login, key) not in there:
                self.note(number, Operation("f", place, login, key, at))

    @rule(number=which, place=places, login=logins)
    def sign_in(self, number: int, place: str, login: str) -> None:
        at = self.step()
        self.machines[number].ledger.succeeded(Attempt(place, login, b"right", at))
        if self.nodes[number].memory.failures(place, login):
            self.note(number, Operation("c", place, login, 0, at))
        self.note(number, Operation("p", place, "", 0, at))

    @rule(number=which, place=places)
    def unblock(self, number: int, place: str) -> None:
        at = self.step()
        self.machines[number].ledger.unblock_prefix(place, at)
        self.note(number, Operation("l", place, "", 0, at))

    @rule(number=which, login=logins)
    def forget(self, number: int, login: str) -> None:
        at = self.step()
        self.machines[number].ledger.forget_login(login)
        self.note(number, Operation("g", "", login, 0, at))

    @rule(number=which, login=logins, recipients=st.integers(1, 15))
    def take(self, number: int, login: str, recipients: int) -> None:
        at = self.step()
        memory = self.nodes[number].memory
        took = self.do(self.machines[number].ledger.take(login, recipients, LIMIT, at))
        assert took == (memory.used(login) + recipients <= LIMIT)
        if took:
            key = (number, login, int(at // 60))
            memory.recipients[key] = memory.recipients.get(key, 0) + recipients

    @rule(number=which, login=logins, recipients=st.integers(1, 15))
    def give_back(self, number: int, login: str, recipients: int) -> None:
        at = self.step()
        self.machines[number].ledger.give_back(login, recipients, at)
        own = self.nodes[number].memory.recipients
        for key in sorted((key for key in own if key[:2] == (number, login)), reverse=True):
            returned = min(own[key], recipients)
            own[key] -= returned
            recipients -= returned

    @rule(number=which)
    def exchange(self, number: int) -> None:
        self.do(self.machines[number].run())
        self.nodes[number].exchange(number, self.cell)

    @rule(number=which)
    def write(self, number: int) -> None:
        self.do(self.machines[number].ledger.flush())
        self.nodes[number].written(number)

    @rule(number=which)
    def kill_9(self, number: int) -> None:
        self.do(self.machines[number].kill())
        self.machines[number] = self.do(self.open(number))
        self.nodes[number].restart()

    @rule()
    def all_know_the_same(self) -> None:
        self.do(settle(*self.machines))
        for number in (0, 1, 0, 1):
            self.nodes[number].exchange(number, self.cell)
        self.check()
        blocks = [machine.ledger.blocks(self.clock()) for machine in self.machines]
        assert blocks[0].keys() == blocks[1].keys()
        for place, block in blocks[0].items():
            assert block.until == pytest.approx(blocks[1][place].until, abs=STEP)

    def check(self) -> None:
        for machine, node in zip(self.machines, self.nodes, strict=True):
            for place in PLACES:
                assert machine.failures(place) == len(node.memory.failures(place))
                assert machine.ledger.known(place, self.clock()) == node.memory.knows(place)
            for login in LOGINS:
                assert machine.ledger.used(login, self.clock()) == node.memory.used(login)

    def teardown(self) -> None:
        if not hasattr(self, "machines"):
            return
        try:
            self.check()
            self.all_know_the_same()
        finally:
            self.end()

    def end(self) -> None:
        for machine in self.machines:
            self.do(machine.kill())
        self.do(self.administrator.close())
        self.node.drop_database(self.dsn)
        self.do(self.stop())
        self.loop.close()
        self.folder.cleanup()

    async def stop(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


@pytest.fixture(autouse=True)
def _node(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unittest.TestCase takes no fixture as an argument. The cell's clock is ours."""
    Machines.node = postgres
    for name in ("_TELL", "_HEAR", "_EXPIRE", "_BEAT"):
        statement = getattr(cluster, name)
        assert "now()" in statement
        monkeypatch.setattr(cluster, name, statement.replace("now()", "our_time()"))


TestTwoMachines = Machines.TestCase
TestTwoMachines.settings = settings(max_examples=25, stateful_step_count=30, derandomize=True, deadline=None)


def test_a_failure_that_was_forgotten_and_is_tried_again_counts_again_on_both() -> None:
    state = Machines()
    state.begin()
    place, login = PLACES[0], LOGINS[0]
    state.guess(number=0, place=place, login=login, guesses={1, 2})
    state.all_know_the_same()
    state.unblock(number=1, place=place)
    state.all_know_the_same()
    state.guess(number=0, place=place, login=login, guesses={1})
    state.all_know_the_same()
    assert [machine.failures(place) for machine in state.machines] == [1, 1]
    state.teardown()
