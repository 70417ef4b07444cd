"""One cell and one stage for many tests: each takes long to come up, and each test leaves it whole.

``cell``                 three nodes with links and nothing else: for tests of the database and of the spool alone
``stage``                the whole product under load
``stage_of_two_cells``   the same with a second cell

A stage goes on from test to test, and so do its books: what a test says of them holds for all that was before, too.
One of these is up at a time: first come tests that need none, then those of the cell, then those of the stages.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.cluster.faults import repair
from tests.cluster.stage import Stage, staged
from tests.support.cell import Cell, running_cell
from tests.support.certs import Authority

HERE = Path(__file__).parent
ORDER = ("cell", "stage", "stage_of_two_cells")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts this folder's tests in that order."""

    def place(item: pytest.Item) -> int:
        names = getattr(item, "fixturenames", ())
        return max((number for number, name in enumerate(ORDER, 1) if name in names), default=0)

    items.sort(key=lambda item: place(item) if item.path.is_relative_to(HERE) else -1)


@pytest.fixture(scope="session")
def cells_up() -> Iterator[contextlib.ExitStack]:
    """The cell without a stage, while it is up."""
    with contextlib.ExitStack() as up:
        yield up


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stages_up(cells_up: contextlib.ExitStack) -> AsyncIterator[contextlib.AsyncExitStack]:
    """The stage, while it is up. Nobody needs the cell any more."""
    await asyncio.to_thread(cells_up.close)
    async with contextlib.AsyncExitStack() as up:
        yield up


@pytest.fixture(scope="session")
def long_running_cell(authority: Authority, cells_up: contextlib.ExitStack) -> Cell:
    """Whatever happened to it last."""
    return cells_up.enter_context(running_cell(authority, links=True))


@pytest.fixture
def cell(long_running_cell: Cell) -> Iterator[Cell]:
    """Three nodes in the quorum. What a test does to them is undone after it."""
    long_running_cell.wait_for_members(3)
    yield long_running_cell
    for node in long_running_cell.nodes:
        node.thaw()
        long_running_cell.mend(node)
        node.start()
    long_running_cell.wait_for_members(3)


async def come_up(stages_up: contextlib.AsyncExitStack, cells: int) -> Stage:
    """A stage in the place of the one before."""
    await stages_up.aclose()
    return await stages_up.enter_async_context(staged(rate=15, clients=6, cells=cells, say=print))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def long_running_stage(stages_up: contextlib.AsyncExitStack) -> Stage:
    """Whatever happened to it last."""
    return await come_up(stages_up, 1)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def long_running_stage_of_two_cells(stages_up: contextlib.AsyncExitStack) -> Stage:
    """Whatever happened to it last."""
    return await come_up(stages_up, 2)


async def ready(stage: Stage) -> Stage:
    """With load on it and well, whatever the test before has left."""
    stage.notes.clear()
    await asyncio.to_thread(repair, stage)
    stage.load.begin()
    await stage.healthy()
    return stage


@pytest_asyncio.fixture(loop_scope="session")
async def stage(long_running_stage: Stage) -> Stage:
    """Of one cell."""
    return await ready(long_running_stage)


@pytest_asyncio.fixture(loop_scope="session")
async def stage_of_two_cells(long_running_stage_of_two_cells: Stage) -> Stage:
    """Of two."""
    return await ready(long_running_stage_of_two_cells)
