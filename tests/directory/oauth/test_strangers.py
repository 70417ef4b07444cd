"""oauth/directory.py: tokens from places that are not known wait apart, and what becomes of them hurts nobody."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm
from tests.support.web import WebServer, answer, json_answer

from pillarbox.directory.base import Denied, Identity, Unavailable
from pillarbox.directory.oauth.directory import ASKING, STRANGERS_WAITING, OauthDirectory
from pillarbox.directory.oauth.settings import CheckBy, OauthSettings
from pillarbox.sasl.mechanism import TokenCredentials

KEY = Ed25519PrivateKey.generate()
Make = Callable[..., OauthDirectory]


@pytest.fixture
async def web() -> AsyncIterator[WebServer]:
    async with WebServer() as server:
        public = OKPAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
        server.answers["/jwks"] = json_answer({"keys": [{**public, "kid": "k", "use": "sig"}]})
        yield server


@pytest.fixture
async def make(web: WebServer, tmp_path: Path) -> AsyncIterator[Make]:
    """Makes directories of this provider."""
    (tmp_path / "secret").write_text("a secret\n")
    made: list[OauthDirectory] = []

    def one(check_by: CheckBy, **changed: Any) -> OauthDirectory:
        if check_by is CheckBy.INTROSPECTION:
            changed |= {"client_id": "us", "client_secret": tmp_path / "secret"}
        keys: dict[str, Any] = {
            "keys_url": f"{web.url}/jwks",
            "introspection_url": f"{web.url}/introspect",
            "timeout": 60.0,
        }
        settings = OauthSettings(name="corp", issuer=web.url, audiences=("us",), check_by=check_by, **keys, **changed)
        made.append(OauthDirectory(settings))
        return made[-1]

    yield one
    for each in made:
        each.close()


def says(web: WebServer) -> bytes:
    return json_answer({"active": True, "aud": "us", "sub": "anna"})


def signed(web: WebServer, kid: str = "k") -> str:
    claims = {"iss": web.url, "aud": "us", "sub": "anna", "exp": int(time.time()) + 300}
    return jwt.encode(claims, KEY, algorithm="EdDSA", headers={"kid": kid, "typ": "at+jwt"})


async def ask(directory: OauthDirectory, token: str, known_place: bool) -> str:
    """The login; the cause of a refusal; "unavailable: " and why."""
    try:
        answer = await directory.verify_token(TokenCredentials("", token), known_place=known_place)
    except Unavailable as error:
        return f"unavailable: {error}"
    return answer.login if isinstance(answer, Identity) else cause(answer)


def cause(answer: Denied) -> str:
    return answer.details["cause"]


async def until(reached: Callable[[], bool]) -> None:
    """The turn of what runs beside, until then."""
    async with asyncio.timeout(60):
        while not reached():  # noqa: ASYNC110  the server behind and finished tasks set no event
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(("connections", "strangers"), [(8, 4), (2, 1), (1, 1)])
async def test_an_owners_question_is_sent_while_strangers_flood_a_slow_provider(
    connections: int, strangers: int, make: Make, web: WebServer
) -> None:
    directory = make(CheckBy.INTROSPECTION, connections=connections)
    web.answers["/introspect"] = None  # whoever asks now gets no answer
    flood = [
        asyncio.create_task(ask(directory, f"made-up-{number}", False)) for number in range(STRANGERS_WAITING + 50)
    ]
    await until(lambda: web.count("/introspect") == strangers and sum(task.done() for task in flood) == 50)
    web.answers["/introspect"] = says(web)
    assert await ask(directory, "the-owners", True) == "anna"
    assert web.count("/introspect") == strangers + 1, "the owner's is the only one that was sent meanwhile"
    assert sum(task.done() for task in flood) == 50
    turned_away = {task.result() for task in flood if task.done()}
    assert turned_away == {"unavailable: too many tokens from unknown places wait for the provider already"}
    directory.close()
    assert {await task for task in flood} - turned_away == {"unavailable: closed"}


async def test_an_owner_does_not_join_a_strangers_place_in_the_line_for_the_same_token(
    make: Make, web: WebServer
) -> None:
    directory = make(CheckBy.INTROSPECTION)
    web.answers["/introspect"] = None
    flood = [asyncio.create_task(ask(directory, f"token-{number}", False)) for number in range(40)]
    await until(lambda: web.count("/introspect") == 4)
    web.answers["/introspect"] = says(web)
    assert await ask(directory, "token-39", True) == "anna"
    assert not flood[39].done()
    directory.close()
    await asyncio.gather(*flood)


async def test_a_stranger_with_a_good_token_gets_its_turn(make: Make, web: WebServer) -> None:
    directory = make(CheckBy.INTROSPECTION)
    web.answers["/introspect"] = json_answer({"active": False})
    web.gate.clear()
    flood = [asyncio.create_task(ask(directory, f"made-up-{number}", False)) for number in range(100)]
    await until(lambda: web.count("/introspect") == 4)
    web.gate.set()
    assert {await task for task in flood} == {"not active"}
    web.answers["/introspect"] = says(web)
    assert await ask(directory, "good", False) == "anna"


async def test_tokens_that_the_provider_fails_at_pause_strangers_only(make: Make, web: WebServer) -> None:
    directory = make(CheckBy.INTROSPECTION)
    web.answers["/introspect"] = answer(b"", status="500 Oops")
    for number in range(10):
        assert "500" in await ask(directory, f"poison-{number}", False)
    assert web.count("/introspect") == 3
    web.answers["/introspect"] = says(web)
    assert await ask(directory, "good", True) == "anna"
    assert "not asked for a while" in await ask(directory, "better", False)


async def test_what_a_stranger_has_learned_is_remembered_for_all_and_what_an_owner_has(
    make: Make, web: WebServer
) -> None:
    directory = make(CheckBy.INTROSPECTION)
    web.answers["/introspect"] = says(web)
    for token, first in (("one", True), ("two", False)):
        for known_place in (first, not first):
            assert await ask(directory, token, known_place) == "anna"
    assert web.count("/introspect") == 2


async def test_known_places_have_an_end_too(make: Make, web: WebServer) -> None:
    directory = make(CheckBy.INTROSPECTION)
    web.answers["/introspect"] = None
    flood = [asyncio.create_task(ask(directory, f"token-{number}", True)) for number in range(ASKING + 1)]
    assert await flood[ASKING] == "unavailable: too many tokens wait for the provider already"
    assert not any(task.done() for task in flood[:ASKING])
    directory.close()
    await asyncio.gather(*flood)


async def test_strangers_who_wait_for_the_first_keys_are_bounded_and_owners_wait_beside_them(
    make: Make, web: WebServer
) -> None:
    directory = make(CheckBy.KEYS)
    web.gate.clear()
    flood = [asyncio.create_task(ask(directory, signed(web), False)) for _ in range(STRANGERS_WAITING + 50)]
    await until(lambda: sum(task.done() for task in flood) == 50)
    owner = asyncio.create_task(ask(directory, signed(web), True))
    await until(lambda: web.count("/jwks") == 1)
    web.gate.set()
    assert await owner == "anna"
    assert [await task for task in flood].count("anna") == STRANGERS_WAITING
    assert web.count("/jwks") == 1


async def test_made_up_key_ids_of_strangers_keep_no_owner_waiting(make: Make, web: WebServer) -> None:
    directory = make(CheckBy.KEYS)
    assert await ask(directory, signed(web), True) == "anna"
    web.gate.clear()
    flood = [asyncio.create_task(ask(directory, signed(web, f"x{number}"), False)) for number in range(100)]
    await until(lambda: web.count("/jwks") == 2)
    assert await ask(directory, signed(web), True) == "anna"
    assert not any(task.done() for task in flood)
    web.gate.set()
    assert {await task for task in flood} == {"key"}
    assert await ask(directory, signed(web, "y"), False) == "key"
    assert web.count("/jwks") == 2
