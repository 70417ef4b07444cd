"""Which route a domain takes."""

from pathlib import Path

import pytest

from pillarbox.delivery.route import RouteTable, next_hop
from pillarbox.delivery.settings import MaildirRoute, SmarthostRoute


def smarthost(
    *domains: str, host: str = "relay.test", port: int = 587, sites: tuple[str, ...] = ()
) -> SmarthostRoute:
    return SmarthostRoute(domains, host, port, sites=sites)


EXACT = smarthost("example.org", host="exact.test")
BELOW = smarthost(".example.org", host="below.test")
DEEPER = smarthost(".lab.example.org", host="deeper.test")
REST = smarthost("*", host="rest.test")


@pytest.mark.parametrize(
    ("domain", "route"),
    [
        ("example.org", EXACT),
        ("www.example.org", BELOW),
        ("a.b.example.org", BELOW),
        ("lab.example.org", DEEPER),
        ("x.lab.example.org", DEEPER),
        ("notexample.org", REST),
        ("org", REST),
        ("", REST),
        ("[192.0.2.1]", REST),
    ],
)
def test_most_exact_route_wins(domain: str, route: SmarthostRoute) -> None:
    for routes in ((REST, BELOW, DEEPER, EXACT), (EXACT, DEEPER, BELOW, REST)):
        assert RouteTable(routes).find(domain, "mail") is route


def test_suffix_includes_the_domain_itself() -> None:
    assert RouteTable([BELOW]).find("example.org", "mail") is BELOW


def test_no_route_is_none() -> None:
    assert RouteTable([EXACT]).find("example.com", "mail") is None
    assert RouteTable([]).find("", "mail") is None


def test_first_of_equals_wins() -> None:
    other = smarthost("example.org", "*", host="other.test")
    assert RouteTable([EXACT, other]).find("example.org", "mail") is EXACT
    assert RouteTable([EXACT, other]).find("example.com", "mail") is other


@pytest.mark.parametrize(
    ("route", "name"),
    [
        (smarthost("*", host="relay.test", port=587), "relay.test:587"),
        (smarthost("*", host="2001:db8::1", port=25), "[2001:db8::1]:25"),
        (MaildirRoute(("*",), Path("/var/mail/try")), "maildir:/var/mail/try"),
    ],
)
def test_next_hop_name(route: SmarthostRoute | MaildirRoute, name: str) -> None:
    assert next_hop(route) == name


def test_a_site_s_own_routes_go_first_and_the_others_are_for_the_rest() -> None:
    own = smarthost("example.org", host="own.test", sites=("b",))
    shared = smarthost("example.net", host="shared.test", sites=("b", "c"))
    table = RouteTable([EXACT, BELOW, REST, own, shared])
    assert [table.find("example.org", site) for site in ("a", "b", "c")] == [EXACT, own, EXACT]
    assert [table.find("example.net", site) for site in ("a", "b", "c")] == [REST, shared, shared]
    assert table.find("www.example.org", "b") is BELOW, "what it has no route of its own for"


def test_all_mail_of_a_site_takes_its_own_route_for_the_rest() -> None:
    own = smarthost("*", host="own.test", sites=("b",))
    table = RouteTable([EXACT, own])
    assert table.find("example.org", "b") is own
    assert table.find("example.org", "a") is EXACT
    assert table.find("example.net", "a") is None
    assert table.find("", "b") is own
