"""From the rows that the site's query gives to a person.

Columns, in any order: ``password`` (must be there); ``login`` (else ``asked``, without case); ``addresses`` and
``domains`` (a list, or a text with commas or blanks between); ``disabled``, ``may_redirect`` (yes or no in any of the
usual ways; what is neither means disabled in the one, and is a mistake in the other, which is a right);
``recipients_per_hour``. Another column is a mistake and told as one, since it is most often a misspelt
one. Several rows of one person, such as one for each address, are put together; rows of several people are nobody:
a login means one person.

ERRORS
    RowsUnusable: what is wrong, without a value of a row.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pillarbox.directory.base import Identity, InvalidAccount, Reason
from pillarbox.directory.hashed import Hashed
from pillarbox.directory.preparation import login_key
from pillarbox.directory.upstream import Person
from pillarbox.directory.validity import check_addresses, check_domains, check_login, check_quota

Row = Mapping[str, Any]
ROWS_CEILING = 1_000
COLUMNS = frozenset(("password", "login", "addresses", "domains", "disabled", "may_redirect", "recipients_per_hour"))
_NO = frozenset(("", "0", "f", "false", "n", "no", "off"))
_YES = frozenset(("1", "t", "true", "y", "yes", "on"))


class RowsUnusable(ValueError):
    """The query gives something else than people."""


def to_person(rows: Sequence[Row], asked: str) -> Person | None:
    """Whom these rows are; None: nobody, or several. ``asked``: what the query saw of the login. Raises
    RowsUnusable."""
    if not rows:
        return None
    if len(rows) > ROWS_CEILING:
        raise RowsUnusable(f"more than {ROWS_CEILING} rows")
    _check_columns(rows[0])
    people = {(_login(row, asked), _text(row.get("password"), "password")) for row in rows}
    if len(people) > 1:
        return None
    [(login, stored)] = people
    try:
        identity = Identity(
            check_login(login),
            frozenset(check_addresses(_all(rows, "addresses"))),
            frozenset(check_domains(_all(rows, "domains"))),
            may_redirect=all([_granted(row.get("may_redirect"), "may_redirect") for row in rows]),
            recipients_per_hour=_quota(rows[0].get("recipients_per_hour")),
        )
    except InvalidAccount as error:
        raise RowsUnusable(str(error)) from None
    denied = Reason.DISABLED if not stored or not all(_is_no(row.get("disabled")) for row in rows) else None
    hashed = Hashed(stored)
    return Person(f"{login_key(login)}\0{hashed.mark()}", identity, denied, hashed)


def _check_columns(row: Row) -> None:
    if "password" not in row:
        raise RowsUnusable("the query gives no column named password")
    unknown = sorted(str(name) for name in set(row) - COLUMNS)
    if unknown:
        raise RowsUnusable(f"the query gives a column named {unknown[0]}; expected {', '.join(sorted(COLUMNS))}")


def _login(row: Row, asked: str) -> str:
    return _text(row.get("login"), "login") or login_key(asked)


def _text(value: Any, column: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise RowsUnusable(f"the column {column} holds octets that are not UTF-8") from None
    if not isinstance(value, str):
        raise RowsUnusable(f"the column {column} holds no text")
    return value


def _all(rows: Sequence[Row], column: str) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for row in rows:
        found.update(dict.fromkeys(_list(row.get(column), column)))
    return tuple(found)


def _list(value: Any, column: str) -> list[str]:
    if isinstance(value, list):
        return [_text(each, column) for each in value if each]
    text = _text(value, column)
    if text.startswith("["):  # SQLite's json_group_array
        try:
            return _list(json.loads(text), column)
        except ValueError:
            raise RowsUnusable(f"the column {column} holds no list") from None
    return text.replace(",", " ").split()


def _is_no(value: Any) -> bool:
    return value is None or str(value).strip().lower() in _NO


def _granted(value: Any, column: str) -> bool:
    """A right is given by a clear yes alone: a dash or a 0.0 of the site's is most often a no."""
    if not _is_no(value) and str(value).strip().lower() not in _YES:
        raise RowsUnusable(f"the column {column} holds neither yes nor no")
    return not _is_no(value)


def _quota(value: Any) -> int | None:
    if value is not None and not isinstance(value, int):
        raise RowsUnusable("the column recipients_per_hour holds no whole number")
    return check_quota(value)
