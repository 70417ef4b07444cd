"""Bearer tokens: signed with a key that we have (JWT), so that nobody needs to be asked. The only importer of jwt.

    verifier = TokenVerifier(load_key(path), issuer=..., audience=..., claim="sub")
    login = verifier.login_of(token)

The key decides the algorithm, never the token: RSA is RS256, an elliptic curve P-256 is ES256, Ed25519 is EdDSA, and
a file that is no PEM is a secret for HS256. So neither ``alg: none`` nor a public key taken for a secret gets in.
Issuer, audience and time of expiry must be there and right.

STANDARDS
    RFC 7519 (JWT), RFC 8725 (its best practices), RFC 9068 2.2 (sub, aud, iss, exp), RFC 8037 (EdDSA).

ERRORS
    KeyUnusable (a ValueError) names the file; TokenRefused says why, for the log, and holds nothing of the token.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

from pillarbox.directory.base import Unusable
from pillarbox.directory.certificate import read_public_key

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
        login = claims[self._claim]
        if not isinstance(login, str) or not login:
            raise TokenRefused(f'claim "{self._claim}"')
        return login


def _cause(error: jwt.InvalidTokenError) -> str:
    if isinstance(error, jwt.MissingRequiredClaimError):
        return _MISSING.get(error.claim, f'no claim "{error.claim}"')
    return next((cause for kind, cause in _CAUSES if isinstance(error, kind)), "malformed")
