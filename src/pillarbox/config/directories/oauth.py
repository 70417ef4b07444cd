"""[[directory]] with kind = "oauth": bearer tokens of an OAuth 2.0 or OpenID Connect provider.

ERRORS
    None raised: broken rules are values.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pillarbox.config.directories.table import DirectoryTable
from pillarbox.config.fields import Count, Field, FilePath, Text, Time
from pillarbox.directory.oauth.settings import CheckBy, OauthSettings, is_asked

_OAUTH = OauthSettings(name="", issuer="")


@dataclass(frozen=True, slots=True)
class _Preset:
    """What a provider's tokens look like. ``issuer``: with {tenant} in it, or "": there is one for each site."""

    issuer: str = ""
    login_claims: tuple[str, ...] = _OAUTH.login_claims
    address_claims: tuple[str, ...] = _OAUTH.address_claims
    check_by: CheckBy = CheckBy.KEYS
    introspection_url: str | None = None


_NONE = _Preset()
_PRESETS = {
    # email is what somebody has typed there, and nothing says whether it was verified
    "entra": _Preset(
        "https://login.microsoftonline.com/{tenant}/v2.0",
        ("preferred_username", "upn"),
        ("preferred_username", "upn", "verified_primary_email", "verified_secondary_email"),
    ),
    "google": _Preset(
        "https://accounts.google.com",
        ("email",),
        ("email",),
        CheckBy.TOKENINFO,
        "https://oauth2.googleapis.com/tokeninfo",
    ),
    "keycloak": _Preset("", ("preferred_username",), ("email",)),
}


class OauthTable(DirectoryTable):
    """Tokens of an OAuth 2.0 or OpenID Connect provider (OAUTHBEARER, XOAUTH2). Needs `pip install
    "pillarbox[oauth]"` with the pip of the environment that Pillarbox runs in."""

    kind: Literal["oauth"] = Field(description="oauth: bearer tokens of a provider.")
    preset: Literal["entra", "google", "keycloak"] | None = Field(
        None, description="A provider whose tokens are known; what is said beside it counts more."
    )
    issuer: Text | None = Field(
        None,
        description="Who must have issued them (iss), as its OpenID configuration says it. entra, google: known.",
    )
    tenant: Annotated[str, Field(pattern=r"^[0-9A-Za-z.-]{1,64}$")] | None = Field(
        None, description="Entra: the tenant's id, which the tokens must name too (tid)."
    )
    audience: list[Text] = Field(
        [], max_length=16, description="Whom they must be for (aud): one of these. Without, only by introspection."
    )
    scope: list[Annotated[str, Field(pattern=r"^[!#-\[\]-~]{1,200}$")]] = Field(
        [], max_length=16, description="What they must be good for: all of these. Clients are told to ask for them."
    )
    require_at_jwt: bool = Field(
        False,
        description='A signed token must say in its header that it is an access token (RFC 9068: typ "at+jwt"). '
        "Without: ID tokens are told by what is in them.",
    )
    check_by: Literal["keys", "introspection", "tokeninfo"] | None = Field(
        None,
        description="keys: a JWT, by the provider's keys; introspection: the provider is asked (RFC 7662); "
        "tokeninfo: the same in Google's way. Default: keys; google: tokeninfo.",
    )
    keys_url: Text | None = Field(None, description="Where the keys are. Default: as its OpenID configuration says.")
    introspection_url: Text | None = Field(None, description="Where it is asked. Default: in the same way.")
    client_id: Text | None = Field(None, description="Who we are when we ask it.")
    client_secret: FilePath | None = Field(None, description="A file with our secret there.")
    login_claim: list[Text] = Field(
        [],
        max_length=8,
        description="What is the login: the first of these that a token has. Default: sub; entra: "
        "preferred_username, upn; google: email; keycloak: preferred_username.",
    )
    address_claim: list[Text] = Field(
        [],
        max_length=8,
        description="What are the person's addresses, one or lists. Default: email, unless email_verified says no; "
        "entra: preferred_username, upn, verified_primary_email, verified_secondary_email.",
    )
    people: Text | None = Field(
        None,
        description="The directory that says who has that login: the addresses, and whether they may sign in. "
        "Default: the token says it.",
    )
    cache: Time = Field(_OAUTH.cache, description="How long the provider's yes to a token is remembered (0: not).")
    wrong_cache: Time = Field(_OAUTH.wrong_cache, description="How long its no is remembered (0: not).")
    refresh: Time = Field(_OAUTH.refresh, description="How long what people says is remembered (0: not).")
    leeway: Time = Field(_OAUTH.leeway, description="By how much the provider's clock may differ from ours.")
    timeout: Time = Field(_OAUTH.timeout, description="How long an answer of the provider may take.")
    connections: Count = Field(_OAUTH.connections, description="How many questions a worker asks at a time.")
    ca: FilePath | None = Field(None, description="What its certificate is checked with. Default: the system's CAs.")

    @property
    def has_passwords(self) -> bool:
        """Nobody signs in to it with one."""
        return False

    def lacks_for_scram(self) -> str:
        """Nothing: it takes no part in that."""
        return ""

    def lacks_for_tokens(self) -> str:
        """Nothing."""
        return ""


def build(table: OauthTable, base: Path) -> OauthSettings:
    """Its settings."""
    preset = _preset(table)
    return OauthSettings(
        name=table.name,
        names=tuple(table.names),
        issuer=_issuer(table),
        audiences=tuple(table.audience),
        scopes=tuple(table.scope),
        tenant=table.tenant,
        require_at_jwt=table.require_at_jwt,
        login_claims=tuple(table.login_claim) or preset.login_claims,
        address_claims=tuple(table.address_claim) or preset.address_claims,
        people=table.people,
        check_by=_check_by(table),
        keys_url=table.keys_url,
        introspection_url=table.introspection_url or preset.introspection_url,
        client_id=table.client_id,
        client_secret=None if table.client_secret is None else base / table.client_secret,
        cache=table.cache,
        wrong_cache=table.wrong_cache,
        refresh=table.refresh,
        leeway=table.leeway,
        timeout=table.timeout,
        connections=table.connections,
        ca=None if table.ca is None else base / table.ca,
    )


def _preset(table: OauthTable) -> _Preset:
    return _NONE if table.preset is None else _PRESETS[table.preset]


def _issuer(table: OauthTable) -> str:
    """ "" for none."""
    return table.issuer or _preset(table).issuer.replace("{tenant}", table.tenant or "")


def _check_by(table: OauthTable) -> CheckBy:
    return _preset(table).check_by if table.check_by is None else CheckBy(table.check_by)


def check(table: OauthTable) -> Iterator[tuple[str, str]]:
    """(key, what is broken)."""
    if not _issuer(table):
        yield "issuer", "not found; expected the URL of the provider, as its OpenID configuration has it"
    if table.preset == "entra" and table.tenant is None:
        yield "tenant", "not found beside preset = \"entra\"; expected the tenant's id: others' people would come in"
    if table.preset == "google" and not table.names and table.people is None:
        yield (
            "names",
            'not found beside preset = "google"; expected names = ["*@example.org"], or people: everybody with an '
            "account of Google's would come in",
        )
    for key in ("issuer", "keys_url", "introspection_url"):
        url = getattr(table, key)
        if url is not None and not is_asked(url, plain=True):
            yield key, f'found "{url}"; expected a URL of https, or of http on this machine'
    if table.people == table.name:
        yield "people", "found its own name; expected another directory"
    yield from _check_tokens(table)
    yield from _check_client(table)


def _check_tokens(table: OauthTable) -> Iterator[tuple[str, str]]:
    how = _check_by(table)
    if not table.audience and how is not CheckBy.INTROSPECTION:
        yield "audience", "not found; expected whom the tokens are for: else those for any other service get in"
    if not table.audience and not table.scope and how is CheckBy.INTROSPECTION:
        yield "audience", "found neither audience nor scope; expected one: else tokens for any other service get in"
    if how is CheckBy.KEYS and table.preset == "google":
        yield (
            "check_by",
            'found "keys" beside preset = "google"; its access tokens are not signed: expected "tokeninfo"',
        )
    if table.require_at_jwt and how is not CheckBy.KEYS:
        yield "require_at_jwt", 'found without check_by = "keys"; the provider that is asked knows what it is'
    if how is CheckBy.TOKENINFO and not (table.introspection_url or _preset(table).introspection_url):
        yield "introspection_url", 'not found beside check_by = "tokeninfo"; expected the URL to ask'


def _check_client(table: OauthTable) -> Iterator[tuple[str, str]]:
    asks = _check_by(table) is CheckBy.INTROSPECTION
    for key in ("client_id", "client_secret"):
        if getattr(table, key) is None and asks:
            yield key, 'not found beside check_by = "introspection"; expected who we are when we ask'
        if getattr(table, key) is not None and not asks:
            yield key, 'found without check_by = "introspection"; nobody would be asked with it'
