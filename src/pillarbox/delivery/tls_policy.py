"""How the TLS connection to a smarthost is checked, as a client SSL context and a pin.

Three ways to trust, by what the route says:
    nothing        the system's store, and the certificate must be for ``tls_name`` (or ``host``)
    ca             this CA only, same check of the name
    fingerprint    exactly this certificate (sha256 of its DER). The pin replaces CA and name, so a self-signed
                   certificate works; with ``ca`` beside it both are checked.
``client_certificate`` (and ``client_key``, when it is a file of its own) is shown to the next hop that asks.

What is wanted and not had is never replaced by less: STARTTLS that is not offered, a name that does not match or
a pin that differs defers the message (X.7.4, X.7.5), because somebody on the way who removes STARTTLS must
neither read the mail nor cause bounces.

ERRORS
    TlsSettingsError: a file that cannot be used; ``str()`` names it. PinMismatch: another certificate.
"""

import hashlib
import ssl
from pathlib import Path

from pillarbox.delivery.settings import SmarthostRoute


class TlsSettingsError(Exception):
    """A CA, certificate or key file of the route cannot be used."""


class PinMismatch(Exception):
    """The next hop showed another certificate than the pinned one; ``str()`` has the fingerprint seen."""


def client_context(route: SmarthostRoute) -> ssl.SSLContext:
    """A context that checks what the route wants checked; TLS 1.2 or newer. Raises TlsSettingsError."""
    try:
        context = ssl.create_default_context(cafile=route.ca)
    except (OSError, ssl.SSLError) as error:
        raise TlsSettingsError(f"ca {route.ca}: {_why(error)}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if route.fingerprint is not None and route.ca is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if route.client_certificate is not None:
        _load_certificate(context, route.client_certificate, route.client_key)
    return context


def _load_certificate(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    def refuse_password() -> bytes:
        raise TlsSettingsError(f"client_key {key or certificate}: is encrypted; give a key without a passphrase")

    try:
        context.load_cert_chain(certificate, key, password=refuse_password)
    except (OSError, ssl.SSLError) as error:
        raise TlsSettingsError(f"client_certificate {certificate}: {_why(error)}") from error


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"not usable ({error.reason or 'not PEM'})"
    return error.strerror or type(error).__name__


def server_name(route: SmarthostRoute) -> str:
    """The name that the certificate must be for, also sent as SNI."""
    return route.tls_name or route.host


def check_pin(route: SmarthostRoute, certificate: bytes | None) -> None:
    """Compares the certificate shown (DER) with the route's pin; nothing to do without one. Raises PinMismatch."""
    if route.fingerprint is None:
        return
    wanted = route.fingerprint.replace(":", "").lower()
    seen = hashlib.sha256(certificate or b"").hexdigest()
    if seen != wanted:
        raise PinMismatch(f"the certificate's sha256 fingerprint is {seen}, the route pins {wanted}")
