"""Tokens that somebody made to get in, at the keys of a real provider; and real ones that are not good any more."""

import base64
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.oidc import AUDIENCE, Provider, running_provider

from pillarbox.directory.base import Denied, Identity, Reason
from pillarbox.directory.oauth.directory import OauthDirectory
from pillarbox.directory.oauth.settings import OauthSettings
from pillarbox.sasl.mechanism import TokenCredentials


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with running_provider(tmp_path_factory.mktemp("provider") / "provider") as running:
        yield running


def settings(provider: Provider, **changed: Any) -> OauthSettings:
    made: dict[str, Any] = {
        "name": "corp",
        "issuer": provider.issuer,
        "audiences": (AUDIENCE,),
        "scopes": ("smtp",),
        "timeout": 10.0,
    }
    return OauthSettings(**{**made, **changed})


@pytest.fixture
async def directory(provider: Provider) -> AsyncIterator[OauthDirectory]:
    made = OauthDirectory(settings(provider))
    yield made
    made.close()


def claims(provider: Provider, **changed: Any) -> dict[str, Any]:
    made = {
        "iss": provider.issuer,
        "aud": AUDIENCE,
        "sub": "anna",
        "scope": "smtp",
        "exp": int(time.time()) + 300,
        "email": "anna@example.org",
    }
    return {name: value for name, value in {**made, **changed}.items() if value is not None}


def signed(provider: Provider, payload: bytes | dict[str, Any], **header: Any) -> str:
    """By the provider's own key, whatever is in it."""
    key = jwt.PyJWK(provider.keys[0]).key
    octets = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return jwt.api_jws.encode(octets, key, algorithm="RS256", headers={"kid": "first", "typ": "at+jwt", **header})


def encoded(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


async def cause(directory: OauthDirectory, token: str, login: str = "") -> str:
    """Why it is refused."""
    answer = await directory.verify_token(TokenCredentials(login, token), known_place=True)
    assert isinstance(answer, Denied)
    return answer.details["cause"]


async def test_an_id_token_of_the_provider_lets_nobody_in_where_the_audience_is_the_clients(
    provider: Provider,
) -> None:
    """The mistake that makes it dangerous: the client's id as audience, and no scope asked for."""
    tokens = provider.tokens_of("anna")
    id_token = tokens["id_token"]
    said = jwt.decode(id_token, options={"verify_signature": False})
    assert said["aud"] == "thunderbird" and said["sub"] == "anna"
    asked = OauthDirectory(settings(provider, audiences=("thunderbird",), scopes=()))
    try:
        assert await cause(asked, id_token) == "type: nothing says that it is an access token"
        for mark in ("nonce", "at_hash"):
            marked = signed(provider, {**said, "scope": "openid", mark: "x"}, typ="JWT")
            assert await cause(asked, marked) == "type: an ID token"
        access = signed(provider, said, typ="at+jwt")
        assert isinstance(await asked.verify_token(TokenCredentials("", access), known_place=True), Identity)
    finally:
        asked.close()


async def test_a_token_must_say_that_it_is_for_access_where_that_is_required(provider: Provider) -> None:
    asked = OauthDirectory(settings(provider, require_at_jwt=True))
    try:
        for good in (provider.sign_in("anna"), signed(provider, claims(provider), typ="application/AT+JWT")):
            assert isinstance(await asked.verify_token(TokenCredentials("", good), known_place=True), Identity)
        for typ in ("JWT", None):
            assert await cause(asked, signed(provider, claims(provider), typ=typ)) == "type: not at+jwt"
    finally:
        asked.close()


async def test_a_token_that_the_providers_key_has_signed_gets_in(
    provider: Provider, directory: OauthDirectory
) -> None:
    for token in (signed(provider, claims(provider)), signed(provider, claims(provider, aud=["other", AUDIENCE]))):
        answer = await directory.verify_token(TokenCredentials("anna@example.org", token), known_place=True)
        assert answer == Identity("anna", frozenset({"anna@example.org"}), source="corp")


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
async def test_without_a_signature_none_gets_in(
    algorithm: str, provider: Provider, directory: OauthDirectory
) -> None:
    header = encoded(json.dumps({"alg": algorithm, "kid": "first"}).encode())
    body = encoded(json.dumps(claims(provider)).encode())
    signature = signed(provider, claims(provider)).rpartition(".")[2]
    assert await cause(directory, f"{header}.{body}.") == "malformed"
    assert await cause(directory, f"{header}.{body}.{signature}") == "key"


@pytest.mark.parametrize("form", ["pem", "der", "jwk"])
async def test_a_public_key_is_never_a_secret(form: str, provider: Provider, directory: OauthDirectory) -> None:
    public = jwt.PyJWK(provider.keys[0]).key.public_key()
    secrets = {
        "pem": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "der": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "jwk": json.dumps({name: provider.keys[0][name] for name in ("kty", "n", "e")}).encode(),
    }
    for algorithm in ("HS256", "HS384", "HS512"):
        head = encoded(json.dumps({"alg": algorithm, "kid": "first"}).encode())
        said = f"{head}.{encoded(json.dumps(claims(provider)).encode())}"
        signature = jwt.get_algorithm_by_name(algorithm).sign(said.encode(), secrets[form])
        assert await cause(directory, f"{said}.{encoded(signature)}") == "key"


async def test_a_key_that_the_token_brings_or_names_elsewhere_is_not_looked_at(
    provider: Provider, directory: OauthDirectory
) -> None:
    """And of a known key id only the known key counts."""
    own = rsa.generate_private_key(65537, 2048)
    public = jwt.algorithms.RSAAlgorithm.to_jwk(own.public_key(), as_dict=True)
    for header in (
        {"jku": f"{provider.issuer}/evil", "x5u": f"{provider.issuer}/evil"},
        {"jwk": public},
        {"x5c": ["MIIB"]},
        {"kid": "first"},
    ):
        headers = {"kid": "first", **header}
        token = jwt.encode(claims(provider), own, algorithm="RS256", headers=headers)
        assert await cause(directory, token) == "signature"
    assert provider.requests("GET", "/evil") == 0


async def test_key_ids_that_are_no_key_ids(provider: Provider, directory: OauthDirectory) -> None:
    body = claims(provider)
    for kid in ("x" * 4_000, "../../../etc/passwd", "' OR 1=1 --", "first\0", "\u0000", "FIRST"):
        assert await cause(directory, signed(provider, body, kid=kid)) in ("malformed", "key")
    for odd in (7, ["first"], {"first": 1}, None, True):
        head = encoded(json.dumps({"alg": "RS256", "kid": odd}).encode())
        token = signed(provider, body)
        assert await cause(directory, f"{head}.{token.partition('.')[2]}") == "malformed"


async def test_headers_that_want_something_that_is_not_done(provider: Provider, directory: OauthDirectory) -> None:
    body = claims(provider)
    wishes: tuple[dict[str, Any], ...] = ({"crit": ["exp"]}, {"crit": []}, {"b64": False, "crit": ["b64"]})
    for header in wishes:
        head = encoded(json.dumps({"alg": "RS256", "kid": "first", **header}).encode())
        assert await cause(directory, f"{head}.{signed(provider, body).partition('.')[2]}") == "malformed"
    for kind in ("dpop+jwt", "logout+jwt", "secevent+jwt", "application/dpop+jwt"):
        assert await cause(directory, signed(provider, body, typ=kind)) == "type"


@pytest.mark.parametrize("octets", [
    b"[" * 6_000, b'{"a":' * 1_200, b"{" + b'"exp":' + b"9" * 5_500 + b"}", b"NaN", b'{"exp": NaN}', b'"text"', b"[]",
    b"", b"\xff\xfe{\x00}\x00", b'{"sub": "\\ud800"', b'{"sub":"anna","sub":"bob"}', b"1" * 5_000,
])  # fmt: skip
async def test_json_that_is_a_bomb_or_no_claims(octets: bytes, provider: Provider, directory: OauthDirectory) -> None:
    assert await cause(directory, signed(provider, octets)) == "malformed"
    rest = signed(provider, claims(provider)).partition(".")[2]
    assert await cause(directory, f"{encoded(octets)}.{rest}") == "malformed"


async def test_a_claim_twice_is_refused_whatever_it_says(provider: Provider, directory: OauthDirectory) -> None:
    good = json.dumps(claims(provider)).encode()
    for more in (b', "sub": "bob"}', b', "aud": "smtp.example.org"}', b', "a": {"b": 1, "b": 1}}'):
        assert await cause(directory, signed(provider, good[:-1] + more)) == "malformed"
    head = b'{"alg":"RS256","kid":"first","alg":"RS256"}'
    assert await cause(directory, f"{encoded(head)}.{signed(provider, good).partition('.')[2]}") == "malformed"


@pytest.mark.parametrize("token", [
    "", ".", "..", "a.b", "a.b.c.d.e", "a.b.c", "." * 8_000, "e30.e30.e30", "\u00e9.b.c", "a.b.c\n", " a.b.c",
    "a.b.c=", "eyJhbGciOiJSUzI1NiJ9.." , "x" * 8_192,
])  # fmt: skip
async def test_what_is_no_token(token: str, directory: OauthDirectory) -> None:
    assert await cause(directory, token) == "malformed"


@pytest.mark.parametrize(("changed", "expected"), [
    ({"exp": int(time.time()) - 300}, "expiry"), ({"exp": None}, "no expiry"), ({"exp": "soon"}, "malformed"),
    ({"exp": True}, "malformed"), ({"exp": 10**400}, "malformed"), ({"exp": [1]}, "malformed"),
    ({"nbf": int(time.time()) + 86_400}, "not valid yet"), ({"nbf": "x"}, "malformed"),
    ({"iss": None}, "no issuer"), ({"iss": "https://evil.example"}, "issuer"), ({"iss": ["x"]}, "issuer"),
    ({"aud": None}, "no audience"), ({"aud": "smtp.example.org.evil.example"}, "audience"), ({"aud": {}}, "audience"),
    ({"aud": [["smtp.example.org"]]}, "audience"), ({"scope": None}, 'scope "smtp"'),
    ({"scope": "smtpx"}, 'scope "smtp"'),
    ({"scope": "read  SMTP"}, 'scope "smtp"'), ({"scope": 7}, 'scope "smtp"'),
    ({"sub": None}, 'no claim "sub"'), ({"sub": ""}, 'claim "sub"'), ({"sub": "  "}, 'claim "sub"'),
    ({"sub": ["anna"]}, 'claim "sub"'), ({"sub": "anna\r\nMAIL FROM:<>"}, 'claim "sub"'),
    ({"sub": "a\0"}, 'claim "sub"'),
    ({"sub": "x" * 300}, 'claim "sub"'), ({"cnf": {"jkt": "x"}}, "bound to a key"), ({"typ": "Refresh"}, "type"),
    ({"typ": "ID"}, "type"), ({"token_use": "id"}, "type"), ({"token_type": "DPoP"}, "type"),
])  # fmt: skip
async def test_claims_of_a_signed_token_that_are_not_right(
    changed: dict[str, Any], expected: str, provider: Provider, directory: OauthDirectory
) -> None:
    token = signed(provider, claims(provider, **changed))
    answer = await directory.verify_token(TokenCredentials("", token), known_place=True)
    assert isinstance(answer, Denied) and answer.details["cause"] == expected
    assert answer.reason is (Reason.EXPIRED if expected == "expiry" else Reason.WRONG)


async def test_the_tenant_must_be_the_one(provider: Provider) -> None:
    directory = OauthDirectory(settings(provider, tenant="0f1e2d3c"))
    assert await cause(directory, signed(provider, claims(provider))) == "tenant"
    assert await cause(directory, signed(provider, claims(provider, tid="other"))) == "tenant"
    said = signed(provider, claims(provider, tid="0f1e2d3c"))
    assert isinstance(await directory.verify_token(TokenCredentials("", said), known_place=True), Identity)
    directory.close()


async def test_a_real_token_that_has_expired_is_refused_as_expired(provider: Provider) -> None:
    later = OauthDirectory(settings(provider), now=lambda: time.time() + 3_700)
    answer = await later.verify_token(TokenCredentials("", provider.token_for("scanner", "jwt")), known_place=True)
    assert answer == Denied(Reason.EXPIRED)
    later.close()


@pytest.mark.parametrize("name", [
    "bob", "anna\0", "anna,", "ANNA@evil.example", "b@example.org", "\u202eanna", "a" * 10_000, "*",
    "anna@example.org@",
])  # fmt: skip
async def test_the_name_beside_the_token_must_be_its_own(
    name: str, provider: Provider, directory: OauthDirectory
) -> None:
    assert await cause(directory, signed(provider, claims(provider)), name) == "the token of anna"


@pytest.mark.parametrize("name", ["", "anna", "ANNA", "Anna@Example.org"])
async def test_the_name_may_be_the_login_or_an_address_in_any_case(
    name: str, provider: Provider, directory: OauthDirectory
) -> None:
    answer = await directory.verify_token(
        TokenCredentials(name, signed(provider, claims(provider))), known_place=True
    )
    assert isinstance(answer, Identity)
