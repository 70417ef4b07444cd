"""A cell of three nodes loses nothing that it confirmed, whatever happens to one of them, and goes on by itself.

The ledgers that are printed are what was seen (pytest -s); their times decide nothing.
"""

import contextlib
import threading
from collections.abc import Callable
from typing import LiteralString

import psycopg
import pytest
from tests.support.cell import Cell
from tests.support.cell_node import Node, wait_until
from tests.support.writers import Ledger, Writers

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


@pytest.fixture(scope="module", autouse=True)
def database(long_running_cell: Cell) -> None:
    """The one that is written to."""
    long_running_cell.create_database("mail", owner="submitter")


def nothing_lost(writers: Writers, what: str) -> Ledger:
    """The ledger, after it was printed and nothing of it is lost or there twice."""
    ledger = writers.ledger()
    print(f"\n{what}: {ledger}")
    assert ledger.confirmed > 0
    assert (ledger.lost, ledger.duplicated) == (0, 0)
    return ledger


def test_it_is_what_an_administrator_would_run(cell: Cell) -> None:
    with psycopg.connect(cell.dsn("submitter", "mail"), autocommit=True) as connection:
        found = connection.execute("SELECT name, setting FROM pg_settings").fetchall()
        settings: dict[str, str] = dict(found)
        row = connection.execute("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
    primary, standbys = cell.primary(), [node.name for node in cell.standbys()]
    assert primary.name not in standbys
    assert settings["synchronous_standby_names"] == f"ANY 1 ({','.join(sorted(standbys))})"
    assert {settings[name] for name in ("fsync", "full_page_writes", "synchronous_commit")} == {"on"}
    assert row is not None
    assert row[0]
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        psycopg.connect(cell.dsn("submitter", "mail"), sslmode="disable")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(cell.dsn("submitter", "mail", password="wrong"))


def power_fails(cell: Cell) -> None:
    """Everything of the primary's machine is gone at once."""
    killed = cell.kill(cell.primary())
    cell.wait_for_primary(other_than=killed)


def postgres_is_killed(cell: Cell) -> None:
    """PostgreSQL alone is killed: Patroni is there and gives the lock away."""
    killed = cell.kill(cell.primary(), "postgres")
    cell.wait_for_primary(other_than=killed)


def switched_by_hand(cell: Cell) -> None:
    """An administrator moves the primary."""
    old = cell.switchover()
    assert cell.primary() is not old


def a_standby_dies(cell: Cell) -> None:
    """One of the two standbys is gone; the other one is quorum enough."""
    cell.kill(cell.standbys()[0])


def the_primary_hangs(cell: Cell) -> None:
    """SIGSTOP, another primary, and it wakes and believes that it is one still."""
    hung = cell.primary()
    cell.stop_signal(hung)
    cell.wait_for_primary(other_than=hung)
    cell.cont(hung)


def the_primary_is_alone_with_its_clients(cell: Cell) -> None:
    """Standbys, the other Patronis and etcd no longer reach the primary, clients do."""
    alone = cell.primary()
    cell.cut(alone, "peers", "etcd")
    cell.wait_for_primary(other_than=alone)
    cell.mend(alone)


def patroni_hangs(cell: Cell) -> None:
    """Patroni of the primary hangs, and PostgreSQL goes on as a second primary until it wakes."""
    hung = cell.primary()
    cell.stop_signal(hung, "patroni")
    cell.wait_for_primary(other_than=hung)
    cell.cont(hung, "patroni")


def patroni_is_killed(cell: Cell) -> None:
    """Patroni of the primary is killed and started again after another primary was made."""
    left = cell.kill(cell.primary(), "patroni")
    cell.wait_for_primary(other_than=left)
    left.start("patroni")


def a_member_of_etcd_dies(cell: Cell) -> None:
    """The primary's own etcd is killed; two of three are a quorum."""
    cell.kill(cell.primary(), "etcd")


def etcd_is_gone(cell: Cell) -> None:
    """All of etcd is killed and comes back after the primary has stepped down."""
    primary = cell.primary()
    for node in cell.nodes:
        cell.kill(node, "etcd")
    wait_until("the primary steps down", lambda: setting(primary) is None, 60)
    for node in cell.nodes:
        node.start("etcd")


def a_disk_is_lost(cell: Cell) -> None:
    """A standby comes back with an empty disk."""
    standby = cell.standbys()[0]
    standby.lose_disk()
    standby.start()


@pytest.mark.parametrize(
    "mishap",
    [
        power_fails,
        *(
            pytest.param(mishap, marks=pytest.mark.heavy)
            for mishap in (
                postgres_is_killed,
                switched_by_hand,
                a_standby_dies,
                the_primary_hangs,
                the_primary_is_alone_with_its_clients,
                patroni_hangs,
                patroni_is_killed,
                a_member_of_etcd_dies,
                etcd_is_gone,
                a_disk_is_lost,
            )
        ),
    ],
)
def test_nothing_confirmed_is_lost_when(cell: Cell, mishap: Callable[[Cell], None]) -> None:
    with Writers(cell.dsn("submitter", "mail")) as writers:
        writers.wait_for_more(500)
        mishap(cell)
        writers.wait_for_more(500)
    ledger = nothing_lost(writers, str(mishap.__doc__))
    assert ledger.confirmed >= 1000


def test_without_a_quorum_nothing_is_confirmed_and_a_cancelled_wait_is_a_warning(cell: Cell) -> None:
    """The known gap: a wait that is cancelled returns success, and only the warning 01000 tells."""
    dsn = cell.dsn("submitter", "mail")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS gap (n int)")
    waiting, watching = psycopg.connect(dsn, autocommit=True), psycopg.connect(cell.primary().local_dsn())
    warned: list[str | None] = []
    waiting.add_notice_handler(lambda notice: warned.append(notice.sqlstate))
    for standby in cell.standbys():
        cell.kill(standby, "postgres", "patroni")
    commit = threading.Thread(target=waiting.execute, args=("INSERT INTO gap VALUES (1)",))
    commit.start()
    commit.join(3)
    assert commit.is_alive(), "no standby, and yet it was confirmed"
    watching.execute("SELECT pg_cancel_backend(%s)", (waiting.info.backend_pid,))
    commit.join(30)
    assert not commit.is_alive()
    assert warned == ["01000"]
    waiting.close()
    watching.close()


@pytest.mark.heavy
def test_a_primary_that_comes_back_alone_is_not_believed(cell: Cell) -> None:
    """Patroni 4.1.5 is told to be strict, and yet starts it with no standby to wait for. A client sees that."""
    primary, standbys = cell.primary(), cell.standbys()
    with Writers(cell.dsn("submitter", "mail"), patience=2.0) as writers:
        writers.wait_for_more(200)
        for standby in standbys:
            cell.kill(standby, "postgres", "patroni")
        wait_until("Patroni misses its standbys", lambda: setting(primary) == "ANY 1 (*)", 60)
        cell.kill(primary, "postgres")
        wait_until("a primary again", lambda: setting(primary) is not None, 60)
        before = writers.confirmed
        with psycopg.connect(cell.dsn("submitter", "mail"), autocommit=True) as connection:
            waits = threading.Thread(target=quietly, args=(connection.execute, "SELECT txid_current()"))
            waits.start()
            waits.join(5)
            alone = "confirms alone" if not waits.is_alive() else "waits"
            print(f"\n{alone}: synchronous_standby_names is {setting(primary)!r}")
            assert waits.is_alive() or setting(primary) == ""
            assert writers.confirmed == before
            for standby in standbys:
                standby.start()
            writers.wait_for_more(200)
            waits.join()
    nothing_lost(writers, "alone after a restart")


def setting(node: Node) -> str | None:
    """synchronous_standby_names of a primary; None while it is none."""
    with contextlib.suppress(psycopg.Error), psycopg.connect(node.local_dsn(), autocommit=True) as connection:
        row = connection.execute(
            "SELECT current_setting('synchronous_standby_names') WHERE NOT pg_is_in_recovery()"
        ).fetchone()
        return str(row[0]) if row else None
    return None


def quietly(call: Callable[[LiteralString], object], statement: LiteralString) -> None:
    """The call, whatever comes of it."""
    with contextlib.suppress(psycopg.Error):
        call(statement)


@pytest.mark.heavy
def test_back_after_the_loss_of_two_nodes(cell: Cell) -> None:
    with Writers(cell.dsn("submitter", "mail"), patience=2.0) as writers:
        writers.wait_for_more(200)
        dead: list[Node] = cell.standbys()
        for node in dead:
            cell.kill(node)
        for node in dead:
            node.start()
        cell.wait_for_members(3)
        writers.wait_for_more(200)
    nothing_lost(writers, "two of three killed")
