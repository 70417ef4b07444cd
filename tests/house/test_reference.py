"""docs/reference says what the code says: every key, every command, and none that is not there."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = {
    "config.md": ("-m", "pillarbox.config.reference"),
    "cli.md": ("-m", "pillarbox.cli.reference"),
    "protocol.md": ("-m", "pillarbox.smtp.reference"),
}


@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_what_make_docs_writes(page: str) -> None:
    done = subprocess.run((sys.executable, *PAGES[page]), cwd=ROOT, capture_output=True, text=True, check=True)
    committed = (ROOT / "docs" / "reference" / page).read_text()
    assert len(committed.splitlines()) > 20
    assert committed.splitlines() == done.stdout.splitlines(), "run `make docs`"


def test_make_docs_writes_each_page() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert [page for page, (*_, what) in PAGES.items() if what not in makefile or page[:-3] not in makefile] == []


def test_every_key_of_the_schema_is_on_the_page() -> None:
    from pillarbox.config import schema

    page = (ROOT / "docs" / "reference" / "config.md").read_text()
    document = schema()
    keys = {
        name
        for table in document["$defs"].values()
        for name, key in table.get("properties", {}).items()
        if not ("$ref" in key or "$ref" in str(key.get("items", "")) or "$ref" in str(key.get("anyOf", "")))
    }
    assert len(keys) > 40
    assert sorted(key for key in keys if f"| `{key}` |" not in page) == []
