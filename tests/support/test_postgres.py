"""The ground of the cluster's tests: a node of PostgreSQL that can be killed and keeps what it confirmed."""

import os
import stat
import threading
from collections.abc import Iterator

import psycopg
import pytest
from tests.support.cell_node import wait_until
from tests.support.postgres import Postgres, running_postgres
from tests.support.processes import alive, descendants


@pytest.fixture(scope="module")
def node() -> Iterator[Postgres]:
    with running_postgres(durable=True) as running:
        yield running


def rows(dsn: str) -> list[int]:
    with psycopg.connect(dsn) as connection:
        return [n for (n,) in connection.execute("SELECT n FROM kept ORDER BY n")]


def test_kill_9_and_a_new_start_keep_what_was_committed(node: Postgres) -> None:
    dsn = node.create_database()
    with psycopg.connect(dsn) as committed, psycopg.connect(dsn) as open_still:
        committed.execute("CREATE TABLE kept (n int)")
        committed.execute("INSERT INTO kept VALUES (1), (2)")
        committed.commit()
        open_still.execute("INSERT INTO kept VALUES (3)")
        assert node.process is not None
        family = [node.process.pid, *descendants(node.process.pid)]
        assert len(family) > 4, "the background processes and two sessions"
        node.kill9()
        assert [pid for pid in family if alive(pid)] == []
        with pytest.raises(psycopg.OperationalError):
            open_still.commit()
    node.start()
    assert rows(dsn) == [1, 2]


def test_a_restart_keeps_port_and_rows(node: Postgres) -> None:
    dsn, port = node.create_database(), node.port
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    node.restart()
    assert rows(dsn) == [7]
    assert node.port == port


def test_each_database_is_empty_and_another(node: Postgres) -> None:
    one, two = node.create_database(), node.create_database()
    with psycopg.connect(one) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
    with psycopg.connect(two) as connection:
        assert connection.execute("SELECT to_regclass('kept')").fetchone() == (None,)
    node.drop_database(two)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(two)


def test_over_tcp_a_password_is_asked_for(node: Postgres) -> None:
    with psycopg.connect(node.dsn("postgres", tcp=True)) as connection:
        assert connection.execute("SELECT inet_server_port()").fetchone() == (node.port,)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(node.dsn("postgres", tcp=True), password="wrong")


def test_nobody_else_reads_its_folder_and_it_is_not_root(node: Postgres) -> None:
    assert stat.S_IMODE(node.folder.stat().st_mode) == 0o700
    assert node.process is not None
    assert os.stat(f"/proc/{node.process.pid}").st_uid == node.folder.stat().st_uid != 0


def test_durable_is_what_it_says(node: Postgres, postgres: Postgres) -> None:
    for which, expected in ((node, "on"), (postgres, "off")):
        with psycopg.connect(which.dsn("postgres")) as connection:
            found = connection.execute("SELECT name, setting FROM pg_settings").fetchall()
        settings: dict[str, str] = dict(found)
        assert (settings["fsync"], settings["full_page_writes"]) == (expected, expected)
        assert settings["synchronous_commit"] == "on"


def test_a_commit_that_waits_for_a_standby_returns_without_a_warning_when_none_is_asked_for_any_more(
    node: Postgres,
) -> None:
    """Why a client has to look at synchronous_standby_names after its COMMIT too."""
    with (
        psycopg.connect(node.create_database(), autocommit=True) as waiting,
        psycopg.connect(node.dsn("postgres"), autocommit=True) as administrator,
    ):
        heard: list[str | None] = []
        waiting.add_notice_handler(lambda notice: heard.append(notice.sqlstate))
        administrator.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        administrator.execute("SELECT pg_reload_conf()")
        wait_until("the setting", lambda: setting(administrator) == "nobody", 30)
        commit = threading.Thread(target=waiting.execute, args=("CREATE TABLE kept (n int)",))
        commit.start()
        try:
            wait_until("a commit that waits", lambda: waits_for_standby(administrator), 30)
            assert commit.is_alive()
        finally:
            administrator.execute("ALTER SYSTEM RESET synchronous_standby_names")
            administrator.execute("SELECT pg_reload_conf()")
            commit.join(30)
        assert not commit.is_alive()
        assert heard == []
        assert setting(waiting) == ""


def setting(connection: psycopg.Connection) -> str:
    """synchronous_standby_names as this connection has it."""
    row = connection.execute("SHOW synchronous_standby_names").fetchone()
    assert row is not None
    return str(row[0])


def waits_for_standby(connection: psycopg.Connection) -> bool:
    """Whether some session waits for the confirmation of a standby."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    return connection.execute(query).fetchone() == (1,)
