"""Which SASL mechanisms a session is told of: those of its site and listener, less what could not work now.

    offered(site, implicit_tls=True, tls=True, certificate=stream.peer_certificate)

Asked at each EHLO that may offer any: inside TLS, and at a legacy site that takes sign-in without. Mechanisms are
announced before anyone is named, and a client that picks one that its account cannot use gets 535 and may ask for a
new password. So SCRAM-SHA-256 is offered only while every enabled account that may sign in here has a secret, or the
server behind offers it to its people, tokens only where there is something to check them with and inside TLS,
EXTERNAL only to whoever showed a certificate.

STANDARDS
    RFC 4954 3 (AUTH in the EHLO reply), RFC 4422 3.2 (the server offers what it can do), RFC 6750 5.3 (a bearer
    token is for TLS only).

ERRORS
    None.
"""

from collections.abc import Callable, Mapping

from pillarbox.directory.base import CertificateDirectory, RelaysScram, ScramDirectory, TokenDirectory
from pillarbox.submission.site import Site

Condition = Callable[[Site, bytes | None], bool]


def _scram(site: Site, _: bytes | None) -> bool:
    if site.settings.app_passwords == "required":  # its secrets are those of the passwords that do not count here
        return False
    return isinstance(site.directory, ScramDirectory | RelaysScram) and site.directory.offers_scram(site.is_home_of)


def _tokens(site: Site, _: bytes | None) -> bool:
    return isinstance(site.directory, TokenDirectory) and site.directory.offers_tokens


def _certificate(site: Site, certificate: bytes | None) -> bool:
    directory = site.directory
    return certificate is not None and isinstance(directory, CertificateDirectory) and directory.offers_certificates


CONDITIONS: Mapping[str, Condition] = {
    "SCRAM-SHA-256": _scram,
    "OAUTHBEARER": _tokens,
    "XOAUTH2": _tokens,
    "EXTERNAL": _certificate,
}
"""What must hold, by mechanism; the others need nothing."""

TLS_ONLY = frozenset({"OAUTHBEARER", "XOAUTH2"})
"""Not even of a legacy site outside TLS: whoever reads a token is its owner, and at more servers than this one."""


def offered(site: Site, *, implicit_tls: bool, tls: bool, certificate: Callable[[], bytes | None]) -> tuple[str, ...]:
    """The names in the configured order. ``implicit_tls``: of which listener; ``tls``: whether the session is inside
    TLS now. ``certificate`` gives the client's, verified by TLS, in DER; asked only when
    something depends on it."""
    configured = site.settings.mechanisms_of(implicit_tls=implicit_tls)
    if not tls:
        configured = tuple(name for name in configured if name not in TLS_ONLY)
    if CONDITIONS.keys().isdisjoint(configured):
        return configured
    shown = certificate() if "EXTERNAL" in configured else None
    return tuple(name for name in configured if name not in CONDITIONS or CONDITIONS[name](site, shown))
