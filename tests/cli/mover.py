"""A process that moves one cell's messages to another, or to an embedded spool: to be killed.

    python -m tests.cli.mover SOURCE_DSN (cell DSN | embedded DIRECTORY)

As `pillarbox spool migrate`, without its minute for commits that are repeated: here nobody repeats any.
"""

import asyncio
import sys
from pathlib import Path

from pillarbox.console.migration import Moved, migrate
from pillarbox.spool.cluster.moving import CellSource
from pillarbox.spool.cluster.restoring import ClusterRestorer
from pillarbox.spool.cluster.spool import open_cluster
from pillarbox.spool.embedded import open_spool
from pillarbox.spool.restoring import EmbeddedRestorer
from pillarbox.spool.settings import ClusterSettings, EmbeddedSettings


def silent(through: int) -> None:
    """Nobody looks."""


async def move(source_dsn: str, kind: str, where: str) -> Moved:
    source = await open_cluster(ClusterSettings(source_dsn), leases=False)
    try:
        if kind == "cell":
            there = await open_cluster(ClusterSettings(where), leases=False)
            try:
                return await migrate(CellSource(source.cell, 0.0), ClusterRestorer(there.cell), "b", tell=silent)
            finally:
                await there.close()
        spool = await open_spool(EmbeddedSettings(Path(where), 0))
        restorer = EmbeddedRestorer(spool.owner)
        try:
            return await migrate(CellSource(source.cell, 0.0), restorer, "", tell=silent)
        finally:
            await restorer.close()
            await spool.close()
    finally:
        await source.close()


if __name__ == "__main__":
    print(asyncio.run(move(*sys.argv[1:])).messages)
