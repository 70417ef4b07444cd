"""A cell on a node of its own, to be killed and to be told to wait for standbys that are not there."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from tests.spool.cells import empty_cell
from tests.spool.messages import Clock
from tests.support.administrator import Administrator
from tests.support.postgres import Postgres, running_postgres

import pillarbox.spool.cluster.cell
import pillarbox.spool.cluster.outbox
from pillarbox.spool.cluster.spool import ClusterSpool, open_cluster
from pillarbox.spool.settings import ClusterSettings


@pytest.fixture(scope="module")
def node() -> Iterator[Postgres]:
    """A node of this module's own: it is killed, and told to wait for standbys that are not there."""
    with running_postgres() as running:
        yield running


@pytest.fixture
async def dsn(node: Postgres) -> str:
    if node.process is None or node.process.poll() is not None:
        await asyncio.to_thread(node.start)
    return await empty_cell(node)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def spool(dsn: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ClusterSpool]:
    """With a watch that loses its patience soon."""
    monkeypatch.setattr(pillarbox.spool.cluster.cell, "PATIENT", 0.3)
    monkeypatch.setattr(pillarbox.spool.cluster.cell, "TICK", 0.1)
    monkeypatch.setattr(pillarbox.spool.cluster.outbox, "GRACE", 0.0)
    opened = await open_cluster(ClusterSettings(dsn, "pillarbox test"), clock=clock)
    yield opened
    await opened.close()


@pytest.fixture
async def other(dsn: str, spool: ClusterSpool, clock: Clock) -> AsyncIterator[ClusterSpool]:
    """Another process's."""
    opened = await open_cluster(ClusterSettings(dsn, "pillarbox other"), clock=clock)
    yield opened
    await opened.close()


@pytest.fixture
async def administrator(dsn: str, spool: ClusterSpool) -> AsyncIterator[Administrator]:
    opened = Administrator(dsn)
    yield opened
    await opened.demand_nothing()
    opened.close()
