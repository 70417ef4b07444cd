"""Open cells for the spool's tests: one database for each node of PostgreSQL, emptied for each test."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from tests.support.postgres import Postgres

from pillarbox.spool.cluster.composite import CompositeSpool
from pillarbox.spool.cluster.spool import ClusterSpool, make_tables, open_cluster
from pillarbox.spool.settings import ClusterSettings
from pillarbox.store.postgresql import Store, Transaction

_made: dict[tuple[Path, str], str] = {}
"""By the node's folder, not its port: a later node may have the port of one that ended."""


async def empty_cell(node: Postgres, name: str = "a") -> str:
    """The DSN of a database with our tables and nothing in them; another one for each ``name``."""
    dsn = _made.get((node.folder, name))
    if dsn is None:
        dsn = await asyncio.to_thread(node.create_database)
        await make_tables(ClusterSettings(dsn))
        _made[node.folder, name] = dsn
        return dsn
    store = Store(dsn)

    async def work(transaction: Transaction) -> None:
        transaction.add("TRUNCATE message, recipient, content_chunk, worker, restored, taken")

    await store.write(work)
    await store.close()
    return dsn


async def open_cell(node: Postgres, clock: Callable[[], float]) -> ClusterSpool:
    """A spool over an empty cell."""
    return await open_cluster(ClusterSettings(await empty_cell(node)), clock=clock)


async def open_cells(node: Postgres, clock: Callable[[], float]) -> CompositeSpool:
    """A spool over two empty cells, "a" and "b"."""
    cells = {
        name: await open_cluster(ClusterSettings(await empty_cell(node, name), name=name), clock=clock)
        for name in ("a", "b")
    }
    return CompositeSpool(cells)
