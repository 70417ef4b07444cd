"""token.py: whose a token is, and every way in which one is none."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from pillarbox.directory.token import LEEWAY, KeyUnusable, TokenRefused, TokenVerifier, load_key

SECRET = "a secret of at least thirty-two octets"
RSA = rsa.generate_private_key(65537, 2048)
KEYS: dict[str, Any] = {
    "RS256": RSA,
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def claims(**changed: Any) -> dict[str, Any]:
    made = {"iss": "https://id.example", "aud": "pillarbox", "sub": "anna@example.org", "exp": time.time() + 300}
    return {name: value for name, value in {**made, **changed}.items() if value is not None}


def pem_of(key: Any) -> bytes:
    octets = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert isinstance(octets, bytes)
    return octets


def verifier(folder: Path, octets: bytes, claim: str = "sub") -> TokenVerifier:
    path = folder / "token.key"
    path.write_bytes(octets)
    return TokenVerifier(load_key(path), issuer="https://id.example", audience="pillarbox", claim=claim)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_public_key_checks_the_one_algorithm_that_it_is_for(tmp_path: Path, algorithm: str) -> None:
    key = KEYS[algorithm]
    checked = verifier(tmp_path, pem_of(key))
    assert checked.login_of(jwt.encode(claims(), key, algorithm=algorithm)) == "anna@example.org"
    for other, foreign in KEYS.items():
        if other != algorithm:
            with pytest.raises(TokenRefused, match=r"^algorithm$"):
                checked.login_of(jwt.encode(claims(), foreign, algorithm=other))


def test_a_secret_checks_hs256_and_the_claim_is_the_configured_one(tmp_path: Path) -> None:
    checked = verifier(tmp_path, SECRET.encode() + b"\n", claim="email")
    token = jwt.encode(claims(email="a.user@example.org"), SECRET, algorithm="HS256")
    assert checked.login_of(token) == "a.user@example.org"


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        ({"exp": 1}, "expiry"), ({"exp": None}, "no expiry"), ({"exp": time.time() - LEEWAY - 60}, "expiry"),
        ({"nbf": time.time() + 900}, "not valid yet"), ({"aud": None}, "no audience"),
        ({"aud": "another"}, "audience"), ({"aud": ["another"]}, "audience"),
        ({"iss": None}, "no issuer"), ({"iss": "https://evil.example"}, "issuer"),
        ({"sub": None}, 'no claim "sub"'), ({"sub": ""}, 'claim "sub"'), ({"sub": 7}, "malformed"),
        ({"sub": ["anna@example.org"]}, "malformed"), ({"exp": "soon"}, "malformed"),
    ],
)  # fmt: skip
def test_what_is_missing_or_wrong_is_named_and_only_the_late_are_called_expired(
    tmp_path: Path, changed: dict[str, Any], cause: str
) -> None:
    checked = verifier(tmp_path, SECRET.encode())
    token = jwt.api_jws.encode(json.dumps(claims(**changed)).encode(), SECRET, algorithm="HS256")
    with pytest.raises(TokenRefused) as refused:
        checked.login_of(token)
    assert str(refused.value) == cause
    assert refused.value.expired is (isinstance(changed.get("exp"), int | float))


def unsigned(header: dict[str, Any]) -> str:
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims()))
    return b".".join((*parts, b"")).decode()


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", ""])
def test_a_token_without_signature_is_refused(tmp_path: Path, algorithm: str) -> None:
    for octets in (SECRET.encode(), pem_of(RSA)):
        with pytest.raises(TokenRefused):
            verifier(tmp_path, octets).login_of(unsigned({"alg": algorithm, "typ": "JWT"}))


def test_a_public_key_is_never_taken_for_a_secret(tmp_path: Path) -> None:
    pem = pem_of(RSA)
    header, payload = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "HS256"}, claims())
    )
    signing = jwt.get_algorithm_by_name("HS256")
    signature = base64.urlsafe_b64encode(signing.sign(header + b"." + payload, pem)).rstrip(b"=")
    with pytest.raises(TokenRefused, match=r"^algorithm$"):
        verifier(tmp_path, pem).login_of(b".".join((header, payload, signature)).decode())


def test_a_signature_of_another_key_and_what_is_no_token_are_refused(tmp_path: Path) -> None:
    other = rsa.generate_private_key(65537, 2048)
    checked = verifier(tmp_path, pem_of(RSA))
    for token in (jwt.encode(claims(), other, algorithm="RS256"), "", "a.b.c", "token", "." * 100, "\u00e4.b.c"):
        with pytest.raises(TokenRefused) as refused:
            checked.login_of(token)
        assert not refused.value.expired
        assert str(refused.value) == ("signature" if len(token) > 100 else "malformed")


@pytest.mark.parametrize(
    ("octets", "message"),
    [
        (b"short", "a secret of 5 octets; expected at least 32"),
        (b"-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n", "expected a public key in PEM"),
        (RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "expected a public key in PEM"),
        (pem_of(rsa.generate_private_key(65537, 1024)), "an RSA key of 1024 bits; expected at least 2048"),  # noqa: S505  weak on purpose
        (pem_of(ec.generate_private_key(ec.SECP384R1())), "expected a key of RSA, P-256 or Ed25519"),
        (pem_of(ed448.Ed448PrivateKey.generate()), "expected a key of RSA, P-256 or Ed25519"),
    ],
)
def test_a_key_that_cannot_be_used_names_the_file_and_what_is_expected(
    tmp_path: Path, octets: bytes, message: str
) -> None:
    with pytest.raises(KeyUnusable, match=message) as unusable:
        verifier(tmp_path, octets)
    assert str(tmp_path) in str(unusable.value)


def test_a_key_that_is_not_there_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(KeyUnusable, match=r"none\.pem: cannot be read"):
        load_key(tmp_path / "none.pem")
