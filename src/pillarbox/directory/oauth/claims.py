"""What a token says, judged: is it for us, now, and whose is it. No I/O.

    said = judge(claims, settings, now)

The same for a signed token and for what the provider answers when it is asked. A signed one must name issuer,
audience and expiry; an answer need not name what the provider has looked at itself (RFC 7662 2.2), but where it does
it must be right. A token that is bound to a key (``cnf``) is no bearer token: whoever shows it has proven nothing.

An address in ``email`` counts unless ``email_verified`` says that nobody has verified it, and so does a login taken
from there. Lists may be in the form of Active Directory's proxyAddresses ("SMTP:anna@example.org").

STANDARDS
    RFC 7519 4.1 (iss, aud, exp, nbf), RFC 9068 2.2, RFC 8693 4.2 (scope; Entra's is scp, and roles for programs), RFC
    7800 3 (cnf), OpenID Connect Core 5.1 (email, email_verified).

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


@dataclass(frozen=True, slots=True)
class Said:
    """Whose a good token is. ``addresses``: lower case. ``expires_at``: seconds since the epoch, without leeway;
    None: it does not say."""

    login: str
    addresses: frozenset[str]
    expires_at: float | None


def judge(claims: Mapping[str, Any], settings: OauthSettings, now: float) -> Said:
    """See the module's text. ``now``: seconds since the epoch. Raises TokenRefused."""
    signed = settings.check_by is CheckBy.KEYS
    _check_issuer(claims, settings, signed=signed)
    _check_audience(claims, settings)
    _check_scope(claims, settings)
    if settings.tenant is not None and claims.get("tid") != settings.tenant:
        raise TokenRefused("tenant")
    if "cnf" in claims:
        raise TokenRefused("bound to a key")
    if any(str(claims.get(name, "")).lower() in _OTHER_TOKENS for name in ("typ", "token_use", "token_type")):
        raise TokenRefused("type")
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
