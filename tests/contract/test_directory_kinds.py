"""What every directory with a server behind promises, asked of the real server of each kind."""

import asyncio
import contextlib
import inspect
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.contract.directories import KINDS, PEOPLE, RIGHT, Kind
from tests.support.certs import Authority
from tests.support.dovecot import Dovecot, running_dovecot

from pillarbox.directory.base import Denied, Identity, Reason, Unavailable
from pillarbox.directory.kinds import make_backend
from pillarbox.directory.tries import Tries
from pillarbox.directory.upstream import Upstream
from pillarbox.sasl.mechanism import PasswordCredentials

WITH_SERVERS = tuple(kind for kind in KINDS if kind.at is not None)
AT_HAND = 60.0
"""Seconds in which anything here must have ended."""


@pytest.fixture(scope="module")
def dovecot(authority: Authority) -> Iterator[Dovecot]:
    """One for all tests here, which does not make an address wait longer after each failure: all of ours come from
    one."""
    patient = "service anvil {\n  unix_listener anvil-auth-penalty {\n    mode = 0\n  }\n}"
    issued = authority.issue("localhost")
    with running_dovecot(issued, PEOPLE, denied=("bob@example.org",), more=patient) as running:
        yield running


class Opened:
    """A directory of a kind."""

    def __init__(self, kind: Kind, upstream: Upstream) -> None:
        self.kind, self.upstream = kind, upstream

    async def ask(self, login: str, password: str = RIGHT, *, known: bool = True, authzid: str = "") -> str:
        """The login, or the reason of a refusal; "unavailable"."""
        try:
            async with asyncio.timeout(AT_HAND):
                credentials = PasswordCredentials(login, password, authzid)
                answer = await self.upstream.verify(credentials, known_place=known)
        except Unavailable:
            return "unavailable"
        return answer.reason.name.lower() if isinstance(answer, Denied) else answer.login

    @property
    def no(self) -> str:
        """What it says of a wrong password."""
        return "opaque" if self.kind.opaque else "wrong"


async def _end(upstream: Upstream) -> None:
    """Also of what was being made when it was closed, and of TLS that says goodbye: no loop that has ended can."""
    upstream.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=10)
    for _ in range(10):
        await asyncio.sleep(0.01)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opened]:
    kind: Kind = request.param
    made = kind.make(request, tmp_path)
    upstream = await made.open()
    yield Opened(kind, upstream)
    await _end(upstream)
    if hasattr(made, "close"):
        ending = made.close()
        if inspect.isawaitable(ending):
            await ending


async def test_the_right_password_yields_who_it_is_in_the_directorys_spelling(opened: Opened) -> None:
    for login in (opened.kind.login, opened.kind.login.upper(), opened.kind.login):
        answer = await opened.upstream.verify(PasswordCredentials(login, RIGHT, ""), known_place=True)
        assert isinstance(answer, Identity), answer
        assert (answer.login, answer.addresses) == (opened.kind.login, opened.kind.addresses)
        assert answer.source == opened.upstream.settings.name
    found = await opened.upstream.find_person(opened.kind.login)
    assert isinstance(found, Identity) and found.addresses == opened.kind.addresses


async def test_wrong_unknown_and_disabled_are_told_apart_as_far_as_it_can(opened: Opened) -> None:
    kind = opened.kind
    for _ in range(2):  # asked, then remembered
        assert await opened.ask(kind.login, "wrong") == opened.no
        assert await opened.ask(kind.login.replace("anna", "nobody")) == ("opaque" if kind.opaque else "unknown")
        assert await opened.ask(kind.bob) == kind.tells
    assert await opened.ask(kind.login) == kind.login, "nobody else's failure hurts"


async def test_an_almost_right_password_is_wrong(opened: Opened) -> None:
    for password in (RIGHT[:-1], f"{RIGHT} ", RIGHT.upper()):
        assert await opened.ask(opened.kind.login, password) == opened.no
    assert await opened.ask(opened.kind.login) == opened.kind.login


async def test_an_empty_password_is_never_right(opened: Opened) -> None:
    for login in (opened.kind.login, opened.kind.bob, "", "nobody"):
        for password in ("", "\N{SOFT HYPHEN}", "\0"):
            assert await opened.ask(login, password) == "wrong"


async def test_only_oneself_may_be_asked_for_as_authzid(opened: Opened) -> None:
    login = opened.kind.login
    assert await opened.ask(login, authzid=login.upper()) == login
    assert await opened.ask(login, authzid=opened.kind.bob) == "wrong"


HOSTILE = (
    "\0",
    "{0}\0",
    "{0}\r\nA2 LOGOUT",
    "{0}\n",
    "{0}" + "x" * 10_000,
    "x" * 255,
    "*",
    "{0}*",
    "an?a",
    "{0})(uid=*",
    "*)(objectClass=*",
    "{0}))(|(uid=*",
    "\\2a",
    "cn={0},dc=example,dc=org",
    "uid={0},ou=people,dc=example,dc=org",
    "{0},ou=people",
    '{0}+uid="x"',
    "#{0}",
    "{0}' OR '1'='1",
    "' OR 1=1 --",
    "'; DROP TABLE people; --",
    "{0}\\' OR 1=1 --",
    "%",
    "{0}%",
    "_nna",
    "$1 :login %(login)s ?",
    '{0}" "x',
    "{5}\r\n{0}",
    "{{5+}}",
    "({0})",
    "{0}\tuser=bob",
    "{0}:{0}",
    "{0}:x:0:0::/:",
    "\ufffd\u202e{0}",
    "\ud800",
    "\u0627a",
    "\N{CYRILLIC SMALL LETTER A}nna@example.org",
    "..",
    "../../etc/passwd",
    "@",
    "{0}@@example.org",
    "EXAMPLE\\{0}",
)


async def test_hostile_logins_let_nobody_in_and_hurt_nobody(opened: Opened) -> None:
    login = opened.kind.login
    hostile = [pattern.replace("{0}", login).replace("{{", "{").replace("}}", "}") for pattern in HOSTILE]
    answers = await asyncio.gather(*(opened.ask(each, RIGHT) for each in hostile))
    for each, said in zip(hostile, answers, strict=True):
        assert said in ("wrong", "unknown", "opaque", "disabled"), (each, said)
    assert await opened.ask(login) == login


async def test_spaces_around_a_login_make_it_nobody_else(opened: Opened) -> None:
    """An LDAP server leaves them out when it compares (RFC 4518 2.6.1)."""
    login = opened.kind.login
    for spaced in (f" {login}", f"{login} "):
        assert await opened.ask(spaced, "wrong") in ("unknown", opened.no)
        assert await opened.ask(spaced) in ("unknown", opened.no, login)


async def test_hostile_passwords_are_wrong_and_hurt_nobody(opened: Opened) -> None:
    login = opened.kind.login
    passwords = (
        f"{RIGHT}\0",
        f"{RIGHT}\r\nA2 NOOP",
        f"{RIGHT}\n",
        "x" * 1024,
        "x" * 10_000,
        "*",
        "{8192}",
        "{3+}\r\nabc",
        '"',
        '\\" "',
        "\\",
        "' OR '1'='1",
        "%s%n",
        "{PLAIN}x",
        "{SHA512-CRYPT}$6$",
        "\ud800",
        "\ufffd",
        "\N{PILE OF POO}" * 100,
    )
    answers = await asyncio.gather(*(opened.ask(login, password, known=False) for password in passwords))
    for password, said in zip(passwords, answers, strict=True):
        assert said in ("wrong", "opaque", "locked"), (password, said)
    assert await opened.ask(login) == login


async def test_many_at_once_get_their_own_answers(opened: Opened) -> None:
    login = opened.kind.login
    asked = [(login, RIGHT) if number % 2 else (login, f"guess {number % 6}") for number in range(40)]
    answers = await asyncio.gather(*(opened.ask(*each) for each in asked))
    for (_, password), answer in zip(asked, answers, strict=True):
        assert answer == (login if password == RIGHT else opened.no)


async def test_sessions_that_leave_hurt_nobody(opened: Opened) -> None:
    login = opened.kind.login
    leaving = [asyncio.create_task(opened.ask(login, f"guess {number}")) for number in range(4)]
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    await asyncio.wait(leaving)
    assert await opened.ask(login) == login


# -- servers that are not there, or say nothing


@pytest.fixture(params=WITH_SERVERS, ids=lambda kind: kind.name)
async def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Opened, socket.socket]]:
    """A directory whose server is this socket, which listens and never answers."""
    kind: Kind = request.param
    made = kind.make(request, tmp_path)
    upstream = await made.open()
    await _end(upstream)
    if hasattr(made, "close"):
        ending = made.close()
        if inspect.isawaitable(ending):
            await ending
    assert kind.at is not None
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = kind.at(upstream.settings, silent.getsockname()[1])
        directory = Upstream(make_backend(settings), settings, Tries())
        yield Opened(kind, directory), silent
        await _end(directory)


async def test_a_server_that_says_nothing_is_unavailable_in_time(elsewhere: tuple[Opened, socket.socket]) -> None:
    opened, _ = elsewhere
    began = asyncio.get_running_loop().time()
    assert await opened.ask(opened.kind.login) == "unavailable"
    assert asyncio.get_running_loop().time() - began < AT_HAND / 2


async def test_a_server_that_is_down_is_unavailable_and_costs_nothing_after_a_while(
    elsewhere: tuple[Opened, socket.socket],
) -> None:
    opened, silent = elsewhere
    silent.close()
    for number in range(8):
        assert await opened.ask(opened.kind.login, f"{RIGHT} {number}") == "unavailable"
    assert await opened.ask(opened.kind.login) == "unavailable", "never a wrong password"


async def test_closing_in_the_middle_leaves_nobody_waiting(elsewhere: tuple[Opened, socket.socket]) -> None:
    opened, _ = elsewhere
    asking = asyncio.create_task(opened.ask(opened.kind.login))
    await asyncio.sleep(0.05)
    with contextlib.suppress(Unavailable):
        opened.upstream.close()
    assert await asking == "unavailable"
    assert await opened.ask(opened.kind.login) == "unavailable"


def test_the_reasons_that_the_suite_reads_are_there() -> None:
    assert {"opaque", "wrong", "unknown", "disabled", "locked"} <= {reason.name.lower() for reason in Reason}
