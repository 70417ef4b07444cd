"""A site and a worker's services as sessions hold them: made by the composition root, replaced whole on reload.

ERRORS
    net.tls.CertificateError from make_plans: the reload or start is refused.
"""

import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pillarbox.directory.app_passwords import AppPasswords
from pillarbox.directory.base import Directory, Identity
from pillarbox.directory.chain import Member, make_chain
from pillarbox.directory.preparation import login_key
from pillarbox.guard.base import Guard
from pillarbox.net.tls import CertificateError, ListenerTls, server_context, switching_context, waiting_context
from pillarbox.smtp.connection import Limits
from pillarbox.spool.base import Intake
from pillarbox.submission.rights import narrowed
from pillarbox.submission.settings import Address, ClientCertificates, SiteSettings


@dataclass(frozen=True, slots=True)
class Services:
    """What a worker's sessions share. ``now``: seconds since the epoch; ``random``: so many random octets.
    ``app_passwords``: None: there are none."""

    intake: Intake
    guard: Guard
    now: Callable[[], float]
    random: Callable[[int], bytes]
    app_passwords: AppPasswords | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """One site: its settings, who verifies its people, the ceilings of its connections."""

    settings: SiteSettings
    directory: Directory
    limits: Limits

    def is_home_of(self, login: str) -> bool:
        """Whether this login is good at this site: a device's at its legacy site, anybody else's at the others."""
        legacy, foreign = self.settings.legacy, self.settings.foreign_logins
        if legacy is None and not foreign:
            return True
        try:
            key = login_key(login)
        except ValueError:
            return True  # nobody's: the directory says so
        return key not in foreign if legacy is None else key in legacy.logins

    def admits(self, identity: Identity) -> bool:
        """Whether this person may sign in here: of the right kind, and with an address in the site's domains if it
        has some of its own."""
        if not self.is_home_of(identity.login):
            return False
        if not self.settings.domains:
            return True
        here = narrowed(identity, self.settings.domains)
        return bool(here.addresses or here.domains)


@dataclass(frozen=True, slots=True)
class Plan:
    """What one address serves: the default site, and with several sites the others by their TLS context."""

    address: Address
    implicit_tls: bool
    default: Site
    context: ssl.SSLContext
    by_context: Mapping[ssl.SSLContext, Site]

    @property
    def switches(self) -> bool:
        """Whether the certificate depends on the name asked for."""
        return len(self.by_context) > 1

    @property
    def proxied(self) -> bool:
        """Whether some peers are load balancers that must say who is behind them."""
        return bool(self.default.settings.proxy_from)

    @property
    def listener(self) -> str:
        """ "submission" or "submissions" (RFC 8314)."""
        return "submissions" if self.implicit_tls else "submission"


def make_plans(sites: Sequence[SiteSettings], directories: Mapping[str, Member]) -> dict[Address, Plan]:
    """One plan for each address of the sites; reads the certificates. Raises CertificateError."""
    made: dict[tuple[Address, bool], list[Site]] = {}
    for settings in sites:
        directory = make_chain([directories[name] for name in settings.directories], settings.certificate_login)
        site = Site(settings, directory, _limits(settings))
        for implicit, addresses in ((False, settings.submission), (True, settings.submissions)):
            for address in addresses:
                made.setdefault((address, implicit), []).append(site)
    return {address: _plan(address, implicit, here) for (address, implicit), here in made.items()}


def _limits(settings: SiteSettings) -> Limits:
    disabled, legacy = frozenset(settings.disabled_extensions), settings.legacy
    if legacy is not None:  # chunks are counted octets: no line end in them can be another
        disabled |= {"CHUNKING"}
    if "CHUNKING" in disabled:  # what is BINARYMIME comes by BDAT only (RFC 3030 3)
        disabled |= {"BINARYMIME"}
    return Limits(
        text_line=settings.max_text_line,
        content=settings.max_message_size,
        recipients=settings.max_recipients,
        hold=int(settings.max_hold),
        normalise_line_ends=legacy is not None,
        plaintext_sign_in=legacy is not None and legacy.plaintext,
        disabled=disabled,
    )


def _plan(address: Address, implicit: bool, sites: list[Site]) -> Plan:
    contexts = {_context(site.settings): site for site in sites}
    default, *others = contexts
    if others:
        switching_context(default, {site.settings.name.lower(): context for context, site in contexts.items()})
    return Plan(address, implicit, sites[0], default, contexts)


def _context(settings: SiteSettings) -> ssl.SSLContext:
    tls = settings.tls
    ca = tls.client_ca if tls.client_certificates is not ClientCertificates.NONE else None
    required = tls.client_certificates is ClientCertificates.REQUIRED
    shared = ListenerTls(tls.minimum_version, tls.ciphers, ca, required)
    try:
        return server_context(settings.certificate, settings.key, shared)
    except CertificateError:
        if not settings.acme:
            raise
        return waiting_context(shared)  # none yet, or a damaged one, which is replaced
