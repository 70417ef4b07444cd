"""TLS contexts for listeners: one certificate, or several picked by the name asked for (SNI).

Versions, ciphers and client-certificate mode belong to the listener, since an SNI switch carries only the
certificate (ssl keeps the rest of the first context).

TLS 1.0 and 1.1 are for listeners of old devices that ask for them: OpenSSL speaks them at its security level 0 only,
and with ciphers that Python's own list leaves out, so all of that context is weaker.

STANDARDS
    RFC 8314 (TLS for submission), RFC 6066 3 (SNI), RFC 8996 (no TLS 1.0 and 1.1, but where asked for).

ERRORS
    CertificateError: a file cannot be read, or key and certificate do not belong together; names the file.

MUST NOT IMPORT sites or other settings of rooms above.
"""

import ssl
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

_OLD_CIPHERS = "DEFAULT:!aNULL:!eNULL:!PSK:!SRP"
_LOWEST_LEVEL = ":@SECLEVEL=0"


class CertificateError(Exception):
    """A certificate or key that cannot be used; ``str()`` names the file and says what to do."""


@dataclass(frozen=True, slots=True)
class ListenerTls:
    """What all certificates of one listener share. ``client_ca`` None: client certificates are not asked for;
    ``client_required``: whoever has none gets no further than the handshake. A ``minimum_version`` below TLS 1.2
    puts the whole context at security level 0."""

    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    ciphers: str | None = None
    client_ca: Path | None = None
    client_required: bool = False


def server_context(certificate: Path, key: Path, shared: ListenerTls) -> ssl.SSLContext:
    """A server's context with one certificate chain (PEM, the server's own first). Raises CertificateError."""
    context = waiting_context(shared)
    _load(context, certificate, key)
    return context


def waiting_context(shared: ListenerTls) -> ssl.SSLContext:
    """A server's context without a certificate: its handshakes fail, but where SNI switches to another one. Raises
    CertificateError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ciphers = _set_versions(context, shared)
    # Each worker has its own ticket keys, so a resumption would mostly fail; without tickets a session costs less.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if ciphers is not None:
        try:
            context.set_ciphers(ciphers)
        except ssl.SSLError as error:
            raise CertificateError(f"tls_ciphers: no cipher of {shared.ciphers!r} is known here") from error
    if shared.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED if shared.client_required else ssl.CERT_OPTIONAL
        try:
            context.load_verify_locations(shared.client_ca)
        except (ssl.SSLError, OSError) as error:
            raise CertificateError(
                f"client_ca {shared.client_ca}: not a readable PEM file of CA certificates"
            ) from error
    return context


def _load(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    for what, path in (("certificate", certificate), ("key", key)):
        try:
            path.open("rb").close()
        except OSError as error:
            raise CertificateError(f"{what} {path}: {_why(error)}") from error
    try:
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None)
        if reason == "KEY_VALUES_MISMATCH":
            raise CertificateError(f"key {key}: it does not belong to the certificate {certificate}") from error
        raise CertificateError(
            f"certificate {certificate}, key {key}: not a PEM certificate chain and its key"
        ) from error


def _why(error: OSError) -> str:
    hint = "; is it readable by the server's user?" if isinstance(error, PermissionError) else ""
    return f"{error.strerror}{hint}"


def _set_versions(context: ssl.SSLContext, shared: ListenerTls) -> str | None:
    """Sets the lowest version; returns the list of ciphers to set, None for Python's own."""
    if shared.minimum_version >= ssl.TLSVersion.TLSv1_2:
        context.minimum_version = shared.minimum_version
        return shared.ciphers
    with warnings.catch_warnings():
        # Python warns of old versions wherever they are named; here they are what was asked for
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = shared.minimum_version
    return (shared.ciphers or _OLD_CIPHERS) + _LOWEST_LEVEL


def switching_context(default: ssl.SSLContext, by_name: Mapping[str, ssl.SSLContext]) -> ssl.SSLContext:
    """``default``, made to switch to the context of the name asked for (lower case); others stay with it."""
    default.sni_callback = _switch(by_name)
    return default


def _switch(by_name: Mapping[str, ssl.SSLContext]) -> Callable[[ssl.SSLObject, str | None, ssl.SSLContext], None]:
    def switch(tls_object: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        chosen = by_name.get(name.lower()) if name else None
        if chosen is not None:
            tls_object.context = chosen

    return switch
