"""Looks at a site's certificate and key as files: readable, a pair, in time, for the right name.

STANDARDS
    RFC 5280 (certificates), RFC 9525 (names: subjectAltName only, a wildcard is a whole leftmost label).

ERRORS
    None raised: what is wrong is a Finding. The only importer of cryptography in this room.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from pillarbox.config.eyes import unreadable
from pillarbox.doctor.report import Finding, Severity

SOON = timedelta(days=14)
"""A certificate that ends within this time is warned of."""


def examine_pair(
    subject: str, certificate: Path, key: Path, now: datetime, name: str | None = None, *, renews: bool = False
) -> list[Finding]:
    """What is to be said of a certificate and its key. ``name``: the host name that clients check, if any;
    ``renews``: it is renewed when a third of its lifetime is left, so that half of that is late."""
    found: list[Finding] = []
    advice = "name the file that holds it" if name is None else f"get or make one for {name}"
    chain = _chain(subject, certificate, found, advice)
    private = _private_key(subject, key, found, advice)
    if chain and private is not None and _differ(chain[0], private):
        found.append(
            _blocking(
                subject,
                f"the key {key} does not belong to the certificate {certificate}",
                "give the key that the certificate was made for",
            )
        )
    if chain:
        found.extend(_times(subject, chain[0], certificate, now, renews=renews))
        found.extend(_chain_findings(subject, chain, certificate))
        if name is not None:
            found.extend(_names(subject, chain[0], certificate, name))
    return found


def ends_at(path: Path) -> float | None:
    """When the certificate in this file ends, seconds since the epoch; None when none can be read."""
    chain = _chain("", path, [], "")
    return chain[0].not_valid_after_utc.timestamp() if chain else None


def examine_authorities(subject: str, path: Path) -> list[Finding]:
    """What is to be said of a file of CA certificates."""
    found: list[Finding] = []
    _chain(subject, path, found, "name the file that holds it")
    return found


def _blocking(subject: str, message: str, advice: str = "") -> Finding:
    return Finding(Severity.ERROR, subject, message, advice, blocks=True)


def read_file(subject: str, what: str, path: Path, found: list[Finding], advice: str) -> bytes | None:
    """The file's octets, or None and a finding that says why not; ``advice``: what to do when it is not there."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        found.append(_blocking(subject, f"the {what} {path} does not exist", advice))
    except PermissionError as error:
        why = unreadable(subject, what, path)
        found.append(why or _blocking(subject, f"the {what} {path} cannot be read: {error.strerror}"))
    except OSError as error:
        found.append(_blocking(subject, f"the {what} {path} cannot be read: {error.strerror}"))
    return None


def _chain(subject: str, path: Path, found: list[Finding], advice: str) -> list[x509.Certificate]:
    octets = read_file(subject, "certificate", path, found, advice)
    if octets is None:
        return []
    try:
        return x509.load_pem_x509_certificates(octets)
    except ValueError:
        found.append(
            _blocking(subject, f"{path} holds no certificate in PEM form", "expected -----BEGIN CERTIFICATE-----")
        )
    return []


def _private_key(subject: str, path: Path, found: list[Finding], advice: str) -> PrivateKeyTypes | None:
    octets = read_file(subject, "key", path, found, advice)
    if octets is None:
        return None
    try:
        return load_pem_private_key(octets, password=None)
    except TypeError:
        found.append(
            _blocking(subject, f"the key {path} is encrypted", "nobody is there to type its passphrase: decrypt it")
        )
    except (ValueError, UnsupportedAlgorithm):
        found.append(
            _blocking(subject, f"{path} holds no private key in PEM form", "expected -----BEGIN PRIVATE KEY-----")
        )
    return None


def _differ(leaf: x509.Certificate, key: PrivateKeyTypes) -> bool:
    """Whether the two public keys differ."""
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return leaf.public_key().public_bytes(*form) != key.public_key().public_bytes(*form)


def _times(subject: str, leaf: x509.Certificate, path: Path, now: datetime, *, renews: bool) -> Iterator[Finding]:
    end, start = leaf.not_valid_after_utc, leaf.not_valid_before_utc
    soon = (end - start) / 6 if renews else SOON
    advice = "see what hinders it: pillarbox status" if renews else "renew it, then `pillarbox reload`"
    if now > end:
        yield Finding(
            Severity.ERROR,
            subject,
            f"the certificate {path} expired on {end:%Y-%m-%d}",
            advice,
        )
    elif now < start:
        yield Finding(
            Severity.ERROR,
            subject,
            f"the certificate {path} is valid from {start:%Y-%m-%d %H:%M} UTC only",
            "look at the clock",
        )
    elif end - now < soon:
        left = max((end - now).days, 0)
        yield Finding(
            Severity.WARNING,
            subject,
            f"the certificate {path} expires on {end:%Y-%m-%d}, in {left} days",
            advice,
        )
    else:
        yield Finding(Severity.OK, subject, f"the certificate is valid until {end:%Y-%m-%d}")


def _chain_findings(subject: str, chain: list[x509.Certificate], path: Path) -> Iterator[Finding]:
    leaf = chain[0]
    if leaf.issuer == leaf.subject:
        yield Finding(
            Severity.NOTE,
            subject,
            "the certificate is self-signed: mail programs will ask whether to trust it",
            "get one from a CA before people use it",
        )
    elif len(chain) == 1:
        yield Finding(
            Severity.WARNING,
            subject,
            f"{path} holds no intermediate certificate: some mail programs will not find the way to the CA",
            "append the CA's chain to the file",
        )


def _names(subject: str, leaf: x509.Certificate, path: Path, name: str) -> Iterator[Finding]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.DNSName
        )
    except (x509.ExtensionNotFound, ValueError):
        names = []
    if not any(_matches(pattern.lower(), name) for pattern in names):
        listed = ", ".join(names) or "no name at all"
        yield Finding(
            Severity.WARNING,
            subject,
            f"the certificate {path} is not for {name}: it names {listed}",
            "mail programs will refuse it: get one for the site's name",
        )


def _matches(pattern: str, name: str) -> bool:
    return pattern == name or (pattern.startswith("*.") and name.partition(".")[2] == pattern[2:])


def now_utc() -> datetime:
    """The time that findings are made against."""
    return datetime.now(UTC)
