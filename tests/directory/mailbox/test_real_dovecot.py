"""The sign-in at a real Dovecot: IMAP and POP3, in TLS from the start, by STARTTLS and STLS, and in the clear."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.directory.mailbox.behind import ask, end
from tests.support.certs import Authority
from tests.support.dovecot import PASSWORD, Dovecot, running_dovecot
from tests.support.line_server import Peer, line_server

from pillarbox.directory.base import Denied, Identity, NotReached, Reason, Unavailable
from pillarbox.directory.mailbox.backend import MailboxBackend
from pillarbox.directory.mailbox.settings import MailboxSettings
from pillarbox.directory.servers import FAILURES
from pillarbox.directory.wire import Place

ODD = {
    "quotes@example.org": '"quoted" and \\back\\slashed\\ "',
    "braces@example.org": "{3} {5+}",
    "wide@example.org": "ünï \N{SNOWMAN} \N{PILE OF POO}",
    "spaces@example.org": " at both ends ",
    "long@example.org": "ü" * 400,
}
PEOPLE = {"anna@example.org": PASSWORD, "bob@example.org": PASSWORD, "carl@example.org": PASSWORD, **ODD}

WAYS = [
    ("imap", "tls", "imaps"),
    ("imap", "starttls", "imap"),
    ("imap", "none", "imap"),
    ("pop3", "tls", "pop3s"),
    ("pop3", "starttls", "pop3"),
    ("pop3", "none", "pop3"),
]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def dovecot(authority: Authority) -> Iterator[Dovecot]:
    """Offers PLAIN."""
    with running_dovecot(
        authority.issue("localhost"), PEOPLE, closed=["bob@example.org"], denied=["carl@example.org"]
    ) as running:
        yield running


@contextlib.asynccontextmanager
async def without_plain(port: int) -> AsyncIterator[int]:
    """A port before Dovecot's that hides PLAIN: what is left is IMAP's LOGIN, and POP3's USER and PASS."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while octets := await reader.read(65_536):
            writer.write(octets.replace(b"AUTH=PLAIN", b"AUTH=OTHER").replace(b"SASL PLAIN", b"SASL OTHER"))
        writer.close()

    async def talk(peer: Peer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(pump(reader, peer.writer), pump(peer.reader, writer))
        finally:
            writer.close()

    async with line_server(talk) as server:
        yield server.port


def settings(dovecot: Dovecot, authority: Authority, way: tuple[str, str, str], **changes: Any) -> MailboxSettings:
    protocol, tls, port = way
    found: dict[str, Any] = {
        "name": "mailboxes",
        "protocol": protocol,
        "tls": tls,
        "servers": (Place("localhost", getattr(dovecot, port)),),
        "ca": authority.ca,
        "domains": ("example.org", "broken.example"),
        "timeout": 20.0,
    }
    return MailboxSettings(**{**found, **changes})


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
async def test_right_wrong_unknown_disabled(
    dovecot: Dovecot, authority: Authority, way: tuple[str, str, str]
) -> None:
    backend = MailboxBackend(settings(dovecot, authority, way))
    right = Identity("anna@example.org", frozenset({"anna@example.org"}))
    assert await ask(backend, PASSWORD) == right
    assert await ask(backend, PASSWORD, login="ANNA@example.org") == right
    for password in ("wrong", PASSWORD + " ", PASSWORD.upper(), "x" * 1_024):
        found = await ask(backend, password)
        assert isinstance(found, Denied)
        assert found.reason is Reason.OPAQUE
    unknown = await ask(backend, PASSWORD, login="nobody@example.org")
    assert isinstance(unknown, Denied)
    assert unknown.reason is Reason.OPAQUE
    for login in ("bob@example.org", "carl@example.org"):
        assert isinstance(await ask(backend, PASSWORD, login=login), Denied)
    await end(backend)


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
async def test_a_server_that_cannot_say_denies_nobody(
    dovecot: Dovecot, authority: Authority, way: tuple[str, str, str]
) -> None:
    backend = MailboxBackend(settings(dovecot, authority, way))
    assert isinstance(await ask(backend, PASSWORD, login="anna@broken.example"), NotReached)
    await end(backend)


async def test_imap_tells_who_is_disabled(dovecot: Dovecot, authority: Authority) -> None:
    backend = MailboxBackend(settings(dovecot, authority, WAYS[0]))
    found = await ask(backend, PASSWORD, login="bob@example.org")
    assert isinstance(found, Denied)
    assert found.reason is Reason.DISABLED
    await end(backend)


@pytest.mark.parametrize("way", [WAYS[0], WAYS[3]], ids=" ".join)
@pytest.mark.parametrize("login", ODD)
async def test_odd_passwords_by_plain(
    dovecot: Dovecot, authority: Authority, way: tuple[str, str, str], login: str
) -> None:
    await _odd(MailboxBackend(settings(dovecot, authority, way)), login)


@pytest.mark.parametrize("way", [WAYS[2], WAYS[5]], ids=" ".join)
@pytest.mark.parametrize("login", ODD)
async def test_odd_passwords_by_login_and_by_user_and_pass(
    dovecot: Dovecot, authority: Authority, way: tuple[str, str, str], login: str
) -> None:
    if way[0] == "pop3" and login == "long@example.org":
        return  # longer than POP3 lets a password be: test_what_user_and_pass_cannot_say_is_not_said
    lines: list[str] = []
    async with without_plain(getattr(dovecot, way[2])) as port:
        changed = settings(dovecot, authority, way, servers=(Place("127.0.0.1", port),))
        await _odd(MailboxBackend(changed, lines.append), login)
    assert "asked LOGIN" in lines or "asked USER and PASS" in lines


async def _odd(backend: MailboxBackend, login: str) -> None:
    assert isinstance(await ask(backend, ODD[login], login=login), Identity)
    assert isinstance(await ask(backend, ODD[login] + "x", login=login), Denied)
    await end(backend)


@pytest.mark.parametrize("password", ['x"\r\na9 LOGIN "anna@example.org" "y', "x\r\nPASS y", "a\nb", "a\rb", "\x01"])
@pytest.mark.parametrize("way", [WAYS[2], WAYS[5]], ids=" ".join)
async def test_line_ends_in_a_password_are_no_commands(
    dovecot: Dovecot, authority: Authority, way: tuple[str, str, str], password: str
) -> None:
    async with without_plain(getattr(dovecot, way[2])) as port:
        backend = MailboxBackend(settings(dovecot, authority, way, servers=(Place("127.0.0.1", port),)))
        assert isinstance(await ask(backend, password), Denied)
        assert isinstance(await ask(backend, PASSWORD), Identity)
        await end(backend)


ODD_LOGINS = ["\N{SNOWMAN}", 'a"b\\', "x" * 10_000, "{5+}", "%$u+'#"]


@pytest.mark.parametrize("login", ODD_LOGINS, ids=range(len(ODD_LOGINS)))
@pytest.mark.parametrize("plain", [True, False], ids=["plain", "other"])
@pytest.mark.parametrize("way", [WAYS[2], WAYS[5]], ids=" ".join)
async def test_an_odd_login_keeps_nobody_else_out(
    dovecot: Dovecot, authority: Authority, way: tuple[str, str, str], plain: bool, login: str
) -> None:
    port = getattr(dovecot, way[2])
    async with contextlib.AsyncExitStack() as stack:
        where = Place("127.0.0.1", port if plain else await stack.enter_async_context(without_plain(port)))
        backend = MailboxBackend(settings(dovecot, authority, way, servers=(where,)))
        for _ in range(FAILURES + 1):
            assert isinstance(await ask(backend, "wrong", login=f"{login}@example.org"), Denied | Unavailable)
        assert isinstance(await ask(backend, PASSWORD), Identity)
        await end(backend)


async def test_no_password_is_shown_or_logged(dovecot: Dovecot, authority: Authority) -> None:
    lines: list[str] = []
    for way in WAYS:
        backend = MailboxBackend(settings(dovecot, authority, way), lines.append)
        await ask(backend, PASSWORD)
        await ask(backend, "wr0ng-one")
        await end(backend)
    assert len(lines) >= 2 * 3 * len(WAYS)
    assert not any(PASSWORD in line or "wr0ng-one" in line for line in lines)


@pytest.mark.parametrize("way", WAYS[:2] + WAYS[3:5], ids=" ".join)
async def test_the_certificate_must_be_the_host_s_and_of_the_authority(
    dovecot: Dovecot, authority: Authority, way: tuple[str, str, str], tmp_path: Path
) -> None:
    cases: list[dict[str, Any]] = [
        {"tls_name": "mail.example.org"},
        {"servers": (Place("127.0.0.1", getattr(dovecot, way[2])),)},
        {"ca": Authority(tmp_path).ca},
        {"ca": None},
    ]
    for changes in cases:
        backend = MailboxBackend(settings(dovecot, authority, way, **changes))
        found = await ask(backend, PASSWORD)
        assert isinstance(found, NotReached)
        assert "certificate: " in str(found)
        await end(backend)


async def test_it_goes_on_after_a_restart(authority: Authority) -> None:
    with running_dovecot(authority.issue("localhost"), PEOPLE) as dovecot:
        backend = MailboxBackend(settings(dovecot, authority, WAYS[0]))
        assert isinstance(await ask(backend, PASSWORD), Identity)
        dovecot.stop()
        assert isinstance(await ask(backend, PASSWORD), Unavailable)
        dovecot.start()
        # connections that are left over from before, or were made while it began, may have been taken for ready
        found = [await ask(backend, PASSWORD)]
        async with asyncio.timeout(30):
            while not isinstance(found[-1], Identity):
                await asyncio.sleep(0.1)
                found.append(await ask(backend, PASSWORD))
        assert not any(isinstance(each, Denied) for each in found)
        await end(backend)
