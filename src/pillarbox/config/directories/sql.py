"""[[directory]] with kind = "sql": the site's own query.

ERRORS
    None raised: broken rules are values.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pillarbox.config.directories.hashed import HashedTable, hashed
from pillarbox.config.dsn import exposed_in, mistake_in
from pillarbox.config.fields import Field, FilePath, Text
from pillarbox.directory.sql import query as queries
from pillarbox.directory.sql.settings import SqlSettings


class SqlTable(HashedTable):
    """People in a database, found by the site's own query."""

    kind: Literal["sql"] = Field(description="sql: people in a database.")
    query: Text = Field(
        description="Finds one person by :login (or :local and :domain, its parts). Columns: password; and if there "
        "are, login, addresses, domains, disabled, may_redirect, recipients_per_hour."
    )
    sqlite: FilePath | None = Field(None, description="The file, of SQLite; it is only read.")
    postgresql: Text | None = Field(
        None,
        description="The database, of PostgreSQL: a DSN as libpq takes it, without a password; on another machine "
        "with sslmode=verify-full. PGSSLMODE and the like in the environment do not count.",
    )
    password_file: FilePath | None = Field(
        None, description="A file with the password for postgresql. Default: passfile in the DSN, PGPASSFILE."
    )


def build(table: SqlTable, base: Path) -> SqlSettings:
    """Its settings."""
    return SqlSettings(
        **hashed(table),
        query=table.query,
        sqlite=None if table.sqlite is None else base / table.sqlite,
        postgresql=table.postgresql or "",
        password_file=None if table.password_file is None else base / table.password_file,
    )


def check(table: SqlTable) -> Iterator[tuple[str, str]]:
    """(key, what is broken)."""
    try:
        queries.check(table.query)
    except ValueError as error:
        yield "query", str(error)
    if (table.sqlite is None) == (table.postgresql is None):
        found = "neither" if table.sqlite is None else "both"
        yield "kind", f"found {found} of sqlite and postgresql; expected one of them: where the people are"
    if table.postgresql is not None:
        mistake = mistake_in(table.postgresql) or exposed_in(table.postgresql)
        if mistake:
            yield "postgresql", mistake
    elif table.password_file is not None:
        yield "password_file", "found without postgresql; expected none"
