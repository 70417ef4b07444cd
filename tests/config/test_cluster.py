"""[spool] with kind = "cluster": one cell, and no password in the file."""

from pathlib import Path

import pytest

from pillarbox.config import ConfigError, parse
from pillarbox.config.shown import as_toml, keys_of
from pillarbox.spool.settings import CellSettings, CellsSettings, EmbeddedSettings

REST = """
[[site]]
name = "mail.example.org"
submission = ["127.0.0.1:587"]
certificate = "c.pem"
key = "k.pem"
[[route]]
domains = ["*"]
host = "mx.example.org"
"""
CELL = '[[spool.cell]]\nname = "a"\ndsn = "host=pg1,pg2 dbname=pillarbox"\n'
CLUSTER = '[spool]\nkind = "cluster"\n'
AT = Path("/etc/pillarbox/pillarbox.toml")


def refusals(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text + REST, AT)
    return [str(mistake).removeprefix(f"{AT}:") for mistake in caught.value.mistakes]


def test_a_cell_with_its_defaults() -> None:
    settings = parse(CLUSTER + CELL + REST, AT)
    assert settings.spool == CellsSettings((CellSettings("a", "host=pg1,pg2 dbname=pillarbox"),), "quorum")
    assert parse(as_toml(keys_of(settings)), AT).spool == settings.spool
    assert keys_of(settings)["spool"]["cell"] == [
        {"name": "a", "dsn": "host=pg1,pg2 dbname=pillarbox", "accepts": True}
    ]


def test_several_cells_each_with_its_limit() -> None:
    other = CELL.replace('"a"', '"b"').replace("pg1,pg2", "pg3") + 'max_size = "20GiB"\n'
    settings = parse(CLUSTER + CELL + other + REST, AT)
    assert settings.spool == CellsSettings(
        (
            CellSettings("a", "host=pg1,pg2 dbname=pillarbox"),
            CellSettings("b", "host=pg3 dbname=pillarbox", max_size=20 << 30),
        )
    )
    assert parse(as_toml(keys_of(settings)), AT).spool == settings.spool


def test_a_cell_may_be_closed_to_new_mail_but_not_every_cell() -> None:
    closed = CELL + "accepts = false\n"
    open_one = CELL.replace('"a"', '"b"').replace("pg1,pg2", "pg3")
    settings = parse(CLUSTER + closed + open_one + REST, AT)
    assert isinstance(settings.spool, CellsSettings)
    assert [cell.accepts for cell in settings.spool.cells] == [False, True]
    assert parse(as_toml(keys_of(settings)), AT).spool == settings.spool
    with pytest.raises(ConfigError, match="found false in every cell; expected one cell that takes new mail"):
        parse(CLUSTER + closed + REST, AT)


def test_the_password_file_lies_beside_the_configuration_and_local_is_said_in_so_many_words() -> None:
    settings = parse(CLUSTER + 'durability = "local"\n' + CELL + 'password_file = "secret"\n' + REST, AT)
    assert isinstance(settings.spool, CellsSettings)
    assert settings.spool.durability == "local"
    assert settings.spool.cells[0].password_file == Path("/etc/pillarbox/secret")


def test_without_a_kind_the_spool_is_embedded() -> None:
    assert isinstance(parse(REST, AT).spool, EmbeddedSettings)


@pytest.mark.parametrize(
    "dsn",
    [
        "host=pg1 password=sesame",
        "host=pg1 PASSWORD = 'sesame'",
        "password=sesame host=pg1",
        "postgresql://pillarbox:sesame@pg1/pillarbox",
        "postgres://pg1/pillarbox?sslmode=require&password=sesame",
        "host=pg1 sslpassword=sesame",
    ],
)
def test_a_password_in_the_dsn_is_refused_with_advice_and_not_shown(dsn: str) -> None:
    (line,) = refusals(CLUSTER + f'[[spool.cell]]\nname = "a"\ndsn = "{dsn}"\n')
    assert line.startswith("5: ")
    assert "password_file" in line
    assert "sesame" not in line


@pytest.mark.parametrize(
    "dsn",
    [
        "host=pg1 passfile=/etc/pillarbox/pgpass",
        "postgresql://pillarbox@pg1:5432,pg2:5432/pillarbox?sslmode=verify-full",
        "service=pillarbox",
    ],
)
def test_a_dsn_without_a_password_is_taken(dsn: str) -> None:
    settings = parse(CLUSTER + f'[[spool.cell]]\nname = "a"\ndsn = "{dsn}"\n' + REST, AT)
    assert settings.spool == CellsSettings((CellSettings("a", dsn),))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CLUSTER, 'found "cluster" without a cell; expected [[spool.cell]]'),
        (
            CLUSTER + CELL + CELL.replace('"a"', '"b"'),
            "found the database of another cell; expected one of its own for each",
        ),
        (
            CLUSTER + CELL + CELL.replace("pg1,pg2", "pg3"),
            'found "a" twice; expected a name for each cell',
        ),
        (CLUSTER + "min_free = 0\n" + CELL, 'found beside kind = "cluster"; expected none'),
        (CELL, 'found without kind = "cluster"'),
        ('[spool]\ndurability = "local"\n', 'found without kind = "cluster"'),
        (CLUSTER + CELL.replace('"a"', '"Frankfurt 1"'), "expected a short name"),
        (
            CLUSTER + CELL.replace("host=pg1,pg2 dbname=pillarbox", "pg1.example.org"),
            "found something else than a DSN",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(text: str, expected: str) -> None:
    (line,) = refusals(text)
    assert expected in line
