"""Rules of certificate = "acme" and of [acme], and what they need of the machine.

ERRORS
    None raised: broken rules and findings are values.
"""

import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

from pillarbox.certificates.settings import AcmeSettings, missing_library
from pillarbox.config.acme_table import ACME, AcmeTable
from pillarbox.config.certificate import examine_authorities, examine_pair, now_utc, read_file
from pillarbox.config.lines import Path as KeyPath
from pillarbox.config.model import FileTable
from pillarbox.doctor.report import Finding, Severity
from pillarbox.smtp.syntax import parse_mailbox
from pillarbox.submission.settings import SiteSettings

Broken = Iterator[tuple[KeyPath, str]]


def check_acme(tables: FileTable) -> Broken:
    """Every rule about who issues a site's certificate that is broken."""
    wanting = [number for number, site in enumerate(tables.site) if site.certificate == ACME]
    for number, site in enumerate(tables.site):
        if (site.certificate == ACME) != (site.key is None):
            yield ("site", number, "key"), _about_key(site.certificate)
        elif site.certificate == ACME and "." not in site.name:
            yield ("site", number, "name"), f'found "{site.name}"; an ACME authority issues for a full name only'
    if wanting and tables.acme is None:
        yield (
            ("site", wanting[0], "certificate"),
            f'found "{ACME}" without [acme]; expected that table, with agree_to_terms = true',
        )
    elif wanting and tables.acme is not None and not tables.acme.agree_to_terms:
        yield (
            ("acme", "agree_to_terms"),
            f"expected true: read the terms of service of {tables.acme.directory}, nobody else can agree to them",
        )
    if tables.acme is not None:
        yield from _table(tables, tables.acme)


def _about_key(certificate: str) -> str:
    if certificate == ACME:
        return f'found beside certificate = "{ACME}"; expected none: it is made and renewed with the certificate'
    return (
        "missing: The certificate's private key, PEM, not encrypted. A site has both, for TLS: "
        "nobody is made to sign in in clear text"
    )


def _table(tables: FileTable, acme: AcmeTable) -> Broken:
    url = urlsplit(acme.directory)
    if url.scheme != "https" or not url.hostname:
        yield ("acme", "directory"), f'found "{acme.directory}"; expected a URL that begins with https://'
    if acme.email is not None and not _is_address(acme.email):
        yield ("acme", "email"), f'found "{acme.email}"; expected a mail address such as "postmaster@example.org"'
    if acme.hook and "listen" in acme.model_fields_set:
        yield ("acme", "listen"), "found beside hook; expected one of the two: with dns-01 nothing listens"
    if (acme.external_account is None) != (acme.external_key_file is None):
        there, lacking = ("external_key_file", "external_account")[:: 1 if acme.external_key_file else -1]
        yield ("acme", there), f"found without {lacking}; expected both or neither"
    taken = {address for site in tables.site for address in (*site.submission, *site.submissions)}
    for place, address in enumerate(acme.listen):
        if address in taken:
            yield ("acme", "listen", place), f'found "{address}", where a site listens; expected another port'


def _is_address(text: str) -> bool:
    try:
        return parse_mailbox(text) is not None and "@" in text
    except ValueError:
        return False


def examine_issued(subject: str, site: SiteSettings) -> list[Finding]:
    """What is to be said of a site's certificate from an authority: there may be none yet."""
    try:
        there = site.certificate.exists()
    except PermissionError:  # its folder is the server's user's alone
        return [Finding(Severity.NOTE, subject, f"who we are may not look at {site.certificate}")]
    if there:
        return examine_pair(subject, site.certificate, site.key, now_utc(), site.name, renews=True)
    message = "there is no certificate yet: TLS handshakes for it fail until the authority has issued one"
    return [Finding(Severity.NOTE, subject, message, "`pillarbox status` says what it waits for")]


def examine_acme(acme: AcmeSettings | None) -> list[Finding]:
    """What is to be said of the machine: the library, the hook, the authority's CA."""
    if acme is None:
        return []
    found: list[Finding] = []
    missing = missing_library()
    if missing is not None:
        why, _, advice = missing.partition("; ")
        found.append(Finding(Severity.ERROR, "acme", why, advice, blocks=True))
    if acme.hook and shutil.which(acme.hook[0]) is None:
        found.append(
            Finding(Severity.ERROR, "acme", f"hook: there is no program {acme.hook[0]}", "give its whole path")
        )
    if acme.external_key_file is not None:
        read_file("acme", "external_key_file", acme.external_key_file, found, "write the account's key into it")
    if acme.authority is not None:
        found += examine_authorities("acme", acme.authority)
    return found
