"""preparation.py: SASLprep and the key by which logins are compared."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.directory.preparation import false_name, login_key, lower, prepare


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        # RFC 4013 3
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        # RFC 4013 2.1, 2.2
        ("a\u00a0b\u3000c", "a b c"),
        ("e\u0301", "\u00e9"),
        ("", ""),
        ("\u00ad", ""),
        # RFC 3454 6
        ("\u0627\u0628", "\u0627\u0628"),
        ("\u06271\u0628", "\u06271\u0628"),
        # not known to Unicode 3.2
        ("\N{GRINNING FACE}", "\N{GRINNING FACE}"),
    ],
)
def test_prepare(text: str, prepared: str) -> None:
    assert prepare(text) == prepared


@pytest.mark.parametrize(
    "text",
    [
        "\x07",
        "a\0b",
        "\x7f",
        "\u0085",
        "\u0627\u0031",  # RFC 4013 3: ends with a digit
        "\u0627a\u0628",
        "\ue000",
        "\ufdd0",
        "\ud800",
        "\ufffc",
        "\u2ff0",
        "\u202e",
        "\U000e0001",
    ],
)
def test_prohibited_characters_are_named_by_number_only(text: str) -> None:
    with pytest.raises(ValueError, match=r"U\+[0-9A-F]{4}|direction|right-to-left") as caught:
        prepare(text)
    assert text not in str(caught.value)


@settings(derandomize=True, deadline=None)
@given(st.text())
def test_what_is_prepared_stays_as_it_is(text: str) -> None:
    try:
        once = prepare(text)
    except ValueError:
        return
    assert prepare(once) == once


@settings(derandomize=True, deadline=None)
@given(st.text(st.characters(codec="ascii")))
def test_case_makes_no_other_login(text: str) -> None:
    try:
        key = login_key(text)
    except ValueError:
        return
    assert login_key(text.upper()) == key == login_key(key)


def test_the_key_of_a_key_is_itself_for_every_character() -> None:
    """A worker makes the key and the spool process makes it again: they must agree."""
    checked = 0
    for number in range(0x110000):
        character = chr(number)
        if character.casefold() == character == unicodedata.normalize("NFKC", character):
            continue  # nothing happens to it
        try:
            key = login_key(character)
        except ValueError:
            continue
        assert login_key(key) == key, f"U+{number:04X}"
        checked += 1
    assert checked > 5_000


@pytest.mark.parametrize(
    ("one", "other"),
    [("Stra\u00dfe", "STRASSE"), ("JOSE\u0301", "jos\u00e9"), ("\uff22ob", "bob"), ("\u03a3\u03a3", "\u03c3\u03c2")],
)
def test_one_login_in_two_spellings(one: str, other: str) -> None:
    assert login_key(one) == login_key(other)


def test_addresses_compare_by_ascii_letters_and_no_sign_becomes_one() -> None:
    assert lower("Frank@Example.ORG") == "frank@example.org"
    assert lower("fran\u212a@example.org") == "fran\u212a@example.org"  # the Kelvin sign
    assert lower("\u00c9va@example.org") == "\u00c9va@example.org"


@pytest.mark.parametrize(("login", "name"), [("Bob", "bob\0"), ("\uff22ob", "bob\0"), ("\x07a", "\x07a\0")])
def test_a_name_that_nobody_has_is_made_of_any(login: str, name: str) -> None:
    assert false_name(login) == name
