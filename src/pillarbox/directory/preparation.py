"""Preparation of logins and passwords, so that equal ones compare equal however they were typed.

    prepare(text)      SASLprep (RFC 4013)
    login_key(login)   what logins are compared by: prepared, without case
    false_name(login)  a name that nobody has, the same for all spellings of the login
    lower(address)     what addresses are compared by: ASCII letters in lower case, and nothing else

Done with the standard library's tables, the ones that the RFC names. The function inside scramp is not public and
forbids code points that Unicode 3.2 did not know: people have emoji in passwords. RFC 4013 2.5 allows those where
a string is asked for and forbids them where it is stored; here they are allowed in both, so that what could be
stored can be asked for. Normalisation is that of Unicode 3.2, which never changes: a hash must verify after an
upgrade of Python.

STANDARDS
    RFC 4013 (SASLprep), RFC 3454 (stringprep, its tables and section 6 on bidirectional text).

ERRORS
    ValueError: holds a prohibited character (by its number, never the text) or mixed directions.
"""

import stringprep
import unicodedata

_ASCII_LOWER = {ord(upper): upper.lower() for upper in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}

LOGIN_CEILING = 255
PASSWORD_CEILING = 1_024
"""Octets, prepared; longer ones are nobody's."""

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def prepare(text: str) -> str:
    """The text prepared by SASLprep. Raises ValueError."""
    if text.isascii() and text.isprintable():
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    for character in prepared:
        if any(prohibited(character) for prohibited in _PROHIBITED):
            raise ValueError(f"holds the prohibited character U+{ord(character):04X}")
    _check_directions(prepared)
    return prepared


def _check_directions(text: str) -> None:
    """RFC 3454 6: right-to-left text begins and ends as such and holds nothing of the other direction."""
    if not any(map(stringprep.in_table_d1, text)):
        return
    if any(map(stringprep.in_table_d2, text)):
        raise ValueError("mixes text of both directions")
    if not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])):
        raise ValueError("right-to-left text must begin and end with a right-to-left character")


def lower(address: str) -> str:
    """An address or domain, ASCII letters in lower case. Not ``str.lower``: the Kelvin sign would become a k, and
    whoever may choose an address somewhere could choose another's."""
    return address.translate(_ASCII_LOWER)


def login_key(login: str) -> str:
    """Two logins are one when their keys are equal. Raises ValueError."""
    if login.isascii() and login.isprintable():
        return login.lower()
    once = prepare(prepare(login).casefold())
    return prepare(once.casefold())  # U+03F9 folds to what normalises to what folds again


def false_name(login: str) -> str:
    """A name that nobody can have, nor be asked for at a server behind: it ends in NUL."""
    try:
        return f"{login_key(login)}\0"
    except ValueError:
        return f"{login}\0"
