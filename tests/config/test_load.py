"""The whole file: taken, or refused with every mistake and its line."""

import ssl
from pathlib import Path
from typing import Any

import pytest

from pillarbox.config import ConfigError, Settings, load, parse, schema
from pillarbox.config.model import ARRAYS, TABLES, SmarthostTable
from pillarbox.delivery.settings import AuthSettings, MaildirRoute, SmarthostRoute, TlsMode
from pillarbox.directory.settings import LocalSettings
from pillarbox.spool.settings import EmbeddedSettings
from pillarbox.submission.settings import Address, ClientCertificates

HERE = Path("/etc/pillarbox/pillarbox.toml")

SITE = """\
[[site]]
name = "mail.example.org"
submission = ["127.0.0.1:5587"]
submissions = ["127.0.0.1:5465"]
certificate = "certificate.pem"
key = "key.pem"
"""
ROUTE = """\
[[route]]
host = "mx.example.org"
"""


def mistakes(text: str) -> list[str]:
    """ "line: key: message" of each."""
    with pytest.raises(ConfigError) as caught:
        parse(text, HERE)
    assert str(caught.value) == "\n".join(map(str, caught.value.mistakes))
    return [f"{mistake.line}: {mistake.key}: {mistake.message}" for mistake in caught.value.mistakes]


def one(text: str) -> str:
    found = mistakes(text)
    assert len(found) == 1, found
    return found[0]


# ---- what is taken


def test_the_smallest_file_and_its_defaults() -> None:
    settings = parse(SITE + ROUTE, HERE)
    assert settings.path == HERE
    assert settings.text == SITE + ROUTE
    assert settings.server.data_directory == Path("/var/lib/pillarbox")
    assert 1 <= settings.server.submission_workers <= 4
    assert settings.metrics is None
    assert isinstance(settings.spool, EmbeddedSettings)
    assert settings.spool.directory == Path("/var/lib/pillarbox/spool")
    assert settings.directories[0].name == "local"
    site = settings.sites[0]
    assert site.submission == (Address("127.0.0.1", 5587),)
    assert site.certificate == Path("/etc/pillarbox/certificate.pem")
    assert site.max_message_size == 52_428_800
    assert settings.delivery.host == "mail.example.org"
    assert settings.delivery.postmaster == "postmaster@mail.example.org"
    assert settings.delivery.routes == (SmarthostRoute(("*",), "mx.example.org", 25),)


EVERYTHING = """\
[server]
data_directory = "data"
run_directory = "/run/p"
user = "pillarbox"
run_as_root = false
submission_workers = 3
delivery_workers = 2
drain_time = "1m"
[log]
form = "readable"
level = "debug"
[metrics]
[spool]
kind = "embedded"
min_free = "2GiB"
[guard]
free_failures = 4
block_time = "1h"
[[directory]]
name = "people"
scram = true
cache = 0
argon2_memory = "32MiB"
[[site]]
name = "Mail.Example.org"
submissions = ["[::]:465"]
certificate = "/c"
key = "k"
mechanisms = ["plain"]
directories = ["people"]
max_message_size = "10MiB"
strict_text_lines = true
hide_client_address = true
failed_sign_in_time = "1500ms"
data_total_timeout = "2h"
disabled_extensions = ["chunking", "MT-PRIORITY"]
max_hold = "7d"
tls_minimum_version = "1.3"
client_certificates = "optional"
client_ca = "ca.pem"
[delivery]
host = "out.example.org"
retry = ["1m", "1h"]
max_age = "2d"
delay_warning = 0
postmaster = "help@example.org"
[[route]]
domains = ["Example.net", ".example.com"]
host = "192.0.2.1"
tls = "starttls"
fingerprint = "AB:%s"
client_certificate = "cc"
client_key = "ck"
source_address = "192.0.2.9"
assume_8bitmime = true
[route.auth]
mechanism = "xoauth2"
user = "u"
secret_command = ["token", "--print"]
lifetime = "1h"
[[route]]
kind = "maildir"
path = "out"
""" % ("0" * 62)


def test_every_key_reaches_its_room() -> None:
    settings: Settings = parse(EVERYTHING, HERE)
    assert settings.server.data_directory == Path("/etc/pillarbox/data")
    assert (settings.server.submission_workers, settings.server.delivery_workers) == (3, 2)
    assert settings.server.drain_time == 60
    assert (settings.log.form, settings.log.level) == ("readable", "debug")
    assert settings.metrics == Address("127.0.0.1", 9587)
    assert settings.spool == EmbeddedSettings(Path("/etc/pillarbox/data/spool"), 2 << 30)
    assert (settings.guard.free_failures, settings.guard.block_time) == (4, 3600)
    assert isinstance(directory := settings.directories[0], LocalSettings)
    assert (directory.name, directory.scram, directory.cache, directory.argon2_memory) == ("people", True, 0, 32_768)
    site = settings.sites[0]
    assert site.name == "mail.example.org"
    assert site.mechanisms == ("PLAIN",)
    assert (site.max_text_line, site.failed_sign_in_time) == (1000, 1.5)
    assert (site.data_total_timeout, site.disabled_extensions) == (7200, ("CHUNKING", "MT-PRIORITY"))
    assert site.max_hold == 7 * 86_400
    assert site.tls.minimum_version is ssl.TLSVersion.TLSv1_3
    assert site.tls.client_certificates is ClientCertificates.OPTIONAL
    assert site.tls.client_ca == Path("/etc/pillarbox/ca.pem")
    assert settings.delivery.retry == (60, 3600)
    assert (settings.delivery.max_age, settings.delivery.delay_warning) == (172_800, 0)
    smarthost, maildir = settings.delivery.routes
    assert isinstance(smarthost, SmarthostRoute)
    assert smarthost.domains == ("example.net", ".example.com")
    assert smarthost.port == 587  # it signs in
    assert smarthost.tls is TlsMode.STARTTLS
    assert smarthost.fingerprint == "ab" + "0" * 62
    assert smarthost.auth == AuthSettings("XOAUTH2", "u", None, ("token", "--print"), 3600)
    assert maildir == MaildirRoute(("*",), Path("/etc/pillarbox/out"))


@pytest.mark.parametrize(("tls", "port"), [("tls", 465), ("starttls", 25), ("none", 25)])
def test_default_port_follows_tls(tls: str, port: int) -> None:
    route = parse(f'{SITE}{ROUTE}tls = "{tls}"\n', HERE).delivery.routes[0]
    assert isinstance(route, SmarthostRoute)
    assert route.port == port


# ---- the file itself


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing.toml: there is no such file; `pillarbox init`"):
        load(tmp_path / "nothing.toml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"[log]\nform = '\xff'\n")
    with pytest.raises(ConfigError, match=r"x.toml:2: found octets that are not UTF-8"):
        load(path)


@pytest.mark.parametrize(
    ("text", "line"),
    [("a = 1\nb = = 2\n", 2), ("[log]\n[log]\n", 2), ('a = "x', 1), ("a = 1\na = 2", 2), ("\n\n[[site\n", 3)],
)
def test_a_mistake_of_syntax_is_the_only_one_and_has_its_line(text: str, line: int) -> None:
    assert one(text).startswith(f"{line}: : not TOML: ")


def test_endless_nesting_is_a_mistake_and_no_crash() -> None:
    assert "not TOML" in one("a = " + "[" * 100_000)


# ---- mistakes of one key


def table_text(name: tuple[str, ...], kind: str, line: str) -> str:
    """A file that is right but for ``line``, which stands in the table ``name``."""
    parts: dict[tuple[str, ...], str] = {("site",): SITE, ("route",): ROUTE}
    if kind == "maildir":
        parts["route",] = '[[route]]\nkind = "maildir"\npath = "x"\n'
    if name == ("route", "auth"):
        parts["route",] += '[route.auth]\nuser = "u"\nsecret_file = "s"\n' + line
    elif name == ("site", "legacy"):
        parts["site",] += '[site.legacy]\nnetworks = ["10.0.0.0/8"]\nlogins = ["printer"]\n' + line
    elif name == ("spool", "cell"):
        parts[name] = f'[spool]\nkind = "cluster"\n[[spool.cell]]\nname = "a"\ndsn = "host=pg1"\n{line}'
    elif name == ("directory", "group"):
        people = 'name = "local"\nkind = "ldap"\npreset = "openldap"\nservers = ["ldaps://x"]\nbase = "o=x"\n'
        parts[name] = f'[[directory]]\n{people}[[directory.group]]\ndn = "cn=staff"\n{line}'
    elif name in parts:
        parts[name] += line
    elif name:
        brackets = ("[[", "]]") if name in ARRAYS else ("[", "]")
        parts[name] = f"{brackets[0]}{'.'.join(name)}{brackets[1]}\n{line}"
    else:
        return line + "".join(parts.values())
    return "".join(parts.values())


EVERY_TABLE = [
    (name, "smarthost" if table is SmarthostTable else "maildir" if name == ("route",) else "smarthost")
    for name, tables in TABLES.items()
    for table in tables
]


@pytest.mark.parametrize(("name", "kind"), EVERY_TABLE)
def test_an_unknown_key_is_a_mistake_in_every_table(name: tuple[str, ...], kind: str) -> None:
    text = table_text(name, kind, "zzyzx = 1\n")
    line = text.split("\n").index("zzyzx = 1") + 1
    found = one(text)
    assert found.startswith(f"{line}: ")
    assert "zzyzx: unknown key in " in found


@pytest.mark.parametrize(("name", "kind"), EVERY_TABLE)
def test_the_same_file_without_it_is_right(name: tuple[str, ...], kind: str) -> None:
    assert parse(table_text(name, kind, ""), HERE).sites


def test_nearest_known_key() -> None:
    assert one(f"[server]\ndata_directry = 1\n{SITE}{ROUTE}") == (
        '2: server.data_directry: unknown key in [server]; did you mean "data_directory"?'
    )


def test_a_key_of_another_table_is_sent_there() -> None:
    assert "it belongs in [[site]]" in one(f"[server]\nmax_recipients = 1\n{SITE}{ROUTE}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("max_recipients = 0", "found 0; expected at least 1"),
        ('max_recipients = "5"', 'found "5"; expected a whole number'),
        ("max_recipients = 1.5", "found 1.5; expected a whole number"),
        ("max_recipients = true", "found true; expected a whole number"),
        ('hide_client_address = "yes"', 'found "yes"; expected true or false'),
        ("directories = [3]", "found 3; expected text in quotes"),
        ('directories = [""]', 'found ""; expected at least one character'),
        ('mechanisms = "PLAIN"', 'found "PLAIN"; expected a list in brackets [ ]'),
        ("mechanisms = []", "found an empty list; expected at least one element"),
        ('tls_minimum_version = "1.1"', 'found "1.1"; expected "1.2" or "1.3"'),
        ("idle_timeout = 300", 'found 300; expected a time with its unit such as "30s", "5m", "4h" or "5d"'),
        ('max_message_size = "50MB"', 'found "50MB"; expected a size such as "50MiB" (B, KiB, MiB, GiB, TiB)'),
    ],
)
def test_a_wrong_value_says_what_was_found_and_expected(line: str, message: str) -> None:
    found = one(f"{SITE}{line}\n{ROUTE}")
    assert found.startswith("7: site[0].")
    assert message in found


def test_mechanism_names_come_with_the_nearest() -> None:
    found = one(f'{SITE}mechanisms = ["PLAIN", "LOGGIN"]\n{ROUTE}')
    assert found == (
        '7: site[0].mechanisms[1]: found "LOGGIN"; expected "PLAIN", "LOGIN", "SCRAM-SHA-256", "OAUTHBEARER", '
        '"XOAUTH2" or "EXTERNAL"; did you mean "LOGIN"?'
    )


def test_port_25_is_refused_with_the_reason() -> None:
    found = one(SITE.replace("127.0.0.1:5587", "0.0.0.0:25") + ROUTE)
    assert found.startswith('3: site[0].submission[0]: found "0.0.0.0:25"; port 25 is for mail transfer')
    assert "never a transfer server" in found


def test_a_next_hop_on_port_25_is_normal() -> None:
    assert parse(f"{SITE}{ROUTE}port = 25\n", HERE).delivery.routes


def test_a_site_without_a_certificate_is_refused_with_the_reason() -> None:
    found = one(SITE.replace('certificate = "certificate.pem"\n', "") + ROUTE)
    assert found.startswith("1: site[0].certificate: missing: The certificate with its chain, PEM")
    assert found.endswith("A site has both, for TLS: nobody is made to sign in in clear text")


@pytest.mark.parametrize("value", ["3", '"x"', "[1]", "{}"])
def test_a_table_that_is_none(value: str) -> None:
    text = f"server = {value}\nlog = {value}\nguard = {value}\n{SITE}{ROUTE}"
    if value == "{}":
        assert parse(text, HERE).sites
    else:
        assert [found.split(";")[1] for found in mistakes(text)] == [
            " expected a table [server]",
            " expected a table [log]",
            " expected a table [guard]",
        ]


@pytest.mark.parametrize("value", ["3", "[3]", "{}", "[[]]"])
def test_sites_and_routes_that_are_none(value: str) -> None:
    for found in mistakes(f"site = {value}\nroute = {value}\n"):
        assert "expected" in found or "missing" in found


def test_unknown_kind_of_route() -> None:
    assert one(f'{SITE}[[route]]\nkind = "smart-host"\nhost = "x"\n') == (
        '8: route[0].kind: found "smart-host"; expected "smarthost" or "maildir"; did you mean "smarthost"?'
    )


# ---- rules between keys


def broken(extra: str, site: str = SITE, route: str = ROUTE) -> str:
    return one(site + extra + route)


def second_site(lines: str) -> str:
    return f'[[site]]\nname = "two.example.org"\ncertificate = "c"\nkey = "k"\n{lines}'


def test_an_empty_file_says_what_is_needed() -> None:
    found = mistakes("")
    assert "there is no [[site]]" in found[0]
    assert "there is no [[route]]" in found[1]


def test_a_site_that_listens_nowhere() -> None:
    assert "no listener" in broken(second_site(""))


def test_the_same_name_twice() -> None:
    text = second_site('submission = ["127.0.0.2:587"]\n').replace("two.", "MAIL.")
    assert broken(text) == '8: site[1].name: found "mail.example.org" a second time; expected a name of its own'


def test_a_directory_that_is_not_there() -> None:
    assert broken('directories = ["locale"]\n') == (
        '7: site[0].directories[0]: found "locale"; expected one of "local"; did you mean "local"?'
    )


@pytest.mark.parametrize(
    "line",
    [
        'tls_minimum_version = "1.3"',
        'tls_ciphers = "ECDHE+AESGCM"',
        'client_certificates = "optional"\nclient_ca = "x"',
    ],
)
def test_sites_that_share_an_address_must_agree_on_tls(line: str) -> None:
    shared = second_site(f'submission = ["127.0.0.1:5587"]\n{line}\n')
    for found in mistakes(SITE + shared + ROUTE):
        assert "which shares 127.0.0.1:5587: SNI can only switch the certificate" in found
    alone = second_site(f'submission = ["127.0.0.2:5587"]\n{line}\n')
    assert len(parse(SITE + alone + ROUTE, HERE).sites) == 2


def test_sites_that_share_an_address_must_agree_on_load_balancers() -> None:
    """Their header comes before the site's name."""
    ours = SITE + 'proxy_from = ["10.0.0.5", "192.0.2.0/28"]\n'
    found = one(ours + second_site('submission = ["127.0.0.1:5587"]\n') + ROUTE)
    assert "site[1].proxy_from: found other load balancers than in site" in found
    same = second_site('submission = ["127.0.0.1:5587"]\nproxy_from = ["192.0.2.0/28", "10.0.0.5"]\n')
    for site in parse(ours + same + ROUTE, HERE).sites:
        assert {str(network) for network in site.proxy_from} == {"10.0.0.5/32", "192.0.2.0/28"}


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("0.0.0.0/0", "each of them may claim any address"),
        ("10.0.0.0/15", "no network wider than /16"),
        ("2001:db8::/47", "no network wider than /48"),
        ("10.0.0.5/24", "expected an IP address or network"),
        ("lb.example.org", "expected an IP address or network"),
    ],
)
def test_load_balancers_are_listed_by_their_own_addresses(network: str, message: str) -> None:
    assert message in one(SITE + f'proxy_from = ["{network}"]\n' + ROUTE)


def test_an_address_cannot_be_both() -> None:
    found = broken(second_site('submissions = ["127.0.0.1:5587"]\n'))
    assert "expected one of STARTTLS and implicit TLS per address" in found


def test_the_same_address_twice_in_one_site() -> None:
    text = SITE.replace('["127.0.0.1:5587"]', '["127.0.0.1:5587", "127.0.0.1:5587"]')
    assert one(text + ROUTE) == '3: site[0].submission[1]: found "127.0.0.1:5587" a second time'


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('strict_text_lines = true\nmax_text_line = "64KiB"\n', "expected one of the two"),
        ('max_text_line = "500B"\n', "expected at least 1000"),
        ('max_message_size = "1KiB"\n', "expected at least 64KiB"),
        ('client_certificates = "optional"\n', "without client_ca"),
        ('client_ca = "ca.pem"\n', "nobody would be asked for one"),
        ('tls_ciphers = "NO-SUCH"\n', "expected a cipher list that OpenSSL knows"),
        ("idle_timeout = 0\n", 'expected at least "1s"'),
        ('data_total_timeout = "2m"\n', "found less than data_timeout"),
        ("[guard]\nblock_failures = 3\n", "expected more than free_failures (3)"),
        ("[guard]\nwindow = 0\n", "failures would never count"),
        ('[[directory]]\nname = "local"\nargon2_memory = "4KiB"\n', "8 KiB per lane"),
        ('[delivery]\nretry = ["1h", 0]\n', 'expected at least "1s"'),
        ('[delivery]\nmax_age = "30s"\ndelay_warning = 0\n', "nothing would be tried twice"),
        ('[delivery]\ndelay_warning = "5d"\n', "expected less, or 0"),
        ('[[route]]\nhost = "b"\ndomains = ["*"]\n', "which route[0] has already; expected each domain in one route"),
    ],
)
def test_rules_between_keys(lines: str, message: str) -> None:
    assert message in broken(lines)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('tls = "none"\nca = "x"\n', 'found beside tls = "none"'),
        ('client_certificate = "x"\n', "found without client_key"),
        ('client_key = "x"\n', "found without client_certificate"),
        ('fingerprint = "abc"\n', "64 hexadecimal digits"),
        (f'fingerprint = "{"a" * 64}"\nca = "x"\n', "found beside ca"),
        ('[route.auth]\nuser = "u"\n', "expected one of secret_file and secret_command"),
        ('[route.auth]\nuser = "u"\nsecret_file = "s"\nsecret_command = ["x"]\n', "expected one of secret_file"),
        ('tls = "none"\n[route.auth]\nuser = "u"\nsecret_file = "s"\n', "would go to mx.example.org in clear text"),
    ],
)
def test_rules_of_a_route(lines: str, message: str) -> None:
    assert message in one(SITE + ROUTE + lines)


def test_signing_in_without_tls_is_for_loopback() -> None:
    route = '[[route]]\nhost = "127.0.0.1"\ntls = "none"\n[route.auth]\nuser = "u"\nsecret_file = "s"\n'
    assert parse(SITE + route, HERE).delivery.routes


# ---- all at once


def test_wrong_keys_do_not_hide_broken_rules() -> None:
    text = (
        "[server]\nuzer = 1\n"  # 2
        + SITE.replace('"127.0.0.1:5465"', '"127.0.0.1:25"')  # 6
        + 'directories = ["locale"]\n'  # 9
        + second_site('submission = ["127.0.0.1:5587"]\ntls_minimum_version = "1.3"\n')  # 15
        + '[[route]]\nport = "x"\n[route.auth]\nuser = "u"\n'  # 16 host missing, 17, 18 neither secret
    )
    assert [int(found.split(":")[0]) for found in mistakes(text)] == [2, 6, 9, 15, 16, 17, 18]


def test_a_rule_that_only_a_wrong_key_broke_is_left_out() -> None:
    text = "[[directory]]\nname = 3\n" + SITE + 'directories = ["people"]\n' + ROUTE
    assert one(text) == "2: directory[0].name: found 3; expected text in quotes"


def test_a_long_value_is_shown_short() -> None:
    assert len(broken(f'tls_minimum_version = "{"x" * 500}"\n')) < 200


# ---- the schema


def test_schema_says_what_is_not_in_it_and_forbids_unknown_keys() -> None:
    assert "Rules across keys are not in this schema" in (document := schema())["description"]

    def objects(node: Any) -> list[dict[str, Any]]:
        if isinstance(node, dict):
            mine = [node] if node.get("type") == "object" else []
            return mine + [found for child in node.values() for found in objects(child)]
        return [found for child in node for found in objects(child)] if isinstance(node, list) else []

    assert len(tables := objects(document)) == sum(map(len, TABLES.values()))  # of some there are several kinds
    assert all(table["additionalProperties"] is False for table in tables)
