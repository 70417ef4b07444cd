"""Certificates for tests: an authority of our own and what it issues. ECDSA P-256, made in milliseconds."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Issued:
    """PEM files: ``certificate`` (leaf first), its ``key`` (mode 0600), and the ``ca`` that a client should trust."""

    certificate: Path
    key: Path
    ca: Path

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the leaf, lower case hex."""
        leaf = x509.load_pem_x509_certificates(self.certificate.read_bytes())[0]
        return leaf.fingerprint(hashes.SHA256()).hex()


class Authority:
    """Issues certificates into ``directory``; ``ca`` is the file with its own. They last 90 days, and name ``crl`` (a
    URI) as the place of the revocation list when there is one."""

    def __init__(self, directory: Path, name: str = "Test Authority", *, crl: str = "") -> None:
        self.directory = directory
        self._crl = crl
        self.ca = directory / "ca.pem"
        self._issued = 0
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        builder = _builder(self._name, self._name, self._key.public_key(), now - DAY, now + 3650 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(ca=True), critical=True)
        builder = builder.add_extension(self._key_identifier(), critical=False)
        self.ca.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        *names: str,
        not_before: datetime.timedelta = -DAY,
        not_after: datetime.timedelta = 89 * DAY,
        client: bool = False,
    ) -> Issued:
        """A certificate for ``names`` (host names, IP or mail addresses; the first is the common name).

        ``not_before`` and ``not_after`` count from now: ``not_after=-datetime.timedelta(hours=1)`` is an expired one.
        ``client=True`` is one for a client.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        start = min(now + not_before, now + not_after - DAY)
        builder = _builder(subject, self._name, key.public_key(), start, now + not_after)
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general_name(n) for n in names]), critical=False
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(ca=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._key_identifier()), critical=False
        )
        if self._crl:
            place = x509.DistributionPoint([x509.UniformResourceIdentifier(self._crl)], None, None, None)
            builder = builder.add_extension(x509.CRLDistributionPoints([place]), critical=False)
        return self._write(builder.sign(self._key, hashes.SHA256()), key)

    def _key_identifier(self) -> x509.SubjectKeyIdentifier:
        return x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())

    def _write(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Issued:
        self._issued += 1
        issued = Issued(
            self.directory / f"{self._issued}-certificate.pem", self.directory / f"{self._issued}-key.pem", self.ca
        )
        issued.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        issued.key.touch(mode=0o600)
        issued.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return issued


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    start: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _general_name(name: str) -> x509.GeneralName:
    if "@" in name:
        return x509.RFC822Name(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
