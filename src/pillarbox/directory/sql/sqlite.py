"""The query to a SQLite file, which is only read. The only importer of apsw in this room.

The file is opened anew when another one has taken its place. One in WAL mode needs its -shm file: its folder must be
writable, or another program have it open.

ERRORS
    ServerFailed: the database, the query, or more time than there is.
"""

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import apsw

from pillarbox.directory.blocking import Threads
from pillarbox.directory.servers import ServerFailed
from pillarbox.directory.sql.query import bare
from pillarbox.directory.sql.rows import ROWS_CEILING, Row

_STEPS = 2_000
"""Of SQLite's machine between two looks at the clock."""


class SqliteDatabase:
    """Satisfies backend.Database."""

    def __init__(self, path: Path, query: str, threads: Threads, timeout: float) -> None:
        self._path, self._query = path, bare(query)
        self._threads, self._timeout = threads, timeout
        self._mine = threading.local()

    def __str__(self) -> str:
        return str(self._path)

    async def ask(self, values: Mapping[str, str]) -> list[Row]:
        """Raises ServerFailed."""
        return await self._threads.run(self._ask, dict(values))

    def close(self) -> None:
        """Its connections end with their threads."""

    def _ask(self, values: dict[str, str]) -> list[Row]:
        try:
            return self._fetch(self._connection(), values)
        except apsw.InterruptError:
            raise ServerFailed(f"the query takes more than {self._timeout:g} s") from None
        except apsw.Error as error:
            raise ServerFailed(f"SQLite: {error}") from None
        except OSError as error:
            raise ServerFailed(f"{self._path}: {error.strerror}") from None

    def _fetch(self, connection: apsw.Connection, values: dict[str, str]) -> list[Row]:
        ends_at = time.monotonic() + self._timeout
        connection.set_progress_handler(lambda: time.monotonic() > ends_at, _STEPS)
        cursor = connection.execute(self._query, values)
        rows: list[Row] = []
        for row in cursor:
            rows.append(dict(zip((column[0] for column in cursor.description), row, strict=True)))
            if len(rows) > ROWS_CEILING:
                break
        cursor.close(True)
        return rows

    def _connection(self) -> apsw.Connection:
        found = os.stat(self._path)
        which = (found.st_dev, found.st_ino)
        if getattr(self._mine, "which", None) != which:
            self._mine.connection = self._open()
            self._mine.which = which
        connection: apsw.Connection = self._mine.connection
        return connection

    def _open(self) -> apsw.Connection:
        name = f"file:{quote(str(self._path.absolute()))}?mode=ro"
        connection = apsw.Connection(name, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
        connection.set_busy_timeout(int(self._timeout * 1000))
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        return connection
