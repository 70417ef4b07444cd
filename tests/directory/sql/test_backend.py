"""sql: signing in by the site's own query, at a real SQLite and a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import psycopg
import pytest
from tests.support.databases import DirectoryPostgresql, DirectorySqlite, make_sqlite
from tests.support.password_files import RIGHT
from tests.support.postgres import Postgres

from pillarbox.directory.base import Denied, Identity, Reason, Unavailable, Unusable
from pillarbox.directory.sql.backend import SqlBackend
from pillarbox.directory.sql.settings import SqlSettings
from pillarbox.directory.tries import Tries
from pillarbox.directory.upstream import Upstream
from pillarbox.sasl.mechanism import Credentials


def said(login: str, password: str) -> Credentials:
    return Credentials(authcid=login, password=password)


@pytest.fixture(params=["sqlite", "postgresql"])
async def settings(request: pytest.FixtureRequest, tmp_path: Path) -> SqlSettings:
    if request.param == "sqlite":
        return DirectorySqlite(tmp_path).settings
    postgres: Postgres = request.getfixturevalue("postgres")
    return (await asyncio.to_thread(DirectoryPostgresql, postgres)).settings


@pytest.fixture
async def directory(settings: SqlSettings) -> AsyncIterator[Upstream]:
    made = Upstream(SqlBackend(settings), settings, Tries())
    yield made
    made.close()
    await asyncio.sleep(0)


async def test_a_person_signs_in_by_the_password_in_the_database(directory: Upstream) -> None:
    for login in ("anna", "ANNA"):
        answer = await directory.verify(said(login, RIGHT), known_place=True)
        assert isinstance(answer, Identity)
        assert answer.login == "anna" and answer.source == "sql"
        assert answer.addresses == {"anna@example.org", "a.smith@example.org"}, "one row for each"
    answer = await directory.verify(said("o'neil", RIGHT), known_place=True)
    assert isinstance(answer, Identity) and answer.addresses == {"oneil@example.org"}


HOSTILE = (
    "' OR '1'='1",
    "anna'; DROP TABLE people; --",
    "anna' --",
    'anna" OR ""="',
    "anna\\",
    "\\' OR 1=1 --",
    ":login",
    "%(login)s",
    "%s%n",
    "$1",
    "anna%",
    "anna\r\nbob",
    "anna\0bob",
    "\U0001f600" * 60,
    "{1,2}",
    "x" * 10_000,
    "a" * 255,
)


@pytest.mark.parametrize("login", HOSTILE)
async def test_what_is_typed_as_login_is_never_part_of_the_query(directory: Upstream, login: str) -> None:
    answer = await directory.verify(said(login, RIGHT), known_place=True)
    assert isinstance(answer, Denied) and answer.reason in (Reason.UNKNOWN, Reason.WRONG)
    assert isinstance(await directory.verify(said("anna", RIGHT), known_place=True), Identity), "all is there still"


@pytest.mark.parametrize(
    ("login", "password", "reason"),
    [
        ("anna", "wrong", Reason.WRONG),
        ("anna", "", Reason.WRONG),
        ("bob", RIGHT, Reason.DISABLED),
        ("nobody", RIGHT, Reason.UNKNOWN),
        (":login's", RIGHT, Reason.UNKNOWN),  # the query gives everybody: a login means one person
    ],
)
async def test_who_is_not_let_in(directory: Upstream, login: str, password: str, reason: Reason) -> None:
    answer = await directory.verify(said(login, password), known_place=False)
    assert isinstance(answer, Denied) and answer.reason is reason


def with_query(settings: SqlSettings, query: str, timeout: float = 10.0) -> SqlSettings:
    return SqlSettings(
        name="sql", query=query, sqlite=settings.sqlite, postgresql=settings.postgresql, timeout=timeout
    )


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("SELECT hash FROM people WHERE name = :login", "column named"),
        ("SELECT hash AS password, name AS adress FROM people WHERE name = :login", "adress"),
        ("SELECT password FROM nowhere WHERE name = :login", "nowhere"),
        ("SELECT hash AS password, 'no address' AS addresses FROM people WHERE name = :login", "not an address"),
        ("SELECT hash AS password, 'x' AS recipients_per_hour FROM people WHERE name = :login", "whole number"),
        ("SELECT name AS password FROM people WHERE name = :login", "none is named"),
        ("SELECT 17 AS password FROM people WHERE name = :login", "no text"),
    ],
)
async def test_a_query_that_does_not_fit_is_told_and_nobodys_password_is_wrong(
    settings: SqlSettings, query: str, why: str
) -> None:
    other = with_query(settings, query)
    directory = Upstream(SqlBackend(other), other, Tries())
    with pytest.raises(Unavailable, match=why):
        await directory.verify(said("anna", RIGHT), known_place=True)
    directory.close()


async def test_nothing_can_be_changed_by_a_query(settings: SqlSettings) -> None:
    query = "WITH gone AS (DELETE FROM people RETURNING hash) SELECT hash AS password FROM gone WHERE hash = :login"
    if settings.sqlite:
        query = "DELETE FROM people WHERE name = :login RETURNING hash AS password"
    backend = SqlBackend(with_query(settings, query))
    with pytest.raises(Unavailable):
        await backend.find("anna")
    backend.close()
    still = SqlBackend(settings)
    assert await still.find("anna") is not None
    still.close()


async def test_a_query_that_takes_too_long_is_given_up(settings: SqlSettings) -> None:
    endless = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 'x' AS password FROM n WHERE i < 0"
    )
    backend = SqlBackend(with_query(settings, f"{endless} AND :login <> ''", timeout=0.2))
    with pytest.raises(Unavailable):
        await backend.find("anna")
    backend.close()


async def test_a_password_that_was_changed_ends_what_was_remembered(settings: SqlSettings) -> None:
    backend = SqlBackend(settings)
    before = await backend.find("anna")
    change = "UPDATE people SET hash = '{SHA}x' WHERE name = 'anna'"
    if settings.sqlite:
        with apsw.Connection(str(settings.sqlite)) as connection:
            connection.execute(change)
    else:
        await asyncio.to_thread(_execute, settings.postgresql, change)
    after = await backend.find("anna")
    backend.close()
    assert before is not None and after is not None and before.key != after.key


def _execute(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(statement.encode())


async def test_a_sqlite_file_that_is_replaced_is_opened_anew(tmp_path: Path) -> None:
    settings = DirectorySqlite(tmp_path).settings
    assert settings.sqlite is not None
    backend = SqlBackend(settings)
    assert await backend.find("dora") is None
    other = make_sqlite(tmp_path / "other.db")
    with apsw.Connection(str(other)) as connection:
        connection.execute("INSERT INTO people VALUES ('dora', 'x', 0, NULL)")
    other.replace(settings.sqlite)
    assert await backend.find("dora") is not None
    settings.sqlite.unlink()
    with pytest.raises(Unavailable, match="No such file"):
        await backend.find("dora")
    backend.close()


async def test_a_login_that_the_database_cannot_take_is_nobodys_and_the_server_is_well(postgres: Postgres) -> None:
    dsn = (await asyncio.to_thread(DirectoryPostgresql, postgres)).settings.postgresql
    numbers = "SELECT hash AS password FROM people WHERE length(name) = cast(:login AS integer)"
    backend = SqlBackend(SqlSettings(name="sql", query=numbers, postgresql=dsn))
    for _ in range(5):
        assert await backend.find("no number") is None
    assert await backend.find("4") is not None
    backend.close()


async def test_a_database_that_is_away_is_unavailable_and_its_name_holds_no_password(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush hush\n")
    dsn = "host=127.0.0.1 port=1 dbname=x user=y"
    query = "SELECT x AS password FROM y WHERE z = :login"
    backend = SqlBackend(SqlSettings(name="sql", query=query, postgresql=dsn, password_file=secret))
    with pytest.raises(Unavailable) as unavailable:
        await backend.find("anna")
    assert "127.0.0.1" in str(unavailable.value) and "hush" not in str(unavailable.value)
    backend.close()
    secret.unlink()
    with pytest.raises(Unusable, match="cannot be read"):
        SqlBackend(SqlSettings(name="sql", query=query, postgresql=dsn, password_file=secret))


LOGINS = {
    "SELECT hash AS password FROM people WHERE name = :local": "anna",
    "SELECT hash AS password FROM people WHERE name = :local AND :domain IN ('x1', 'x2')": "anna@x1",
    "SELECT hash AS password FROM people WHERE name = :local AND :login <> ''": "anna@x1",
}


@pytest.mark.parametrize("query", LOGINS)
async def test_without_a_column_for_it_the_login_is_what_the_query_sees(settings: SqlSettings, query: str) -> None:
    backend = SqlBackend(with_query(settings, query))
    person, other = await backend.find("anna@X1"), await backend.find("anna@x2")
    backend.close()
    assert person is not None and other is not None and person.identity.login == LOGINS[query]
    assert (person.key == other.key) == (LOGINS[query] == "anna"), "one person has one count of tries and mails"


async def test_what_was_asked_and_answered_is_told_without_secrets(settings: SqlSettings) -> None:
    told: list[str] = []
    backend = SqlBackend(settings, told.append)
    person = await backend.find("anna")
    assert person is not None
    await backend.check(person, RIGHT)
    await backend.find("nobody")
    backend.close()
    assert "2 rows: anna" in told[0] and "SHA512-CRYPT: right" in told[1] and "0 rows: nobody" in told[2]
    assert RIGHT not in "".join(told) and "$6$" not in "".join(told)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("PGHOSTADDR", "127.0.0.66"), ("PGOPTIONS", "-c role=nobody_at_all"), ("PGSSLMODE", "no such mode")],
)
async def test_the_environment_does_not_change_which_postgresql_is_asked(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    settings = (await asyncio.to_thread(DirectoryPostgresql, postgres)).settings
    monkeypatch.setenv(variable, value)
    directory = Upstream(SqlBackend(settings), settings, Tries())
    assert isinstance(await directory.verify(said("anna", RIGHT), known_place=True), Identity)
    directory.close()
    await asyncio.sleep(0)
