"""A certified OpenID provider for tests: npm's oidc-provider on loopback, with people, clients and keys of its own.

    with running_provider(folder) as provider:
        token = provider.sign_in("anna")                  # the authorization code flow, as a browser would do it
        token = provider.token_for("scanner", "jwt")      # client_credentials
        provider.rotate(); provider.stop(); provider.start(); provider.hang(); provider.go_on()
        provider.requests("GET", "/jwks")                 # how many there have been

What tokens are for is the resource's last word: "jwt", "opaque", "short" (1 s), "other" (another audience), and
"short-opaque", "other-opaque". ``people`` are what tokens say of whom.
"""

import base64
import http.cookiejar
import json
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from tests.support.clients import missing
from tests.support.ports import steady_ports
from tests.support.processes import until_ready

PROVIDER = Path(__file__).parent.parent / "directory" / "oauth" / "provider"

AUDIENCE = "smtp.example.org"
SCOPE = "smtp"
SECRET = "a client's secret: with signs & spaces+%"
REDIRECT = "https://client.example.org/callback"

PEOPLE: dict[str, dict[str, Any]] = {
    "anna": {
        "preferred_username": "anna",
        "email": "Anna@example.org",
        "email_verified": True,
        "proxyAddresses": ["SMTP:anna@example.org", "smtp:a.smith@example.org", "X500:/o=example"],
    },
    "mallory": {"preferred_username": "mallory", "email": "anna@example.org", "email_verified": False},
}

_PATIENCE = 30.0


def new_key(kid: str, algorithm: str = "RS256") -> dict[str, Any]:
    """A private key as a JWK."""
    if algorithm == "ES256":
        made = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True)
    else:
        made = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048), as_dict=True)
    return {**{k: v for k, v in made.items() if k != "key_ops"}, "kid": kid, "use": "sig", "alg": algorithm}


def _client(client_id: str, **more: Any) -> dict[str, Any]:
    return {
        "client_id": client_id,
        "client_secret": SECRET,
        "grant_types": ["client_credentials"],
        "redirect_uris": [],
        "response_types": [],
        **more,
    }


CLIENTS = [
    _client("scanner"),
    _client("pillarbox"),
    _client(
        "thunderbird",
        grant_types=["authorization_code"],
        redirect_uris=[REDIRECT],
        response_types=["code"],
    ),
]


@dataclass
class Provider:
    """See the module's text."""

    folder: Path
    port: int
    keys: list[dict[str, Any]]
    people: dict[str, dict[str, Any]]
    process: subprocess.Popen[bytes] | None = None

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # -- life

    def start(self) -> None:
        """Starts it and returns when it answers."""
        order = {
            "port": self.port,
            "jwks": {"keys": self.keys},
            "algorithm": self.keys[0]["alg"],
            "people": self.people,
            "clients": CLIENTS,
        }
        node = shutil.which("node")
        assert node is not None
        (self.folder / "order.json").write_text(json.dumps(order))
        with (
            (self.folder / "order.json").open("rb") as said,
            (self.folder / "requests").open("ab") as requests,
            (self.folder / "provider.log").open("ab") as log,
        ):
            self.process = subprocess.Popen(
                (node, "provider.js"), stdin=said, stdout=requests, stderr=log, cwd=PROVIDER
            )
        known = f"{self.issuer}/.well-known/openid-configuration"
        until_ready(
            self.process,
            lambda: urllib.request.urlopen(known, timeout=5).close(),  # noqa: S310  our own
            (self.folder / "provider.log").read_text,
        )

    def stop(self) -> None:
        """Ends it: nobody answers any more, and it forgets every token that is not signed."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def hang(self) -> None:
        """It takes connections and answers nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """It answers again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def rotate(self, kid: str) -> None:
        """A new key signs from now on; the old ones are gone."""
        self.stop()
        self.keys = [new_key(kid, self.keys[0]["alg"])]
        self.start()

    def requests(self, method: str, path: str) -> int:
        """How many it has had."""
        return (self.folder / "requests").read_text().splitlines().count(f"{method} {path}")

    # -- tokens

    def token_for(self, client: str, resource: str, scope: str = SCOPE) -> str:
        """A program's token, for itself."""
        form = {
            "grant_type": "client_credentials",
            "scope": scope,
            "resource": f"https://mail.example.org/{resource}",
        }
        token: str = self._post("/token", form, client)["access_token"]
        return token

    def revoke(self, token: str, client: str) -> None:
        """Takes back a token that is not signed."""
        self._post("/token/revocation", {"token": token}, client)

    def sign_in(self, person: str, resource: str = "jwt", scope: str = "openid email smtp") -> str:
        """A person's token: signs in and consents, as in a browser."""
        token: str = self.tokens_of(person, resource, scope)["access_token"]
        return token

    def tokens_of(self, person: str, resource: str = "jwt", scope: str = "openid email smtp") -> dict[str, Any]:
        """All that the client gets then: the ID token (``id_token``) too."""
        browser = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()), _Redirects()
        )
        query = {
            "client_id": "thunderbird",
            "response_type": "code",
            "redirect_uri": REDIRECT,
            "scope": scope,
            "resource": f"https://mail.example.org/{resource}",
        }
        url, page = self._browse(browser, f"{self.issuer}/auth?{urllib.parse.urlencode(query)}")
        for form in ({"prompt": "login", "login": person, "password": "any"}, {"prompt": "consent"}):
            if url.startswith(REDIRECT):
                break
            action = re.search(r'action="([^"]+)"', page)
            assert action is not None, page
            url, page = self._browse(browser, action[1], form)
        assert url.startswith(REDIRECT), (url, page)
        code = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)["code"][0]
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": REDIRECT,
            "resource": query["resource"],
        }
        return self._post("/token", form, "thunderbird")

    def _browse(
        self, browser: urllib.request.OpenerDirector, url: str, form: dict[str, str] | None = None
    ) -> tuple[str, str]:
        """The last URL and its page; the client's own is not fetched."""
        data = None if form is None else urllib.parse.urlencode(form).encode()
        try:
            with browser.open(url, data, timeout=_PATIENCE) as answer:
                return answer.url, answer.read().decode()
        except _Arrived as arrived:
            return str(arrived), ""

    def _post(self, path: str, form: dict[str, str], client: str) -> dict[str, Any]:
        pair = f"{urllib.parse.quote_plus(client)}:{urllib.parse.quote_plus(SECRET)}"
        headers = {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
        request = urllib.request.Request(self.issuer + path, urllib.parse.urlencode(form).encode(), headers)  # noqa: S310  our own
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:  # noqa: S310  our own
                octets = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from None
        found: dict[str, Any] = json.loads(octets or b"{}")
        return found


class _Arrived(Exception):
    """The browser is sent back to the client."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if newurl.startswith(REDIRECT):
            raise _Arrived(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextmanager
def running_provider(
    folder: Path, *, algorithm: str = "RS256", people: Mapping[str, dict[str, Any]] = PEOPLE
) -> Iterator[Provider]:
    """One that runs, until the end. Without node and the package the test is skipped."""
    if shutil.which("node") is None or not (PROVIDER / "node_modules" / "oidc-provider").is_dir():
        missing("oidc-provider is not installed; `make interop` installs it on Debian")
    (port,) = steady_ports(1)
    folder.mkdir(exist_ok=True)
    provider = Provider(folder, port, [new_key("first", algorithm)], dict(people))
    provider.start()
    try:
        yield provider
    finally:
        provider.stop()
