"""Bearer tokens: signed with a key that we have (JWT), so that nobody needs to be asked. The only importer of jwt.

    verifier = TokenVerifier(load_key(path), issuer=..., audience=..., claim="sub")
    login = verifier.login_of(token)

The key decides the algorithm, never the token: RSA is RS256, an elliptic curve P-256 is ES256, Ed25519 is EdDSA, and
a file that is no PEM is a secret for HS256. So neither ``alg: none`` nor a public key taken for a secret gets in.
Issuer, audience and time of expiry must be there and right.

    header = read_header(token)                  # keys that others publish (oauth/): which of them, kid says
    key = read_jwk(jwk)                          # never a secret
    claims = key.claims_of(token, header)        # signed by it; what they say is judged elsewhere

A key type admits the algorithms that are for it, and of these the one that the key itself names, if it does. What a
header says of keys elsewhere (jku, x5u, jwk, x5c) is never looked at.

STANDARDS
    RFC 7519 (JWT), RFC 8725 (its best practices), RFC 9068 2.2 (sub, aud, iss, exp), RFC 8037 (EdDSA), RFC 7515 (JWS;
    4.1.11 crit: none is understood), RFC 7517 (JWK), RFC 7518 3.1 (algorithms).

ERRORS
    KeyUnusable (a ValueError) names the file; TokenRefused says why, for the log, and holds nothing of the token.
"""

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from pillarbox.directory.base import Unusable
from pillarbox.directory.certificate import LEAST_RSA, read_public_key
from pillarbox.directory.document import read_object

LEEWAY = 30.0
"""Seconds by which the issuer's clock may differ from ours."""

LEAST_SECRET = 32
"""Octets of a secret for HS256 (RFC 7518 3.2)."""


_CAUSES: tuple[tuple[type[jwt.InvalidTokenError], str], ...] = (
    (jwt.InvalidSignatureError, "signature"),
    (jwt.InvalidAlgorithmError, "algorithm"),
    (jwt.InvalidIssuerError, "issuer"),
    (jwt.InvalidAudienceError, "audience"),
    (jwt.ImmatureSignatureError, "not valid yet"),
)
_MISSING = {"exp": "no expiry", "iss": "no issuer", "aud": "no audience"}


class KeyUnusable(Unusable):
    """The key file cannot be used; ``str()`` names it and says what is expected."""


class TokenRefused(Exception):
    """The token lets nobody in; ``str()`` is what is wrong with it: "issuer", "audience", "signature", "algorithm",
    "expiry", "not valid yet", "no expiry", "no issuer", "no audience", 'no claim "..."', 'claim "..."' (no login in
    it) or "malformed". ``expired``: nothing else is wrong with it."""

    def __init__(self, reason: str, *, expired: bool = False) -> None:
        super().__init__(reason)
        self.expired = expired


@dataclass(frozen=True, slots=True, repr=False)
class TokenKey:
    """A key with the one algorithm that it is for."""

    algorithm: str
    key: Any


def load_key(path: Path) -> TokenKey:
    """The key in a file: a public key in PEM, or a secret. Raises KeyUnusable."""
    try:
        octets = path.read_bytes()
    except OSError as error:
        raise KeyUnusable(f"token_key {path}: cannot be read: {error.strerror}") from None
    if b"-----BEGIN" not in octets:
        secret = octets.strip()
        if len(secret) < LEAST_SECRET:
            raise KeyUnusable(f"token_key {path}: a secret of {len(secret)} octets; expected at least {LEAST_SECRET}")
        return TokenKey("HS256", secret)
    try:
        algorithm, key = read_public_key(octets)
    except ValueError as error:
        raise KeyUnusable(f"token_key {path}: {error}") from None
    return TokenKey(algorithm, key)


class TokenVerifier:
    """See the module's text. ``claim``: what in the token is the login."""

    def __init__(self, key: TokenKey, *, issuer: str, audience: str, claim: str) -> None:
        self._key = key
        self._issuer = issuer
        self._audience = audience
        self._claim = claim

    def login_of(self, token: str) -> str:
        """Whose the token is. Raises TokenRefused."""
        try:
            claims = jwt.decode(
                token,
                self._key.key,
                algorithms=[self._key.algorithm],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY,
                options={"require": ["exp", "iss", "aud", self._claim]},
            )
        except jwt.ExpiredSignatureError:
            raise TokenRefused("expiry", expired=True) from None
        except jwt.InvalidTokenError as error:
            raise TokenRefused(_cause(error)) from None
        except RecursionError:  # of JSON that is nested too deep
            raise TokenRefused("malformed") from None
        login = claims[self._claim]
        if not isinstance(login, str) or not login:
            raise TokenRefused(f'claim "{self._claim}"')
        return login


def _cause(error: jwt.InvalidTokenError) -> str:
    if isinstance(error, jwt.MissingRequiredClaimError):
        return _MISSING.get(error.claim, f'no claim "{error.claim}"')
    return next((cause for kind, cause in _CAUSES if isinstance(error, kind)), "malformed")


# -- keys that others publish

MOST_RSA = 8_192
"""Bits of an RSA key; checking a signature by a longer one costs too much."""

KID_CEILING = 512
"""Characters of a key's id."""

_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_ACCESS = "AT+JWT"
_TYPES = frozenset({"JWT", _ACCESS})
_JWS = re.compile(r"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class TokenHeader:
    """What a token says of its signature, as far as it is looked at. ``kid``: "" for none. ``for_access``: it says
    that it is an access token (RFC 9068 2.1)."""

    algorithm: str
    kid: str
    for_access: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class PublicKey:
    """A key of a provider. ``kid``: "" for none."""

    kid: str
    algorithms: frozenset[str]
    key: Any

    def claims_of(self, token: str, header: TokenHeader) -> dict[str, Any]:
        """What the token says, once this key has signed it. Raises TokenRefused: "algorithm", "signature" or
        "malformed"."""
        if header.algorithm not in self.algorithms:
            raise TokenRefused("algorithm")
        try:
            payload = jwt.api_jws.decode_complete(token, self.key, algorithms=[header.algorithm])["payload"]
            return read_object(payload)
        except jwt.InvalidTokenError as error:
            raise TokenRefused(_cause(error)) from None
        except ValueError:
            raise TokenRefused("malformed") from None


def read_header(token: str) -> TokenHeader:
    """Raises TokenRefused: "malformed" for what is no signed token, "type" for one that is not for access."""
    found = _JWS.fullmatch(token)
    try:
        if found is None:
            raise ValueError("not three parts")
        header = read_object(base64.urlsafe_b64decode(found[1] + "=" * (-len(found[1]) % 4)))
    except ValueError:
        raise TokenRefused("malformed") from None
    algorithm, kid, kind = header.get("alg"), header.get("kid", ""), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or not isinstance(kid, str) or not isinstance(kind, str):
        raise TokenRefused("malformed")
    if len(kid) > KID_CEILING or "crit" in header:
        raise TokenRefused("malformed")
    kind = kind.upper().removeprefix("APPLICATION/")
    if kind not in _TYPES:
        raise TokenRefused("type")
    return TokenHeader(algorithm, kid, for_access=kind == _ACCESS)


def read_jwk(jwk: Mapping[str, Any]) -> PublicKey:
    """A key to check signatures with. Raises ValueError: it is for something else, too weak, or none."""
    kid, use, operations = jwk.get("kid", ""), jwk.get("use", "sig"), jwk.get("key_ops", ["verify"])
    if not isinstance(kid, str) or len(kid) > KID_CEILING:
        raise ValueError("a kid that is none")
    if use != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("not for signatures")
    algorithms, key = _public_key(jwk)
    named = jwk.get("alg")
    if named is not None:
        if not isinstance(named, str) or named not in algorithms:
            raise ValueError("for another algorithm")
        algorithms = frozenset({named})
    return PublicKey(kid, algorithms, key)


def _public_key(jwk: Mapping[str, Any]) -> tuple[frozenset[str], Any]:
    """The algorithms that a key's type admits, and the public key: private parts are not read."""
    match jwk:
        case {"kty": "RSA", "n": str(n), "e": str(e)} if len(n) <= MOST_RSA // 6 + 2 and len(e) <= 6:
            key = _load(RSAAlgorithm.from_jwk, {"kty": "RSA", "n": n, "e": e})
            if not LEAST_RSA <= key.key_size <= MOST_RSA:
                raise ValueError("an RSA key of a length that is not taken")
            return _RSA, key
        case {"kty": "EC", "crv": str(crv), "x": str(x), "y": str(y)} if crv in _CURVES:
            ec = {"kty": "EC", "crv": crv, "x": x, "y": y}
            return frozenset({_CURVES[crv]}), _load(ECAlgorithm.from_jwk, ec)
        case {"kty": "OKP", "crv": "Ed25519", "x": str(x)}:
            return frozenset({"EdDSA"}), _load(OKPAlgorithm.from_jwk, {"kty": "OKP", "crv": "Ed25519", "x": x})
    raise ValueError("of no type that is taken")


def _load(load: Callable[[dict[str, Any]], Any], jwk: dict[str, Any]) -> Any:
    try:
        return load(jwk)
    except (jwt.InvalidKeyError, ValueError, TypeError, OverflowError):
        raise ValueError("malformed") from None
