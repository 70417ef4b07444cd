"""Asks a provider over HTTPS: short answers, no redirects, no cookies. The only importer of aiohttp in this room.

    http = Http(ca=None, timeout=10.0, connections=8)
    status, octets = await http.ask(url)                                 # GET
    status, octets = await http.ask(url, form={...}, authorization=...)  # POST

The certificate is checked, and nothing is asked outside TLS, except on this machine (settings.is_asked). Proxies that
the environment names are not used. An answer in a coding (gzip) is neither asked for nor understood: it could be a
bomb. All that is asked may be asked twice, for a connection that was kept may end as it is taken.

STANDARDS
    RFC 9110 (HTTP), RFC 8414 2 (URLs of https only).

ERRORS
    ServerFailed: no whole answer; says why, and nothing of what was sent. Unusable: the CA's file cannot be used.
"""

import asyncio
import base64
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote_plus, urlsplit

import aiohttp

from pillarbox.directory.base import Unusable
from pillarbox.directory.servers import ServerFailed

ANSWER_CEILING = 256 * 1024
"""Octets of an answer."""

_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "pillarbox"}


def basic(client_id: str, secret: str) -> str:
    """The Authorization of a client (RFC 6749 2.3.1: both are encoded first)."""
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


class Http:
    """See the module's text. Connects when it is asked, in the loop that asks."""

    def __init__(self, *, ca: Path | None, timeout: float, connections: int) -> None:
        """Raises Unusable."""
        self._context = _context(ca)
        self._timeout = timeout
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._ending: asyncio.Task[None] | None = None
        self._closed = False

    async def ask(
        self, url: str, *, form: Mapping[str, str] | None = None, authorization: str = ""
    ) -> tuple[int, bytes]:
        """Status and content of the answer. Raises ServerFailed."""
        headers = {"Authorization": authorization} if authorization else {}
        method = "GET" if form is None else "POST"

        async def once() -> tuple[int, bytes]:
            async with self._open().request(
                method, url, data=form, headers=headers, allow_redirects=False
            ) as response:
                return response.status, await _read(response)

        try:
            try:
                return await once()
            except aiohttp.ServerDisconnectedError:
                return await once()  # it ended an idle connection just when we took that
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ServerFailed(f"{_place(url)}: {_cause(error, self._timeout)}", reached=True) from None

    def close(self) -> None:
        """Ends its connections; in the loop that asked."""
        self._closed = True
        session, self._session = self._session, None
        if session is None or session.connector is None:
            return
        connector = session.connector
        session.detach()
        closing = connector.close()  # at once; what is left is to wait for TLS to say goodbye

        async def wait() -> None:
            await closing

        self._ending = asyncio.get_running_loop().create_task(wait())

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise ServerFailed("the directory was closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._context, limit=self._connections),
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=_HEADERS,
                auto_decompress=False,
            )
        return self._session


async def _read(response: aiohttp.ClientResponse) -> bytes:
    octets = bytearray()
    async for chunk in response.content.iter_any():
        octets += chunk
        if len(octets) > ANSWER_CEILING:
            raise ServerFailed(f"{_place(str(response.url))}: an answer of more than {ANSWER_CEILING} octets")
    return bytes(octets)


def _context(ca: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
    except (OSError, ssl.SSLError) as error:
        raise Unusable(f"ca {ca}: cannot be used: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"[:200]


def _cause(error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorError):
        return str(error)[:200]
    return type(error).__name__
