"""What ``pillarbox check`` tells of sign-in: what the file says and nobody could use, and hashes that are left.

    findings = look_at_sign_in(settings) + imported_hashes(users)

The file itself is valid: each of these is something that config takes and an administrator would not want.

ERRORS
    None.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from urllib.parse import urlsplit

from pillarbox.cli.output import count
from pillarbox.config import Settings
from pillarbox.console.operations import User
from pillarbox.directory.dovecot.settings import DovecotSettings
from pillarbox.directory.ldap.settings import LdapSettings
from pillarbox.directory.mailbox.settings import MailboxSettings
from pillarbox.directory.oauth.settings import OauthSettings
from pillarbox.directory.settings import DirectorySettings, UpstreamSettings
from pillarbox.directory.wire import Place
from pillarbox.doctor.report import Finding, Severity
from pillarbox.submission.settings import SiteSettings

_FOR_PASSWORDS = frozenset({"PLAIN", "LOGIN", "SCRAM-SHA-256"})
_FOR_APP_PASSWORDS = frozenset({"PLAIN", "LOGIN"})
_HERE = ("localhost", "127.0.0.1", "::1")


def look_at_sign_in(settings: Settings) -> list[Finding]:
    """Mechanisms and directories that nobody can use, and directories that ask one server."""
    found: list[Finding] = []
    for site in settings.sites:
        found += _mechanisms(site)
        found += _directories(site, settings.directories)
    return [*found, *_one_server(settings)]


def imported_hashes(users: Sequence[User]) -> Iterator[Finding]:
    """How many accounts have another system's hash yet."""
    people = [user for user in users if not user.elsewhere]
    left = sum(user.imported_hash for user in people)
    if left:
        yield Finding(
            Severity.WARNING,
            "accounts",
            f"{left} of {len(people)} have the password hash of the system that they were imported from, which is "
            "weaker than Argon2id",
            "each is replaced when its person signs in; `pillarbox user password` replaces it now, and who never "
            "comes can be removed",
        )


def _mechanisms(site: SiteSettings) -> Iterator[Finding]:
    """Of a site that demands app passwords: those need PLAIN or LOGIN, and SCRAM is never offered there."""
    if site.app_passwords != "required":
        return
    for implicit, addresses in ((False, site.submission), (True, site.submissions)):
        mechanisms = site.mechanisms_of(implicit_tls=implicit)
        if not addresses or not _FOR_APP_PASSWORDS.isdisjoint(mechanisms):
            continue
        listener = "submissions" if implicit else "submission"
        others = [name for name in mechanisms if name != "SCRAM-SHA-256"]
        subject = f"site {site.name}"
        if others:
            message = f"{listener}: app passwords are required, and nobody can use one by {', '.join(others)}"
        else:
            message = f"{listener}: nobody can sign in: app passwords are required, and SCRAM-SHA-256 takes none"
        severity = Severity.WARNING if others else Severity.ERROR
        yield Finding(severity, subject, message, "add PLAIN to its mechanisms, or demand no app passwords")


def _directories(site: SiteSettings, directories: Sequence[DirectorySettings]) -> Iterator[Finding]:
    """Directories of a site by which nobody can ever get in there."""
    mechanisms = {name for implicit in (False, True) for name in site.mechanisms_of(implicit_tls=implicit)}
    chosen = [each for each in directories if each.name in site.directories]
    asked_by_others = {each.people for each in chosen if isinstance(each, OauthSettings)}
    for each in chosen:
        why = ""
        if isinstance(each, UpstreamSettings) and mechanisms.isdisjoint(_FOR_PASSWORDS):
            why = "" if each.name in asked_by_others else "no mechanism of the site takes a password"
        if isinstance(each, MailboxSettings | DovecotSettings) and site.domains:
            own = {domain.casefold() for domain in each.domains}
            if own.isdisjoint(domain.casefold() for domain in site.domains):
                why = "none of its domains is one of the site's"
        if why:
            yield Finding(
                Severity.WARNING,
                f"site {site.name}",
                f'nobody can sign in by directory "{each.name}": {why}',
                "correct the site's mechanisms or domains, or take it out of its directories",
            )


def _one_server(settings: Settings) -> Iterator[Finding]:
    """Two directories of one server: its own count of failures is one, and ours are two."""
    used = {name for site in settings.sites for name in site.directories}
    asking: defaultdict[str, list[UpstreamSettings]] = defaultdict(list)
    for each in settings.directories:
        if isinstance(each, UpstreamSettings) and each.wrong_tries is not None and each.name in used:
            for server in _servers(each):
                asking[server].append(each)
    told: set[tuple[str, str]] = set()
    for server, sharing in asking.items():
        for one, other in combinations(sharing, 2):
            if (one.name, other.name) in told:
                continue
            told.add((one.name, other.name))
            tries = (one.wrong_tries or 0) + (other.wrong_tries or 0)
            yield Finding(
                Severity.WARNING,
                f"directories {one.name}, {other.name}",
                f"they ask one server, {server}: it may count {count(tries, 'wrong password')} of one person, those "
                "of each directory",
                "ask it by one directory, or let the sum of wrong_tries stay below what it locks people out at",
            )


def _servers(directory: UpstreamSettings) -> set[str]:
    """Which machines it asks. A server counts for all its ports; on this machine, where a port may be a tunnel's,
    each port is one."""
    if isinstance(directory, MailboxSettings | DovecotSettings):
        return {_place(server) for server in directory.servers}
    if isinstance(directory, LdapSettings):
        return {_uri(server) for server in directory.servers}
    return set()


def _place(place: Place) -> str:
    if place.path:
        return place.path
    return str(place) if place.host in _HERE else place.host.casefold()


def _uri(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.hostname is None or parts.scheme == "ldapi":
        return uri
    port = parts.port or (636 if parts.scheme == "ldaps" else 389)
    return str(Place(parts.hostname, port)) if parts.hostname in _HERE else parts.hostname
