"""Rules between keys: what each table says alone is right, and together it is not.

Each rule is a function that yields (key path, message); ``check`` runs all of them, so that one run of a command
tells everything. R1 and R2 of the product live here and in values.parse_listener.

STANDARDS
    RFC 8314 (STARTTLS on submission, implicit TLS on submissions), RFC 6066 3 (SNI).

ERRORS
    None raised: broken rules are values.
"""

import ssl
from collections.abc import Callable, Iterator, Sequence

from pillarbox.config.acme import check_acme
from pillarbox.config.cluster import check_cluster
from pillarbox.config.directories import kinds
from pillarbox.config.directories.local import LocalTable
from pillarbox.config.directories.oauth import OauthTable
from pillarbox.config.directories.table import DirectoryTable
from pillarbox.config.legacy import check_legacy
from pillarbox.config.lines import Path as KeyPath
from pillarbox.config.mistakes import nearest
from pillarbox.config.model import AuthTable, FileTable, SiteTable, SmarthostTable
from pillarbox.config.values import format_time, is_loopback
from pillarbox.submission.settings import Address

WIDEST_PROXIES = {4: 16, 6: 48}
"""By IP version: the shortest prefix of a network of load balancers."""

Broken = Iterator[tuple[KeyPath, str]]


def check(tables: FileTable) -> list[tuple[KeyPath, str]]:
    """Every rule that is broken, with the key to look at first."""
    return [broken for rule in _RULES for broken in rule(tables)]


def _something_to_do(tables: FileTable) -> Broken:
    if not tables.site:
        yield (
            ("site",),
            "there is no [[site]]: at least one is needed, with name, certificate, key and submission or submissions",
        )
    if not tables.route:
        yield (
            ("route",),
            'there is no [[route]]: at least one is needed, such as domains = ["*"] with host = "mx.example.org"',
        )


def _names(tables: FileTable) -> Broken:
    yield from _duplicates("site", [site.name for site in tables.site])
    yield from _duplicates("directory", [directory.name.lower() for directory in tables.directory])
    directories: Sequence[DirectoryTable] = tables.directory
    locals_ = [number for number, directory in enumerate(directories) if isinstance(directory, LocalTable)]
    yield from (
        (("directory", number, "kind"), "found a second local directory; expected one: its accounts are one file")
        for number in locals_[1:]
    )
    known = [directory.name for directory in tables.directory] or ["local"]
    for number, site in enumerate(tables.site):
        for place, name in enumerate(site.directories):
            key = ("site", number, "directories", place)
            if name in site.directories[:place]:
                yield key, f'found "{name}" a second time'
            elif name not in known:
                names = ", ".join(f'"{each}"' for each in known)
                yield key, f'found "{name}"; expected one of {names}{nearest(name, known)}'


def _chains(tables: FileTable) -> Broken:
    """A directory that can only say no would keep those behind it from being asked."""
    directories = {directory.name: directory for directory in tables.directory}
    for number, site in enumerate(tables.site):
        for place, name in enumerate(site.directories[:-1]):
            directory = directories.get(name)
            if directory is not None and directory.opaque and not directory.names:
                yield (
                    ("site", number, "directories", place),
                    f'found "{name}" before others; expected it last, or names = ["*@example.org"] in it: its server '
                    "says yes or no, and never that it does not know the person",
                )


def _duplicates(table: str, names: Sequence[str]) -> Broken:
    for number, name in enumerate(names):
        if name in names[:number]:
            yield (table, number, "name"), f'found "{name}" a second time; expected a name of its own'


def _listeners(tables: FileTable) -> Broken:
    for number, site in enumerate(tables.site):
        if not site.submission and not site.submissions:
            yield (
                ("site", number),
                'no listener: expected submission = ["0.0.0.0:587"] or submissions = ["0.0.0.0:465"]',
            )
        for kind, addresses in (("submission", site.submission), ("submissions", site.submissions)):
            for place, address in enumerate(addresses):
                if address in addresses[:place]:
                    yield ("site", number, kind, place), f'found "{address}" a second time'


def _shared_addresses(tables: FileTable) -> Broken:
    """What belongs to a listener is agreed on: after SNI only the certificate can still change."""
    first: dict[Address, tuple[int, str]] = {}
    for number, site in enumerate(tables.site):
        for kind, addresses in (("submission", site.submission), ("submissions", site.submissions)):
            for place, address in enumerate(addresses):
                owner, its_kind = first.setdefault(address, (number, kind))
                if owner != number and (site.legacy is not None or tables.site[owner].legacy is not None):
                    continue  # a legacy site shares no address at all (check_legacy): no need to agree
                if its_kind != kind:
                    yield (
                        ("site", number, kind, place),
                        f'found "{address}", which is {its_kind} elsewhere; '
                        "expected one of STARTTLS and implicit TLS per address",
                    )
                yield from _disagreements(tables.site[owner], site, number, address)


_PER_ADDRESS = ("tls_minimum_version", "tls_ciphers", "client_certificates", "client_ca")


def _disagreements(default: SiteTable, site: SiteTable, number: int, address: Address) -> Broken:
    for key in _PER_ADDRESS:
        ours, theirs = getattr(site, key), getattr(default, key)
        if ours != theirs:
            yield (
                ("site", number, key),
                f'found {_text(ours)}; expected {_text(theirs)} as in site "{default.name}", which shares {address}: '
                "SNI can only switch the certificate",
            )
    if set(site.proxy_from) != set(default.proxy_from):
        yield (
            ("site", number, "proxy_from"),
            f'found other load balancers than in site "{default.name}", which shares {address}; '
            "expected the same: their header comes before the site's name",
        )


def _proxies(tables: FileTable) -> Broken:
    """Whoever is listed may say that it is anybody: the guard, the limits and the log believe it."""
    for number, site in enumerate(tables.site):
        for place, network in enumerate(site.proxy_from):
            if network.prefixlen < WIDEST_PROXIES[network.version]:
                yield (
                    ("site", number, "proxy_from", place),
                    f'found "{network}"; expected the load balancers\' own addresses, '
                    f"no network wider than /{WIDEST_PROXIES[network.version]}: each of them may claim any address",
                )


def _text(value: object) -> str:
    return "nothing" if value is None else f'"{value}"'


def _site_keys(tables: FileTable) -> Broken:
    for number, site in enumerate(tables.site):
        at: KeyPath = ("site", number)
        if site.strict_text_lines and "max_text_line" in site.model_fields_set:
            yield (*at, "max_text_line"), "found beside strict_text_lines = true; expected one of the two"
        if site.max_text_line < 1000:
            yield (*at, "max_text_line"), f"found {site.max_text_line}; expected at least 1000 (RFC 5321 4.5.3.1.6)"
        if site.max_message_size < 65_536:
            yield (*at, "max_message_size"), f"found {site.max_message_size}; expected at least 64KiB"
        if site.tls_ciphers is not None and not _ciphers_known(site.tls_ciphers):
            yield (*at, "tls_ciphers"), f'found "{site.tls_ciphers}"; expected a cipher list that OpenSSL knows'


def _site_times(tables: FileTable) -> Broken:
    for number, site in enumerate(tables.site):
        at: KeyPath = ("site", number)
        for key in ("idle_timeout", "unauthenticated_timeout", "data_timeout", "handshake_timeout"):
            if getattr(site, key) < 1:
                yield (*at, key), f'found {format_time(getattr(site, key))}; expected at least "1s"'
        if site.data_total_timeout < site.data_timeout:
            yield (*at, "data_total_timeout"), "found less than data_timeout; expected at least as much"


def _ciphers_known(ciphers: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(ciphers)
    except (ssl.SSLError, ValueError):  # ValueError: it holds U+0000
        return False
    return True


def _client_certificates(tables: FileTable) -> Broken:
    for number, site in enumerate(tables.site):
        at: KeyPath = ("site", number)
        if site.client_certificates != "none" and site.client_ca is None:
            yield (
                (*at, "client_certificates"),
                f'found "{site.client_certificates}" without client_ca; expected the CA to check them with',
            )
        if site.client_ca is not None and site.client_certificates == "none":
            yield (*at, "client_ca"), 'found without client_certificates = "optional"; nobody would be asked for one'
        if site.certificate_signs_in and site.client_certificates == "none":
            yield (
                (*at, "certificate_signs_in"),
                'found without client_certificates = "optional" or "required"; nobody would show a certificate',
            )
        yield from _certificate_login(tables, number)


def _certificate_login(tables: FileTable, number: int) -> Broken:
    site, at = tables.site[number], ("site", number, "certificate_login")
    if site.certificate_login is None:
        return
    if site.client_certificates == "none":
        yield at, 'found without client_certificates = "optional" or "required"; nobody would show a certificate'
    elif not site.certificate_signs_in and not any("EXTERNAL" in (getattr(site, key) or ()) for key in _LISTS):
        yield (
            at,
            'found without "EXTERNAL" in mechanisms and without certificate_signs_in; nobody would sign in by one',
        )
    known = {each.name: each for each in tables.directory}
    here = [known[name] for name in site.directories if name in known]
    if here and not any(each.has_passwords and not each.opaque for each in here):
        names = ", ".join(f'"{each.name}"' for each in here)
        yield (
            at,
            f"found with {names}, which cannot say who somebody is without a password; expected another directory",
        )


_LISTS = ("mechanisms", "submission_mechanisms", "submissions_mechanisms")
_TOKEN_MECHANISMS = ("OAUTHBEARER", "XOAUTH2")


def _mechanisms(tables: FileTable) -> Broken:
    """A mechanism that could never be offered is a mistake; one that cannot be now is left out by the session."""
    known: dict[str, DirectoryTable] = {directory.name: directory for directory in tables.directory}
    for number, site in enumerate(tables.site):
        chain = [known.get(name, LocalTable()) for name in site.directories]
        for key in _LISTS:
            for place, name in enumerate(getattr(site, key) or ()):
                lacks = _lacks(name, site, chain)
                if lacks:
                    yield ("site", number, key, place), f'found "{name}"; expected {lacks}'


def _tokens(tables: FileTable) -> Broken:
    """A directory of tokens, and no mechanism that takes them: nobody would ever get in by it."""
    known = {directory.name for directory in tables.directory if isinstance(directory, OauthTable)}
    for number, site in enumerate(tables.site):
        taken = {name for key in _LISTS for name in getattr(site, key) or ()}
        for place, name in enumerate(site.directories):
            if name in known and taken.isdisjoint(_TOKEN_MECHANISMS):
                expected = 'expected "OAUTHBEARER" or "XOAUTH2" in mechanisms'
                message = f'found "{name}", whose tokens nobody can show here; {expected}'
                yield ("site", number, "directories", place), message


def _lacks(name: str, site: SiteTable, chain: Sequence[DirectoryTable]) -> str:
    """What a mechanism needs and does not have, in words; "" for nothing."""
    if name == "SCRAM-SHA-256":  # is offered before anybody is named: all of them need it
        return next(filter(None, (directory.lacks_for_scram() for directory in chain)), "")
    if name in _TOKEN_MECHANISMS:
        lacking = [directory.lacks_for_tokens() for directory in chain]
        return lacking[0] if all(lacking) else ""
    if name == "EXTERNAL" and site.client_certificates == "none":
        return 'client_certificates = "optional" or "required" beside it'
    if name in ("PLAIN", "LOGIN") and not any(directory.has_passwords for directory in chain):
        return "a directory with passwords: those of this site have none"
    return ""


def _guard(tables: FileTable) -> Broken:
    guard = tables.guard
    if guard.block_failures <= guard.free_failures:
        yield (
            ("guard", "block_failures"),
            f"found {guard.block_failures}; expected more than free_failures ({guard.free_failures})",
        )
    if guard.window <= 0:
        yield ("guard", "window"), "found 0; expected a time: failures would never count"


def _directories(tables: FileTable) -> Broken:
    for number, directory in enumerate(tables.directory):
        for key, message in kinds.check(directory):
            yield ("directory", number, key), message
        if isinstance(directory, OauthTable) and directory.people not in (None, directory.name):
            yield from _people(directory, ("directory", number, "people"), tables)


def _people(directory: OauthTable, at: KeyPath, tables: FileTable) -> Broken:
    """Whom it asks about its people must be able to say."""
    name = str(directory.people)
    known = {each.name: each for each in tables.directory if each is not directory}
    if name not in known:
        expected = "the name of another [[directory]]"
        yield at, f'found "{name}"; expected {expected}{nearest(name, tuple(known))}'
    elif known[name].opaque or not known[name].has_passwords:
        yield at, f'found "{name}", which cannot say who somebody is without a password; expected another one'


def _delivery(tables: FileTable) -> Broken:
    delivery = tables.delivery
    for place, wait in enumerate(delivery.retry):
        if wait < 1:
            yield ("delivery", "retry", place), f'found {format_time(wait)}; expected at least "1s"'
    if delivery.max_age <= delivery.retry[0]:
        yield ("delivery", "max_age"), "found no more than the first wait of retry; nothing would be tried twice"
    if delivery.delay_warning >= delivery.max_age:
        yield ("delivery", "delay_warning"), "found at least max_age; expected less, or 0 for no warning"


def _routes(tables: FileTable) -> Broken:
    seen: dict[tuple[str, str | None], int] = {}
    names = {site.name for site in tables.site}
    for number, route in enumerate(tables.route):
        for place, site in enumerate(route.sites):
            if site not in names:
                yield ("route", number, "sites", place), f'found "{site}"; expected the name of a [[site]]'
        for place, domain in enumerate(route.domains):
            taken = [seen.setdefault((domain, site), number) for site in route.sites or (None,)]
            first = min(taken)
            if first != number:
                yield (
                    ("route", number, "domains", place),
                    f'found "{domain}", which route[{first}] has already; expected each domain in one route: '
                    "change that one, or leave this one out",
                )
        if isinstance(route, SmarthostTable):
            yield from _smarthost(route, number)


_NEED_TLS = ("ca", "tls_name", "fingerprint", "client_certificate", "client_key")


def _smarthost(route: SmarthostTable, number: int) -> Broken:
    at: KeyPath = ("route", number)
    if route.tls == "none":
        yield from (
            ((*at, key), 'found beside tls = "none"; expected tls = "starttls" or "tls"')
            for key in _NEED_TLS
            if getattr(route, key) is not None
        )
    if (route.client_certificate is None) != (route.client_key is None):
        there, missing = ("client_key", "client_certificate")[:: 1 if route.client_key else -1]
        yield (*at, there), f"found without {missing}; expected both or neither"
    if route.fingerprint is not None and not is_fingerprint(route.fingerprint):
        yield (*at, "fingerprint"), f'found "{route.fingerprint}"; expected SHA-256 as 64 hexadecimal digits'
    if route.fingerprint is not None and route.ca is not None:
        yield (*at, "fingerprint"), "found beside ca; expected one of the two"
    if route.auth is not None:
        yield from _route_auth(route, route.auth, (*at, "auth"))


def _route_auth(route: SmarthostTable, auth: AuthTable, at: KeyPath) -> Broken:
    if route.tls == "none" and not is_loopback(route.host):
        yield (
            at,
            f'found with tls = "none"; the secret would go to {route.host} in clear text: use "starttls" or "tls"',
        )
    if (auth.secret_file is None) == (not auth.secret_command):
        yield at, "expected one of secret_file and secret_command"


def is_fingerprint(text: str) -> bool:
    """SHA-256 in hexadecimal, with or without colons."""
    digits = text.replace(":", "")
    return len(digits) == 64 and all(digit in "0123456789abcdefABCDEF" for digit in digits)


_RULES: tuple[Callable[[FileTable], Broken], ...] = (
    _something_to_do,
    _names,
    _listeners,
    _shared_addresses,
    _site_keys,
    _site_times,
    check_acme,
    check_legacy,
    check_cluster,
    _proxies,
    _client_certificates,
    _chains,
    _mechanisms,
    _tokens,
    _guard,
    _directories,
    _delivery,
    _routes,
)
