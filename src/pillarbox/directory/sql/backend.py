"""The people that the site's own query finds.

ERRORS
    Unavailable: the database cannot say, or says something else than people. NotReached: see hashed.py. Unusable when
    it is made.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from pillarbox.directory.base import Denied, Identity, NotReached, Unusable
from pillarbox.directory.blocking import Threads
from pillarbox.directory.hashed import HashChecker
from pillarbox.directory.preparation import login_key
from pillarbox.directory.servers import Servers
from pillarbox.directory.sql.query import parameters
from pillarbox.directory.sql.rows import Row, RowsUnusable, to_person
from pillarbox.directory.sql.settings import SqlSettings
from pillarbox.directory.upstream import Narrate, Person, silent
from pillarbox.telemetry.advice import install


class Database(Protocol):
    """What a maker's module offers. ``str()`` names it in messages, without a password."""

    async def ask(self, values: Mapping[str, str]) -> list[Row]:
        """The rows that the query gives for these parameters; limited in time. Raises ServerFailed."""
        ...

    def close(self) -> None:
        """Ends its connections."""
        ...


class SqlBackend:
    """Satisfies upstream.Backend."""

    def __init__(self, settings: SqlSettings, narrate: Narrate = silent) -> None:
        self._narrate = narrate
        self._threads = Threads(settings.name, settings.connections)
        self._database = _make_database(settings, self._threads)
        self._servers = Servers((self._database,), settings.timeout, directory=settings.name)
        self._checker = HashChecker(self._threads, settings, narrate)
        self._local_alone = parameters(settings.query).isdisjoint(("login", "domain"))
        """The query does not see the domain: with any, it is the same person, whose mails are counted by login."""

    @property
    def opaque(self) -> bool:
        """The query says who there is."""
        return False

    async def find(self, login: str) -> Person | None:
        """Raises Unavailable."""
        local, _, domain = login.rpartition("@") if "@" in login else (login, "", "")
        values = {"login": login, "local": local, "domain": domain.lower()}
        rows = await self._servers.ask(lambda database: database.ask(values))
        try:
            person = to_person(rows, local if self._local_alone else login)
        except RowsUnusable as error:
            self._narrate(f"query at {self._database}: {error}")
            raise NotReached(f"{self._database}: {error}") from None
        whom = "nobody, or more than one person" if rows else "nobody"
        if person is not None:
            whom = person.identity.login + ("" if person.denied is None else f", {person.denied.name.lower()}")
        self._narrate(f"query at {self._database} for {login_key(login)[:80]!r}: {len(rows)} rows: {whom}")
        return person

    async def check(self, person: Person, password: str) -> Identity | Denied:
        """Raises NotReached."""
        return await self._checker.check(person, password)

    def close(self) -> None:
        """Ends its connections and threads."""
        self._database.close()
        self._threads.close()


def _make_database(settings: SqlSettings, threads: Threads) -> Database:
    """Raises Unusable."""
    if settings.sqlite is not None:
        from pillarbox.directory.sql.sqlite import SqliteDatabase

        return SqliteDatabase(settings.sqlite, settings.query, threads, settings.timeout)
    try:
        from pillarbox.directory.sql.postgresql import PostgresqlDatabase
        from pillarbox.store.errors import StoreError
        from pillarbox.store.postgresql import with_password
    except ModuleNotFoundError as error:
        missing = f'directory "{settings.name}": {error.name} is not installed: {install("sql")}'
        raise Unusable(missing) from None
    try:
        dsn = settings.postgresql
        if settings.password_file is not None:
            dsn = with_password(dsn, _first_line(settings.name, settings.password_file))
        return PostgresqlDatabase(dsn, settings.query, connections=settings.connections, timeout=settings.timeout)
    except StoreError as error:
        raise Unusable(f'directory "{settings.name}": {error}') from None


def _first_line(name: str, path: Path) -> str:
    try:
        line = path.read_text(encoding="utf-8").split("\n", 1)[0].removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise Unusable(f'directory "{name}": password_file {path} cannot be read: {reason}') from None
    if not line:
        raise Unusable(f'directory "{name}": password_file {path} is empty')
    return line
