"""certificate.py: what of a certificate an account may name."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from pillarbox.directory.certificate import check_mark, fingerprint_mark, read_certificate

KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(names: list[str], emails: list[str]) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([]))
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    if emails:
        names_of_it = x509.SubjectAlternativeName([*map(x509.RFC822Name, emails), x509.DNSName("example.org")])
        builder = builder.add_extension(names_of_it, critical=False)
    return builder.sign(KEY, hashes.SHA256())


def test_marks_are_the_fingerprint_then_the_addresses_then_the_common_name() -> None:
    made = certificate(["Anna"], ["Anna@Example.org", "anna@example.org", "b@example.org"])
    fingerprint = made.fingerprint(hashes.SHA256()).hex()
    marks = (f"sha256:{fingerprint}", "email:anna@example.org", "email:b@example.org", "cn:Anna")
    assert read_certificate(made.public_bytes(Encoding.DER)).marks == marks
    assert fingerprint_mark(made.public_bytes(Encoding.PEM)) == marks[0]


@pytest.mark.parametrize("names", [[], ["Anna", "Bob"]])
def test_no_common_name_or_several_are_none(names: list[str]) -> None:
    marks = read_certificate(certificate(names, []).public_bytes(Encoding.DER)).marks
    assert [mark[:7] for mark in marks] == ["sha256:"]


def test_what_is_no_certificate_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"certificate|PEM|parsing"):
        read_certificate(b"0")
    with pytest.raises(ValueError, match=r"certificate|PEM|parsing"):
        fingerprint_mark(b"nothing")


@pytest.mark.parametrize(
    ("mark", "stored"),
    [
        ("SHA256: " + ":".join(["AB"] * 32), "sha256:" + "ab" * 32),
        ("email:Anna@Example.org", "email:anna@example.org"),
        ("cn:Anna A. User", "cn:Anna A. User"),
    ],
)
def test_a_mark_is_stored_in_one_spelling(mark: str, stored: str) -> None:
    assert check_mark(mark) == stored


@pytest.mark.parametrize(
    "mark", ["", "cn", "cn:", "cn: ", "sha256:ab", "email:anna", "dn:x", "cn:a\nb", "cn:" + "x" * 400]
)
def test_what_is_no_mark_is_refused_with_what_is_expected(mark: str) -> None:
    with pytest.raises(ValueError, match="expected sha256:FINGERPRINT, email:ADDRESS or cn:NAME"):
        check_mark(mark)


UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")


def with_others(*values: bytes) -> bytes:
    """A certificate with these user principal names, in DER each."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Anna")])
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(x509.Name([])).public_key(KEY.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    others = x509.SubjectAlternativeName([x509.OtherName(UPN, value) for value in values])
    return builder.add_extension(others, critical=False).sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def utf8(text: str) -> bytes:
    octets = text.encode()
    return (b"\x0c" if len(octets) < 128 else b"\x0c\x81") + bytes([len(octets)]) + octets


@pytest.mark.parametrize(
    ("values", "login"),
    [
        ([utf8("anna@corp.example")], "anna@corp.example"),
        ([utf8("a" * 200)], "a" * 200),
        ([utf8("anna@corp.example"), utf8("bob@corp.example")], None),
        ([utf8("anna@corp.example"), b"\x02\x01\x05"], None),
        ([b"\x02\x01\x05"], None),
        ([utf8("anna\0@corp.example")], None),
        ([utf8("anna\r\n@corp.example")], None),
        ([utf8("")], None),
    ],
)
def test_a_user_principal_name_is_a_login_where_there_is_one(values: list[bytes], login: str | None) -> None:
    assert read_certificate(with_others(*values)).login_by("san-upn") == login


@pytest.mark.parametrize(
    ("names", "emails", "by_address", "by_name"),
    [
        (["Anna"], ["Anna@Example.org"], "anna@example.org", "Anna"),
        (["Anna"], ["anna@example.org", "Anna@Example.org"], "anna@example.org", "Anna"),
        (["Anna", "Bob"], ["anna@example.org", "bob@example.org"], None, None),
        (["Anna\0.evil"], ["anna\0@example.org"], None, None),
        ([], [], None, None),
    ],
)
def test_a_rule_finds_one_login_or_none(
    names: list[str], emails: list[str], by_address: str | None, by_name: str | None
) -> None:
    read = read_certificate(certificate(names, emails).public_bytes(Encoding.DER))
    assert (read.login_by("san-email"), read.login_by("subject-cn")) == (by_address, by_name)
