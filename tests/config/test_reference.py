"""docs/reference/config.md is what the code says."""

from pathlib import Path

from pillarbox.config import reference
from pillarbox.config.model import TABLES

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "config.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference.render(), "run `make docs`"


def test_every_key_is_on_the_page() -> None:
    page = reference.render()
    for name, tables in TABLES.items():
        for key in (key for table in tables for key in table.model_fields if name):
            assert f"| `{key}` |" in page or (*name, key) in TABLES
