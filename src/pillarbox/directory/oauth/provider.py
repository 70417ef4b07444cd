"""What a provider says: its configuration, its keys, and what it knows of a token. Nothing is remembered here but
the configuration.

    keys = await provider.fetch_keys()
    claims = await provider.ask_about(token, known_place=True)      # None: not good

Questions from places that are not known have a circuit breaker of their own: a token that the provider fails at, made
by whoever would like that, pauses nobody else's questions.

STANDARDS
    OpenID Connect Discovery 4 (the issuer in it must be the one asked for), RFC 7517 5 (sets of keys; what is of no
    use is passed over), RFC 7662 (introspection). Google's tokeninfo, as its documentation has it.

ERRORS
    Unavailable: the provider cannot say, or says what is no answer.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pillarbox.directory.base import Unusable
from pillarbox.directory.document import read_object
from pillarbox.directory.oauth.http import Http, basic
from pillarbox.directory.oauth.settings import CheckBy, OauthSettings, is_asked, is_plain
from pillarbox.directory.servers import NotJudged, ServerFailed, Servers
from pillarbox.directory.token import PublicKey, read_jwk
from pillarbox.directory.upstream import Narrate, silent

KEYS_CEILING = 100
"""Keys of a set."""

CONFIGURATION_AGE = 3_600.0
"""Seconds for which the provider's configuration is not asked for again."""

SECRET_CEILING = 4_096

Answer = TypeVar("Answer")


class Provider:
    """See the module's text. ``clock`` is monotonic."""

    def __init__(
        self, settings: OauthSettings, narrate: Narrate = silent, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises Unusable: the CA or the client's secret."""
        self._settings = settings
        self._narrate = narrate
        self._clock = clock
        self._authorization = _authorization(settings)
        # strangers never have more than half of the connections, and one at least: see directory.py
        self._http = Http(ca=settings.ca, timeout=settings.timeout, connections=max(2, settings.connections))
        self._plain = is_plain(settings.issuer)
        host = urlsplit(settings.issuer).netloc
        self._servers = {
            known_place: Servers((name,), settings.timeout, directory=settings.name, clock=clock)
            for known_place, name in ((True, host), (False, f"{host} for unknown places"))
        }
        self._configuration: dict[str, Any] = {}
        self._configured_at = float("-inf")

    async def fetch_keys(self) -> tuple[PublicKey, ...]:
        """Those that sign tokens. Raises Unavailable."""
        return await self._ask(self._fetch_keys, known_place=True)

    async def ask_about(self, token: str, *, known_place: bool) -> dict[str, Any] | None:
        """What the token says; None: it is none, or not good any more. Raises Unavailable."""
        if self._settings.check_by is CheckBy.TOKENINFO:
            return await self._ask(lambda: self._tokeninfo(token), known_place=known_place)
        return await self._ask(lambda: self._introspect(token), known_place=known_place)

    def close(self) -> None:
        """Ends its connections."""
        self._http.close()

    async def _ask(self, work: Callable[[], Awaitable[Answer]], *, known_place: bool) -> Answer:
        return await self._servers[known_place].ask(lambda _: work())

    # -- keys

    async def _fetch_keys(self) -> tuple[PublicKey, ...]:
        url = self._settings.keys_url or await self._endpoint("jwks_uri")
        found = (await self._document(url)).get("keys")
        if not isinstance(found, list):
            raise ServerFailed(f"{url}: no set of keys")
        keys = []
        for jwk in found[:KEYS_CEILING]:
            try:
                keys.append(read_jwk(jwk if isinstance(jwk, dict) else {}))
            except ValueError as error:
                self._narrate(f"{url}: a key is passed over: {error}")
            await asyncio.sleep(0)  # other sessions' turn: reading a key costs something
        if not keys:
            raise ServerFailed(f"{url}: no key that could be used")
        self._narrate(f"{url}: {len(keys)} keys")
        return tuple(keys)

    async def _document(self, url: str) -> dict[str, Any]:
        status, octets = await self._http.ask(url)
        self._narrate(f"GET {url}: {status}, {len(octets)} octets")
        if status != 200:
            raise ServerFailed(f"{url}: status {status}")
        return _read(url, octets)

    async def _endpoint(self, name: str) -> str:
        """A URL that the provider's configuration names; when that cannot be had, as it was."""
        now = self._clock()
        if name not in self._configuration or now - self._configured_at >= CONFIGURATION_AGE:
            try:
                self._configuration = await self._fetch_configuration()
                self._configured_at = now
            except ServerFailed:
                if name not in self._configuration:
                    raise
        url = self._configuration.get(name)
        if not isinstance(url, str) or not is_asked(url, plain=self._plain):
            raise ServerFailed(f"{self._settings.configuration_url}: no {name} that could be asked")
        return url

    async def _fetch_configuration(self) -> dict[str, Any]:
        url = self._settings.configuration_url
        found = await self._document(url)
        if found.get("issuer") != self._settings.issuer:
            raise ServerFailed(f"{url}: another issuer than {self._settings.issuer}")
        return {name: found.get(name) for name in ("jwks_uri", "introspection_endpoint")}

    # -- tokens that it is asked about

    async def _introspect(self, token: str) -> dict[str, Any] | None:
        url = self._settings.introspection_url or await self._endpoint("introspection_endpoint")
        status, octets = await self._post(url, token)
        if status == 401 and self._has_new_secret():
            status, octets = await self._post(url, token)
        if status in (401, 403):
            raise ServerFailed(f"{url}: status {status}: it refuses client_id and client_secret")
        if status == 400:  # about this token, not about the provider: strangers' ones must not make it look broken
            if _error(octets) == "unsupported_token_type":  # one of its own that it cannot look up, such as a JWT
                return None
            raise NotJudged(f"{url}: status {status}")
        if status != 200:
            raise ServerFailed(f"{url}: status {status}")
        claims = _read(url, octets)
        active = claims.get("active")
        if not isinstance(active, bool):
            raise ServerFailed(f"{url}: no answer of RFC 7662")
        return claims if active else None

    async def _post(self, url: str, token: str) -> tuple[int, bytes]:
        form = {"token": token, "token_type_hint": "access_token"}
        status, octets = await self._http.ask(url, form=form, authorization=self._authorization)
        self._narrate(f"POST {url}: {status}, {len(octets)} octets")
        return status, octets

    def _has_new_secret(self) -> bool:
        """Whether the file says another secret by now: a provider that changes it tells no reload of ours."""
        before = self._authorization
        with contextlib.suppress(Unusable):
            self._authorization = _authorization(self._settings)
        return self._authorization != before

    async def _tokeninfo(self, token: str) -> dict[str, Any] | None:
        url = self._settings.introspection_url or ""
        status, octets = await self._http.ask(url, form={"access_token": token})
        self._narrate(f"POST {url}: {status}, {len(octets)} octets")
        if status == 400:
            return None
        if status != 200:
            raise ServerFailed(f"{url}: status {status}")
        claims = _read(url, octets)
        expiry = claims.get("exp")
        if isinstance(expiry, str) and expiry.isascii() and expiry.isdigit() and len(expiry) <= 15:
            claims["exp"] = int(expiry)
        return claims


def _read(url: str, octets: bytes) -> dict[str, Any]:
    try:
        return read_object(octets)
    except ValueError as error:
        raise ServerFailed(f"{url}: {error}") from None


def _error(octets: bytes) -> object:
    """The word for it in an answer of RFC 6749 5.2; None: there is none."""
    try:
        return read_object(octets).get("error")
    except ValueError:
        return None


def _authorization(settings: OauthSettings) -> str:
    if settings.client_id is None or settings.client_secret is None:
        return ""
    return basic(settings.client_id, _read_secret(settings.client_secret))


def _read_secret(path: Path) -> str:
    """The one line of the file. Raises Unusable."""
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise Unusable(f"client_secret {path}: cannot be read: {cause}") from None
    if not secret or len(secret) > SECRET_CEILING or not secret.isprintable():
        raise Unusable(f"client_secret {path}: expected one line with the secret")
    return secret
