"""[[directory]] with kind = "passwd" and "sql": what they become, what is refused, and what check finds."""

from pathlib import Path
from typing import Any

import pytest
from tests.config.corp import HERE, mistakes, taken
from tests.support.databases import make_sqlite
from tests.support.password_files import ANNA_HASH, PEOPLE
from tests.support.password_files import replace as put

from pillarbox.config import check_files
from pillarbox.directory.passwd.settings import PasswdSettings
from pillarbox.directory.settings import DirectorySettings
from pillarbox.directory.sql.settings import SqlSettings
from pillarbox.doctor.report import Finding, Severity

QUERY = "SELECT hash AS password FROM people WHERE name = :login"


def made(text: str) -> DirectorySettings:
    return taken(text).directories[0]


def refused(text: str) -> str:
    return "\n".join(mistakes(text))


def test_every_key_reaches_its_room() -> None:
    common = 'names = ["*"]\nplain = true\ncache = "1m"\nwrong_cache = "2s"\nrefresh = "3s"\ntimeout = "4s"\n'
    values: dict[str, Any] = {
        "names": ("*",),
        "plain": True,
        "cache": 60,
        "wrong_cache": 2,
        "refresh": 3,
        "timeout": 4,
    }
    passwd = made(f'kind = "passwd"\nfile = "people"\ndomain = "example.org"\nconnections = 5\n{common}')
    assert passwd == PasswdSettings(
        name="corp", file=HERE.parent / "people", domain="example.org", connections=5, **values
    )
    assert passwd.wrong_tries is None, "nobody is locked out by a file"
    sqlite = made(f'kind = "sql"\nsqlite = "people.db"\nquery = "{QUERY}"\n{common}')
    assert sqlite == SqlSettings(name="corp", sqlite=HERE.parent / "people.db", query=QUERY, **values)
    dsn = "host=db dbname=x sslmode=verify-full"
    postgresql = made(f'kind = "sql"\npostgresql = "{dsn}"\npassword_file = "secret"\nquery = "{QUERY}"\n{common}')
    assert postgresql == SqlSettings(
        name="corp",
        postgresql=dsn,
        password_file=HERE.parent / "secret",
        query=QUERY,
        **values,
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('kind = "passwd"\n', "file"),
        ('kind = "passwd"\nfile = "x"\nwrong_tries = 3\n', "wrong_tries"),
        (f'kind = "sql"\nquery = "{QUERY}"\n', "neither of sqlite and postgresql"),
        (f'kind = "sql"\nquery = "{QUERY}"\nsqlite = "x"\npostgresql = "host=y"\n', "both of sqlite and postgresql"),
        (f'kind = "sql"\nquery = "{QUERY}"\nsqlite = "x"\npassword_file = "y"\n', "password_file"),
        (f'kind = "sql"\nquery = "{QUERY}"\npostgresql = "host=y password=hush"\n', "found a password in it"),
        (f'kind = "sql"\nquery = "{QUERY}"\npostgresql = "postgresql://a:hush@y/z"\n', "found a password in it"),
        (f'kind = "sql"\nquery = "{QUERY}"\npostgresql = "nonsense"\n', "than a DSN"),
        ('kind = "sql"\nquery = "SELECT password FROM p WHERE n = \':login\'"\nsqlite = "x"\n', ":login"),
        ('kind = "sql"\nquery = "DELETE FROM p WHERE n = :login"\nsqlite = "x"\n', "no SELECT"),
    ],
)
def test_a_broken_rule_is_refused_with_its_reason(text: str, why: str) -> None:
    told = refused(text)
    assert why in told and "hush" not in told


EXPOSED = (
    "host=db",
    "host=db.example.org sslmode=require",
    "host=db sslmode=verify-ca",
    "host=db sslmode=",
    "host=db sslmode=verify-full sslmode=prefer",
    "host=db user=' sslmode=verify-full'",
    "host=db user=\\\\' sslmode=prefer",
    "host=localhost host = 'db'",
    "host=localhost,db",
    "host=/run/postgresql,192.0.2.1",
    "hostaddr=192.0.2.1",
    "host=localhost hostaddr=192.0.2.1",
    "host=db hostaddr=127.0.0.1",
    "host=localhost.example.org",
    "service=shop",
    "service=shop host=localhost",
    "postgresql://db/shop",
    "postgresql://u@db:5432/shop?sslmode=verify-ca",
    "postgresql://127.0.0.1,db:1/shop",
    "postgresql://[2001:db8::1]:5432/shop",
    "postgresql:///shop?host=db",
    "postgresql://localhost/shop?hostaddr=192.0.2.1",
    "postgresql://localhost?user=a@db/shop",
    "postgresql://db/shop?sslmode=verify-full&ssl=true",
    "postgresql://u%40@db/sslmode=verify-full",
    "postgres:///?service=shop",
)
SAFE = (
    "host=db sslmode=verify-full",
    "host = db,db2 sslmode = 'verify-full'",
    "host=db hostaddr=192.0.2.1 sslmode=verify-full",
    "service=shop sslmode=verify-full",
    "dbname=shop user=pillarbox",
    "host=/run/postgresql dbname=shop",
    "host='/run/postgre sql,localhost'",
    "host=localhost,127.0.0.1,::1 hostaddr=127.0.0.1,127.0.0.1,::1",
    "postgresql://db/shop?sslmode=verify-full",
    "postgresql://db/shop?sslrootcert=system&sslmode=verify%2Dfull",
    "postgresql:///shop",
    "postgresql:///shop?host=/run/postgresql",
    "postgresql://%2Frun%2Fpostgresql/shop",
    "postgresql://u@localhost:5432,[::1]:5433,127.0.0.1/shop",
)


@pytest.mark.parametrize("dsn", EXPOSED)
def test_a_database_on_another_machine_shows_who_it_is(dsn: str) -> None:
    told = refused(f'kind = "sql"\nquery = "{QUERY}"\npostgresql = "{dsn}"\n')
    assert "postgresql: " in told and "expected sslmode=verify-full" in told and "example.org" not in told


@pytest.mark.parametrize("dsn", SAFE)
def test_a_database_on_this_machine_or_one_that_shows_who_it_is_is_taken(dsn: str) -> None:
    settings = made(f'kind = "sql"\nquery = "{QUERY}"\npostgresql = "{dsn}"\n')
    assert isinstance(settings, SqlSettings) and settings.postgresql == dsn


def found(folder: Path, text: str) -> dict[str, Finding]:
    settings = taken(text, at=folder / "pillarbox.toml")
    findings = check_files(settings, ports=False)
    return {str(each): each for each in findings if each.subject == "directory corp"}


def worst(findings: dict[str, Finding], words: str) -> Severity:
    [one] = [finding for text, finding in findings.items() if words in text]
    return one.severity


def test_check_tells_weak_and_unknown_hashes_and_who_can_read_the_file(tmp_path: Path) -> None:
    text = 'kind = "passwd"\nfile = "people"\n'
    people = tmp_path / "people"
    put(people, PEOPLE)
    people.chmod(0o640)
    assert [each.severity for each in found(tmp_path, text).values()] == [Severity.OK]
    put(
        people,
        "a:{NTLM}x\nb:{SHA}dUiT/hqAZgAaXs7e5SSivRDx5BU=\nc:{PLAIN}hush\nd:(355E98E7C7B59BD810ED845AD0FD2FC4)\n",
    )
    people.chmod(0o646)
    told = found(tmp_path, text)
    assert worst(told, "not known: {NTLM}") is Severity.ERROR
    assert worst(told, "in clear are not allowed") is Severity.ERROR
    assert worst(told, "broken fast: 1 of SHA, 1 of Domino form 1") is Severity.WARNING
    assert worst(told, "everybody on this machine can read") is Severity.WARNING
    assert "hush" not in "".join(told) and "dUiT" not in "".join(told)
    put(people, f"a:{ANNA_HASH}::::::allow_nets=192.0.2.1\nb:{ANNA_HASH}::::::noauthenticate\n")
    assert worst(found(tmp_path, text), "1 of 2 people: allow_nets") is Severity.WARNING
    assert worst(found(tmp_path, text), "1 of 2 people: noauthenticate") is Severity.WARNING
    put(people, "a:{SHA}x\na:{SHA}y\n")
    assert worst(found(tmp_path, text), "line 2: the name of line 1 again") is Severity.ERROR
    people.unlink()
    assert worst(found(tmp_path, text), "No such file") is Severity.ERROR


def test_check_looks_at_what_a_database_needs(tmp_path: Path) -> None:
    text = f'kind = "sql"\nsqlite = "people.db"\nquery = "{QUERY}"\n'
    assert worst(found(tmp_path, text), "there is no") is Severity.ERROR
    make_sqlite(tmp_path / "people.db")
    assert not found(tmp_path, text)
    (tmp_path / "secret").write_text("hush\n")
    (tmp_path / "secret").chmod(0o644)
    text = f'kind = "sql"\npostgresql = "host=db sslmode=verify-full"\npassword_file = "secret"\nquery = "{QUERY}"\n'
    assert worst(found(tmp_path, text), "everybody on this machine can read") is Severity.WARNING
