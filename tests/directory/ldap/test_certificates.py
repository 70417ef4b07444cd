"""Certificates of the site's own CA for people of a real LDAP server: slapd, with trees as AD's and Domino's are."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from tests.support.slapd import Slapd

from pillarbox.directory.base import Denied, Identity
from pillarbox.directory.chain import Chain, Member
from pillarbox.directory.ldap.backend import LdapBackend
from pillarbox.directory.tries import Tries
from pillarbox.directory.upstream import Upstream

UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")


def certificate(name: str, rule: str) -> bytes:
    """One with this name where the rule looks for it."""
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, name)] if rule == "subject-cn" else []
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder().subject_name(x509.Name(subject)).issuer_name(x509.Name([]))
    builder = builder.public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    octets = name.encode()
    if rule == "san-email":
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.RFC822Name(name)]), critical=False)
    elif rule == "san-upn":
        other = x509.OtherName(UPN, bytes([12, len(octets)]) + octets)
        builder = builder.add_extension(x509.SubjectAlternativeName([other]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


async def shown(slapd: Slapd, preset: str, rule: str, name: str) -> Identity | Denied:
    settings = slapd.settings(preset)
    directory = Upstream(LdapBackend(settings), settings, Tries())
    try:
        return await Chain((Member("corp", directory),), rule).verify_certificate(certificate(name, rule), "")
    finally:
        directory.close()


@pytest.mark.parametrize(
    ("preset", "rule", "name"),
    [
        ("openldap", "san-email", "Anna@example.org"),
        ("openldap", "subject-cn", "anna"),
        ("active-directory", "san-upn", "anna@corp.example"),
        ("domino", "san-email", "anna@example.org"),
    ],
)
async def test_the_directory_says_who_is_named_and_with_which_addresses(
    slapd: Slapd, preset: str, rule: str, name: str
) -> None:
    answer = await shown(slapd, preset, rule, name)
    assert isinstance(answer, Identity)
    assert {"anna@example.org", "a.smith@example.org"} <= answer.addresses


@pytest.mark.parametrize("name", ["*", "anna*", "anna)(uid=*", "nobody", "cn=anna,ou=people", "anna\0"])
async def test_a_name_with_metacharacters_is_nobodys(slapd: Slapd, name: str) -> None:
    answer = await shown(slapd, "openldap", "subject-cn", name)
    assert isinstance(answer, Denied)
