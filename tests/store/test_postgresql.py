"""The store over PostgreSQL: what a commit means when the server, the connection or the caller goes away."""

import asyncio
import contextlib
import gc
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from tests.support.administrator import Administrator
from tests.support.postgres import Postgres, running_postgres

from pillarbox.store.errors import (
    Closed,
    Conflict,
    DiskFull,
    SchemaTooNew,
    SchemaTooOld,
    StoreError,
    Undone,
    Unknown,
    Unreachable,
)
from pillarbox.store.migrations import applied, check, migrate
from pillarbox.store.postgresql import Store, Transaction, describe, translate

MIGRATIONS = (("CREATE TABLE note (id integer PRIMARY KEY, text text NOT NULL)",),)


@pytest.fixture(scope="module")
def node() -> Iterator[Postgres]:
    """A node of this module's own: it is killed, and told to wait for standbys that are not there."""
    with running_postgres() as running:
        yield running


@pytest.fixture
async def dsn(node: Postgres) -> str:
    if node.process is None or node.process.poll() is not None:
        await asyncio.to_thread(node.start)
    return await asyncio.to_thread(node.create_database)


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[Store]:
    opened = Store(dsn, name="pillarbox test")
    await migrate(opened, "notes", MIGRATIONS)
    yield opened
    await opened.close()


def add(number: int, text: str = "x") -> Callable[[Transaction], Awaitable[None]]:
    """Work that adds a row in one round trip."""

    async def work(transaction: Transaction) -> None:
        transaction.add("INSERT INTO note (id, text) VALUES (%s, %s)", (number, text))

    return work


async def numbers(store: Store) -> list[int]:
    """What is there."""
    (rows,) = await store.read(("SELECT id FROM note ORDER BY id", ()))
    return [number for (number,) in rows]


@pytest.fixture
async def administrator(dsn: str) -> AsyncIterator[Administrator]:
    opened = Administrator(dsn)
    yield opened
    with contextlib.suppress(psycopg.Error):  # some tests kill the server
        await opened.demand_nothing()
    opened.close()


@pytest.fixture
async def no_quorum(administrator: Administrator) -> Administrator:
    """Every commit waits for a standby that does not exist."""
    await administrator.demand_a_standby()
    return administrator


async def test_what_was_written_is_read_by_another_connection(store: Store, dsn: str) -> None:
    await store.write(add(1))
    other = Store(dsn)
    assert await numbers(other) == [1]
    await other.close()


async def test_every_connection_waits_for_standbys_and_has_no_time_out_around_a_commit(store: Store) -> None:
    names = ("synchronous_commit", "statement_timeout", "lock_timeout", "client_min_messages", "search_path")
    found = await store.read(*((f"SHOW {name}", ()) for name in names))
    assert [rows[0][0] for rows in found] == ["on", "0", "0", "warning", "pillarbox, pg_temp"]


async def test_a_role_s_own_settings_do_not_weaken_a_commit(
    store: Store, dsn: str, administrator: Administrator
) -> None:
    for setting in ("synchronous_commit = off", "statement_timeout = '1ms'", "client_min_messages = error"):
        administrator.ask(f"ALTER ROLE postgres SET {setting}")
    try:
        other = Store(dsn)
        found = await other.read(("SHOW synchronous_commit", ()), ("SHOW statement_timeout", ()))
        await other.close()
    finally:
        administrator.ask("ALTER ROLE postgres RESET ALL")
    assert [rows[0][0] for rows in found] == ["on", "0"]


async def test_a_transaction_that_fails_leaves_nothing_and_the_connection_goes_on(store: Store) -> None:
    await store.write(add(1))

    async def both(transaction: Transaction) -> None:
        transaction.add("INSERT INTO note (id, text) VALUES (2, 'two')")
        await transaction.fetch("INSERT INTO note (id, text) VALUES (1, 'again')")

    async def later(transaction: Transaction) -> None:
        await transaction.fetch("INSERT INTO note (id, text) VALUES (3, 'three')")
        raise LookupError("mine")

    with pytest.raises(Conflict):
        await store.write(both)
    with pytest.raises(Conflict):
        await store.write(add(1))
    with pytest.raises(LookupError):
        await store.write(later)
    with pytest.raises(StoreError, match="syntax"):
        await store.read(("SELEC", ()))
    assert await numbers(store) == [1]


async def test_statements_see_what_came_before_them_in_their_transaction(store: Store) -> None:
    async def work(transaction: Transaction) -> int:
        transaction.add("INSERT INTO note (id, text) VALUES (1, 'a')")
        ((count,),) = await transaction.fetch("SELECT count(*) FROM note")
        last = transaction.add("SELECT count(*) FROM note WHERE text = %s", ("a",))
        assert last.rows == []
        statements.append(last.rows)
        held.append(last)
        return int(count)

    statements: list[object] = []
    held: list[object] = []
    assert await store.write(work) == 1
    assert [statement.rows for statement in held] == [[(1,)]]  # type: ignore[attr-defined]  # a Statement


async def test_a_caller_that_goes_away_cancels_nothing(store: Store) -> None:
    writing = asyncio.ensure_future(store.write(add(1)))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await store.close()
    other = Store(store._dsn)
    assert await numbers(other) == [1]
    await other.close()


async def test_more_work_than_connections_waits_for_its_turn(store: Store) -> None:
    await asyncio.gather(*(store.write(add(number)) for number in range(50)))
    assert await numbers(store) == list(range(50))
    assert len(store._idle) <= 4


async def test_a_connection_that_the_server_ended_while_it_was_idle_is_not_used(
    store: Store, administrator: Administrator
) -> None:
    await store.write(add(1))
    ended = administrator.ask(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'pillarbox test'"
    )
    assert ended
    await store.write(add(2))
    assert await numbers(store) == [1, 2]


async def test_a_connection_that_ends_before_the_commit_was_asked_for_has_done_nothing(
    store: Store, administrator: Administrator
) -> None:
    async def work(transaction: Transaction) -> None:
        ((pid,),) = await transaction.fetch("SELECT pg_backend_pid()")
        await transaction.fetch("INSERT INTO note (id, text) VALUES (1, 'a')")
        administrator.ask(f"SELECT pg_terminate_backend({pid}, 5000)")
        await transaction.fetch("INSERT INTO note (id, text) VALUES (2, 'b')")

    with pytest.raises(Undone):
        await store.write(work)
    assert await numbers(store) == []


async def test_a_deadline_before_the_commit_undoes(store: Store) -> None:
    async def work(transaction: Transaction) -> None:
        transaction.add("INSERT INTO note (id, text) VALUES (1, 'a')")
        await transaction.fetch("SELECT pg_sleep(60)")

    with pytest.raises(Undone):
        await store.write(work, deadline=0.3)
    assert await numbers(store) == []


async def test_a_commit_that_no_standby_confirms_is_unknown_at_its_deadline(
    store: Store, no_quorum: Administrator
) -> None:
    with pytest.raises(Unknown):
        await store.write(add(1), deadline=0.5)
    assert no_quorum.ask("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")[0][0], (
        "the server goes on waiting: nobody cancelled its commit"
    )


@pytest.mark.parametrize("how", ["pg_cancel_backend", "pg_terminate_backend"])
async def test_a_commit_whose_wait_an_administrator_ends_is_unknown(
    store: Store, no_quorum: Administrator, how: str
) -> None:
    """The server commits locally then, and says COMMIT with a warning that is easily missed."""
    writing = store.write(add(1))
    await no_quorum.until_a_commit_waits_for_a_standby()
    no_quorum.ask(f"SELECT {how}(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")  # noqa: S608  # one of two names
    with pytest.raises(Unknown):
        await writing
    assert await numbers(store) == [1], "it is found, although no standby has it"


async def test_a_task_that_is_cancelled_in_the_driver_does_not_cancel_the_commit(
    store: Store, no_quorum: Administrator
) -> None:
    """As when the loop ends: the server must not be asked to stop waiting, for it would commit."""
    waiting = store.write(add(1))
    await no_quorum.until_a_commit_waits_for_a_standby()
    (task,) = store._tasks
    task.cancel()
    with pytest.raises((asyncio.CancelledError, Unknown)):
        await waiting
    await store.close()
    assert no_quorum.ask("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == [(1,)]
    assert no_quorum.ask("SELECT count(*) FROM pillarbox.note") == [(0,)]


async def test_a_mark_waits_for_the_standbys_although_nothing_is_written(
    store: Store, no_quorum: Administrator
) -> None:
    async def nothing(transaction: Transaction) -> None:
        await transaction.fetch("SELECT 1")

    async def mark(transaction: Transaction) -> None:
        transaction.mark()

    await store.write(nothing, deadline=20)
    with pytest.raises(Unknown):
        await store.write(mark, deadline=0.5)


async def test_a_server_that_is_told_to_wait_for_nobody_is_not_good_enough_for_a_quorum(store: Store) -> None:
    store.quorum = True
    with pytest.raises(Undone, match="synchronous_standby_names"):
        await store.write(add(1))
    store.quorum = False
    assert await numbers(store) == []


async def test_a_commit_that_returns_because_the_setting_was_emptied_is_unknown(
    store: Store, no_quorum: Administrator
) -> None:
    """The server says COMMIT then, and gives no warning."""
    store.quorum = True
    writing = store.write(add(1))
    await no_quorum.until_a_commit_waits_for_a_standby()
    await no_quorum.demand_nothing()
    with pytest.raises(Unknown, match="emptied"):
        await writing


async def test_of_several_hosts_the_one_that_takes_writes_is_found(node: Postgres, store: Store, dsn: str) -> None:
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    several = f"host=127.0.0.1,{parts['host']} port=1,{parts['port']} user=postgres dbname={parts['dbname']}"
    for _ in range(4):
        other = Store(several)
        await other.write(add(int(time.monotonic_ns() % 2**31)))
        await other.close()
    assert len(await numbers(store)) == 4


async def test_kill_9_of_the_server_in_a_commit_is_unknown_and_the_store_comes_back(
    node: Postgres, store: Store, no_quorum: Administrator
) -> None:
    writing = store.write(add(1))
    await no_quorum.until_a_commit_waits_for_a_standby()
    await asyncio.to_thread(node.kill9)
    with pytest.raises(Unknown):
        await writing
    with pytest.raises(Unreachable):
        await store.write(add(2), deadline=10)
    (node.data / "postgresql.auto.conf").write_text("")
    await asyncio.to_thread(node.start)
    await store.write(add(3))
    assert 3 in await numbers(store)


async def test_kill_9_of_the_server_under_load_loses_nothing_that_was_confirmed(node: Postgres, store: Store) -> None:
    confirmed: list[int] = []
    errors: list[StoreError] = []

    async def produce(first: int) -> None:
        for number in range(first, first + 100_000):
            try:
                await store.write(add(number), deadline=20)
            except StoreError as error:
                errors.append(error)
                return
            confirmed.append(number)

    producers = [asyncio.create_task(produce(1_000_000 * number)) for number in range(4)]
    async with asyncio.timeout(60):
        while len(confirmed) < 100:  # noqa: ASYNC110  # the producers set no event
            await asyncio.sleep(0.01)
    await asyncio.to_thread(node.kill9)
    await asyncio.gather(*producers)
    assert all(isinstance(error, Unknown | Undone | Unreachable) for error in errors)
    await asyncio.to_thread(node.start)
    found = set(await numbers(store))
    assert found >= set(confirmed)
    assert len(found - set(confirmed)) <= 4, "only what was unknown"


async def test_a_server_that_is_not_there_is_said_with_its_name_and_without_the_password(tmp_path: object) -> None:
    store = Store("host=127.0.0.1 port=1 dbname=mail user=pb password=hunter2")
    began = time.monotonic()
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1/mail") as caught:
        await store.read(("SELECT 1", ()))
    assert "hunter2" not in str(caught.value)
    assert time.monotonic() - began < 20
    await store.close()
    with pytest.raises(Closed):
        await store.read(("SELECT 1", ()))


@pytest.mark.parametrize("deadline", [0.2, 20.0], ids=["ours", "the driver's"])
async def test_a_connection_that_is_half_made_at_a_deadline_is_closed_at_once(deadline: float) -> None:
    """Not when the garbage is collected: its server has a process for it."""
    closed = asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass
        writer.close()
        closed.set()

    server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = Store(f"host=127.0.0.1 port={port} dbname=mail sslmode=disable connect_timeout=2")
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(Unreachable):
            await store.read(("SELECT 1", ()), deadline=deadline)
        async with asyncio.timeout(20):
            await closed.wait()
    finally:
        gc.enable()
    await store.close()
    server.close()
    await server.wait_closed()


def test_what_is_no_dsn_is_said() -> None:
    with pytest.raises(StoreError, match="DSN"):
        Store("host")


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        ("host=a.example port=5432 dbname=mail password=x", "a.example:5432/mail"),
        ("host=a.example,b.example port=5432,5433 dbname=mail", "a.example:5432,b.example:5433/mail"),
        ("host=a.example,b.example port=5433 user=pillarbox", "a.example:5433,b.example:5433/pillarbox"),
        ("host=/run/postgresql dbname=mail port=5432", "/run/postgresql/mail"),
        ("postgresql://u:secret@a.example/mail", "a.example/mail"),
        ("dbname=mail", "local socket/mail"),
    ],
)
def test_a_cell_is_named_by_its_hosts_and_database_without_its_password(dsn: str, said: str) -> None:
    assert describe(dsn) == said


def test_a_full_disk_has_its_own_error() -> None:
    assert isinstance(translate(psycopg.errors.DiskFull("no space"), "here"), DiskFull)


# -- migrations


async def test_migrations_are_applied_once_and_in_order(store: Store) -> None:
    assert await applied(store, "notes") == 1
    more = (
        *MIGRATIONS,
        ("ALTER TABLE note ADD COLUMN author text",),
        ("ALTER TABLE note ALTER author SET NOT NULL",),
    )
    assert await migrate(store, "notes", more) == 1
    assert await migrate(store, "notes", more) == 3
    await check(store, "notes", 3)
    assert await applied(store, "another room") == 0


async def test_a_newer_schema_is_refused_and_an_older_one_named(store: Store) -> None:
    await migrate(store, "notes", (*MIGRATIONS, ("SELECT 1",)))
    with pytest.raises(SchemaTooNew, match="newer Pillarbox"):
        await check(store, "notes", 1)
    with pytest.raises(SchemaTooNew):
        await migrate(store, "notes", MIGRATIONS)
    with pytest.raises(SchemaTooOld):
        await check(store, "notes", 3)


async def test_an_empty_database_is_too_old(dsn: str) -> None:
    store = Store(dsn)
    with pytest.raises(SchemaTooOld):
        await check(store, "notes", 1)
    await store.close()


async def test_a_migration_that_fails_changes_nothing(store: Store) -> None:
    broken = ("CREATE TABLE half (id integer)", "CREATE TABLE note (id integer)")
    with pytest.raises(StoreError):
        await migrate(store, "notes", (*MIGRATIONS, broken))
    assert await applied(store, "notes") == 1
    (rows,) = await store.read(("SELECT count(*) FROM pg_tables WHERE tablename = 'half'", ()))
    assert rows == [(0,)]


async def test_two_that_migrate_at_once_take_turns(dsn: str) -> None:
    stores = [Store(dsn) for _ in range(4)]
    assert await asyncio.gather(*(migrate(each, "notes", MIGRATIONS) for each in stores))
    assert await numbers(stores[0]) == []
    for each in stores:
        await each.close()


async def test_a_migration_does_not_queue_behind_a_long_reader_for_long(store: Store, dsn: str) -> None:
    """Whoever comes after an ALTER TABLE that waits has to wait as well: so it lets them go and tries again."""
    reader = await psycopg.AsyncConnection.connect(dsn)
    await reader.execute("SELECT count(*) FROM pillarbox.note")
    migrating = asyncio.create_task(
        migrate(store, "notes", (*MIGRATIONS, ("ALTER TABLE note ADD COLUMN author text",)))
    )
    await store.write(add(1), deadline=20)
    assert not migrating.done()
    await reader.rollback()
    await migrating
    assert await applied(store, "notes") == 2
    await reader.close()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PGHOSTADDR", "127.0.0.66"),
        ("PGSERVICE", "elsewhere"),
        ("PGOPTIONS", "-c role=nobody_at_all"),
        ("PGTARGETSESSIONATTRS", "standby"),
        ("PGSSLMODE", "no such mode"),
        ("PGSSLROOTCERT", "/of/another/authority.pem"),
        ("PGGSSENCMODE", "require"),
        ("PGREQUIREAUTH", "gss"),
        ("PGCHANNELBINDING", "require"),
    ],
)
async def test_the_environment_changes_neither_where_it_goes_nor_how_the_server_is_checked(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    services = tmp_path / "services"
    services.write_text("[elsewhere]\nhostaddr=127.0.0.66\nport=1\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    monkeypatch.setenv(variable, value)
    store = Store(dsn)
    assert await store.read(("SELECT 1", ())) == [[(1,)]]
    assert variable not in os.environ
    await store.close()


async def test_a_dsn_without_a_host_or_a_port_is_not_completed_by_the_environment(
    node: Postgres, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = dict(pair.split("=", 1) for pair in dsn.split())
    monkeypatch.setenv("PGHOST", parts["host"])
    monkeypatch.setenv("PGPORT", parts["port"])
    store = Store(f"dbname={parts['dbname']} user={parts['user']}")
    with pytest.raises(Unreachable):
        await store.read(("SELECT 1", ()))
    await store.close()
