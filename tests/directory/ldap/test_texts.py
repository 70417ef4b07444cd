"""Logins inside filters and names are values, whatever they hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.directory.ldap.texts import escape, fill_filter, fill_name, parse_name, places


@given(st.text())
def test_an_escaped_value_holds_nothing_with_a_meaning(value: str) -> None:
    found = escape(value)
    assert not set(found) & set('()*,+=<>;"#/ \0\r\n')
    assert all(part[:2].isalnum() for part in found.split("\\")[1:])


@given(st.text(min_size=1))
def test_a_filled_name_has_the_pairs_of_its_template(value: str) -> None:
    pairs = parse_name(fill_name("uid={login},ou=people,dc=example", value))
    assert pairs == [("uid", value), ("ou", "people"), ("dc", "example")]


def test_each_place_is_filled() -> None:
    assert fill_filter("(|(uid={account})(mail={login}))", login="a*b", account="b") == "(|(uid=b)(mail=a\\2ab))"
    assert places("(|(uid={account})(mail={login}))") == {"login", "account"}


def test_what_a_value_holds_is_no_place() -> None:
    assert fill_filter("(uid={login})", login="{account}", account="x") == "(uid=\\7baccount\\7d)"


def test_a_name_that_is_not_distinguished_is_taken_as_it_is() -> None:
    assert fill_name("{login}@corp.example", "Anna Smith") == "Anna Smith@corp.example"


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("CN=Jada Correr,O=ACME", [("cn", "Jada Correr"), ("o", "ACME")]),
        ("cn=a\\2cb, ou=c\\,d", [("cn", "a,b"), ("ou", "c,d")]),
        ("cn=\\c3\\9cnal", [("cn", "Ünal")]),
        ("cn=a+uid=b,o=c", [("cn", "a"), ("uid", "b"), ("o", "c")]),
        ("2.5.4.3=a", [("2.5.4.3", "a")]),
        ("", []),
    ],
)
def test_a_distinguished_name_is_read(name: str, pairs: list[tuple[str, str]]) -> None:
    assert parse_name(name) == pairs


@pytest.mark.parametrize("name", ["anna", "cn=a,", "cn=a,b", "=a", "cn=a\\", ",cn=a"])
def test_what_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no distinguished name"):
        parse_name(name)
