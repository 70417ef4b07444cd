"""Login names at Domino: which count with fewer, and which with more name variations."""

import pytest

from pillarbox.directory.domino_names import abbreviated, hierarchical_name
from pillarbox.directory.ldap.domino import matches, search_filter
from pillarbox.directory.ldap.entry import Entry
from pillarbox.directory.ldap.settings import Names

JADA = Entry(
    "CN=Jada Correr,OU=Sales,O=ACME",
    {
        "cn": [b"Jada Correr", b"JCo", b"Jada Correr-Smith/ACME"],
        "uid": [b"jcorrer", b"jco"],
        "givenName": [b"Jada"],
        "sn": [b"Correr"],
        "mail": [b"Jada_Correr@acme.example"],
    },
)
FEWER = [
    "Jada Correr/Sales/ACME",
    "CN=Jada Correr/OU=Sales/O=ACME",
    "cn=jada correr/ou=sales/o=acme",
    "CN=Jada Correr,OU=Sales,O=ACME",
    "CN=Jada Correr, OU=Sales, O=ACME",
    "Jada Correr",
    "JADA  correr",
    "CN=Jada Correr",
    "jco",
    "Jada Correr-Smith/ACME",
    "CN=Jada Correr-Smith/O=ACME",
    "jada_correr@ACME.example",
]
MORE = ["Jada", "Correr", "jcorrer"]
NEVER = ["", "*", "Jada*", "Jada Correr/ACME", "Jada Correr/Sales", "Jada Correr/", "Sales", "ACME", "Jada Correr)("]


@pytest.mark.parametrize("login", FEWER)
def test_with_fewer_variations_names_of_the_person_count(login: str) -> None:
    assert matches(login, JADA, Names.FEWER)
    assert matches(login, JADA, Names.MORE)


@pytest.mark.parametrize("login", MORE)
def test_first_last_and_short_name_count_with_more_only(login: str) -> None:
    assert matches(login, JADA, Names.MORE)
    assert not matches(login, JADA, Names.FEWER)


@pytest.mark.parametrize("login", NEVER)
def test_part_of_a_name_is_none(login: str) -> None:
    assert not matches(login, JADA, Names.MORE)


def test_a_short_name_counts_when_user_name_lists_it() -> None:
    assert matches("jco", JADA, Names.FEWER)
    assert not matches("jcorrer", JADA, Names.FEWER)


def test_blanks_slashes_and_letters_beyond_ascii_survive() -> None:
    found = Entry("CN=Ünal Öz-Ärmel,O=ACME & Söhne", {"cn": ["Ünal Öz-Ärmel".encode()]})
    assert matches("ünal öz-ärmel/acme & söhne", found, Names.FEWER)
    assert hierarchical_name(found.dn) == "Ünal Öz-Ärmel/ACME & Söhne"


def test_a_name_is_abbreviated_as_domino_does() -> None:
    assert abbreviated("CN=Jada Correr/OU=Sales/O=ACME") == "Jada Correr/Sales/ACME"
    assert abbreviated("CN=Jada Correr,O=ACME") == "Jada Correr/ACME"
    assert abbreviated("Correr, Jada") == "Correr, Jada"


def test_the_search_asks_for_the_common_name_of_a_hierarchical_one() -> None:
    found = search_filter("CN=Jada Correr/O=ACME", Names.FEWER)
    assert "(cn=Jada\\20Correr)" in found
    assert "givenName" not in found
    assert "(uid=" in search_filter("jada", Names.MORE)
