"""The whole product on one machine: cells of three, two submission and two delivery machines, load and a next hop.

    async with staged(rate=25, say=print) as stage:
        await asyncio.to_thread(some_fault, stage)
        await stage.healthy()
        balance = await stage.settle()
    balance.lost                                    # must be 0

The tables and the users of the database are made as an administrator makes them (`pillarbox cluster init`): each
process is a user of its own, with no more rights than its role needs. With ``cells=2`` there is a second cell.
Everything is below one scratch folder and on loopback; all that was started is ended by its id, however it ends.

ERRORS
    AssertionError: something did not start or become well in time; with the ends of the logs.
"""

import asyncio
import contextlib
import secrets
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests.cluster.leftovers import PREFIX, owned, swept
from tests.cluster.load import LOGIN, Books, Load
from tests.cluster.machine import Machine
from tests.cluster.probes import Probes
from tests.support.cell import Cell
from tests.support.certs import Authority
from tests.support.link import Link
from tests.support.ports import steady_ports
from tests.support.postgres import scratch_folder

Say = Callable[[str], None]

DATABASE, USER = "mail", "pillarbox_{role}"
ROLES = ("owner", "submission", "delivery", "keeper")


@dataclass(frozen=True, slots=True)
class Balance:
    """How it adds up: accepted = delivered + bounced + queued + lost."""

    accepted: int
    delivered: int
    bounced: int
    queued: int
    lost: int
    doubles: Counter[str]
    bounced_twice: int


@dataclass
class Stage:
    """What is going on; made by ``staged``."""

    cells: list[Cell]
    machines: list[Machine]
    load: Load
    probes: Probes
    say: Say
    queue: int = 0
    """Messages in the cell, as of a moment ago."""
    hurry: threading.Event = field(default_factory=threading.Event)
    """Set: faults do not wait any more, they repair and return."""
    notes: list[str] = field(default_factory=list)
    """What faults have seen that is worth a line."""

    @property
    def cell(self) -> Cell:
        """The first one, which has the accounts and what the guard counts."""
        return self.cells[0]

    @property
    def books(self) -> Books:
        """What clients and the next hop have seen."""
        return self.load.books

    def submission(self) -> list[Machine]:
        """The machines that take mail."""
        return [machine for machine in self.machines if "submission" in machine.roles]

    def delivery(self) -> list[Machine]:
        """The machines that relay it."""
        return [machine for machine in self.machines if "delivery" in machine.roles]

    async def tend(self) -> None:
        """A service manager for all machines, for ever."""
        while True:
            for machine in self.machines:
                for news in await asyncio.to_thread(machine.tend):
                    self.say(news)
            self.queue = len(self.books.outstanding())
            await asyncio.sleep(0.25)

    async def healthy(self, timeout: float = 150.0) -> None:
        """Until three nodes of each cell are in the quorum, every process is there, and mail is accepted and
        delivered again. Raises AssertionError."""
        began = time.monotonic()
        for cell in self.cells:
            await _complete(cell, timeout)
        accepted, delivered = len(self.books.accepted), self.books.delivered
        while not (
            all(machine.well() for machine in self.machines)
            and len(self.books.accepted) >= accepted + 20
            and self.books.delivered >= delivered + 20
        ):
            assert time.monotonic() - began < timeout, f"not well after {timeout:.0f} s\n{self.tail()}"
            await asyncio.sleep(0.2)

    async def settle(self, timeout: float = 120.0) -> Balance:
        """Ends the load, waits until all is delivered, and adds up."""
        await self.load.stop(30.0)
        began = time.monotonic()
        while self.books.outstanding() and time.monotonic() - began < timeout:  # noqa: ASYNC110  # the hop sets no event
            await asyncio.sleep(0.2)
        left = self.books.outstanding()
        queued = set(await asyncio.to_thread(self._queued)) if left else set()
        left = self.books.outstanding()  # once more: what left the queue meanwhile has arrived by now
        if left - queued:
            await asyncio.sleep(2.0)
            left = self.books.outstanding()
        accepted, bounces = self.books.accepted.keys(), self.books.bounces
        bounced = accepted & bounces.keys()
        return Balance(
            accepted=len(accepted),
            delivered=len((accepted & self.books.there) - bounced),
            bounced=len(bounced),
            queued=len(left & queued),
            lost=len(left - queued),
            doubles=self.books.doubles(),
            bounced_twice=sum(times - 1 for queue_id, times in bounces.items() if queue_id in accepted),
        )

    def _queued(self) -> list[str]:
        last = AssertionError("no machine")
        for machine in self.machines:
            try:
                return machine.queued()
            except AssertionError as error:
                last = error
        raise last

    def tail(self) -> str:
        """The ends of all logs."""
        return "\n".join((*(machine.tail() for machine in self.machines), *(cell.tail() for cell in self.cells)))


async def _complete(cell: Cell, timeout: float) -> None:
    """Until all are in the quorum. Patroni ends when it finds no etcd, and its unit would start it again."""
    until = time.monotonic() + timeout
    while True:
        await _whole(_revive, cell)
        try:
            return await asyncio.to_thread(cell.wait_for_members, 3, timeout=10.0)
        except AssertionError:
            if time.monotonic() > until:
                raise


def _revive(cell: Cell) -> None:
    for node in cell.nodes:
        with contextlib.suppress(AssertionError):
            node.start()


def _machine(
    name: str, roles: tuple[str, ...], number: int, folder: Path, cells: list[Cell], authority: Authority, relay: int
) -> Machine:
    """With a link of its own to every node of every cell."""
    pairs, entries = [], []
    for tag, cell in zip("ab", cells, strict=False):
        fronts = steady_ports(len(cell.nodes))
        pairs += list(zip(fronts, [node.ports.client_front for node in cell.nodes], strict=True))
        dsn = make_conninfo(cell.dsn(USER, DATABASE), port=",".join(map(str, fronts)))
        entries.append(f'name = "{tag}"\ndsn = "{dsn}"\npassword_file = "{cell.folder}/pg-{{role}}"')
    return Machine(
        name,
        ("control", "spool", *roles),
        folder / name,
        f"127.0.0.{10 + number}",
        steady_ports(1)[0],
        Link(pairs),
        authority.issue("mail.example.org", "localhost"),
        "\n[[spool.cell]]\n".join(entries),
        relay,
    )


def _create(cell: Cell) -> None:
    """An empty database, its owner, and a file with the password of each user; as in docs/howto/cluster.md."""
    cell.create_database(DATABASE, USER.format(role="owner"))
    with psycopg.connect(cell.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER ROLE {} CREATEROLE").format(sql.Identifier(USER.format(role="owner"))))
    for role in ROLES:
        password = cell.passwords.setdefault(USER.format(role=role), secrets.token_urlsafe(12))
        secret = cell.folder / f"pg-{role}"
        secret.touch(mode=0o600)
        secret.write_text(password + "\n")


def _prepare(cells: list[Cell], machines: list[Machine], password: str, say: Say) -> None:
    """Tables, users, accounts, and all processes started."""
    for machine in machines:
        machine.link.start()
    say("pillarbox cluster init")
    machines[0].command("cluster", "init")
    for cell in cells:
        with psycopg.connect(cell.dsn(), autocommit=True) as connection:
            keeper = sql.Identifier(USER.format(role="keeper"))
            connection.execute(sql.SQL("GRANT pg_read_all_stats TO {}").format(keeper))
    machines[0].user(LOGIN, password)
    say("pillarbox serve: " + ", ".join(machine.name for machine in machines))
    for machine in machines:
        machine.start()


@contextlib.asynccontextmanager
async def staged(*, rate: float = 25.0, clients: int = 8, cells: int = 1, say: Say) -> AsyncIterator[Stage]:
    """All of it, with load on it and well; ended and removed afterwards."""
    for news in swept():
        say(news)
    folder = scratch_folder(PREFIX)
    (folder / "ca").mkdir()
    authority = Authority(folder / "ca")
    password = secrets.token_urlsafe(12)
    folder.chmod(0o755)
    made: list[Cell] = []
    machines: list[Machine] = []
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(owned(folder))
        for tag in "ab"[:cells]:
            place = folder / tag
            place.mkdir()
            place.chmod(0o755)
            cell = Cell(place, authority)
            made.append(cell)
            stack.callback(cell.end)
            say(f"cell {tag}: three nodes with etcd, Patroni, PostgreSQL")
            await _whole(cell.start)
            await _whole(_create, cell)
        load = await stack.enter_async_context(Load((), authority.ca, password, rate=rate, clients=clients))
        for number, (name, role) in enumerate(
            (("sub1", "submission"), ("sub2", "submission"), ("del1", "delivery"), ("del2", "delivery")), 1
        ):
            machine = _machine(name, (role,), number, folder, made, authority, load.hop.port)
            stack.callback(machine.end)
            machines.append(machine)
        addresses = [(machine.host, machine.port) for machine in machines if "submission" in machine.roles]
        load.addresses = addresses
        probes = Probes(addresses, load.context, load.response)
        stage = Stage(made, machines, load, probes, say)
        await _whole(_prepare, made, machines, password, say)
        tending = asyncio.create_task(stage.tend())
        stack.push_async_callback(_cancelled, tending)
        load.begin()
        await stage.healthy()
        await stack.enter_async_context(probes)
        yield stage


async def performed(
    work: Callable[[Stage], Awaitable[int]], stopping: asyncio.Event, *, rate: float, cells: int, say: Say
) -> int:
    """What ``work`` returns, on a stage of its own. Told to stop before that is up it ends in order, with 130."""
    up = asyncio.Event()

    async def all_of_it() -> int:
        async with staged(rate=rate, cells=cells, say=say) as stage:
            up.set()
            return await work(stage)

    playing = asyncio.create_task(all_of_it())
    told = asyncio.create_task(stopping.wait())
    await asyncio.wait((playing, told), return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if playing.done() or up.is_set():
        return await playing
    say("interrupted: what has begun to start is ended, which may take half a minute")
    await _cancelled(playing)
    return 130


async def _whole(step: Callable[..., object], *arguments: object) -> None:
    """A step in a thread, to its end: one that is left alone would start what nobody ends."""
    work = asyncio.ensure_future(asyncio.to_thread(step, *arguments))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait((work,))
        raise


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
