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

from pillarbox.directory.token import LEEWAY, KeyUnusable, TokenRefused, TokenVerifier, load_key, read_jwk

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
        ({"nbf": time.time() + 86_400}, "not valid yet"), ({"aud": None}, "no audience"),
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


@pytest.mark.parametrize("octets", [b"[" * 6_000, b'{"a":' * 1_200, b"9" * 5_000])
def test_json_that_is_nested_too_deep_is_malformed(tmp_path: Path, octets: bytes) -> None:
    part = base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
    checked = verifier(tmp_path, SECRET.encode())
    good = jwt.encode(claims(), SECRET, algorithm="HS256")
    for token in (f"{part}.{good.partition('.')[2]}", jwt.api_jws.encode(octets, SECRET, algorithm="HS256")):
        with pytest.raises(TokenRefused, match="malformed"):
            checked.login_of(token)


def jwk(key: Any, **more: Any) -> dict[str, Any]:
    """A public key as a provider publishes it."""
    algorithm = {rsa.RSAPrivateKey: "RS256", ec.EllipticCurvePrivateKey: "ES256"}
    name = next((name for kind, name in algorithm.items() if isinstance(key, kind)), "EdDSA")
    made = jwt.get_algorithm_by_name(name).to_jwk(key.public_key(), as_dict=True)
    return {**made, "key_ops": ["verify"], **more}


@pytest.mark.parametrize(("key", "algorithms"), [
    (jwk(RSA), {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}), (jwk(RSA, alg="PS256"), {"PS256"}),
    (jwk(KEYS["ES256"]), {"ES256"}), (jwk(ec.generate_private_key(ec.SECP384R1())), {"ES384"}),
    (jwk(KEYS["EdDSA"], kid="k"), {"EdDSA"}),
])  # fmt: skip
def test_a_published_key_is_for_the_algorithms_of_its_type(key: dict[str, Any], algorithms: set[str]) -> None:
    assert read_jwk(key).algorithms == algorithms


def test_private_parts_of_a_published_key_are_not_read() -> None:
    private = jwt.get_algorithm_by_name("RS256").to_jwk(RSA, as_dict=True)
    assert isinstance(read_jwk({**private, "key_ops": ["sign", "verify"]}).key, rsa.RSAPublicKey)


@pytest.mark.parametrize("key", [
    {}, {"kty": "oct", "k": "c2VjcmV0"}, {"kty": ["RSA"]}, jwk(RSA, use="enc"), jwk(RSA, key_ops=["encrypt"]),
    jwk(RSA, key_ops="verify"), jwk(RSA, alg="HS256"), jwk(RSA, alg="none"), jwk(RSA, alg="ES256"), jwk(RSA, alg=1),
    jwk(RSA, kid="x" * 600), jwk(RSA, kid=1), jwk(RSA, n="AQAB"), jwk(RSA, n="x" * 50_000), jwk(RSA, e="x" * 50),
    jwk(RSA, n="\u00e9"), jwk(RSA, e=""), jwk(rsa.generate_private_key(65537, 1024)),  # noqa: S505  weak on purpose
    jwk(KEYS["ES256"], crv="secp256k1"), jwk(KEYS["ES256"], crv="P-384"), jwk(KEYS["ES256"], x="AAAA"),
    jwk(KEYS["ES256"], x="A" * 43, y="A" * 43), jwk(KEYS["EdDSA"], crv="Ed448"), jwk(KEYS["EdDSA"], x=""),
    jwk(ec.generate_private_key(ec.SECP256K1())),
])  # fmt: skip
def test_a_key_that_is_weak_or_for_something_else_or_none_is_not_taken(key: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^(not for|for another|of no type|an RSA key|malformed|a kid)"):
        read_jwk(key)
