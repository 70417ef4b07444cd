"""The presets, from the file to the answer, with tokens and answers in the form that each provider documents."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from tests.support.web import WebServer, json_answer

from pillarbox.config import parse
from pillarbox.directory.base import Denied, Identity
from pillarbox.directory.oauth.directory import OauthDirectory
from pillarbox.directory.oauth.settings import OauthSettings
from pillarbox.sasl.mechanism import TokenCredentials

KEY = rsa.generate_private_key(65537, 2048)
TENANT = "11111111-2222-3333-4444-555555555555"
API = "66666666-7777-8888-9999-000000000000"
SITE = """
[[site]]
name = "submit.example.org"
submissions = ["127.0.0.1:465"]
certificate = "certificate.pem"
key = "key.pem"
directories = ["corp"]
mechanisms = ["XOAUTH2"]
[[route]]
host = "mx.example.org"
"""


@pytest.fixture
async def web() -> AsyncIterator[WebServer]:
    async with WebServer() as server:
        configuration = {"issuer": server.url, "jwks_uri": f"{server.url}/keys"}
        server.answers["/.well-known/openid-configuration"] = json_answer(configuration)
        public = RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
        # as Entra ID has them: no alg, and what is in a certificate beside
        server.answers["/keys"] = json_answer(
            {"keys": [{**public, "kid": "k", "use": "sig", "x5t": "k", "x5c": ["MIIC"]}]}
        )
        yield server


@contextmanager
def directory(text: str) -> Iterator[OauthDirectory]:
    """The one of these lines of the file."""
    made = parse(f'[[directory]]\nname = "corp"\nkind = "oauth"\n{text}{SITE}', Path("/etc/pillarbox/pillarbox.toml"))
    (settings,) = made.directories
    assert isinstance(settings, OauthSettings)
    opened = OauthDirectory(settings)
    try:
        yield opened
    finally:
        opened.close()


async def ask(asked: OauthDirectory, claims: dict[str, Any] | str, login: str = "") -> Identity | str:
    """Who it is, or why not."""
    token = claims if isinstance(claims, str) else jwt.encode(claims, KEY, "RS256", {"kid": "k", "typ": "JWT"})
    answer = await asked.verify_token(TokenCredentials(login, token), known_place=True)
    return answer.details["cause"] if isinstance(answer, Denied) else answer


async def test_entra_id(web: WebServer) -> None:
    now = int(time.time())
    token = {
        "aud": API, "iss": web.url, "iat": now, "nbf": now, "exp": now + 4_000, "azp": "9", "azpacr": "0",
        "aio": "ATQAy", "oid": "aaaa", "preferred_username": "Anna.Smith@example.org", "rh": "0.AT", "tid": TENANT,
        "scp": "SMTP.Submit User.Read", "sub": "pairwise", "uti": "x", "ver": "2.0", "email": "boss@example.org",
        "verified_primary_email": ["anna.smith@example.org"], "verified_secondary_email": ["a.smith@example.org"],
    }  # fmt: skip
    text = f'preset = "entra"\nissuer = "{web.url}"\ntenant = "{TENANT}"\naudience = ["{API}"]\n'
    text += 'scope = ["SMTP.Submit"]\n'
    with directory(text) as entra:
        addresses = frozenset({"anna.smith@example.org", "a.smith@example.org"})
        found = await ask(entra, token, "a.smith@example.org")
        assert found == Identity("Anna.Smith@example.org", addresses, source="corp")
        assert await ask(entra, token, "boss@example.org") == "the token of Anna.Smith@example.org"
        assert await ask(entra, {**token, "tid": "another"}) == "tenant"
        assert await ask(entra, {**token, "aud": "https://outlook.office.com"}) == "audience"
        assert await ask(entra, {**token, "iss": f"https://sts.windows.net/{TENANT}/"}) == "issuer"
        program = {name: value for name, value in token.items() if name not in ("scp", "preferred_username")}
        assert await ask(entra, program) == 'scope "SMTP.Submit"'
        assert await ask(entra, {**program, "roles": ["SMTP.Submit"]}) == 'no claim "preferred_username"'
    with directory(text + 'login_claim = ["azp"]\naddress_claim = ["none"]\n') as programs:
        found = await ask(programs, {**program, "roles": ["SMTP.Submit"]})
        assert found == Identity("9", frozenset(), source="corp")


async def test_keycloak(web: WebServer) -> None:
    now = int(time.time())
    token = {
        "exp": now + 300, "iat": now, "iss": web.url, "aud": ["pillarbox", "account"], "sub": "f0-1",
        "typ": "Bearer", "azp": "thunderbird", "sid": "s", "acr": "1", "allowed-origins": ["/*"],
        "realm_access": {"roles": ["offline_access"]}, "resource_access": {"account": {"roles": ["manage-account"]}},
        "scope": "openid email smtp profile", "email_verified": True, "preferred_username": "anna",
        "email": "anna@example.org",
    }  # fmt: skip
    text = f'preset = "keycloak"\nissuer = "{web.url}"\naudience = ["pillarbox"]\nscope = ["smtp"]\n'
    with directory(text) as keycloak:
        assert await ask(keycloak, token) == Identity("anna", frozenset({"anna@example.org"}), source="corp")
        unverified = Identity("anna", frozenset(), source="corp")
        assert await ask(keycloak, {**token, "email_verified": False}) == unverified
        for kind in ("ID", "Refresh", "Offline"):
            assert await ask(keycloak, {**token, "typ": kind}) == "type"
        assert await ask(keycloak, {**token, "aud": "account"}) == "audience"


WITHOUT_SCOPE = """issuer = "{url}"
audience = ["{aud}"]
login_claim = ["preferred_username", "sub"]
"""


async def test_id_tokens_and_access_tokens_as_providers_send_them_are_told_apart_without_a_scope(
    web: WebServer,
) -> None:
    """Each with the audience of the other: what a site gets that has one registration for program and server."""
    now = int(time.time())
    both = {"aud": API, "iss": web.url, "iat": now, "exp": now + 4_000, "sub": "anna"}
    person = {"preferred_username": "anna", "name": "Anna", "email": "anna@example.org"}
    for_access: dict[str, dict[str, Any]] = {
        "Entra ID, version 2": {"azp": API, "azpacr": "0", "scp": "SMTP.Submit", "ver": "2.0", "uti": "u", **person},
        "Entra ID, a program": {"azp": API, "azpacr": "1", "roles": ["x"], "ver": "2.0", "idtyp": "app"},
        "Entra ID, version 1": {"appid": API, "appidacr": "0", "ver": "1.0", "upn": "anna@example.org"},
        "Keycloak": {"typ": "Bearer", "azp": API, "sid": "s"},
        "Keycloak before 24": {"typ": "Bearer", "azp": API, "nonce": "n", "scope": "openid"},
        "Cognito": {"token_use": "access", "client_id": API, "username": "anna"},
        "Okta": {"cid": API, "uid": "u", "ver": 1},
        "Auth0": {"azp": API, "scope": "openid profile", "gty": "password"},
        "RFC 9068 without typ": {"client_id": API, "jti": "j"},
    }
    id_tokens: dict[str, dict[str, Any]] = {
        "Entra ID": {"aio": "a", "nonce": "n", "rh": "r", "tid": TENANT, "uti": "u", "ver": "2.0", **person},
        "Entra ID, without a nonce": {"aio": "a", "roles": ["SMTP.Submit"], "uti": "u", "ver": "2.0", **person},
        "Keycloak": {"typ": "ID", "azp": API, "at_hash": "h", "sid": "s", **person},
        "Google": {"azp": API, "at_hash": "h", "hd": "example.org", "email_verified": True, **person},
        "Cognito": {"token_use": "id", "at_hash": "h", "cognito:username": "anna"},
        "Okta": {"ver": 1, "amr": ["pwd"], "at_hash": "h", "auth_time": now, **person},
        "Zitadel": {"azp": API, "client_id": API, "at_hash": "h", "amr": ["pwd"], **person},
        "the least of all": {},
        "with a hash of the code": {"c_hash": "h", "scope": "openid"},
    }
    with directory(WITHOUT_SCOPE.format(url=web.url, aud=API)) as asked:
        for name, more in for_access.items():
            assert isinstance(await ask(asked, {**both, **more}), Identity), name
        for name, more in id_tokens.items():
            found = await ask(asked, {**both, **more})
            assert isinstance(found, str) and found.startswith("type"), name


async def test_google(web: WebServer) -> None:
    said = {
        "azp": "1-a.apps.googleusercontent.com", "aud": "1-a.apps.googleusercontent.com", "sub": "1169",
        "scope": "https://www.googleapis.com/auth/userinfo.email openid", "exp": str(int(time.time()) + 3_599),
        "email": "Anna@example.org", "email_verified": "true", "access_type": "online",
    }  # fmt: skip
    text = 'preset = "google"\nnames = ["*@example.org"]\n'
    text += f'audience = ["{said["aud"]}"]\nintrospection_url = "{web.url}/tokeninfo"\n'
    with directory(text) as google:
        web.answers["/tokeninfo"] = json_answer(said)
        found = await ask(google, "ya29.a0-good")
        assert found == Identity("Anna@example.org", frozenset({"anna@example.org"}), source="corp")
        assert google.token_hint.configuration == "https://accounts.google.com/.well-known/openid-configuration"
        web.answers["/tokeninfo"] = json_answer({**said, "aud": "2-thunderbird.apps.googleusercontent.com"})
        assert await ask(google, "ya29.a0-others") == "audience"
        web.answers["/tokeninfo"] = json_answer({"error_description": "Invalid Value"}, status="400 Bad Request")
        assert await ask(google, "ya29.a0-none") == "not active"
