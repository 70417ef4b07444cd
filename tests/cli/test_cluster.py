"""`pillarbox cluster init | check | upgrade`, against a real PostgreSQL."""

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.cli.conftest import Run
from tests.support.cell_users import create_owned
from tests.support.postgres import Postgres, running_postgres

CONFIG = """
[spool]
kind = "cluster"
durability = "{durability}"
[[spool.cell]]
name = "a"
dsn = "{dsn}"
{more}
[[site]]
name = "mail.example.org"
submission = ["127.0.0.1:2587"]
certificate = "c.pem"
key = "k.pem"
[[route]]
domains = ["*"]
host = "127.0.0.1"
"""


@pytest.fixture(scope="module")
def node() -> Iterator[Postgres]:
    """A node that keeps what it confirms, as the check wants it."""
    with running_postgres(durable=True) as running:
        yield running


def write(folder: Path, dsn: str, durability: str = "local", more: str = "") -> Path:
    path = folder / "pillarbox.toml"
    path.write_text(CONFIG.format(dsn=dsn, durability=durability, more=more))
    return path


def test_init_makes_the_tables_check_likes_them_and_both_can_be_repeated(
    run: Run, tmp_path: Path, node: Postgres
) -> None:
    path = write(tmp_path, node.create_database())
    before = run("cluster", "check", "-c", path)
    assert before.code == 1
    assert "make them with `pillarbox cluster init`" in before.out
    assert "has no tables yet" in run("cluster", "upgrade", "-c", path).err
    (made,) = json.loads(run("cluster", "init", "--json", "-c", path).out)["cells"]
    assert (made["cell"], made["tables"]["spool"]["before"], made["users"]) == ("a", 0, {})
    assert "already" in run("cluster", "init", "-c", path).err
    assert run("cluster", "upgrade", "-c", path).code == 0
    after = run("cluster", "check", "--json", "-c", path)
    assert after.code == 0
    found = json.loads(after.out)
    (cell,) = found["cells"]
    number = made["tables"]["spool"]["after"]
    assert (found["ok"], cell["tables"]["spool"]) == (True, {"schema": number, "known": number})
    assert abs(cell["skew"]) < 5
    assert [finding["severity"] for finding in cell["findings"]] == ["warning"]  # one machine's disk


def test_a_cell_without_standbys_fails_the_check_unless_that_was_asked_for(
    run: Run, tmp_path: Path, node: Postgres
) -> None:
    path = write(tmp_path, node.create_database(), "quorum")
    assert run("cluster", "init", "-c", path).code == 0
    done = run("cluster", "check", "-c", path)
    assert done.code == 1
    assert 'synchronous_mode_strict: true in Patroni, or say durability = "local"' in done.out


def test_tables_of_a_newer_pillarbox_are_left_alone(run: Run, tmp_path: Path, node: Postgres) -> None:
    dsn = node.create_database()
    path = write(tmp_path, dsn)
    assert run("cluster", "init", "-c", path).code == 0
    with psycopg.connect(dsn) as connection:
        connection.execute("INSERT INTO pillarbox.migration (room, number) VALUES ('spool', 99)")
    for command in ("init", "upgrade"):
        refused = run("cluster", command, "-c", path)
        assert (refused.code, "newer Pillarbox" in refused.err) == (1, True)
    assert "upgrade this one" in run("cluster", "check", "-c", path).out


def test_the_password_comes_from_its_file_and_is_shown_to_nobody(run: Run, tmp_path: Path, node: Postgres) -> None:
    database = psycopg.conninfo.conninfo_to_dict(node.create_database())["dbname"]
    secret = tmp_path / "secret"
    dsn = f"host=127.0.0.1 port={node.port} user=postgres dbname={database}"
    path = write(tmp_path, dsn, more='password_file = "secret"')
    missing = run("cluster", "init", "-c", path)
    assert missing.code == 1
    assert "password_file" in missing.err
    assert "No such file" in missing.err
    secret.write_text("wrong-sesame\n")
    wrong = run("cluster", "init", "-c", path)
    assert wrong.code == 1
    assert "password authentication failed" in wrong.err
    assert "wrong-sesame" not in wrong.err
    secret.write_text(node.password + "\n")
    assert run("cluster", "init", "-c", path).code == 0


def test_a_user_who_may_not_make_tables_is_told_what_to_change(run: Run, tmp_path: Path, node: Postgres) -> None:
    dsn = node.create_database()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS guest")
        connection.execute("CREATE ROLE guest LOGIN")
    refused = run("cluster", "init", "-c", write(tmp_path, dsn.replace("user=postgres", "user=guest")))
    assert refused.code == 1
    assert "must own the database" in refused.err
    assert "internal error" not in refused.err


def test_a_cell_that_is_not_there_and_a_file_without_one(run: Run, tmp_path: Path, site: Path) -> None:
    gone = run("cluster", "check", "-c", write(tmp_path, f"host={tmp_path} dbname=x"))
    assert gone.code == 1
    assert "ERROR   as keeper: " in gone.out
    assert "Is the server running" in gone.out
    assert "the spool is embedded" in run("cluster", "check", "-c", site).err


def test_init_makes_a_user_for_each_role_with_the_password_of_its_file(
    run: Run, tmp_path: Path, node: Postgres
) -> None:
    cell = create_owned(node)
    path = write(tmp_path, cell.dsn, more=f'password_file = "{tmp_path}/pg-{{role}}"')
    for role in ("owner", "submission", "delivery", "keeper"):
        (tmp_path / f"pg-{role}").write_text(f"sesame of {role}\n")
    done = run("cluster", "init", "-c", path)
    assert done.code == 0
    assert done.err.count("(made)") == 3
    assert "sesame" not in done.out + done.err + node.log_path.read_text(errors="replace")
    by_password = cell.dsn.replace(f"host={node.folder}", "host=127.0.0.1")
    path = write(tmp_path, by_password, more=f'password_file = "{tmp_path}/pg-{{role}}"')
    assert run("cluster", "check", "-c", path).code == 0
    assert "cell a" in run("check", "--no-ports", "-c", path).out
    (tmp_path / "pg-submission").write_text("another\n")
    refused = run("cluster", "check", "-c", path)
    assert refused.code == 1
    assert "as submission" in refused.out
    assert "psql's \\password sets it" in refused.out
    assert "as keeper" not in refused.out


def test_a_right_that_a_user_lacks_is_named_with_the_command_that_gives_it(
    run: Run, tmp_path: Path, node: Postgres
) -> None:
    cell = create_owned(node)
    path = write(tmp_path, cell.dsn)
    assert run("cluster", "init", "-c", path).code == 0
    user = psycopg.conninfo.conninfo_to_dict(cell.of("submission").dsn)["user"]
    with psycopg.connect(cell.of("owner").dsn) as connection:
        connection.execute(f'REVOKE INSERT ON pillarbox.recipient FROM "{user}"'.encode())
    lacking = run("cluster", "check", "-c", path)
    assert lacking.code == 1
    assert "lacks rights: INSERT on recipient; `pillarbox cluster upgrade`" in lacking.out
    assert run("cluster", "upgrade", "-c", path).code == 0
    assert run("cluster", "check", "-c", path).code == 0


def test_a_password_on_the_command_line_is_refused_and_a_missing_user_told_to_who_may_make_it(
    run: Run, tmp_path: Path, node: Postgres
) -> None:
    cell = create_owned(node)
    path = write(tmp_path, cell.dsn)
    refused = run("cluster", "init", "--admin-dsn", "user=postgres password=sesame", "-c", path)
    assert refused.code == 1
    assert "--admin-password-file" in refused.err
    assert "sesame" not in refused.err
    owner = psycopg.conninfo.conninfo_to_dict(cell.of("owner").dsn)["user"]
    with psycopg.connect(node.dsn("postgres"), autocommit=True) as connection:
        connection.execute(f'ALTER ROLE "{owner}" NOCREATEROLE'.encode())
    told = run("cluster", "init", "-c", path)
    assert told.code == 1
    assert '_submission" LOGIN;' in told.err
    assert run("cluster", "init", "--admin-dsn", "user=postgres", "-c", path).code == 0
    assert run("cluster", "upgrade", "-c", path).code == 0  # what the superuser made is the owner's
