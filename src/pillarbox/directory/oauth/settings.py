"""What an OAuth directory needs to know; made by config. Times in seconds.

ERRORS
    None.
"""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

from pillarbox.directory.settings import DirectorySettings

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class CheckBy(Enum):
    """How a token is checked."""

    KEYS = "keys"  # a JWT, signed by a key of the provider
    INTROSPECTION = "introspection"  # the provider is asked (RFC 7662)
    TOKENINFO = "tokeninfo"  # the same in Google's way


@dataclass(frozen=True, slots=True, kw_only=True)
class OauthSettings(DirectorySettings):
    """The tokens of one provider, and who they are of.

    ``audiences``: the token must be for one of them; ``scopes``: it must have all of them. ``tenant``: its ``tid``
    must be this. ``require_at_jwt``: a signed one must say in its header that it is an access token (RFC 9068).
    ``login_claims``: the first that is there is the login. ``address_claims``: addresses, or lists of
    them. ``people``: the name of the directory that says who has that login; None: the token says it.
    ``keys_url``, ``introspection_url``: None: as the provider's configuration says. ``client_secret``: a file.
    ``cache``, ``wrong_cache``: how long the provider's yes and no are remembered; ``refresh``: an answer of
    ``people``. ``leeway``: by how much its clock may differ from ours. ``timeout``: of one answer. ``connections``:
    how many at a time. ``ca``: checks the provider's certificate, None: the system's.
    """

    issuer: str
    audiences: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    tenant: str | None = None
    require_at_jwt: bool = False
    login_claims: tuple[str, ...] = ("sub",)
    address_claims: tuple[str, ...] = ("email",)
    people: str | None = None
    check_by: CheckBy = CheckBy.KEYS
    keys_url: str | None = None
    introspection_url: str | None = None
    client_id: str | None = None
    client_secret: Path | None = None
    cache: float = 60.0
    wrong_cache: float = 600.0
    refresh: float = 60.0
    leeway: float = 30.0
    timeout: float = 10.0
    connections: int = 8
    ca: Path | None = None

    @property
    def configuration_url(self) -> str:
        """Where the provider says what else there is (OpenID Connect Discovery 4)."""
        return self.issuer.rstrip("/") + "/.well-known/openid-configuration"


def is_asked(url: str, *, plain: bool) -> bool:
    """Whether a URL may be asked: https, or, with ``plain``, http on this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or parts.username is not None or not url.isascii() or not url.isprintable() or " " in url:
        return False
    return parts.scheme == "https" or (plain and is_plain(url))


def is_plain(url: str) -> bool:
    """Whether it is http on this machine."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname in LOOPBACK
