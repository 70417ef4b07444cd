"""People and programs sign in with tokens of a real OpenID provider, and no others do."""

import asyncio
import base64
import contextlib
import itertools
import json
import smtplib
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.oidc import AUDIENCE, SECRET, Provider, running_provider
from tests.support.web import WebServer, json_answer

from pillarbox.sasl.oauthbearer import OauthbearerClient
from pillarbox.sasl.xoauth2 import Xoauth2Client

pytestmark = pytest.mark.scenario

MECHANISMS = ("OAUTHBEARER", "XOAUTH2")

_ADDRESSES = itertools.count(2)


@dataclass
class Clients:
    """A daemon, and clients of it."""

    daemon: RunningDaemon

    @contextlib.contextmanager
    def client(self) -> Iterator[smtplib.SMTP_SSL]:
        """A client of its own address: failures of another test are not its own."""
        context = ssl.create_default_context(cafile=str(self.daemon.ca))
        source = (f"127.0.0.{next(_ADDRESSES)}", 0)
        with smtplib.SMTP_SSL(
            "localhost",
            self.daemon.submissions,
            "client.example.org",
            timeout=30,
            context=context,
            source_address=source,
        ) as client:
            client.ehlo()
            yield client

    def sign_in(self, mechanism: str, user: str, token: str) -> tuple[int, bytes, bytes]:
        """Code and text of the reply, and the error document that came before it."""
        with self.client() as client:
            return sign_in(client, mechanism, user, token)


@dataclass
class Office(Clients):
    """A daemon, and the provider whose tokens it takes."""

    provider: Provider


def sign_in(client: smtplib.SMTP_SSL, mechanism: str, user: str, token: str) -> tuple[int, bytes, bytes]:
    sasl = (OauthbearerClient if mechanism == "OAUTHBEARER" else Xoauth2Client)(user, token)
    documents = []

    def respond(challenge: bytes | None = None) -> str:
        if challenge is None:
            return sasl.initial_response().decode()
        documents.append(challenge)
        return sasl.step(challenge).decode()

    try:
        code, text = client.auth(mechanism, respond)
    except smtplib.SMTPAuthenticationError as error:
        code, text = error.smtp_code, error.smtp_error if isinstance(error.smtp_error, bytes) else b""
    return code, text, b"".join(documents)


def directory(provider: Provider, folder: Path, **keys: Any) -> str:
    """TOML of the directory of its tokens."""
    lines = {
        "name": "corp",
        "kind": "oauth",
        "issuer": provider.issuer,
        "audience": [AUDIENCE],
        "scope": ["smtp"],
        "login_claim": ["preferred_username", "sub", "client_id"],
        "address_claim": ["email", "proxyAddresses"],
        "timeout": "5s",
        **keys,
    }
    return "[[directory]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())


def office(
    folder: Path,
    authority: Authority,
    provider: Provider,
    at_end: Any,
    *,
    mechanisms: Sequence[str] = MECHANISMS,
    directories: str = '["corp"]',
    **keys: Any,
) -> Office:
    daemon = start_daemon(
        folder,
        authority,
        at_end=at_end,
        site=(
            f"mechanisms = {json.dumps(mechanisms)}",
            f"directories = {directories}",
            'failed_sign_in_time = "200ms"',
        ),
        extra='[[directory]]\nname = "local"\nkind = "local"\n' + directory(provider, folder, **keys),
    )
    return Office(daemon, provider)


@pytest.fixture(scope="module")
def keys(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, request: pytest.FixtureRequest
) -> Iterator[Office]:
    """Tokens are checked by the provider's keys."""
    folder = tmp_path_factory.mktemp("keys")
    with running_provider(folder / "provider") as provider:
        yield office(folder, authority, provider, request.addfinalizer)


@pytest.fixture(scope="module")
def asking(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, request: pytest.FixtureRequest
) -> Iterator[Office]:
    """The provider is asked about each token."""
    folder = tmp_path_factory.mktemp("asking")
    secret = folder / "client-secret"
    secret.write_text(SECRET + "\n")
    with running_provider(folder / "provider") as provider:
        yield office(
            folder,
            authority,
            provider,
            request.addfinalizer,
            check_by="introspection",
            client_id="pillarbox",
            client_secret=str(secret),
            cache=0,
        )


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_person_signs_in_with_a_token_of_the_authorization_code_flow_and_sends(
    mechanism: str, keys: Office
) -> None:
    token, before = keys.provider.sign_in("anna"), len(keys.daemon.log())
    with keys.client() as client:
        assert sign_in(client, mechanism, "a.smith@example.org", token)[0] == 235
        content = "From: <anna@example.org>\r\nSubject: hello\r\n\r\nhello\r\n"
        client.sendmail("anna@example.org", ["bob@elsewhere.example"], content)
        with pytest.raises(smtplib.SMTPSenderRefused):
            client.sendmail("bob@example.org", ["bob@elsewhere.example"], content)
    line = keys.daemon.wait_for("signin.succeeded", after=before)
    assert (line["login"], line["mechanism"]) == ("anna", mechanism)
    keys.daemon.wait_for("delivery.delivered", after=before)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_program_signs_in_with_a_token_of_its_own(mechanism: str, keys: Office) -> None:
    assert keys.sign_in(mechanism, "scanner", keys.provider.token_for("scanner", "jwt"))[0] == 235


def test_refused_the_client_is_told_where_to_authorise(keys: Office) -> None:
    code, _, document = keys.sign_in("OAUTHBEARER", "anna", "no.to.ken")
    assert code == 535
    assert json.loads(document) == {
        "status": "invalid_token",
        "scope": "smtp",
        "openid-configuration": f"{keys.provider.issuer}/.well-known/openid-configuration",
    }
    with keys.client() as client:  # a client that has no token yet asks so (RFC 7628 4.3)
        challenge = client.docmd("AUTH", "OAUTHBEARER " + base64.b64encode(b"n,,\x01auth=\x01\x01").decode())[1]
        assert base64.b64decode(challenge) == document
        assert client.docmd(base64.b64encode(b"\x01").decode())[0] == 535
    code, _, document = keys.sign_in("XOAUTH2", "anna", "no.to.ken")
    assert code == 535 and json.loads(document) == {"status": "401", "schemes": "bearer", "scope": "smtp"}


@pytest.mark.parametrize(
    ("resource", "scope", "reason", "cause"),
    [
        ("other", "smtp", "wrong", "audience"),
        ("jwt", "read", "wrong", 'scope "smtp"'),
        ("opaque", "smtp", "wrong", "malformed"),
    ],
)
def test_tokens_for_something_else_let_nobody_in(
    resource: str, scope: str, reason: str, cause: str, keys: Office
) -> None:
    before = len(keys.daemon.log())
    assert keys.sign_in("XOAUTH2", "scanner", keys.provider.token_for("scanner", resource, scope))[0] == 535
    line = keys.daemon.wait_for("signin.failed", after=before)
    assert (line["reason"], line["cause"]) == (reason, cause)


def test_a_token_lets_in_nobody_else(keys: Office) -> None:
    """Also whoever claims another's address, which nobody has verified."""
    before = len(keys.daemon.log())
    assert keys.sign_in("XOAUTH2", "bob", keys.provider.sign_in("anna"))[0] == 535
    assert keys.daemon.wait_for("signin.failed", after=before)["cause"] == "the token of anna"
    assert keys.sign_in("XOAUTH2", "anna@example.org", keys.provider.sign_in("mallory"))[0] == 535


def test_after_a_rotation_of_keys_new_tokens_count_and_old_ones_do_not(keys: Office) -> None:
    old = keys.provider.token_for("scanner", "jwt")
    assert keys.sign_in("OAUTHBEARER", "scanner", old)[0] == 235
    keys.provider.rotate("second")
    assert keys.sign_in("OAUTHBEARER", "scanner", keys.provider.token_for("scanner", "jwt"))[0] == 235
    before = len(keys.daemon.log())
    assert keys.sign_in("OAUTHBEARER", "scanner", old)[0] == 535
    assert keys.daemon.wait_for("signin.failed", after=before)["cause"] == "key"


def test_while_the_provider_is_away_its_keys_still_count(keys: Office) -> None:
    token = keys.provider.token_for("scanner", "jwt")
    assert keys.sign_in("OAUTHBEARER", "scanner", token)[0] == 235
    keys.provider.stop()
    try:
        assert keys.sign_in("OAUTHBEARER", "scanner", token)[0] == 235
    finally:
        keys.provider.start()


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_asked_about_a_token_the_provider_says_whose_it_is(mechanism: str, asking: Office) -> None:
    assert asking.sign_in(mechanism, "a.smith@example.org", asking.provider.sign_in("anna", "opaque"))[0] == 235
    assert asking.sign_in(mechanism, "scanner", asking.provider.token_for("scanner", "opaque"))[0] == 235


def test_asked_about_a_token_that_was_revoked_or_is_for_others_or_is_none_it_says_no(asking: Office) -> None:
    token = asking.provider.token_for("scanner", "opaque")
    assert asking.sign_in("XOAUTH2", "scanner", token)[0] == 235
    asking.provider.revoke(token, "scanner")
    for wrong, cause in (
        (token, "not active"),
        (asking.provider.token_for("scanner", "other-opaque"), "audience"),
        (asking.provider.token_for("scanner", "opaque", "read"), 'scope "smtp"'),
        ("made-up", "not active"),
    ):
        before = len(asking.daemon.log())
        assert asking.sign_in("XOAUTH2", "scanner", wrong)[0] == 535
        assert asking.daemon.wait_for("signin.failed", after=before)["cause"] == cause


def test_a_provider_that_is_away_or_hangs_is_454_and_then_works_again(asking: Office) -> None:
    token = asking.provider.token_for("scanner", "opaque")
    asking.provider.hang()
    try:
        assert asking.sign_in("XOAUTH2", "scanner", token)[0] == 454
    finally:
        asking.provider.go_on()
    assert asking.sign_in("XOAUTH2", "scanner", token)[0] == 235
    asking.provider.stop()
    try:
        assert asking.sign_in("XOAUTH2", "scanner", token)[0] == 454
    finally:
        asking.provider.start()
    assert asking.sign_in("XOAUTH2", "scanner", asking.provider.token_for("scanner", "opaque"))[0] == 235


def test_another_directory_says_who_somebody_is_and_whom_it_does_not_let_in(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest
) -> None:
    """The local accounts: passwords work beside tokens there, and an account that is disabled ends both."""
    with running_provider(tmp_path / "provider") as provider:
        both = office(
            tmp_path,
            authority,
            provider,
            request.addfinalizer,
            mechanisms=("PLAIN", *MECHANISMS),
            directories='["corp", "local"]',
            people="local",
            refresh=0,
        )
        both.daemon.user("anna", "her password", ["info@example.org"])
        token = provider.sign_in("anna")
        assert both.sign_in("XOAUTH2", "info@example.org", token)[0] == 235
        assert both.sign_in("XOAUTH2", "a.smith@example.org", token)[0] == 535
        with both.client() as client:
            client.login("anna", "her password")
            with pytest.raises(smtplib.SMTPSenderRefused):
                client.sendmail("a.smith@example.org", ["bob@elsewhere.example"], "Subject: no\r\n\r\nno\r\n")
        assert both.sign_in("XOAUTH2", "scanner", provider.token_for("scanner", "jwt"))[0] == 535
        both.daemon.ask("user.disable", {"login": "anna"})
        before = len(both.daemon.log())
        assert both.sign_in("XOAUTH2", "anna", token)[0] == 535
        assert both.daemon.wait_for("signin.failed", after=before)["reason"] == "disabled"


async def test_a_provider_is_asked_over_https_with_the_ca_that_it_is_told_and_no_other(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest
) -> None:
    issued = authority.issue("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    key = Ed25519PrivateKey.generate()
    public = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    async with WebServer(context) as web:
        web.answers["/.well-known/openid-configuration"] = json_answer(
            {"issuer": web.url, "jwks_uri": f"{web.url}/keys"}
        )
        web.answers["/keys"] = json_answer({"keys": [{**public, "kid": "k"}]})
        claims = {"iss": web.url, "aud": "us", "sub": "anna", "exp": int(time.time()) + 600}
        token = jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": "k", "typ": "at+jwt"})
        text = (
            f'[[directory]]\nname = "right"\nkind = "oauth"\nissuer = "{web.url}"\naudience = ["us"]\n'
            f'ca = "{issued.ca}"\n[[directory]]\nname = "wrong"\nkind = "oauth"\nissuer = "{web.url}"\n'
            'audience = ["us"]\n[[directory]]\nkind = "local"\n'
        )
        for name, expected in (("right", 235), ("wrong", 454)):
            folder = tmp_path / name
            folder.mkdir()
            site = ('mechanisms = ["XOAUTH2"]', f'directories = ["{name}"]')
            daemon = await asyncio.to_thread(
                start_daemon, folder, authority, at_end=request.addfinalizer, site=site, extra=text
            )
            reply = await asyncio.to_thread(Clients(daemon).sign_in, "XOAUTH2", "anna", token)
            assert reply[0] == expected
