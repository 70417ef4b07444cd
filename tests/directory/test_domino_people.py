"""domino_people.py: whom an export of a Domino Directory brings, and whom not."""

import base64
import io

from pillarbox.directory.domino_names import Names
from pillarbox.directory.domino_people import People, read_people

FORM_2 = "(GDJ0nDZI8l8RJzlRbemg)"


def person(name: str, *lines: str) -> str:
    return "\n".join((f"dn: CN={name},O=ACME", "objectClass: dominoPerson", f"cn: {name}", *lines)) + "\n\n"


def read(*entries: str) -> People:
    return read_people(io.BytesIO("".join(entries).encode()))


def test_a_person_has_the_internet_address_as_login_and_the_hash_as_it_stands_there() -> None:
    encoded = base64.b64encode(FORM_2.encode()).decode()
    people = read(
        person(
            "Anna Smith",
            "mail: Anna@Example.org",
            f"userPassword:: {encoded}",
            "mailAlternateAddress: as@example.org",
        ),
        "dn: CN=Bob\nFullName: CN=Bob Jones/O=ACME\nInternetAddress: bob@example.org\n"
        "HTTPPassword: (355E98E7C7B59BD810ED845AD0FD2FC4)\nMailAddress: Bob/ACME@ACME\n",
    )
    anna, bob = people.found
    assert (anna.who, anna.login, anna.addresses) == (
        "Anna Smith",
        "anna@example.org",
        ("anna@example.org", "as@example.org"),
    )
    assert anna.password_hash == FORM_2 and anna.scheme == "Domino form 2" and FORM_2 not in repr(anna)
    assert (bob.who, bob.login, bob.addresses) == ("CN=Bob Jones/O=ACME", "bob@example.org", ("bob@example.org",))
    assert not people.skipped and people.others == 0


def test_who_cannot_be_imported_is_named_with_the_reason() -> None:
    people = read(
        person("No Password", "mail: n@example.org"),
        person("No Address", f"HTTPPassword: {FORM_2}"),
        person("Odd Hash", "mail: o@example.org", "HTTPPassword: {NTLM}8846F7EAEE8FB117AD06BDD830B7586C"),
        person("Other Hash", "mail: p@example.org", "HTTPPassword: {SHA}dUiT/hqAZgAaXs7e5SSivRDx5BU="),
        person("Broken Hash", "mail: q@example.org", "HTTPPassword: (GDJ0nD)"),
        person("Odd Address", "mail: Odd/ACME@@ACME", f"HTTPPassword: {FORM_2}"),
        person("Twin One", "mail: t@example.org", f"HTTPPassword: {FORM_2}"),
        person("Twin Two", "mail: T@example.org", f"HTTPPassword: {FORM_2}"),
        "dn: CN=Group\nobjectClass: dominoGroup\ncn: Group\n",
    )
    assert not people.found and people.others == 1
    why = dict(people.skipped)
    assert why["No Password"] == "no Internet password" and why["No Address"] == "no Internet address"
    assert "{NTLM}" in why["Odd Hash"] and "SHA" in why["Other Hash"] and "three forms" in why["Broken Hash"]
    assert "not an address" in why["Odd Address"]
    assert "somebody else's" in why["Twin One"] and "somebody else's" in why["Twin Two"]
    assert "8846F7" not in str(people.skipped) and "dUiT" not in str(people.skipped)


NAMED = (
    *("cn: Jada Correr", "cn: JCo", "cn: CN=Jada C/O=ACME", "givenName: Jada", "sn: Correr", "uid: jcorrer"),
    *("mail: jada@example.org", "mail: J.Correr@example.org", f"HTTPPassword: {FORM_2}"),
)


def test_names_that_count_at_domino_become_further_logins() -> None:
    entry = person("Jada  Correr/ACME", *NAMED).replace("dn: CN=Jada  Correr/ACME,", "dn: CN=Jada Correr,OU=Sales,")
    fewer = (
        "Jada Correr/Sales/ACME",
        "Jada Correr",
        "Jada Correr/ACME",
        "JCo",
        "Jada C/ACME",
        "J.Correr@example.org",
    )
    assert read(entry).found[0].names == fewer
    more = read_people(io.BytesIO(entry.encode()), names=Names.MORE).found[0]
    assert more.names == (*fewer, "Jada", "Correr", "jcorrer") and not more.shared


def test_a_name_of_two_is_told_and_one_of_somebody_without_an_account_is_not_given() -> None:
    password = f"HTTPPassword: {FORM_2}"
    people = read(
        person("Anna", "mail: a@example.org", "cn: Twin", "cn: b@example.org", password),
        person("Bob", "mail: b@example.org", "cn: TWIN", "cn: Lost", "cn: Carol/ACME", password),
        person("Carol", "mail: c@example.org"),
        person("Lost One", "cn: lost"),
    )
    anna, bob = people.found
    assert anna.names == ("Anna/ACME", "Anna", "Twin", "b@example.org") and anna.shared == ("Twin", "b@example.org")
    assert bob.names == ("Bob/ACME", "Bob", "TWIN") and bob.shared == ("TWIN", "Lost", "Carol/ACME")


def test_a_name_that_nobody_could_sign_in_by_is_left_out() -> None:
    one = person("Anna", "mail: a@example.org", f"cn: {'x' * 256}", "cn:: AAE=", f"HTTPPassword: {FORM_2}")
    assert read(one).found[0].names == ("Anna/ACME", "Anna")


def test_another_charset_is_read_when_it_is_named() -> None:
    latin = person("Änne", "mail: a@example.org", f"HTTPPassword: {FORM_2}").encode("latin-1")
    assert read_people(io.BytesIO(latin), "latin-1").found[0].who == "Änne"
    assert read_people(io.BytesIO(latin)).found[0].who == "\ufffdnne", "a name alone keeps nobody out"
