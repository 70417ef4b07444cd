"""Each implementation of what has a contract, opened for the suites here."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.spool.cells import open_cell
from tests.spool.messages import Clock, open_remote

from pillarbox.spool.base import Spool
from pillarbox.spool.embedded import open_spool
from pillarbox.spool.settings import EmbeddedSettings


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["embedded", "embedded over a channel", "cluster"])
async def spool(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Spool]:
    if request.param == "embedded":
        embedded = await open_spool(EmbeddedSettings(tmp_path / "spool", 0), clock=clock)
        yield embedded
        await embedded.close()
    elif request.param == "cluster":
        cluster = await open_cell(request.getfixturevalue("postgres"), clock)
        yield cluster
        await cluster.close()
    else:
        remote = await open_remote(tmp_path / "spool", 0, clock)
        yield remote
        await remote.close()
