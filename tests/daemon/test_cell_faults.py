"""What is wrong with a cell, as real servers say it: the check and the daemon's log tell what to change.

What needs a server with TLS is in tests/cluster/test_sign_in.py.
"""

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from tests.support.cell_faults import Said, assert_told, in_check, in_log, until
from tests.support.cell_users import make_owned
from tests.support.certs import Authority
from tests.support.postgres import Postgres, running_postgres

from pillarbox.console import cells as console_cells
from pillarbox.daemon import cells
from pillarbox.daemon.cells import CellSpool
from pillarbox.spool.base import Unavailable
from pillarbox.spool.settings import CellSettings
from pillarbox.store import postgresql


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    """The daemon's log."""
    log = Said()
    monkeypatch.setattr(cells, "log", log)
    monkeypatch.setattr(cells, "LOOK_AGAIN", 0.05)
    monkeypatch.setattr(cells, "LOOK_FOR", 0.05)
    return log


@pytest.fixture(scope="module")
def node() -> Iterator[Postgres]:
    """Without TLS."""
    with running_postgres(durable=True) as running:
        yield running


async def test_a_server_without_tls_is_told(node: Postgres, authority: Authority, said: Said) -> None:
    cell = await make_owned(node)
    tcp = f"host=127.0.0.1 sslmode=verify-full sslrootcert={authority.ca}"
    alone = CellSettings("a", cell.dsn.replace(f"host={node.folder}", tcp))
    await assert_told(alone, said, "server does not support SSL", "; set ssl = on at the server")


async def test_a_standby_given_as_the_cell_is_told_and_with_the_primary_beside_it_all_is_well(
    node: Postgres, said: Said
) -> None:
    cell = await make_owned(node)
    with running_postgres(durable=True, standby_of=node) as standby:
        alone = CellSettings("a", both_ways(cell, node, [standby]))
        await assert_told(
            alone, said, "session is read-only", "; that is a standby: name all hosts of the cell in dsn"
        )
        said.lines.clear()
        whole = CellSettings("a", both_ways(cell, node, [standby, node]))
        assert await in_check(whole) == []
        assert await in_log(whole, said) == []


def both_ways(cell: CellSettings, node: Postgres, hosts: list[Postgres]) -> str:
    """The cell's dsn with these hosts instead of the one."""
    named = f"host={','.join(str(one.folder) for one in hosts)} port={','.join(str(one.port) for one in hosts)}"
    return cell.dsn.replace(f"host={node.folder} port={node.port}", named)


async def test_a_server_that_is_too_old_is_told(node: Postgres, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real one, and a minimum that it does not reach."""
    cell = await make_owned(node)
    monkeypatch.setattr(postgresql, "OLDEST_SERVER", 990_000)
    await assert_told(cell, said, "99 or newer is needed", "; upgrade that server")


async def test_a_clock_that_is_far_from_ours_is_told(
    node: Postgres, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = await make_owned(node)
    monkeypatch.setattr(console_cells, "time", SimpleNamespace(time=lambda: time.time() + 60))
    await assert_told(cell, said, "its clock and ours are 60 s apart", "; synchronise both (chrony or")


async def test_two_clusters_under_one_name_are_told_and_mail_does_not_go_from_one_to_the_other(
    said: Said,
) -> None:
    with running_postgres(durable=True) as one, running_postgres(durable=True) as two:
        cell = await make_owned(one, "pillarbox_two")
        await make_owned(two, "pillarbox_two")
        mixed = CellSettings("a", both_ways(cell, one, [one, two]))
        (told,) = await in_check(mixed)
        assert "are two PostgreSQL clusters under one name" in told
        assert "; name in dsn the hosts of one cluster only" in told
        two.stop()
        spool = CellSpool(mixed, "local", "test", "submission")
        await spool.start()
        assert spool.refusal(0) is None
        two.start()
        one.stop()
        await until(refused(said, "another PostgreSQL cluster than before"))
        assert isinstance(spool.refusal(0), Unavailable)
        assert "name in dsn the hosts of the cluster that has its mail" in said.reasons("cell.refused")[0]
        await spool.close()


def refused(said: Said, text: str) -> Callable[[], bool]:
    return lambda: any(text in reason for reason in said.reasons("cell.refused"))
