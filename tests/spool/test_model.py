"""Each spool against a model in memory, through any order of verbs and restarts."""

import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import settings
from tests.spool.cells import empty_cell
from tests.spool.machine import SpoolMachine
from tests.support.postgres import Postgres

from pillarbox.spool.base import Spool
from pillarbox.spool.cluster.spool import ClusterSpool, open_cluster
from pillarbox.spool.embedded import EmbeddedSpool, open_spool
from pillarbox.spool.settings import ClusterSettings, EmbeddedSettings


class EmbeddedMachine(SpoolMachine):
    """The model beside the embedded spool."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="pb-model"))
        super().__init__()

    async def open(self, again: bool = False) -> Spool:
        return await open_spool(EmbeddedSettings(self.directory, 0), clock=lambda: self.now)

    async def close(self) -> None:
        assert isinstance(self.spool, EmbeddedSpool)
        await self.spool.close()

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.directory)


class ClusterMachine(SpoolMachine):
    """The model beside the spool over PostgreSQL."""

    node: ClassVar[Postgres]

    async def open(self, again: bool = False) -> Spool:
        dsn = self.dsn = self.dsn if again else await empty_cell(self.node)
        return await open_cluster(ClusterSettings(dsn), clock=lambda: self.now)

    async def close(self) -> None:
        assert isinstance(self.spool, ClusterSpool)
        await self.spool.close()

    dsn = ""


@pytest.fixture(scope="module", autouse=True)
def _node(postgres: Postgres) -> None:
    """A unittest.TestCase takes no fixture as an argument."""
    ClusterMachine.node = postgres


TestEmbedded = EmbeddedMachine.TestCase
TestEmbedded.settings = settings(max_examples=60, stateful_step_count=40, derandomize=True, deadline=None)
TestCluster = ClusterMachine.TestCase
TestCluster.settings = settings(max_examples=25, stateful_step_count=40, derandomize=True, deadline=None)
