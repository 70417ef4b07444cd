"""What every directory of tokens promises, over signed tokens and over introspection, with a real OpenID provider."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.oidc import AUDIENCE, SECRET, Provider, running_provider

from pillarbox.directory.base import Denied, Identity, Reason, Unavailable
from pillarbox.directory.oauth.directory import OauthDirectory
from pillarbox.directory.oauth.settings import CheckBy, OauthSettings
from pillarbox.sasl.mechanism import TokenCredentials

AT_HAND = 60.0
"""Seconds in which anything here must have ended."""


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with running_provider(tmp_path_factory.mktemp("provider") / "provider") as running:
        yield running


@dataclass
class Kind:
    """``jwt`` and so on: what tokens are called at the provider."""

    provider: Provider
    check_by: CheckBy
    folder: Path
    opened: list[OauthDirectory]

    def token(self, person: str = "anna", *, audience: str = "", provider: Provider | None = None) -> str:
        """Of a person; for ``audience`` "other" it is for another service."""
        signed = self.check_by is CheckBy.KEYS
        resource = {True: audience or "jwt", False: f"{audience}-opaque" if audience else "opaque"}[signed]
        return (provider or self.provider).sign_in(person, resource)

    def open(self, find_person: Any = None, now: Callable[[], float] = time.time, **changed: Any) -> OauthDirectory:
        """A directory of this provider."""
        secret = self.folder / "secret"
        secret.write_text(SECRET)
        client = {} if self.check_by is CheckBy.KEYS else {"client_id": "pillarbox", "client_secret": secret}
        made: dict[str, Any] = {
            "name": "corp",
            "issuer": self.provider.issuer,
            "audiences": (AUDIENCE,),
            "login_claims": ("preferred_username",),
            "check_by": self.check_by,
            **client,
            **changed,
        }
        self.opened.append(OauthDirectory(OauthSettings(**made), find_person, now=now))
        return self.opened[-1]


@pytest.fixture(params=[CheckBy.KEYS, CheckBy.INTROSPECTION], ids=lambda how: how.value)
async def kind(request: pytest.FixtureRequest, provider: Provider, tmp_path: Path) -> AsyncIterator[Kind]:
    made = Kind(provider, request.param, tmp_path, [])
    yield made
    for each in made.opened:
        each.close()
    for _ in range(10):  # of connections that say goodbye
        await asyncio.sleep(0.01)


async def ask(directory: OauthDirectory, token: str, login: str = "", *, known: bool = True) -> str:
    """The login, or the reason of a refusal; "unavailable"."""
    try:
        async with asyncio.timeout(AT_HAND):
            answer = await directory.verify_token(TokenCredentials(login, token), known_place=known)
    except Unavailable:
        return "unavailable"
    return answer.reason.name.lower() if isinstance(answer, Denied) else answer.login


async def test_a_right_token_yields_who_it_is(kind: Kind) -> None:
    directory, token = kind.open(), await asyncio.to_thread(kind.token)
    for known in (True, False):
        for login in ("", "anna", "ANNA", "Anna@example.org"):
            answer = await directory.verify_token(TokenCredentials(login, token), known_place=known)
            assert isinstance(answer, Identity) and answer.login == "anna" and answer.source == "corp"


async def test_a_right_token_is_nobody_elses(kind: Kind) -> None:
    directory, token = kind.open(), await asyncio.to_thread(kind.token)
    for login in ("bob", "anna@example.com", "ann", "a\x07", "\0", "anna\0", "x" * 10_000, "\ud800"):
        assert await ask(directory, token, login) == "wrong"
    assert await ask(directory, token) == "anna"


async def test_a_wrong_token_lets_nobody_in(kind: Kind) -> None:
    directory, token = kind.open(), await asyncio.to_thread(kind.token)
    for wrong in (token[:-2], token + "x", token.swapcase(), token[1:], "a", "a.b.c", "bnVsbA.bnVsbA.bnVsbA"):
        for _ in range(2):  # asked, then remembered
            assert await ask(directory, wrong) == "wrong"
    assert await ask(directory, token) == "anna"


async def test_an_expired_token_is_refused_even_if_it_was_good_a_moment_ago(kind: Kind) -> None:
    at = [time.time()]
    directory, token = kind.open(now=lambda: at[0]), await asyncio.to_thread(kind.token)
    assert await ask(directory, token) == "anna"
    at[0] += 2 * 3_600
    assert await ask(directory, token) == "expired"


async def test_a_token_for_another_service_is_refused(kind: Kind) -> None:
    directory, token = kind.open(), await asyncio.to_thread(lambda: kind.token(audience="other"))
    assert await ask(directory, token) == "wrong"


async def test_a_token_of_another_issuer_is_refused(kind: Kind, tmp_path: Path) -> None:
    def of_another() -> str:
        with running_provider(tmp_path / "other") as other:
            return kind.token(provider=other)

    directory, foreign = kind.open(), await asyncio.to_thread(of_another)
    assert await ask(directory, foreign) == "wrong"
    assert await ask(directory, await asyncio.to_thread(kind.token)) == "anna"


async def test_an_id_token_is_none_of_these(kind: Kind) -> None:
    tokens = await asyncio.to_thread(kind.provider.tokens_of, "anna")
    assert await ask(kind.open(audiences=("thunderbird",)), tokens["id_token"]) == "wrong"


async def test_who_is_disabled_elsewhere_stays_out_with_a_right_token(kind: Kind) -> None:
    async def disabled(login: str) -> Denied:
        return Denied(Reason.DISABLED, login)

    async def away(_login: str) -> Denied:
        raise Unavailable("people: away")

    token = await asyncio.to_thread(kind.token)
    assert await ask(kind.open(disabled), token) == "disabled"
    assert await ask(kind.open(away), token) == "unavailable"


HOSTILE = (
    "",
    "\0",
    "{0}\0",
    "\0{0}",
    "{0}\r\nX: y",
    "{0}\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "{0}\n",
    " {0}",
    "{0} ",
    "{0}&active=true",
    "{0}%00",
    "{0}=",
    "{0}.",
    ".{0}",
    "x" * 10_240,
    "{0}" + "x" * 10_240,
    "." * 10_240,
    "..",
    "{}",
    "null",
    "' OR 1=1 --",
    "../../etc/passwd",
    "\ud800",
    "\N{PILE OF POO}",
    "Bearer {0}",
)


async def test_hostile_tokens_let_nobody_in_and_hurt_nobody(kind: Kind) -> None:
    directory, token = kind.open(), await asyncio.to_thread(kind.token)
    hostile = [pattern.replace("{0}", token) for pattern in HOSTILE]
    for known in (False, True):
        answers = await asyncio.gather(*(ask(directory, each, known=known) for each in hostile))
        for each, said in zip(HOSTILE, answers, strict=True):
            assert said == "wrong", (each, said)
        assert await ask(directory, token, known=known) == "anna"


async def test_many_at_once_get_their_own_answers(kind: Kind) -> None:
    directory = kind.open()
    anna, mallory = [await asyncio.to_thread(kind.token, name) for name in ("anna", "mallory")]
    tokens = [(anna, "anna"), (mallory, "mallory"), ("made.up.token", "wrong")] * 15
    answers = await asyncio.gather(*(ask(directory, token) for token, _ in tokens))
    assert answers == [expected for _, expected in tokens]


async def test_sessions_that_leave_hurt_nobody(kind: Kind) -> None:
    directory, token = kind.open(), await asyncio.to_thread(kind.token)
    leaving = [asyncio.create_task(ask(directory, token)) for _ in range(4)]
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    await asyncio.wait(leaving)
    assert await ask(directory, token) == "anna"


# -- a provider that is not there, or says nothing


async def test_a_provider_that_says_nothing_is_unavailable_in_time(kind: Kind) -> None:
    token = await asyncio.to_thread(kind.token)
    directory = kind.open(timeout=0.5)
    kind.provider.hang()
    try:
        for known in (True, False):
            assert await ask(directory, token, known=known) == "unavailable", "never a wrong token"
    finally:
        kind.provider.go_on()
    assert await ask(kind.open(), token) == "anna"


async def test_closing_in_the_middle_leaves_nobody_waiting(kind: Kind) -> None:
    token = await asyncio.to_thread(kind.token)
    directory = kind.open()
    kind.provider.hang()
    try:
        asking = asyncio.create_task(ask(directory, token))
        await asyncio.sleep(0.05)
        directory.close()
        assert await asking == "unavailable"
        assert await ask(directory, token) == "unavailable"
    finally:
        kind.provider.go_on()


async def test_a_provider_that_is_down_is_unavailable_to_who_has_not_asked_before(kind: Kind) -> None:
    token = await asyncio.to_thread(kind.token)
    knows, fresh = kind.open(), kind.open()
    assert await ask(knows, token) == "anna"
    with contextlib.ExitStack() as ends:
        await asyncio.to_thread(kind.provider.stop)
        ends.callback(kind.provider.start)
        for _ in range(8):
            assert await ask(fresh, token) == "unavailable", "never a wrong token"
        assert await ask(knows, token) == "anna", "whoever signed in a moment ago does not notice"
