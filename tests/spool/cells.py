"""Open cells for the spool's tests: one database for each node of PostgreSQL, emptied for each test."""

import asyncio
from collections.abc import Callable

from tests.support.postgres import Postgres

from pillarbox.spool.cluster.spool import ClusterSpool, make_tables, open_cluster
from pillarbox.spool.settings import ClusterSettings
from pillarbox.store.postgresql import Store, Transaction

_made: dict[int, str] = {}


async def empty_cell(node: Postgres) -> str:
    """The DSN of a database with our tables and nothing in them."""
    dsn = _made.get(node.port)
    if dsn is None:
        dsn = await asyncio.to_thread(node.create_database)
        await make_tables(ClusterSettings(dsn))
        _made[node.port] = dsn
        return dsn
    store = Store(dsn)

    async def work(transaction: Transaction) -> None:
        transaction.add("TRUNCATE message, recipient, content_chunk, worker")

    await store.write(work)
    await store.close()
    return dsn


async def open_cell(node: Postgres, clock: Callable[[], float]) -> ClusterSpool:
    """A spool over an empty cell."""
    return await open_cluster(ClusterSettings(await empty_cell(node)), clock=clock)
