"""oauth/directory.py: what is remembered, whom another directory knows, and what the provider's documents may say."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm
from tests.support.web import WebServer, answer, json_answer

from pillarbox.directory.base import Denied, Identity, Reason, Unavailable, Unusable
from pillarbox.directory.kinds import make_oauth
from pillarbox.directory.oauth.directory import FindPerson, OauthDirectory
from pillarbox.directory.oauth.settings import CheckBy, OauthSettings
from pillarbox.sasl.mechanism import PasswordCredentials, TokenCredentials

KEY = Ed25519PrivateKey.generate()
Make = Callable[..., OauthDirectory]


@pytest.fixture
async def web() -> AsyncIterator[WebServer]:
    async with WebServer() as server:
        public = OKPAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
        server.answers["/.well-known/openid-configuration"] = json_answer({
            "issuer": server.url,
            "jwks_uri": f"{server.url}/jwks",
            "introspection_endpoint": f"{server.url}/introspect",
        })  # fmt: skip
        server.answers["/jwks"] = json_answer({"keys": [{**public, "kid": "k", "use": "sig"}]})
        yield server


@pytest.fixture
async def make(web: WebServer, tmp_path: Path) -> AsyncIterator[Make]:
    """Makes directories of this provider."""
    secret = tmp_path / "secret"
    secret.write_text("a secret\n")
    made: list[OauthDirectory] = []

    def one(find_person: FindPerson | None = None, **changed: Any) -> OauthDirectory:
        more = {key: changed.pop(key) for key in ("now", "clock", "narrate") if key in changed}
        if changed.get("check_by") is CheckBy.INTROSPECTION:
            changed |= {"client_id": "pillarbox", "client_secret": secret}
        keys = {"name": "corp", "issuer": web.url, "audiences": ("us",), "timeout": 20.0, **changed}
        made.append(OauthDirectory(OauthSettings(**keys), find_person, **more))
        return made[-1]

    yield one
    for each in made:
        each.close()


def claims(web: WebServer, **changed: Any) -> dict[str, Any]:
    made = {"iss": web.url, "aud": "us", "sub": "anna", "email": "anna@example.org", "exp": int(time.time()) + 300}
    return {name: value for name, value in {**made, **changed}.items() if value is not None}


def signed(web: WebServer, **changed: Any) -> str:
    return jwt.encode(claims(web, **changed), KEY, algorithm="EdDSA", headers={"kid": "k", "typ": "at+jwt"})


def says(web: WebServer, **changed: Any) -> None:
    """What the provider answers about every token."""
    web.answers["/introspect"] = json_answer({"active": True, **claims(web, **changed)})


async def ask(directory: OauthDirectory, token: str, login: str = "") -> Identity | Denied:
    return await directory.verify_token(TokenCredentials(login, token), known_place=True)


def why(found: Identity | Denied) -> str:
    assert isinstance(found, Denied)
    return found.details["cause"]


# -- documents of the provider


async def test_its_configuration_and_keys_are_fetched_once(make: Make, web: WebServer) -> None:
    directory, token = make(), signed(web)
    answers = await asyncio.gather(*(ask(directory, token) for _ in range(20)))
    assert answers == [Identity("anna", frozenset({"anna@example.org"}), source="corp")] * 20
    assert len(web.asked) == 2


async def test_keys_at_a_url_of_the_settings_need_no_configuration(make: Make, web: WebServer) -> None:
    del web.answers["/.well-known/openid-configuration"]
    assert isinstance(await ask(make(keys_url=f"{web.url}/jwks"), signed(web)), Identity)


@pytest.mark.parametrize("document", [
    b"", b"{", b"[]", b"[" * 100_000, b'{"a":' * 50_000, b"\xff", b'{"keys": 1}', b'{"keys": []}',
    b'{"keys": [1, []]}',
    b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}', b'{"keys": [], "keys": []}',
    json.dumps({"keys": [{"kty": "RSA", "n": "A", "e": "AQAB"}] * 1_000}).encode(),
])  # fmt: skip
async def test_keys_that_are_none_let_nobody_in(document: bytes, make: Make, web: WebServer) -> None:
    web.answers["/jwks"] = answer(document)
    with pytest.raises(Unavailable, match="/jwks: "):
        await ask(make(), signed(web))


@pytest.mark.parametrize("changed", [
    {"issuer": "https://evil.example"}, {"issuer": None}, {"jwks_uri": "http://evil.example/keys"},
    {"jwks_uri": None},
    {"jwks_uri": "file:///etc/passwd"}, {"jwks_uri": ["https://id.example.org/"]}, {"jwks_uri": "//localhost/jwks"},
])  # fmt: skip
async def test_a_configuration_of_another_issuer_or_with_odd_urls_is_refused(
    changed: dict[str, Any], make: Make, web: WebServer
) -> None:
    document = {"issuer": web.url, "jwks_uri": f"{web.url}/jwks", **changed}
    web.answers["/.well-known/openid-configuration"] = json_answer(document)
    with pytest.raises(Unavailable, match="openid-configuration"):
        await ask(make(), signed(web))
    assert len(web.asked) == 1


async def test_a_provider_that_fails_is_left_alone_for_a_while(make: Make, web: WebServer) -> None:
    web.answers["/.well-known/openid-configuration"] = answer(b"", status="503 Busy")
    directory = make()
    for _ in range(20):
        with pytest.raises(Unavailable, match="503"):
            await ask(directory, signed(web))
    assert len(web.asked) == 3


# -- asking about a token


async def test_a_yes_is_remembered_until_the_token_ends_and_no_longer_than_cache(make: Make, web: WebServer) -> None:
    at = [time.time(), 0.0]
    directory = make(check_by=CheckBy.INTROSPECTION, cache=60.0, now=lambda: at[0], clock=lambda: at[1])
    says(web, exp=int(at[0]) + 40)
    for _ in range(5):
        assert isinstance(await ask(directory, "t"), Identity)
    assert web.count("/introspect") == 1
    method, _, headers, content = web.asked[-1]
    assert method == "POST" and parse_qs(content.decode()) == {"token": ["t"], "token_type_hint": ["access_token"]}
    assert headers["authorization"] == "Basic cGlsbGFyYm94OmErc2VjcmV0"
    at[0], at[1] = at[0] + 80, at[1] + 59  # a clock that was set: the end of the token counts all the same
    assert await ask(directory, "t") == Denied(Reason.EXPIRED)
    says(web, exp=int(at[0]) + 4_000)
    assert isinstance(await ask(directory, "u"), Identity)
    at[1] += 60
    web.answers["/introspect"] = json_answer({"active": False})
    assert why(await ask(directory, "u")) == "not active"


async def test_a_no_is_remembered_and_one_question_is_asked_once(make: Make, web: WebServer) -> None:
    directory = make(check_by=CheckBy.INTROSPECTION)
    web.answers["/introspect"] = json_answer({"active": False})
    answers = await asyncio.gather(*(ask(directory, "t") for _ in range(50)))
    assert {why(each) for each in answers} == {"not active"}
    says(web)
    assert why(await ask(directory, "t")) == "not active"
    assert web.count("/introspect") == 1


async def test_a_token_that_is_not_valid_yet_is_asked_about_again(make: Make, web: WebServer) -> None:
    directory = make(check_by=CheckBy.INTROSPECTION)
    says(web, nbf=int(time.time()) + 200)
    assert why(await ask(directory, "t")) == "not valid yet"
    says(web)
    assert isinstance(await ask(directory, "t"), Identity)


async def test_what_the_provider_leaves_out_it_has_looked_at_but_an_audience_must_be_there(
    make: Make, web: WebServer
) -> None:
    directory = make(check_by=CheckBy.INTROSPECTION, wrong_cache=0.0, cache=0.0)
    says(web, iss=None, exp=None)
    assert isinstance(await ask(directory, "t"), Identity)
    for changed, cause in (({"aud": None}, "no audience"), ({"iss": "https://evil.example"}, "issuer")):
        says(web, **changed)
        assert why(await ask(directory, "t")) == cause


@pytest.mark.parametrize("said", [
    json_answer({"active": "true"}), json_answer({}), answer(b'{"active": true, "active": true}'), answer(b"[true]"),
    json_answer({"error": "x"}, status="401 Unauthorized"), json_answer({"active": True}, status="201 Created"),
    answer(b"", "Location: /jwks", status="307 Temporary Redirect"), answer(b"", status="500 Oops"),
])  # fmt: skip
async def test_what_is_no_answer_lets_nobody_in_and_refuses_nobody(said: bytes, make: Make, web: WebServer) -> None:
    directory = make(check_by=CheckBy.INTROSPECTION)
    web.answers["/introspect"] = said
    with pytest.raises(Unavailable, match="/introspect"):
        await ask(directory, "t")
    says(web)
    assert isinstance(await ask(directory, "t"), Identity)


async def test_a_token_that_the_provider_cannot_look_up_is_refused(make: Make, web: WebServer) -> None:
    directory = make(check_by=CheckBy.INTROSPECTION)
    web.answers["/introspect"] = json_answer({"error": "unsupported_token_type"}, status="400 Bad Request")
    assert why(await ask(directory, "t")) == "not active"


@pytest.mark.parametrize("said", [json_answer({"error": "x"}, status="400 Oops"), answer(b"?", status="400 Oops")])
async def test_questions_that_the_provider_finds_wrong_keep_nobody_else_from_it(
    said: bytes, make: Make, web: WebServer
) -> None:
    directory = make(check_by=CheckBy.INTROSPECTION)
    web.answers["/introspect"] = said
    for number in range(10):
        with pytest.raises(Unavailable, match="status 400"):
            await ask(directory, f"strange-{number}")
    assert web.count("/introspect") == 10
    says(web)
    assert isinstance(await ask(directory, "t"), Identity)


async def test_a_new_secret_in_the_file_is_taken_when_the_old_one_is_refused(
    make: Make, web: WebServer, tmp_path: Path
) -> None:
    directory = make(check_by=CheckBy.INTROSPECTION)
    web.answers["/introspect"] = json_answer({"error": "invalid_client"}, status="401 Unauthorized")
    with pytest.raises(Unavailable, match="refuses client_id and client_secret"):
        await ask(directory, "t")
    assert web.count("/introspect") == 1
    (tmp_path / "secret").write_text("another\n")
    with pytest.raises(Unavailable):
        await ask(directory, "t")
    assert web.count("/introspect") == 3
    assert web.asked[-1][2]["authorization"] == "Basic cGlsbGFyYm94OmFub3RoZXI="
    (tmp_path / "secret").unlink()
    with pytest.raises(Unavailable):
        await ask(directory, "t")


async def test_the_endpoint_stays_known_while_the_configuration_cannot_be_had(make: Make, web: WebServer) -> None:
    at = [0.0]
    directory = make(check_by=CheckBy.INTROSPECTION, cache=0.0, clock=lambda: at[0])
    says(web)
    await ask(directory, "t")
    del web.answers["/.well-known/openid-configuration"]
    at[0] += 10_000
    assert isinstance(await ask(directory, "t"), Identity)


async def test_googles_way(make: Make, web: WebServer) -> None:
    directory = make(
        check_by=CheckBy.TOKENINFO, introspection_url=f"{web.url}/tokeninfo", login_claims=("email",), wrong_cache=0.0
    )
    said = {"aud": "us", "email": "anna@example.org", "email_verified": "true", "scope": "a b", "sub": "1"}
    web.answers["/tokeninfo"] = json_answer({**said, "exp": str(int(time.time()) + 300)})
    assert await ask(directory, "t") == Identity("anna@example.org", frozenset({"anna@example.org"}), source="corp")
    assert web.asked[-1][3] == b"access_token=t"
    for changed, cause in (
        ({"email_verified": "false"}, 'claim "email"'),
        ({"aud": "somebody-elses-program"}, "audience"),
        ({"exp": "1"}, "expiry"),
        ({"exp": "\u0661"}, "malformed"),
    ):
        web.answers["/tokeninfo"] = json_answer({**said, **changed})
        assert why(await ask(directory, f"t-{len(web.asked)}")) == cause
    web.answers["/tokeninfo"] = json_answer({"error": "invalid_token"}, status="400 Bad Request")
    assert why(await ask(directory, "u")) == "not active"


# -- people


class People:
    """Another directory: anna with an address of hers, bob disabled, and nobody else."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.away = False

    async def find_person(self, login: str) -> Identity | Denied:
        self.asked.append(login)
        if self.away:
            raise Unavailable("ldap: away")
        if login == "carl":
            return Identity("carl", frozenset(), generation=8)
        if login == "anna":
            return Identity("Anna", frozenset({"anna.smith@example.org"}), source="ldap")
        return Denied(Reason.DISABLED, login) if login == "bob" else Denied(Reason.UNKNOWN)


async def test_people_say_who_has_the_login_and_whether_they_may(make: Make, web: WebServer) -> None:
    people = People()
    directory = make(people.find_person)
    found = await ask(directory, signed(web), "anna.smith@example.org")
    assert found == Identity("Anna", frozenset({"anna.smith@example.org"}), source="ldap")
    assert await ask(directory, signed(web, sub="bob")) == Denied(Reason.DISABLED, "bob")
    assert await ask(directory, signed(web, sub="carol")) == Denied(Reason.UNKNOWN)
    assert why(await ask(directory, signed(web), "anna@example.org")) == "the token of anna"


async def test_what_people_say_is_remembered_for_a_while_and_away_they_are_454(make: Make, web: WebServer) -> None:
    people, at = People(), [0.0]
    directory = make(people.find_person, refresh=60.0, clock=lambda: at[0])
    for _ in range(5):
        await ask(directory, signed(web))
    assert people.asked == ["anna"]
    at[0] += 60
    people.away = True
    with pytest.raises(Unavailable, match="ldap: away"):
        await ask(directory, signed(web))
    people.away = False
    assert isinstance(await ask(directory, signed(web)), Identity)


async def test_our_own_accounts_are_asked_each_time(make: Make, web: WebServer) -> None:
    people = People()
    directory = make(people.find_person)
    for _ in range(3):
        assert isinstance(await ask(directory, signed(web, sub="carl")), Identity)
    assert people.asked == ["carl"] * 3


# -- claims


async def test_addresses_are_claims_and_lists_of_them_and_only_what_is_one(make: Make, web: WebServer) -> None:
    directory = make(address_claims=("email", "proxyAddresses", "upn", "none"))
    lists = ["SMTP:Anna@example.org", "smtp:a.smith@example.org", "x500:/o=x", "sip:anna@example.org", "a@b>", 7, [],
             "",
             "@example.org", "anna", "a b@example.org", "a\r\n@example.org", "smtp:smtp:a@example.org"]  # fmt: skip
    found = await ask(directory, signed(web, proxyAddresses=lists, upn="anna@corp.example", email=["x@example.org"]))
    assert isinstance(found, Identity)
    expected = {"anna@example.org", "a.smith@example.org", "anna@corp.example", "x@example.org"}
    assert found.addresses == expected and not found.domains and not found.may_redirect


@pytest.mark.parametrize("verified", [False, "false", "True", 0, None, [True]])
async def test_an_address_that_nobody_has_verified_is_none_and_no_login(
    verified: Any, make: Make, web: WebServer
) -> None:
    token = jwt.encode(
        {**claims(web), "email_verified": verified}, KEY, algorithm="EdDSA", headers={"kid": "k", "typ": "at+jwt"}
    )
    assert await ask(make(), token) == Identity("anna", frozenset(), source="corp")
    assert why(await ask(make(login_claims=("email",)), token)) == 'claim "email"'


async def test_the_first_claim_that_is_there_is_the_login(make: Make, web: WebServer) -> None:
    directory = make(login_claims=("preferred_username", "sub"))
    found = [await ask(directory, signed(web, preferred_username=name)) for name in ("a.smith", None)]
    assert [each.login for each in found] == ["a.smith", "anna"]
    assert why(await ask(directory, signed(web, preferred_username=""))) == 'claim "preferred_username"'


async def test_scopes_are_words_in_scope_or_scp(make: Make, web: WebServer) -> None:
    directory = make(scopes=("smtp", "mail"))
    for good in (
        {"scope": "mail smtp"},
        {"scp": "smtp mail x"},
        {"scp": ["smtp", "mail"]},
        {"scope": "smtp", "scp": "mail"},
    ):
        assert isinstance(await ask(directory, signed(web, **good)), Identity)
    assert why(await ask(directory, signed(web, scope="smtp"))) == 'scope "mail"'


# -- the rest


async def test_nobody_has_a_password_here(make: Make) -> None:
    directory = make()
    assert await directory.verify(PasswordCredentials("anna", "x"), known_place=True) == Denied(Reason.UNKNOWN)


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe", b"two\nlines", b"x" * 5_000])
def test_a_secret_that_is_none_is_said_at_once(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    settings = OauthSettings(name="corp", issuer="https://id.example.org", client_id="x", client_secret=path)
    with pytest.raises(Unusable, match=r"^client_secret .*secret: (cannot be read|expected one line)"):
        OauthDirectory(settings)


async def test_each_step_can_be_told_without_the_token(make: Make, web: WebServer) -> None:
    lines: list[str] = []
    directory = make(narrate=lines.append)
    await directory.prepare()
    token = signed(web, aud="others")
    await ask(directory, token)
    told = "\n".join(lines)
    assert f"GET {web.url}/jwks: 200" in told and "1 keys" in told and "the token is refused: audience" in told
    assert token not in told and token.split(".")[1] not in told


async def test_closed_while_it_asks_it_leaves_nothing_behind(make: Make, web: WebServer) -> None:
    web.answers["/introspect"] = None
    directory = make(check_by=CheckBy.INTROSPECTION, introspection_url=f"{web.url}/introspect")
    asking = asyncio.create_task(ask(directory, "t"))
    await web.heard.wait()
    directory.close()
    with pytest.raises(Unavailable, match="closed"):
        await asking
    with pytest.raises(Unavailable, match="closed"):
        await ask(directory, "t")


async def test_closed_while_keys_are_fetched_whoever_waits_is_told(make: Make, web: WebServer) -> None:
    web.answers["/jwks"] = None
    directory = make(keys_url=f"{web.url}/jwks")
    asking = asyncio.create_task(ask(directory, signed(web)))
    await web.heard.wait()
    directory.close()
    with pytest.raises(Unavailable, match="closed"):
        await asking


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("pillarbox.directory.oauth.")]:
        if not name.endswith(".settings"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(Unusable, match=r'"corp": aiohttp is not installed: .*/bin/pip install "pillarbox\[oauth\]"'):
        make_oauth(OauthSettings(name="corp", issuer="https://id.example.org"), None)
