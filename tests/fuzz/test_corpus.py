"""Every input that was kept of the fuzz targets is replayed: a finding that came back would be seen here."""

import importlib
from pathlib import Path

import pytest

CORPUS = Path(__file__).parent / "corpus"
INPUTS = sorted(path for path in CORPUS.glob("*/*") if path.is_file())


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_kept_input_breaks_no_invariant(path: Path) -> None:
    importlib.import_module(f"tests.fuzz.targets.{path.parent.name}").check(path.read_bytes())


def test_each_target_has_a_corpus() -> None:
    assert {path.parent.name for path in INPUTS} == {"smtp", "sasl", "message"}
