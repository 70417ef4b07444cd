"""A cell as a role uses it: refused, awaited, and looked at again while it serves."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import psycopg
import pytest
from tests.support.cell_faults import Said, until
from tests.support.cell_users import create_owned, make_owned
from tests.support.postgres import Postgres, running_postgres

from pillarbox.daemon import cells
from pillarbox.daemon.cells import Cells, CellSpool
from pillarbox.daemon.process import CannotStart
from pillarbox.spool.base import Filter, Unavailable
from pillarbox.spool.settings import CellSettings, CellsSettings


@pytest.fixture(scope="module")
def node() -> Iterator[Postgres]:
    """A node whose settings may be changed."""
    with running_postgres(durable=True) as running:
        yield running


@pytest.fixture
async def cell(node: Postgres, monkeypatch: pytest.MonkeyPatch) -> CellSettings:
    """A new one with tables and users, looked at often."""
    monkeypatch.setattr(cells, "LOOK_AGAIN", 0.05)
    monkeypatch.setattr(cells, "LOOK_FOR", 0.05)
    return await make_owned(node)


@pytest.fixture
async def spool(cell: CellSettings) -> AsyncIterator[CellSpool]:
    """A started one over it."""
    made = CellSpool(cell, "local", "test", "delivery")
    await made.start()
    yield made
    await made.close()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    log = Said()
    monkeypatch.setattr(cells, "log", log)
    return log


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


async def test_tables_that_a_newer_program_brought_up_are_no_reason_to_stop(
    cell: CellSettings, spool: CellSpool
) -> None:
    looked = asyncio.Event()
    kept = spool._look

    async def look() -> None:
        await kept()
        looked.set()

    await asyncio.to_thread(_upgrade, cell.of("owner").dsn)
    spool._look = look  # type: ignore[method-assign]  # so that the test knows that it looked
    async with asyncio.timeout(30):
        await looked.wait()
    assert spool.refusal(100) is None
    late = CellSpool(cell, "local", "late", "submission")
    with pytest.raises(CannotStart, match="newer Pillarbox"):
        await late.start()


def _upgrade(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("INSERT INTO pillarbox.migration (room, number) VALUES ('spool', 99)")


async def test_without_the_driver_the_command_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillarbox.store.postgresql", None)
    gone = CellSettings("a", "host=pg1")
    with pytest.raises(CannotStart, match=r"/bin/pip install \"pillarbox\[cluster\]\""):
        await CellSpool(gone, "quorum", "test", "keeper").start()
    offline = CellSpool(gone, "quorum", "test", "keeper")
    await offline.start(strict=False)  # an operator without a daemon has accounts to look at all the same
    with pytest.raises(Unavailable, match=r"pillarbox\[cluster\]"):
        await offline.depth(0.0)
    await offline.close()


async def test_a_right_that_is_missing_is_named_at_the_start(cell: CellSettings) -> None:
    user = psycopg.conninfo.conninfo_to_dict(cell.of("submission").dsn)["user"]

    def revoke() -> None:
        with psycopg.connect(cell.of("owner").dsn) as connection:
            connection.execute(f'REVOKE INSERT ON pillarbox.recipient FROM "{user}"'.encode())

    await asyncio.to_thread(revoke)
    lacking = r"who is its submission, lacks rights: INSERT on recipient; `pillarbox cluster upgrade`"
    with pytest.raises(CannotStart, match=lacking):
        await CellSpool(cell, "local", "test", "submission").start()
    others = CellSpool(cell, "local", "test", "delivery")
    await others.start()  # they do their own work
    assert others.refusal(0) is None
    await others.close()


async def test_a_cell_that_is_away_is_awaited_with_what_to_change_in_the_log(node: Postgres, said: Said) -> None:
    nobody = await asyncio.to_thread(create_owned, node)  # no user of a role was made
    awaited = CellSpool(nobody, "local", "test", "submission")
    await awaited.start()
    (line,) = said.reasons("cell.awaited")
    assert "does not exist; make them: see docs/howto/cluster.md" in line
    assert isinstance(awaited.refusal(0), Unavailable)
    await awaited.close()


async def test_two_cells_that_are_one_postgresql_cluster_are_refused_at_the_start(
    node: Postgres, cell: CellSettings
) -> None:
    other = await make_owned(node)
    both = Cells(CellsSettings((cell, CellSettings("b", other.dsn)), "local"), "test", "submission")
    with pytest.raises(CannotStart, match=r"is the same PostgreSQL cluster as (a|b); give each cell a cluster"):
        await both.start()


async def test_a_cell_whose_dsn_leads_to_another_cluster_by_now_is_refused(
    node: Postgres, cell: CellSettings
) -> None:
    """Seen as it is when another server answers at the same place: with another system identifier."""
    systems: dict[str, int] = {}
    spool = CellSpool(cell, "local", "test", "submission", systems)
    await spool.start()
    assert spool.refusal(0) is None
    was, systems["a"] = systems["a"], 7
    await until(lambda: isinstance(spool.refusal(0), Unavailable))
    assert f"another PostgreSQL cluster than before (its system identifier was 7 and is {was})" in str(
        spool.refusal(0)
    )
    assert "restart Pillarbox" in str(spool.refusal(0))
    systems["a"] = was
    await until(lambda: spool.refusal(0) is None)
    await spool.close()


async def test_a_cell_that_is_weakened_while_another_serves_is_left_out_and_said_once(
    cell: CellSettings, said: Said
) -> None:
    with running_postgres(durable=True) as weak:
        second = CellSettings("b", (await make_owned(weak)).dsn)
        both = Cells(CellsSettings((cell, second), "local"), "test", "submission")
        await both.start()
        assert {both.tag() for _ in range(200)} == {"a", "b"}
        await asyncio.to_thread(execute, weak, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        await until(lambda: "cell b" in (both.unhealthy_reason() or ""))
        looks = 0
        kept = both._all["b"]._look

        async def look() -> None:
            nonlocal looks
            looks += 1
            await kept()

        both._all["b"]._look = look  # type: ignore[method-assign]  # so that the test knows that it looked
        await until(lambda: looks > 3)
        assert {both.tag() for _ in range(200)} == {"a"}
        assert both.refusal(100) is None
        assert both.takes_mail()
        (line,) = said.reasons("cell.refused")
        assert line.startswith("b: ")
        assert "set fsync = on" in line
        await asyncio.to_thread(execute, weak, "ALTER SYSTEM RESET fsync", "SELECT pg_reload_conf()")
        await until(lambda: both.unhealthy_reason() is None)
        assert {both.tag() for _ in range(200)} == {"a", "b"}
        await both.close()


async def test_new_mail_does_not_go_to_a_closed_cell_when_the_other_is_away(cell: CellSettings) -> None:
    away = CellSettings("b", "host=/nowhere user=x")
    for accepts in (True, False):
        spool = Cells(CellsSettings((replace(cell, accepts=accepts), away), "local"), "test", "keeper")
        await spool.start()
        assert (spool.tag(), spool.takes_mail()) == (("a", True) if accepts else ("b", False))
        assert (await spool.depth(0.0)).cells[0].messages == 0  # it is asked like any other
        await spool.close()


async def test_the_depth_says_how_large_each_cell_is_and_what_is_left_to_the_limits(cell: CellSettings) -> None:
    limited = replace(cell, max_size=1 << 30)
    for settings, many in (((limited,), 1), ((limited, CellSettings("b", "host=/nowhere user=x")), 2)):
        spool = Cells(CellsSettings(settings, "local"), "test", "keeper")
        await spool.start()
        depth = await spool.depth(0.0)
        assert [state.name for state in depth.cells] == ["a", "b"][:many]
        state = depth.cells[0]
        assert state.size is not None
        assert 0 < state.size < 1 << 30
        assert (state.max_size, state.messages) == (1 << 30, 0)
        # of a cell that cannot be asked nobody knows what is left
        assert depth.free == ((1 << 30) - state.size if many == 1 else None)
        await spool.close()
