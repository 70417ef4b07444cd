"""Each implementation of what has a contract, opened for the suites here."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.spool import messages
from tests.spool.cells import open_cell, open_cells
from tests.spool.messages import Clock, open_remote

from pillarbox.spool.base import Spool
from pillarbox.spool.embedded import open_spool
from pillarbox.spool.settings import EmbeddedSettings


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["embedded", "embedded over a channel", "cluster", "two cells"])
async def spool(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Spool]:
    if request.param == "embedded":
        embedded = await open_spool(EmbeddedSettings(tmp_path / "spool", 0), clock=clock)
        yield embedded
        await embedded.close()
    elif request.param == "cluster":
        cluster = await open_cell(request.getfixturevalue("postgres"), clock)
        yield cluster
        await cluster.close()
    elif request.param == "two cells":
        monkeypatch.setattr(messages, "tags", ["a", "b"])
        cells = await open_cells(request.getfixturevalue("postgres"), clock)
        yield cells
        await cells.close()
    else:
        remote = await open_remote(tmp_path / "spool", 0, clock)
        yield remote
        await remote.close()


@pytest.fixture
def in_one_cell(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """For what holds within a cell only: the order between cells is by turns."""
    monkeypatch.setattr(messages, "tags", messages.tags[:1])
