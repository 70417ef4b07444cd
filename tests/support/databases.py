"""Databases with people in them, and directories over them for the contract's suite."""

from pathlib import Path

import apsw
import psycopg
from tests.support.password_files import ANNA_HASH
from tests.support.postgres import Postgres

from pillarbox.directory.sql.backend import SqlBackend
from pillarbox.directory.sql.settings import SqlSettings
from pillarbox.directory.tries import Tries
from pillarbox.directory.upstream import Upstream

TABLES = (
    "CREATE TABLE people (name text PRIMARY KEY, hash text, closed boolean NOT NULL, quota integer)",
    "CREATE TABLE mail (name text NOT NULL, address text NOT NULL)",
)
PEOPLE = (("anna", ANNA_HASH, False, None), ("bob", ANNA_HASH, True, 100), ("o'neil", ANNA_HASH, False, None))
MAIL = (
    ("anna", "anna@example.org"),
    ("anna", "A.Smith@example.org"),
    ("bob", "bob@example.org"),
    ("o'neil", "oneil@example.org"),
)
QUERY = """
    SELECT people.name AS login, hash AS password, address AS addresses, closed AS disabled,
        quota AS recipients_per_hour  -- :nothing, and 100 %
    FROM people LEFT JOIN mail USING (name)
    WHERE people.name = lower(:login) OR :login = ':login''s';
"""


def make_sqlite(path: Path) -> Path:
    """A file with the people."""
    connection = apsw.Connection(str(path))
    for statement in TABLES:
        connection.execute(statement)
    connection.executemany("INSERT INTO people VALUES (?, ?, ?, ?)", PEOPLE)
    connection.executemany("INSERT INTO mail VALUES (?, ?)", MAIL)
    connection.close()
    return path


def make_postgresql(dsn: str) -> str:
    """The people in an empty database."""
    with psycopg.connect(dsn) as connection:
        for statement in TABLES:
            connection.execute(statement.encode())
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO people VALUES (%s, %s, %s, %s)", PEOPLE)
            cursor.executemany("INSERT INTO mail VALUES (%s, %s)", MAIL)
    return dsn


class DirectorySqlite:
    """Anna, and Bob, who is disabled, in a SQLite file."""

    def __init__(self, folder: Path) -> None:
        self.settings = SqlSettings(name="sql", query=QUERY, sqlite=make_sqlite(folder / "people.db"))

    async def open(self) -> Upstream:
        """The directory; close() it."""
        return Upstream(SqlBackend(self.settings), self.settings, Tries())


class DirectoryPostgresql:
    """The same in PostgreSQL."""

    def __init__(self, postgres: Postgres) -> None:
        dsn = make_postgresql(postgres.create_database())
        self.settings = SqlSettings(name="sql", query=QUERY, postgresql=dsn)

    async def open(self) -> Upstream:
        """The directory; close() it."""
        return Upstream(SqlBackend(self.settings), self.settings, Tries())
