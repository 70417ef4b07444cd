"""A cell as a role uses it: refused, awaited, and looked at again while it serves."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator

import psycopg
import pytest
from tests.support.postgres import Postgres, running_postgres

from pillarbox.daemon import cells
from pillarbox.daemon.cells import CellSpool
from pillarbox.daemon.process import CannotStart
from pillarbox.spool.base import Filter, Unavailable
from pillarbox.spool.cluster.spool import make_tables
from pillarbox.spool.settings import CellSettings, CellsSettings, ClusterSettings


@pytest.fixture(scope="module")
def node() -> Iterator[Postgres]:
    """A node whose settings may be changed."""
    with running_postgres(durable=True) as running:
        yield running


@pytest.fixture
async def spool(node: Postgres, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CellSpool]:
    """A started one over a new cell, that looks often."""
    monkeypatch.setattr(cells, "LOOK_AGAIN", 0.05)
    monkeypatch.setattr(cells, "LOOK_FOR", 0.05)
    dsn = await asyncio.to_thread(node.create_database)
    await make_tables(ClusterSettings(dsn))
    made = CellSpool(CellsSettings((CellSettings("a", dsn),), "local"), "test", "delivery")
    await made.start()
    yield made
    await made.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110  # what another process does
            await asyncio.sleep(0.02)


def execute(node: Postgres, *statements: str) -> None:
    with psycopg.connect(node.dsn("postgres"), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


async def test_a_cell_that_is_weakened_while_it_serves_takes_no_mail_until_it_is_as_promised(
    node: Postgres, spool: CellSpool
) -> None:
    assert spool.refusal(100) is None
    try:
        await asyncio.to_thread(execute, node, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        await until(lambda: isinstance(spool.refusal(100), Unavailable))
        assert "set fsync = on" in str(spool.refusal(100))
        assert spool.unhealthy_reason() == str(spool.refusal(100))
        assert await spool.lease(0.0, 1) == []  # what is there is still delivered
        assert await spool.ledger.list(Filter(), 0.0, 1) == []
    finally:
        await asyncio.to_thread(execute, node, "ALTER SYSTEM RESET fsync", "SELECT pg_reload_conf()")
    await until(lambda: spool.refusal(100) is None)


async def test_tables_that_a_newer_program_brought_up_are_no_reason_to_stop(node: Postgres, spool: CellSpool) -> None:
    looked = asyncio.Event()
    kept = spool._look

    async def look() -> None:
        await kept()
        looked.set()

    dsn = spool._cell.dsn
    await asyncio.to_thread(_upgrade, dsn)
    spool._look = look  # type: ignore[method-assign]  # so that the test knows that it looked
    async with asyncio.timeout(30):
        await looked.wait()
    assert spool.refusal(100) is None
    late = CellSpool(CellsSettings((CellSettings("a", dsn),), "local"), "late", "submission")
    with pytest.raises(CannotStart, match="newer Pillarbox"):
        await late.start()


def _upgrade(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("INSERT INTO pillarbox.migration (room, number) VALUES ('spool', 99)")


async def test_without_the_driver_the_command_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillarbox.store.postgresql", None)
    settings = CellsSettings((CellSettings("a", "host=pg1"),))
    with pytest.raises(CannotStart, match=r"pip install pillarbox\[cluster\]"):
        await CellSpool(settings, "test", "keeper").start()
    offline = CellSpool(settings, "test", "keeper")
    await offline.start(strict=False)  # an operator without a daemon has accounts to look at all the same
    with pytest.raises(Unavailable, match=r"pillarbox\[cluster\]"):
        await offline.depth(0.0)
    await offline.close()
