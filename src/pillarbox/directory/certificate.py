"""What a client's certificate says of its holder; and public keys. The only importer of cryptography in this room.

    certificate = read_certificate(der)      # verified by TLS against the listener's CA, before this
    certificate.marks                        # what an account may name: the surest first

An account names certificates by marks: ``sha256:`` and 64 hexadecimal digits, ``email:`` and an address of the
subject alternative name, ``cn:`` and the subject's common name. Each mark is of one account at most.

    certificate.login_by("san-email")        # whom a rule of the site's names, for people of any directory

STANDARDS
    RFC 5280 4.2.1.6 (subject alternative name), RFC 4422 A (EXTERNAL).

ERRORS
    ValueError: not a certificate; not a mark (for the operator).
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key
from cryptography.x509.oid import NameOID

MARK_CEILING = 320
"""Characters of a mark: an address at its longest."""

SUBJECT_CEILING = 200
"""Characters of a subject in the log."""

LEAST_RSA = 2_048
"""Bits of an RSA key (RFC 7518 3.3)."""

_FINGERPRINT = re.compile("[0-9a-f]{64}")
_UPN = "1.3.6.1.4.1.311.20.2.3"
"""Active Directory's user principal name, an otherName of the subject alternative name."""
_UTF8_STRING = 12
"""Its tag in DER."""


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate as far as signing in goes. ``emails``: lower case. ``common_name``: "" for none or several.
    ``subject``: the whole of it (RFC 4514), for the log. ``principals``: user principal names, as written."""

    fingerprint: str
    emails: tuple[str, ...]
    common_name: str
    subject: str = ""
    principals: tuple[str, ...] = ()

    def login_by(self, rule: str) -> str | None:
        """The one login that a rule finds in it: "san-email", "san-upn" or "subject-cn"; None for none, for several,
        and for what no login could be. Raises ValueError for another rule."""
        match rule:
            case "san-email":
                found: Sequence[str] = self.emails
            case "san-upn":
                found = self.principals
            case "subject-cn":
                found = (self.common_name,) if self.common_name else ()
            case _:
                raise ValueError(f"no rule: {rule!r}")
        if len(found) != 1 or len(found[0]) > MARK_CEILING or not found[0].isprintable():
            return None
        return found[0].strip() or None

    @property
    def marks(self) -> tuple[str, ...]:
        """By what an account may name it, the surest first."""
        marks = [f"sha256:{self.fingerprint}", *(f"email:{email}" for email in self.emails)]
        return (*marks, f"cn:{self.common_name}") if self.common_name else tuple(marks)


def read_certificate(der: bytes) -> ClientCertificate:
    """Raises ValueError."""
    certificate = x509.load_der_x509_certificate(der)
    emails: tuple[str, ...] = ()
    principals: tuple[str, ...] = ()
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        pass
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise ValueError("extensions that cannot be read") from None
    else:
        emails = tuple(dict.fromkeys(email.lower() for email in names.get_values_for_type(x509.RFC822Name)))
        others = names.get_values_for_type(x509.OtherName)
        principals = tuple(_text(other.value) for other in others if other.type_id.dotted_string == _UPN)
    common_names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    common_name = common_names[0] if len(common_names) == 1 else ""
    subject = certificate.subject.rfc4514_string()[:SUBJECT_CEILING]
    return ClientCertificate(hashlib.sha256(der).hexdigest(), emails, common_name, subject, principals)


def _text(der: bytes) -> str:
    """What a UTF8String of fewer than 256 octets says; "" for anything else."""
    head = 3 if der[1:2] == b"\x81" else 2
    if len(der) < head or der[0] != _UTF8_STRING or der[head - 1] != len(der) - head:
        return ""
    return der[head:].decode("utf-8", "replace")


def read_public_key(pem: bytes) -> tuple[str, object]:
    """A public key in PEM, with the one algorithm of JWT (RFC 7518 3.1, RFC 8037) that it is for. Raises ValueError,
    whose text is for the operator."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("expected a public key in PEM (-----BEGIN PUBLIC KEY-----)") from None
    match key:
        case rsa.RSAPublicKey() if key.key_size < LEAST_RSA:
            raise ValueError(f"an RSA key of {key.key_size} bits; expected at least {LEAST_RSA}")
        case rsa.RSAPublicKey():
            return "RS256", key
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, ec.SECP256R1):
            return "ES256", key
        case ed25519.Ed25519PublicKey():
            return "EdDSA", key
    raise ValueError("expected a key of RSA, P-256 or Ed25519")


def fingerprint_mark(pem: bytes) -> str:
    """The mark of the first certificate in a PEM file. Raises ValueError."""
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def check_mark(mark: str) -> str:
    """The mark as it is stored. Raises ValueError, whose text is for the operator."""
    kind, colon, value = mark.partition(":")
    kind, value = kind.strip().lower(), value.strip()
    if colon and value and len(mark) <= MARK_CEILING and value.isprintable():
        digits = value.replace(":", "").lower()
        if kind == "sha256" and _FINGERPRINT.fullmatch(digits):
            return f"sha256:{digits}"
        if kind == "email" and "@" in value:
            return f"email:{value.lower()}"
        if kind == "cn":
            return f"cn:{value}"
    raise ValueError(f"not a mark: {mark!r}; expected sha256:FINGERPRINT, email:ADDRESS or cn:NAME")
