"""Whatever a token, a key or an answer says: it is taken or refused, and nothing else happens."""

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pillarbox.directory.document import read_object
from pillarbox.directory.oauth.claims import judge
from pillarbox.directory.oauth.settings import CheckBy, OauthSettings
from pillarbox.directory.token import TokenRefused, read_header, read_jwk

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner))
NAMES = st.sampled_from(
    ["iss", "aud", "sub", "exp", "nbf", "scope", "scp", "tid", "email", "email_verified", "typ", "cnf", "list"]
)
GOOD = {"iss": "https://id", "aud": "us", "sub": "anna", "exp": 2_000, "scope": "smtp", "email": "anna@example.org"}


@given(st.dictionaries(NAMES, JSON | st.sampled_from(list(GOOD.values()))), st.sampled_from(CheckBy))
def test_claims_are_judged(changed: dict[str, Any], how: CheckBy) -> None:
    settings = OauthSettings(
        name="corp",
        issuer="https://id",
        audiences=("us",),
        scopes=("smtp",),
        address_claims=("email", "list"),
        check_by=how,
    )
    try:
        said = judge({**GOOD, **changed}, settings, 1_000.0)
    except TokenRefused as refused:
        assert refused.expired is (str(refused) == "expiry")
    else:
        assert said.login.strip() and len(said.login.encode()) <= 255
        assert said.login.isprintable()
        assert all("@" in address and address == address.lower() for address in said.addresses)


@given(st.text(max_size=100) | st.builds(lambda a, b, c: f"{a}.{b}.{c}", *[st.text("aA0-_=é", max_size=20)] * 3))
def test_a_header_is_read_or_malformed(token: str) -> None:
    with contextlib.suppress(TokenRefused):
        header = read_header(token)
        assert len(header.kid) <= 512 and token.count(".") == 2


@given(st.fixed_dictionaries(
    {"kty": st.sampled_from(["RSA", "EC", "OKP", "oct"]) | JSON},
    optional={name: JSON | st.sampled_from(["sig", "AQAB", "P-256", "Ed25519", "A" * 43, "A" * 342])
              for name in ("kid", "use", "key_ops", "alg", "n", "e", "crv", "x", "y", "d", "k")},
))  # fmt: skip
def test_a_key_is_read_or_is_none(jwk: dict[str, Any]) -> None:
    with contextlib.suppress(ValueError):
        assert read_jwk(jwk).algorithms.isdisjoint({"HS256", "HS384", "HS512", "none"})


@given(st.binary(max_size=200) | JSON.map(lambda found: json.dumps(found).encode()))
def test_a_document_is_an_object_or_none(octets: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(read_object(octets), dict)
