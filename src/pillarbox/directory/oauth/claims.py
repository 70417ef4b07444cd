"""What a token says, judged: is it for us, now, and whose is it. No I/O.

    said = judge(claims, settings, now, for_access=header.for_access)

The same for a signed token and for what the provider answers when it is asked. A signed one must name issuer,
audience and expiry; an answer need not name what the provider has looked at itself (RFC 7662 2.2), but where it does
it must be right. A token that is bound to a key (``cnf``) is no bearer token: whoever shows it has proven nothing.

An ID token lets nobody in: it says to a program who is there, and every program that people sign in to has such ones
of theirs. A token that says that it is for access is none (``typ``: at+jwt in its header; Bearer in Keycloak's
claims; ``token_use`` in Cognito's). Of the others one with a nonce or a hash of another token is an ID token, and a
signed one must have what only access tokens have: a scope, or the client that it was issued to in one of the ways
that are not an ID token's (Entra ID's azpacr, appid; Okta's cid; client_id).

An address in ``email`` counts unless ``email_verified`` says that nobody has verified it, and so does a login taken
from there. Lists may be in the form of Active Directory's proxyAddresses ("SMTP:anna@example.org").

STANDARDS
    RFC 7519 4.1 (iss, aud, exp, nbf), RFC 9068 2.1 (typ), 2.2, 5 (ID tokens), RFC 8693 4.2 (scope; Entra's is scp,
    and roles for programs), RFC 7800 3 (cnf), OpenID Connect Core 2, 3.1.3.6, 3.3.2.11 (nonce, at_hash, c_hash), 5.1
    (email, email_verified).

ERRORS
    TokenRefused says what is wrong, and holds nothing of the token.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pillarbox.directory.oauth.settings import CheckBy, OauthSettings
from pillarbox.directory.preparation import LOGIN_CEILING, lower, prepare
from pillarbox.directory.token import TokenRefused
from pillarbox.smtp.syntax import parse_mailbox

ADDRESSES_CEILING = 1_000
"""Addresses of one person."""

_OTHER_TOKENS = frozenset(
    {"id", "refresh", "offline", "logout", "id_token", "refresh_token", "dpop", "pop", "mac", "n_a"}
)
"""Not for access, as ``typ`` (Keycloak), ``token_use`` (Cognito, Hydra) or ``token_type`` (RFC 7662) say."""

_ID_MARKS = ("nonce", "at_hash", "c_hash", "s_hash")
"""What ID tokens have. Keycloak before 24 puts a nonce into access tokens, too, which say that they are ones."""

_ACCESS_MARKS = ("scope", "scp", "client_id", "cid", "appid", "azpacr")
"""What access tokens have and ID tokens have not. Roles, groups and azp are in both."""


@dataclass(frozen=True, slots=True)
class Said:
    """Whose a good token is. ``addresses``: lower case. ``expires_at``: seconds since the epoch, without leeway;
    None: it does not say."""

    login: str
    addresses: frozenset[str]
    expires_at: float | None


def judge(claims: Mapping[str, Any], settings: OauthSettings, now: float, *, for_access: bool = False) -> Said:
    """See the module's text. ``now``: seconds since the epoch. ``for_access``: its header says that it is an access
    token. Raises TokenRefused."""
    signed = settings.check_by is CheckBy.KEYS
    _check_issuer(claims, settings, signed=signed)
    _check_audience(claims, settings)
    _check_scope(claims, settings)
    if settings.tenant is not None and claims.get("tid") != settings.tenant:
        raise TokenRefused("tenant")
    if "cnf" in claims:
        raise TokenRefused("bound to a key")
    _check_type(claims, settings, signed=signed, for_access=for_access)
    said = Said(_login(claims, settings), frozenset(_addresses(claims, settings)), _number(claims, "exp"))
    not_before = _number(claims, "nbf")
    if not_before is not None and now < not_before - settings.leeway:
        raise TokenRefused("not valid yet")
    if said.expires_at is None and signed:
        raise TokenRefused("no expiry")
    if said.expires_at is not None and now >= said.expires_at + settings.leeway:
        raise TokenRefused("expiry", expired=True)
    return said


def _check_issuer(claims: Mapping[str, Any], settings: OauthSettings, *, signed: bool) -> None:
    if "iss" not in claims and not signed:
        return
    if claims.get("iss") != settings.issuer:
        raise TokenRefused("issuer" if "iss" in claims else "no issuer")


def _check_audience(claims: Mapping[str, Any], settings: OauthSettings) -> None:
    if not settings.audiences:
        return
    if "aud" not in claims:
        raise TokenRefused("no audience")
    if not any(each in settings.audiences for each in _texts(claims["aud"])):
        raise TokenRefused("audience")


def _check_scope(claims: Mapping[str, Any], settings: OauthSettings) -> None:
    if not settings.scopes:
        return
    granted = {
        word for name in ("scope", "scp", "roles") for text in _texts(claims.get(name)) for word in text.split(" ")
    }
    for scope in settings.scopes:
        if scope not in granted:
            raise TokenRefused(f'scope "{scope}"')


def _check_type(claims: Mapping[str, Any], settings: OauthSettings, *, signed: bool, for_access: bool) -> None:
    """Whether it is for access."""
    if any(str(claims.get(name, "")).lower() in _OTHER_TOKENS for name in ("typ", "token_use", "token_type")):
        raise TokenRefused("type")
    if for_access:
        return
    if settings.require_at_jwt:
        raise TokenRefused("type: not at+jwt")
    if claims.get("typ") == "Bearer" or claims.get("token_use") == "access":
        return
    if any(name in claims for name in _ID_MARKS):
        raise TokenRefused("type: an ID token")
    if signed and not any(name in claims for name in _ACCESS_MARKS):
        raise TokenRefused("type: nothing says that it is an access token")


def _login(claims: Mapping[str, Any], settings: OauthSettings) -> str:
    """The first claim that is there decides."""
    for name in settings.login_claims:
        if name not in claims:
            continue
        found = claims[name]
        try:
            login = prepare(found) if isinstance(found, str) and _is_verified(claims, name) else ""
        except ValueError:
            login = ""
        if not login.strip() or len(login.encode()) > LOGIN_CEILING:
            raise TokenRefused(f'claim "{name}"')
        return login
    raise TokenRefused(f'no claim "{settings.login_claims[0]}"')


def _addresses(claims: Mapping[str, Any], settings: OauthSettings) -> Iterator[str]:
    found = (
        text for name in settings.address_claims if _is_verified(claims, name) for text in _texts(claims.get(name))
    )
    for _, text in zip(range(ADDRESSES_CEILING), found, strict=False):
        address = text[5:] if text[:5].lower() == "smtp:" else text
        try:
            if "@" in address and str(parse_mailbox(address)) == address:
                yield lower(address)
        except ValueError:
            continue


def _is_verified(claims: Mapping[str, Any], name: str) -> bool:
    """Whether nobody says that this claim is only what somebody has typed. Google's tokeninfo says it in words."""
    return name != "email" or claims.get("email_verified", True) in (True, "true")


def _texts(found: Any) -> list[str]:
    """A claim that is a text or a list of such."""
    return [text for text in (found if isinstance(found, list) else [found]) if isinstance(text, str)]


def _number(claims: Mapping[str, Any], name: str) -> float | None:
    """A time. Raises TokenRefused for what is none."""
    if name not in claims:
        return None
    found = claims[name]
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise TokenRefused("malformed")
    try:
        number = float(found)
    except OverflowError:
        raise TokenRefused("malformed") from None
    if not math.isfinite(number):
        raise TokenRefused("malformed")
    return number
