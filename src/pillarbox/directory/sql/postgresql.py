"""The query to PostgreSQL, in transactions that only read.

The query stands in a FROM of ours, so that one which would change something is refused by the server before the
transaction's READ ONLY does it. The search_path is the user's own.

ERRORS
    ServerFailed: the server, the query, or more time than there is. StoreError when it is made: no DSN.
"""

import json
from collections.abc import Mapping
from typing import Any

from pillarbox.directory.servers import ServerFailed
from pillarbox.directory.sql.query import renamed
from pillarbox.directory.sql.rows import ROWS_CEILING, Row
from pillarbox.store.errors import StoreError
from pillarbox.store.postgresql import Store, Transaction

_OF_DATA = "22"
"""The SQLSTATEs of values that cannot be: a login that the database's encoding has no letters for, one that the query
takes for a number. Nobody has it, and the server is well."""


class PostgresqlDatabase:
    """Satisfies backend.Database."""

    def __init__(self, dsn: str, query: str, *, connections: int, timeout: float) -> None:
        self._store = Store(dsn, name="pillarbox directory", size=connections, any_server=True)
        written = renamed(query, "%({})s".format, lambda text: text.replace("%", "%%"))
        self._query = f"SELECT to_json(answer)::text FROM (\n{written}\n) AS answer LIMIT {ROWS_CEILING + 1}"  # noqa: S608  the site's own query; what was typed goes beside it
        self._timeout = timeout

    def __str__(self) -> str:
        return self._store.where

    async def ask(self, values: Mapping[str, str]) -> list[Row]:
        """Raises ServerFailed."""

        async def work(transaction: Transaction) -> list[tuple[Any, ...]]:
            transaction.add("SET TRANSACTION READ ONLY")
            transaction.add("RESET search_path")
            transaction.add("SELECT set_config('statement_timeout', %s, true)", (f"{self._timeout * 1000:.0f}",))
            return await transaction.fetch(self._query, values)

        try:
            rows = await self._store.write(work, deadline=self._timeout)
        except StoreError as error:
            if str(getattr(error.__cause__, "sqlstate", None)).startswith(_OF_DATA):
                return []
            raise ServerFailed(str(error)) from None
        return [json.loads(row[0]) for row in rows]

    def close(self) -> None:
        """Ends its connections."""
        self._store.abandon()
