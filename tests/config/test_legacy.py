"""[site.legacy]: what is taken, and that no way of writing it opens such a site to the internet."""

import ssl
from ipaddress import ip_network
from pathlib import Path

import pytest

from pillarbox.config import ConfigError, Settings, parse, schema
from pillarbox.config.legacy import MOST_PUBLIC
from pillarbox.submission.settings import LegacySettings, Mailboxes

HERE = Path("/etc/pillarbox/pillarbox.toml")
NORMAL = """\
[[site]]
name = "mail.example.org"
submission = ["192.0.2.1:587"]
certificate = "certificate.pem"
key = "key.pem"
"""
PRINT = """\
[[site]]
name = "print.example.org"
submission = ["192.0.2.1:2525"]
certificate = "certificate.pem"
key = "key.pem"
"""
LEGACY = """\
[site.legacy]
networks = ["10.0.0.0/8"]
logins = ["printer"]
"""
ROUTE = '[[route]]\nhost = "mx.example.org"\n'


def taken(legacy: str = LEGACY, site: str = PRINT) -> Settings:
    return parse(f"{NORMAL}{site}{legacy}{ROUTE}", HERE)


def refused(legacy: str = LEGACY, site: str = PRINT) -> list[str]:
    """ "line key: message" of each; lines count from the legacy site's [[site]]."""
    with pytest.raises(ConfigError) as caught:
        taken(legacy, site)
    above = len(NORMAL.splitlines())
    return [f"{one.line - above} {one.key}: {one.message}" for one in caught.value.mistakes]


def networks(*names: str) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    return f'[site.legacy]\nnetworks = [{quoted}]\nlogins = ["printer"]\n'


# ---- what is taken


def test_everything_that_can_be_said_and_what_it_means() -> None:
    settings = taken(
        '[site.legacy]\nnetworks = ["10.0.0.0/8", "fe80::/10"]\nlogins = ["Printer", "scanner@example.org"]\n'
        'senders = ["Scan@Device.local", "@Brother.invalid"]\nrecipients = ["@Example.org", "a@b.example"]\n'
        'minimum_tls = "none"\n'
    )
    normal, legacy = settings.sites
    assert legacy.legacy == LegacySettings(
        networks=(ip_network("10.0.0.0/8"), ip_network("fe80::/10")),
        logins=frozenset({"printer", "scanner@example.org"}),
        senders=Mailboxes(frozenset({"scan@device.local"}), frozenset({"brother.invalid"})),
        recipients=Mailboxes(frozenset({"a@b.example"}), frozenset({"example.org"})),
        plaintext=True,
    )
    assert legacy.tls.minimum_version is ssl.TLSVersion.TLSv1
    assert normal.legacy is None
    assert normal.tls.minimum_version is ssl.TLSVersion.TLSv1_2


def test_the_least_is_as_strict_as_a_normal_site_but_for_line_ends() -> None:
    _, legacy = taken().sites
    assert legacy.legacy == LegacySettings((ip_network("10.0.0.0/8"),), frozenset({"printer"}))
    assert legacy.tls.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("word", "version"),
    [("1.0", ssl.TLSVersion.TLSv1), ("1.1", ssl.TLSVersion.TLSv1_1), ("1.2", ssl.TLSVersion.TLSv1_2)],
)
def test_a_version_is_the_lowest_and_no_leave_to_do_without(word: str, version: ssl.TLSVersion) -> None:
    _, legacy = taken(f'{LEGACY}minimum_tls = "{word}"\n').sites
    assert legacy.tls.minimum_version is version
    assert legacy.legacy is not None and not legacy.legacy.plaintext


def test_logins_of_devices_are_foreign_at_every_site_but_theirs() -> None:
    other = PRINT.replace("print", "scan").replace(":2525", ":2526")
    scanner = LEGACY.replace("printer", "Scanner")
    sites = {site.name: site for site in taken(site=f"{other}{scanner}{PRINT}").sites}
    assert sites["mail.example.org"].foreign_logins == {"printer", "scanner"}
    for name, login in (("print.example.org", "printer"), ("scan.example.org", "scanner")):
        legacy = sites[name].legacy
        assert legacy is not None
        assert legacy.logins == {login}
        assert sites[name].foreign_logins == frozenset()


@pytest.mark.parametrize(
    "name",
    [
        *("10.1.2.3", "10.0.0.0/8", "172.16.0.0/12", "192.168.7.0/24", "127.0.0.1", "169.254.0.0/16"),
        *("fc00::/7", "fd12:3456::/32", "fe80::/10", "::1"),
        *("203.0.113.0/24", "8.8.8.8", "2001:db8::/48", "2a00:1:2:3::/64"),
    ],
)
def test_networks_that_no_stranger_is_in_are_taken(name: str) -> None:
    (_, site) = taken(networks(name)).sites
    assert site.legacy is not None
    assert site.legacy.networks == (ip_network(name),)


def test_sixteen_public_networks_are_taken_beside_any_number_of_private_ones() -> None:
    public = [f"203.0.{number}.0/24" for number in range(MOST_PUBLIC)]
    private = [f"10.{number}.0.0/16" for number in range(40)]
    (_, site) = taken(networks(*private, *public)).sites
    assert site.legacy is not None
    assert len(site.legacy.networks) == 40 + MOST_PUBLIC


# ---- it cannot be opened to the internet


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("0.0.0.0/0", "a public network; expected a private"),
        ("::/0", "a public network; expected a private"),
        ("128.0.0.0/1", "no wider than /24"),
        ("203.0.112.0/23", "no wider than /24"),
        ("2001:db8::/47", "no wider than /48"),
        ("10.0.0.0/7", "no wider than /24"),
        ("172.0.0.0/11", "no wider than /24"),
        ("192.168.0.0/15", "no wider than /24"),
        ("100.64.0.0/10", "no wider than /24"),
        ("fc00::/6", "no wider than /48"),
        ("fe80::/9", "no wider than /48"),
        ("::ffff:0:0/96", "stands for IPv4 addresses"),
        ("::ffff:10.0.0.0/104", "stands for IPv4 addresses"),
        ("::ffff:8.8.8.8", "stands for IPv4 addresses"),
        ("::/96", "stands for IPv4 addresses"),
        ("::ffff:0:0:0/96", "stands for IPv4 addresses"),
        ("64:ff9b::/96", "stands for IPv4 addresses"),
        ("64:ff9b::/48", "stands for IPv4 addresses"),
        ("64:ff9b:1::/48", "stands for IPv4 addresses"),
        ("2001:0:1234::/48", "stands for IPv4 addresses"),
        ("2002:808:808::/48", "stands for IPv4 addresses"),
    ],
)
def test_a_network_that_strangers_may_be_in_is_refused_on_its_line(name: str, reason: str) -> None:
    (found,) = refused(networks("10.0.0.0/8", name))
    assert found.startswith(f'7 site[1].legacy.networks[1]: found "{ip_network(name)}"')
    assert reason in found


def test_a_seventeenth_public_network_is_refused() -> None:
    public = [f"203.0.{number}.0/24" for number in range(MOST_PUBLIC + 1)]
    (found,) = refused(networks("10.0.0.0/8", *public))
    assert found.startswith('7 site[1].legacy.networks[17]: found "203.0.16.0/24", public network number 17;')


@pytest.mark.parametrize("name", ["10.0.0.1/8", "everywhere", "10.0.0.0/33", "010.0.0.1"])
def test_what_is_no_network_is_refused(name: str) -> None:
    (found,) = refused(networks(name))
    assert found.startswith(f'7 site[1].legacy.networks[0]: found "{name}"; expected an IP address or network')


def test_without_networks_or_logins_it_is_no_legacy_site() -> None:
    assert [one.split(":")[0] for one in refused("[site.legacy]\n")] == [
        "6 site[1].legacy.networks",
        "6 site[1].legacy.logins",
    ]
    assert len(refused("[site.legacy]\nnetworks = []\nlogins = []\n")) == 2


def test_a_missing_key_is_shown_by_an_example() -> None:
    first, second = refused("[site.legacy]\n")
    assert first.endswith('turned away at once. Such as networks = ["10.20.0.0/16"]')
    assert second.endswith('no other site. Such as logins = ["printer-2nd-floor"]')


def test_a_list_that_is_too_long_says_by_how_much() -> None:
    (found,) = refused(networks(*(f"10.0.{number}.0/24" for number in range(65))))
    assert found.endswith("legacy.networks: found a list of 65 elements; expected at most 64")


def test_a_missing_key_hides_no_other_mistake() -> None:
    found = refused('[site.legacy]\nnetworks = ["0.0.0.0/0"]\n')
    assert [one.split(":")[0] for one in found] == ["6 site[1].legacy.logins", "7 site[1].legacy.networks[0]"]


# ---- a listener and a context of its own


@pytest.mark.parametrize("address", ["192.0.2.1:587", "0.0.0.0:587"])
def test_it_shares_no_address_with_another_site(address: str) -> None:
    (found,) = refused(site=PRINT.replace("192.0.2.1:2525", address))
    assert found == (
        f'3 site[1].submission[0]: found "{address}", where site "mail.example.org" listens; '
        "expected an address of its own for a legacy site"
    )


def test_on_the_peoples_address_the_cause_is_all_that_is_said() -> None:
    own = 'submission = ["192.0.2.1:587"]\nclient_certificates = "optional"\nclient_ca = "ca.pem"\n'
    for normal, legacy in ((NORMAL, f"{PRINT}{own}"), (NORMAL, PRINT.replace("submission =", "submissions ="))):
        site = legacy.replace('submission = ["192.0.2.1:2525"]\n', "").replace(":2525", ":587")
        with pytest.raises(ConfigError) as caught:
            parse(f"{normal}{site}{LEGACY}{ROUTE}", HERE)
        (found,) = caught.value.mistakes
        assert "expected an address of its own for a legacy site" in str(found)


def test_an_address_that_is_none_is_all_that_is_said() -> None:
    (found,) = refused(f'{LEGACY}minimum_tls = "none"\n', PRINT.replace("192.0.2.1:2525", "printers:2525"))
    assert 'site[1].submission[0]: found "printers:2525"' in found


def test_it_shares_no_address_with_another_legacy_site() -> None:
    other = PRINT.replace("print", "scan")
    (found,) = refused(site=f"{other}{LEGACY}{PRINT}")
    assert 'site[2].submission[0]: found "192.0.2.1:2525", where site "scan.example.org" listens' in found


def test_another_port_or_family_is_an_address_of_its_own() -> None:
    for address in ("[::]:587", "192.0.2.2:587", "0.0.0.0:2525"):
        (_, site) = taken(site=PRINT.replace("192.0.2.1:2525", address)).sites
        assert [str(one) for one in site.submission] == [address]


def test_keys_that_contradict_each_other() -> None:
    (found,) = refused(site=f'{PRINT}tls_minimum_version = "1.2"\n')
    assert found.endswith("tls_minimum_version: found beside [site.legacy]; expected minimum_tls there")
    none = f'{LEGACY}minimum_tls = "none"\n'
    (found,) = refused(none, PRINT.replace("submission =", "submissions ="))
    assert found.startswith('9 site[1].legacy.minimum_tls: found "none" without submission;')
    (found,) = refused(none, f'{PRINT}client_certificates = "required"\nclient_ca = "ca.pem"\n')
    assert 'legacy.minimum_tls: found "none" beside client_certificates = "required"' in found


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('logins = [""]', "expected the login of an account"),
        ('logins = ["a\\u0007b"]', "holds the prohibited character U+0007"),
        ('senders = ["scanner"]', "expected a mail address"),
        ('senders = ["@"]', "expected a mail address"),
        ('recipients = ["postmaster"]', "expected a mail address"),
        ('recipients = ["*"]', "expected a mail address"),
        ('recipients = ["*@example.org"]', 'expected "@example.org" for all of a domain'),
        ('senders = ["*@example.org"]', 'expected "@example.org" for all of a domain'),
        ('logins = ["*"]', "there is no wildcard: name each"),
        ("recipients = []", "expected at least one element"),
        ('minimum_tls = "1.3"', 'expected "none", "1.0", "1.1" or "1.2"'),
        ('network = ["10.0.0.0/8"]', 'unknown key in [site.legacy]; did you mean "networks"?'),
    ],
)
def test_what_is_no_value_is_refused(line: str, reason: str) -> None:
    kept = [one for one in LEGACY.splitlines() if one.split()[0] != line.split()[0]]
    (found,) = refused("\n".join([*kept, line, ""]))
    assert reason in found


def test_editors_know_the_table() -> None:
    table = schema()["$defs"]["LegacyTable"]
    assert set(table["required"]) == {"networks", "logins"}
    assert table["additionalProperties"] is False
