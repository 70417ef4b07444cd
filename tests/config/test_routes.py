"""Routes of a site's own, in the file: which names and domains are taken, and what check says of the rest."""

from dataclasses import replace
from pathlib import Path

import pytest

from pillarbox.config import ConfigError, parse
from pillarbox.config.files import check_files
from pillarbox.delivery.route import RouteTable

HERE = Path("/etc/pillarbox/pillarbox.toml")
SITES = "".join(
    f'[[site]]\nname = "{name}"\nsubmissions = ["127.0.0.1:5465"]\ncertificate = "c"\nkey = "k"\n'
    for name in ("a.example.org", "b.example.org")
)
ROUTE = '[[route]]\nhost = "mx.example.org"\n'
OWN = '[[route]]\nsites = ["b.example.org"]\nhost = "own.example.org"\n'


def test_a_site_may_have_a_route_for_what_a_route_of_all_has_as_well() -> None:
    table = RouteTable(parse(SITES + ROUTE + OWN, HERE).delivery.routes)
    found = [table.find("example.net", site) for site in ("a.example.org", "b.example.org")]
    assert [getattr(route, "host", None) for route in found] == ["mx.example.org", "own.example.org"]


@pytest.mark.parametrize(
    ("routes", "message"),
    [
        (
            ROUTE + OWN.replace("b.example.org", "c.example.org"),
            'found "c.example.org"; expected the name of a [[site]]',
        ),
        (ROUTE + OWN + OWN, 'found "*", which route[1] has already'),
        (OWN.replace('"b.', '"a.example.org", "b.') + OWN, 'found "*", which route[0] has already'),
    ],
)
def test_what_names_no_site_or_decides_nothing_is_refused(routes: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(SITES + routes, HERE)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("routes", "whose"),
    [
        (ROUTE, None),
        (OWN, "no route for a.example.org has"),
        (OWN + OWN.replace("b.example.org", "a.example.org"), None),
        (OWN.replace("sites", 'domains = ["example.net"]\nsites'), "no route has"),
    ],
)
def test_check_names_the_sites_whose_mail_to_the_rest_has_no_route(routes: str, whose: str | None) -> None:
    settings = parse(SITES + routes, HERE)
    said = [each.message for each in check_files(replace(settings)) if each.subject == "routes"]
    assert all((whose or "?") in text for text in said), said
    assert len(said) == (whose is not None)
