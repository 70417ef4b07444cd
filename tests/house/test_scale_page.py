"""docs/explanation/scale.md says what the figures say that it is worked out from."""

import json

import pytest

from bench import scale


@pytest.mark.skipif(not scale.RESULTS.exists(), reason="no figures in bench/results")
def test_the_tables_of_scale_are_those_of_the_figures_and_of_the_simulation() -> None:
    page = scale.PAGE.read_text()
    assert page == scale.written(page, json.loads(scale.RESULTS.read_text())), (
        "python -m bench.scale writes them anew"
    )
