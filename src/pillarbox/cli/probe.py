"""From the configuration to a walk of the next hop: the route that names it gives TLS, secret and source address."""

import re
import ssl

from pillarbox.cli.framework import UsageError
from pillarbox.config import Settings
from pillarbox.config.values import parse_endpoint
from pillarbox.delivery.secrets import Secrets, SecretUnavailable
from pillarbox.delivery.settings import SmarthostRoute
from pillarbox.delivery.tls_policy import TlsSettingsError, client_context, server_name
from pillarbox.doctor.relay import Probe, SignIn
from pillarbox.doctor.report import Finding, Severity
from pillarbox.smtp.path import Mailbox

_TRANSFER, _SUBMISSIONS = 25, 465
_ADDRESS = re.compile(r"([^\s<>@\x00-\x1f\"]+)@([^\s<>@\x00-\x1f\"]+)")


async def make_probe(
    settings: Settings, relay: str, sender: str | None, recipient: str | None
) -> tuple[Probe, list[Finding]]:
    """The walk, and what was found while preparing it. Raises UsageError."""
    try:
        host, port = parse_endpoint(relay, 0) if ":" in relay.strip("[]") else (parse_endpoint(relay, 1)[0], 0)
    except ValueError as error:
        raise UsageError(f'found "{relay}"; {error}', param_hint="--relay") from None
    route = _route(settings, host, port)
    site = settings.sites[0]
    domain = site.name.partition(".")[2] if site.name.count(".") > 1 else site.name
    from_ = _mailbox(sender, "--sender") if sender else Mailbox("postmaster", domain)
    to = _mailbox(recipient, "--recipient") if recipient else Mailbox("postmaster", "example.com")
    size = max(each.max_message_size for each in settings.sites)
    if route is None:
        port = port or _TRANSFER
        note = Finding(
            Severity.NOTE, f"{host} route", "no route names this next hop: TLS where it is offered, no sign-in"
        )
        tls = "tls" if port == _SUBMISSIONS else "auto"
        hello = settings.delivery.host
        return Probe(host, port, hello, from_, to, tls=tls, max_message_size=size), [note]
    findings: list[Finding] = []
    probe = Probe(
        host=route.host,
        port=route.port,
        hello=settings.delivery.host,
        sender=from_,
        recipient=to,
        tls=route.tls.value,
        context=lambda: _context(route, findings),
        tls_name=server_name(route),
        fingerprint=route.fingerprint,
        sign_in=await _sign_in(route, findings),
        source_address=route.source_address,
        max_message_size=size,
        assume_8bitmime=route.assume_8bitmime,
    )
    _try_context(route, findings)
    return probe, findings


def _route(settings: Settings, host: str, port: int) -> SmarthostRoute | None:
    for route in settings.delivery.routes:
        if isinstance(route, SmarthostRoute) and route.host == host and port in (0, route.port):
            return route
    return None


def _mailbox(address: str, flag: str) -> Mailbox:
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise UsageError(f'found "{address}"; expected an address such as person@example.org', param_hint=flag)
    return Mailbox(found.group(1), found.group(2))


def _try_context(route: SmarthostRoute, findings: list[Finding]) -> None:
    if route.tls.value != "none":
        _context(route, findings)


def _context(route: SmarthostRoute, findings: list[Finding]) -> ssl.SSLContext:
    try:
        return client_context(route)
    except TlsSettingsError as error:
        finding = Finding(
            Severity.ERROR, f"{route.host} TLS", str(error), "put that file right; the system's CAs are used"
        )
        if finding not in findings:
            findings.append(finding)
        return ssl.create_default_context()


async def _sign_in(route: SmarthostRoute, findings: list[Finding]) -> SignIn | None:
    if route.auth is None:
        return None
    try:
        secret = await Secrets().get(route.auth)
    except SecretUnavailable as error:
        findings.append(Finding(Severity.ERROR, f"{route.host} AUTH", f"no secret to sign in with: {error}"))
        return None
    return SignIn(route.auth.mechanism, route.auth.user, secret)
