"""[spool] kind = "cluster": `pillarbox serve` over a real PostgreSQL, that is killed and started again under it."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tests.support.cell_users import create_owned, make_owned
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.nexthop import NextHop
from tests.support.postgres import Postgres, running_postgres
from tests.support.talk import Talk

from pillarbox.console.operations import Filter, Operations
from pillarbox.control.channel import connect
from pillarbox.daemon import paths

pytestmark = pytest.mark.scenario

CONTENT = b"From: ada@example.org\r\nSubject: %d\r\n\r\ntext\r\n"
Start = Callable[..., RunningDaemon]


@pytest.fixture(scope="module")
def node() -> Iterator[Postgres]:
    """A node of this file's own, to be killed. It keeps what it confirmed."""
    with running_postgres(durable=True) as running:
        yield running


@pytest.fixture
def dsn(node: Postgres) -> str:
    """A cell with an ordinary owner, and a user for each role: no process is a superuser, or the owner."""
    return asyncio.run(make_owned(node)).dsn


@pytest.fixture
def serve(tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, password: str) -> Start:
    """Starts a daemon over a cell, with Ada's account."""

    def start(
        dsn: str, name: str = "one", *, durability: str = "local", cells: str = "", **more: str
    ) -> RunningDaemon:
        folder = tmp_path / name
        folder.mkdir()
        cluster = f'[spool]\nkind = "cluster"\ndurability = "{durability}"\n'
        cell = f'[[spool.cell]]\nname = "a"\ndsn = "{dsn}"\n'
        daemon = start_daemon(
            folder,
            authority,
            at_end=request.addfinalizer,
            extra=cluster + cell + cells,
            start=False,
            routes=more.get("routes"),
        )
        if more.get("start") != "no":
            daemon.start()
            if name == "one":  # for the others, too
                daemon.user("ada", password, ["ada@example.org"])
        return daemon

    return start


def sign_in(daemon: RunningDaemon, password: str) -> Talk:
    talk = Talk(daemon.submissions, daemon.ca)
    talk.say("EHLO client.example.org")
    assert talk.sign_in("ada", password).startswith("235")
    return talk


def submit(daemon: RunningDaemon, password: str, number: int = 1) -> str:
    """The reply to the end of data, or the first refusal."""
    with sign_in(daemon, password) as talk:
        return talk.transaction(CONTENT % number, "ada@example.org", "b@example.net")


async def until_empty(verbs: Operations) -> None:
    """A message leaves a moment after its delivery is in the log."""
    async with asyncio.timeout(30):
        while await verbs.list_messages(Filter(), 10):  # noqa: ASYNC110  # another process's event
            await asyncio.sleep(0.05)


async def until_tried(verbs: Operations, queue_ids: Sequence[str]) -> None:
    """The log says what came of a try a moment before the spool has it; what it has not would be settled late."""
    async with asyncio.timeout(30):
        while True:
            found = await verbs.list_messages(Filter(queue_ids=tuple(queue_ids)), 100)
            if len(found) == len(queue_ids) and all(one.attempts for each in found for one in each.recipients):
                return
            await asyncio.sleep(0.05)


def arrived(*daemons: RunningDaemon) -> list[bytes]:
    """The subjects in their maildirs."""
    return sorted(
        line
        for daemon in daemons
        for content in daemon.delivered()
        for line in content.split(b"\r\n")
        if line[:8] == b"Subject:"
    )


def until(true: Callable[[], bool], daemon: RunningDaemon) -> None:
    """Raises AssertionError with the log when it is not so within a minute."""
    ends_at = time.monotonic() + 60
    while not true():
        assert time.monotonic() < ends_at, daemon.tail()
        time.sleep(0.05)


async def test_a_message_is_taken_and_delivered_and_the_operators_verbs_reach_the_cell(
    serve: Start, dsn: str, password: str
) -> None:
    async with NextHop(script={"MAIL": ["451 4.3.0 later", "250 2.1.0 ok", "451 4.3.0 later"]}) as hop:
        routes = f'[[route]]\nhost = "127.0.0.1"\nport = {hop.port}\ntls = "none"\n'
        daemon = await asyncio.to_thread(serve, dsn, routes=routes)
        first = (await asyncio.to_thread(submit, daemon, password)).split()[-1]
        await asyncio.to_thread(daemon.wait_for, "delivery.deferred", queue_id=first)
        channel = await connect(paths.control_socket(daemon.run_dir))
        verbs = Operations(channel)
        which = Filter(queue_ids=(first,))
        assert [message.envelope.queue_id for message in await verbs.list_messages(Filter(), 10)] == [first]
        assert await verbs.hold_messages(which) == [first]
        assert (await verbs.show_message(first)).recipients[0].state == "held"
        status = await verbs.status()
        assert status["queue"]["recipients"]["held"] == 1
        assert await verbs.release_messages(which) == [first]
        await hop.received(1)
        assert b"Subject: 1" in hop.messages[0].content
        await asyncio.to_thread(daemon.wait_for, "delivery.delivered", queue_id=first)
        second = (await asyncio.to_thread(submit, daemon, password, 2)).split()[-1]
        await asyncio.to_thread(daemon.wait_for, "delivery.deferred", queue_id=second)
        assert (await verbs.delete_messages([second], with_bounce=False)).deleted == [second]
        await until_empty(verbs)
        channel.close()
        assert await asyncio.to_thread(daemon.stop) == 0


def test_postgresql_is_killed_under_it_and_mail_gets_451_until_it_is_back_and_nothing_is_lost(
    serve: Start, node: Postgres, dsn: str, password: str
) -> None:
    daemon = serve(dsn)
    assert submit(daemon, password, 1).startswith("250")
    with sign_in(daemon, password) as talk:
        node.kill9()
        try:
            daemon.wait_for("cell.failed", role="submission")
            for _ in range(3):  # at once, and the session stays
                began = time.monotonic()
                assert talk.say("MAIL FROM:<ada@example.org>").startswith("451 4.3.2 ")
                assert time.monotonic() - began < 5
            status = {process["role"]: process for process in daemon.ask("status")["processes"]}
            assert set(status) == {"spool", "submission", "delivery"}
        finally:
            node.start()
        daemon.wait_for("cell.recovered", role="submission", timeout=60)
        assert talk.transaction(CONTENT % 2, "ada@example.org", "b@example.net").startswith("250")
    until(lambda: arrived(daemon) == [b"Subject: 1", b"Subject: 2"], daemon)
    failures = [line for line in daemon.log() if line["event"] == "cell.failed" and line["role"] == "submission"]
    assert len(failures) == 1
    assert daemon.stop() == 0


def test_a_cell_that_is_not_there_at_the_start_is_waited_for(
    serve: Start, node: Postgres, dsn: str, password: str
) -> None:
    daemon = serve(dsn)
    daemon.stop()
    node.stop()
    try:
        daemon.start()
        daemon.wait_for("cell.awaited", role="submission")
        assert submit(daemon, password).startswith("451 4.3.2 ")
    finally:
        node.start()
    daemon.wait_for("cell.accepted", role="submission", timeout=60)
    assert submit(daemon, password, 3).startswith("250")
    until(lambda: arrived(daemon) == [b"Subject: 3"], daemon)
    assert len([line for line in daemon.log() if line["event"] == "cell.awaited"]) == 3  # once for each process
    assert daemon.stop() == 0


async def test_of_two_cells_one_is_killed_and_only_what_it_holds_waits(serve: Start, dsn: str, password: str) -> None:
    with running_postgres(durable=True) as other:
        second = (await make_owned(other)).dsn
        cells = f'[[spool.cell]]\nname = "b"\ndsn = "{second}"\n'
        async with NextHop(rcpt={"b@example.net": "451 4.3.0 later"}) as hop:
            routes = f'[[route]]\nhost = "127.0.0.1"\nport = {hop.port}\ntls = "none"\n'
            daemon = await asyncio.to_thread(serve, dsn, cells=cells, routes=routes)
            held = [(await asyncio.to_thread(submit, daemon, password, n)).split()[-1] for n in range(12)]
            assert {queue_id.partition("-")[2] for queue_id in held} == {"a", "b"}
            for queue_id in held:
                await asyncio.to_thread(daemon.wait_for, "delivery.deferred", queue_id=queue_id)
            channel = await connect(paths.control_socket(daemon.run_dir))
            verbs = Operations(channel)
            await until_tried(verbs, held)
            hop.rcpt.clear()
            other.kill9()
            await asyncio.to_thread(daemon.wait_for, "cell.failed", role="submission", timeout=60)
            later = [(await asyncio.to_thread(submit, daemon, password, n)).split()[-1] for n in range(12, 16)]
            assert all(queue_id.endswith("-a") for queue_id in later), "accepting goes on, in the other cell"
            await hop.received(4)  # and so does delivery
            found = [message.envelope.queue_id for message in await verbs.list_messages(Filter(), 100)]
            assert {queue_id for queue_id in held if queue_id.endswith("-a")} <= set(found)
            assert not any(queue_id.endswith("-b") for queue_id in found)
            assert set(verbs.missing) == {"b"}, "the operator sees that one is missing"
            states = {cell["name"]: cell for cell in (await verbs.status())["queue"]["cells"]}
            assert states["b"]["messages"] is None
            assert states["b"]["reason"]
            assert states["a"]["reason"] is None
            await asyncio.to_thread(assert_people_see_it, daemon)
            other.start()
            for role in ("spool", "delivery"):
                await asyncio.to_thread(daemon.wait_for, "cell.recovered", role=role, timeout=60)
            verbs = Operations(channel)
            async with asyncio.timeout(60):
                while len(hop.messages) < 16:  # what came back a moment ago is not due at once
                    await verbs.retry_messages(Filter())
                    await asyncio.sleep(0.2)
            await hop.received(16)
            await until_empty(verbs)
            subjects = sorted(int(m.content.split(b"Subject: ")[1].split(b"\r")[0]) for m in hop.messages)
            assert subjects == list(range(16)), "nothing lost, nothing doubled"
            channel.close()
            assert await asyncio.to_thread(daemon.stop) == 0


def assert_people_see_it(daemon: RunningDaemon) -> None:
    """That cell b is missing: what is printed is a's, the rest is said beside it, and the command fails."""
    listed = ask(daemon, "queue", "list")
    assert listed.returncode == 1
    homes = set(re.findall(r"\b[0-9A-Z]{26}-(\w+)", listed.stdout))
    assert homes == {"a"}, listed.stdout
    assert listed.stderr.startswith("cell b cannot be asked, so its messages are left out: ")
    status = ask(daemon, "status").stdout.splitlines()
    a, b = (next(line for line in status if line.startswith(f"cell           {name}: ")) for name in "ab")
    assert re.fullmatch(r"cell           a: \d+ messages?, [0-9.]+ GiB", a)
    assert re.match(r"cell           b: cannot be asked(, [0-9.]+ GiB)?; \S", b)


def ask(daemon: RunningDaemon, *command: str) -> "subprocess.CompletedProcess[str]":
    """What the program prints."""
    program = (sys.executable, "-P", "-m", "pillarbox", *command, "--config", str(daemon.config))
    wide = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(program, env=wide, capture_output=True, text=True, timeout=60)


def test_a_cell_at_its_limit_gets_452_and_says_so_once(serve: Start, dsn: str, password: str) -> None:
    daemon = serve(dsn + '"\nmax_size = "1MiB')
    daemon.wait_for("cell.full", role="submission")
    with sign_in(daemon, password) as talk:
        for _ in range(3):
            assert talk.say("MAIL FROM:<ada@example.org>").startswith("452 4.3.1 ")
    assert len([line for line in daemon.log() if line["event"] == "cell.full" and line["role"] == "submission"]) == 1
    assert daemon.stop() == 0


def test_two_daemons_on_one_cell_share_one_queue(serve: Start, dsn: str, password: str) -> None:
    one, two = serve(dsn, "one"), serve(dsn, "two")
    for number in range(1, 5):
        assert submit(one if number % 2 else two, password, number).startswith("250")
    wanted = [b"Subject: %d" % number for number in range(1, 5)]
    until(lambda: arrived(one, two) == wanted, one)
    assert one.stop() == 0  # what is taken while one machine is away is delivered by the other
    assert submit(two, password, 5).startswith("250")
    until(lambda: b"Subject: 5" in arrived(two), two)
    assert arrived(one, two) == [*wanted, b"Subject: 5"]
    assert two.stop() == 0


@pytest.mark.parametrize(
    ("durability", "tables", "advice"),
    [
        ("quorum", True, "synchronous_mode_strict: true in Patroni, or say durability"),
        ("local", False, "pillarbox cluster init"),
    ],
)
def test_a_cell_that_does_not_keep_the_promise_is_refused_with_the_setting_to_change(
    serve: Start, node: Postgres, dsn: str, durability: str, tables: bool, advice: str
) -> None:
    daemon = serve(dsn if tables else create_owned(node).of("owner").dsn, durability=durability, start="no")
    command = (sys.executable, "-P", "-m", "pillarbox", "serve", "--config", str(daemon.config))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    failures = [line for line in done.stdout.splitlines() if '"role.failed"' in line]
    assert failures
    assert all(advice in line for line in failures)


def test_the_weaker_promise_is_said_first_in_the_log_and_in_the_status(serve: Start, dsn: str) -> None:
    daemon = serve(dsn)
    assert [line["event"] for line in daemon.log()].index("durability.local") == 0
    (spool,) = [process for process in daemon.ask("status")["processes"] if process["role"] == "spool"]
    assert spool["promise"].startswith('durability = "local"')
    assert daemon.stop() == 0
