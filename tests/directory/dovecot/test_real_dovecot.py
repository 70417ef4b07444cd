"""The password at a real Dovecot's authentication socket, UNIX and TCP."""

import asyncio
from collections.abc import Iterator

import pytest
from tests.support.certs import Authority
from tests.support.dovecot import PASSWORD, Dovecot, running_dovecot

from pillarbox.directory.base import Denied, Identity, NotReached, Reason, Unavailable
from pillarbox.directory.dovecot.backend import DovecotBackend
from pillarbox.directory.dovecot.settings import DovecotSettings
from pillarbox.directory.wire import Place

ODD = {
    "tabs@example.org": 'quotes " \\ {3}',
    "wide@example.org": "ünï \N{SNOWMAN} \N{PILE OF POO}",
    "spaces@example.org": " at both ends ",
    "long@example.org": "ü" * 512,
}
PEOPLE = {"anna@example.org": PASSWORD, "bob@example.org": PASSWORD, "carl@example.org": PASSWORD, **ODD}
ANNA = Identity("anna@example.org", frozenset({"anna@example.org"}))


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    issued = Authority(tmp_path_factory.mktemp("authority")).issue("localhost")
    with running_dovecot(issued, PEOPLE, closed=["bob@example.org"], denied=["carl@example.org"]) as running:
        yield running


def make(dovecot: Dovecot, kind: str = "unix") -> DovecotBackend:
    place = Place(path=str(dovecot.auth_socket)) if kind == "unix" else Place("127.0.0.1", dovecot.auth)
    domains = ("example.org", "broken.example")
    return DovecotBackend(DovecotSettings(name="dovecot", servers=(place,), domains=domains, timeout=20.0))


async def ask(backend: DovecotBackend, password: str, login: str = "anna@example.org") -> object:
    """What is said; of a denial its reason, of an Unavailable its type."""
    person = await backend.find(login)
    assert person is not None
    try:
        found = await backend.check(person, password)
    except Unavailable as error:
        return type(error)
    return found.reason if isinstance(found, Denied) else found


@pytest.mark.parametrize("kind", ["unix", "tcp"])
async def test_right_wrong_unknown_disabled(dovecot: Dovecot, kind: str) -> None:
    backend = make(dovecot, kind)
    assert await ask(backend, PASSWORD) == ANNA
    assert await ask(backend, PASSWORD, "Anna@Example.ORG") == ANNA
    assert await ask(backend, "wrong") is Reason.OPAQUE
    assert await ask(backend, PASSWORD, "nobody@example.org") is Reason.OPAQUE
    assert await ask(backend, PASSWORD, "bob@example.org") is Reason.DISABLED
    assert await ask(backend, "wrong", "bob@example.org") is Reason.OPAQUE
    assert await ask(backend, PASSWORD, "carl@example.org") is Reason.DISABLED
    assert await ask(backend, PASSWORD, "anna@broken.example") is NotReached
    await end(backend)


@pytest.mark.parametrize("login", ODD)
async def test_odd_passwords(dovecot: Dovecot, login: str) -> None:
    backend = make(dovecot)
    found = await ask(backend, ODD[login], login)
    assert isinstance(found, Identity)
    assert found.login == login
    assert await ask(backend, ODD[login] + "x", login) is Reason.OPAQUE
    await end(backend)


@pytest.mark.parametrize("login", ["a\tb", "a\nAUTH\t9\tPLAIN", "x" * 255, "{3}", "anna@example.org\t", "\x01t"])
async def test_hostile_names_are_nobody_s(dovecot: Dovecot, login: str) -> None:
    backend = make(dovecot)
    if await backend.find(login) is not None:
        assert await ask(backend, PASSWORD, login) is Reason.OPAQUE
    assert await ask(backend, PASSWORD) == ANNA
    await end(backend)


async def test_many_at_once_over_one_connection(dovecot: Dovecot) -> None:
    backend = make(dovecot)
    passwords = [PASSWORD, "wrong"] * 16
    found = await asyncio.gather(*(ask(backend, password) for password in passwords))
    assert found == [ANNA, Reason.OPAQUE] * 16
    await end(backend)


async def test_it_goes_on_after_a_restart(tmp_path_factory: pytest.TempPathFactory) -> None:
    issued = Authority(tmp_path_factory.mktemp("authority")).issue("localhost")
    with running_dovecot(issued, PEOPLE) as dovecot:
        backend = make(dovecot)
        assert await ask(backend, PASSWORD) == ANNA
        await asyncio.to_thread(dovecot.stop)
        # its authentication service may outlive it for a moment
        assert await ask(backend, PASSWORD) in {NotReached, Unavailable, ANNA}
        await asyncio.to_thread(dovecot.start)
        assert await ask(backend, PASSWORD) == ANNA
        await end(backend)


async def end(backend: DovecotBackend) -> None:
    backend.close()
    for _ in range(3):
        await asyncio.sleep(0)
