"""Who is meant by what was typed, and whose addresses that gives."""

import pytest
from hypothesis import given, strategies

from pillarbox.directory.naming import Meant, Naming, mistake_in
from pillarbox.directory.preparation import prepare

ONE = ("example.org",)
TWO = ("example.org", "Example.net")


def meant(sent: str, name: str, *addresses: str) -> Meant:
    return Meant(sent, name, frozenset(addresses))


@pytest.mark.parametrize(
    ("template", "domains", "login", "expected"),
    [
        ("{login}", ONE, "anna", meant("anna", "anna@example.org", "anna@example.org")),
        ("{login}", ONE, "Anna@Example.ORG", meant("Anna@Example.ORG", "anna@example.org", "anna@example.org")),
        ("{login}", TWO, "anna@example.net", meant("anna@example.net", "anna@example.net", "anna@example.net")),
        ("{login}", TWO, "anna", meant("anna", "anna@example.org", "anna@example.org")),
        ("{login}", ONE, "anna@example.com", None),
        ("{login}", ONE, "anna@sub.example.org", None),
        ("{login}", ONE, "@example.org", None),
        ("{login}", ONE, "anna@", None),
        ("{login}", ONE, "a@b@example.org", None),
        ("{login}", ("*",), "a@b@example.org", None),
        ("{local}", ONE, "anna@example.org@example.org", None),
        ("{login}", ONE, " ", None),
        ("{login}", ONE, " @example.org", None),
        ("{login}", ("*",), "anna@ ", None),
        ("{login}", ONE, "anna*master", None),
        ("{login}", ONE, "anna*master@example.org", None),
        ("{login}", ("*",), "anna@example.org*master", None),
        ("{login}", ("*",), "anna*master@example.org", None),
        ("{local}", ONE, "anna*master@example.org", None),
        ("{login}", ONE, "Anna Smith/ACME", meant("Anna Smith/ACME", "anna smith/acme@example.org")),
        ("{local}", ONE, "anna@example.org", meant("anna", "anna@example.org", "anna@example.org")),
        ("{local}", ONE, "anna@example.com", None),
        (
            "{local}",
            TWO,
            "anna@example.net",
            meant("anna", "anna@example.org", "anna@example.org", "anna@example.net"),
        ),
        ("{local}@{domain}", TWO, "anna", meant("anna@example.org", "anna@example.org", "anna@example.org")),
        ("{local}@mail.example", ONE, "anna", meant("anna@mail.example", "anna@example.org", "anna@example.org")),
        (
            "{domain}/{local}",
            ONE,
            "{domain}@example.org",
            meant("example.org/{domain}", *["{domain}@example.org"] * 2),
        ),
        ("{login}", ("*",), "anna@example.com", meant("anna@example.com", "anna@example.com", "anna@example.com")),
        ("{login}", ("*",), "anna", meant("anna", "anna")),
        ("{local}@{domain}", ("*",), "anna", None),
    ],
)
def test_meant(template: str, domains: tuple[str, ...], login: str, expected: Meant | None) -> None:
    assert mistake_in(template, domains) == ""
    assert Naming(template, domains).meant(login) == expected


@pytest.mark.parametrize("template", ["{login}", "{local}", "{local}@{domain}"])
@pytest.mark.parametrize("login", ["Anna  Smith@x.example", " anna smith@x.example", "anna smith @x.example"])
def test_blanks_tell_nobody_apart(template: str, login: str) -> None:
    naming = Naming(template, ("x.example",))
    found, bare = naming.meant(login), naming.meant(login.partition("@")[0])
    assert found is not None
    assert bare is not None
    assert found.name == bare.name == "anna smith@x.example"
    assert found.addresses == bare.addresses == frozenset()


@pytest.mark.parametrize("login", ["anna@x", "anna @x", " anna@x", "anna@ x", "anna@x "])
def test_nor_do_they_where_the_server_checks_the_domain(login: str) -> None:
    found = Naming("{login}", ("*",)).meant(login)
    assert found is not None
    assert (found.sent, found.name) == (login, "anna@x")


def test_a_server_s_own_name_without_a_domain_is_one_for_all_of_them() -> None:
    naming = Naming("{login}", TWO)
    assert naming.owner("anna") == meant("anna", "anna@example.org", "anna@example.org", "anna@example.net")
    assert naming.owner("anna@example.net") == meant("anna@example.net", "anna@example.net", "anna@example.net")
    assert naming.owner("anna@example.com") is None
    assert naming.owner("a@b@example.org") is None


@pytest.mark.parametrize(
    ("template", "domains", "part"),
    [
        ("anna", ONE, '"{login}" or "{local}"'),
        ("{domain}", ONE, '"{login}" or "{local}"'),
        ("{user}", ONE, '"{login}" or "{local}"'),
        ("{login}{", ONE, "no braces"),
        ("{local}-{other}", ONE, "no braces"),
        ("{local}", ("*",), "cannot check"),
    ],
)
def test_mistakes(template: str, domains: tuple[str, ...], part: str) -> None:
    assert part in mistake_in(template, domains)


@given(strategies.text(min_size=1, max_size=60), strategies.sampled_from(["{login}", "{local}", "{local}@{domain}"]))
def test_nobody_gets_an_address_of_another_domain(text: str, template: str) -> None:
    try:
        login = prepare(text)
    except ValueError:
        return
    found = Naming(template, TWO).meant(login) if login else None
    if found is not None:
        assert all(address.endswith(("@example.org", "@example.net")) for address in found.addresses)
        assert all(address == address.encode().lower().decode() for address in found.addresses)


def test_a_server_s_own_name_with_an_asterisk_is_nobodys_either() -> None:
    assert Naming("{login}", ONE).owner("anna*master") is None
