"""rows.py: what the columns of a row mean."""

from typing import Any

import pytest

from pillarbox.directory.base import Reason
from pillarbox.directory.sql.rows import RowsUnusable, to_person
from pillarbox.directory.upstream import Person

NO = (None, False, 0, "", "0", "f", "false", "FALSE", "n", "no", "off", " no ")
YES = (True, 1, "1", "t", "true", "True", "y", "yes", "YES", "on")
NEITHER: tuple[Any, ...] = (2, -1, 0.5, "0.0", "-", "nein", "ja", b"0", b"1", "none", "x", "2", [], ["no"])


def person(**columns: Any) -> Person:
    found = to_person([{"password": "{SHA}x", **columns}], "anna")
    assert found is not None
    return found


@pytest.mark.parametrize("value", NO)
def test_no_is_no_right_and_keeps_nobody_out(value: Any) -> None:
    assert not person(may_redirect=value).identity.may_redirect
    assert person(disabled=value).denied is None


@pytest.mark.parametrize("value", YES)
def test_yes_is_a_right_and_keeps_out(value: Any) -> None:
    assert person(may_redirect=value).identity.may_redirect
    assert person(disabled=value).denied is Reason.DISABLED


@pytest.mark.parametrize("value", NEITHER)
def test_what_is_neither_yes_nor_no_is_no_right_and_keeps_out(value: Any) -> None:
    with pytest.raises(RowsUnusable, match="may_redirect"):
        person(may_redirect=value)
    assert person(disabled=value).denied is Reason.DISABLED


def test_a_value_that_is_neither_is_told_in_whichever_row_it_stands() -> None:
    rows = [{"password": "{SHA}x", "may_redirect": value} for value in ("no", "nein")]
    with pytest.raises(RowsUnusable) as unusable:
        to_person(rows, "anna")
    assert "nein" not in str(unusable.value)
