"""Servers that are down, hang or take over from each other; certificates; connections that are made ahead."""

import asyncio
import ssl
from pathlib import Path

import pytest
from tests.directory.mailbox.behind import ANNA, answer, ask, end, made_ahead, settings
from tests.support.certs import Authority
from tests.support.line_server import LineServer, Peer, line_server
from tests.support.ports import steady_ports

from pillarbox.directory.base import Denied, Identity, NotReached, Unavailable, Unusable
from pillarbox.directory.mailbox.backend import MailboxBackend
from pillarbox.directory.servers import FAILURES
from pillarbox.directory.wire import Place


async def honest(peer: Peer) -> None:
    """Lets everybody in whose password is not "wrong"."""
    await peer.say(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
    while line := await peer.line():
        tag, _, command = line.partition(b" ")
        if command == b"LOGOUT":
            return
        no = command.endswith(b'"wrong"')
        await peer.say(tag + (b" NO no\r\n" if no else b" OK yes\r\n"))


async def hanging(peer: Peer) -> None:
    """Accepts, and says nothing."""
    await peer.hang()


async def hanging_at_sign_in(peer: Peer) -> None:
    await peer.say(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
    await peer.hang()


def sign_ins(server: LineServer) -> int:
    return sum(b"LOGIN" in line for line in server.heard)


# ---- several servers


async def test_a_server_that_is_down_is_passed_over() -> None:
    (down,) = steady_ports(1)
    async with line_server(honest) as server:
        assert isinstance(await answer(down, server.port), Identity)


async def test_no_server_is_named_with_its_cause() -> None:
    down = steady_ports(2)
    found = await answer(*down)
    assert isinstance(found, NotReached)
    assert all(f"127.0.0.1:{port}: cannot connect: Connection refused" in str(found) for port in down)


async def test_one_that_says_nothing_has_had_no_password_and_is_passed_over() -> None:
    async with line_server(hanging) as first, line_server(honest) as second:
        assert isinstance(await answer(first.port, second.port, timeout=1.0), Identity)


async def test_none_is_tried_after_one_that_the_password_may_have_reached() -> None:
    async with line_server(hanging_at_sign_in) as first, line_server(honest) as second:
        found = await answer(first.port, second.port, timeout=1.0)
    assert isinstance(found, Unavailable)
    assert not isinstance(found, NotReached)
    assert second.connections == 0


async def test_a_no_is_not_asked_for_twice() -> None:
    async with line_server(honest) as first, line_server(honest) as second:
        assert isinstance(await answer(first.port, second.port, password="wrong"), Denied)
    assert sign_ins(first) == 1
    assert second.connections == 0


async def test_whom_the_server_cannot_judge_keeps_nobody_else_from_it() -> None:
    async def talk(peer: Peer) -> None:
        await peer.say(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
        line = await peer.line()
        reply = b" NO [UNAVAILABLE] her directory is down\r\n" if b"carla" in line else b" OK yes\r\n"
        await peer.say(line.split(b" ")[0] + reply)

    async with line_server(talk) as server:
        backend = MailboxBackend(settings(server.port))
        found = [await ask(backend, login="carla@example.org") for _ in range(FAILURES + 1)]
        assert all(isinstance(each, NotReached) for each in found)
        assert isinstance(await ask(backend), Identity)
        await end(backend)


@pytest.mark.parametrize("reply", [b" BAD cannot read that\r\n", b" BAD [CLIENTBUG] too long\r\n"])
async def test_an_odd_password_keeps_nobody_else_from_the_server(reply: bytes) -> None:
    async def talk(peer: Peer) -> None:
        await peer.say(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
        line = await peer.line()
        await peer.say(line.split(b" ")[0] + (reply if line.endswith(b'"odd"') else b" OK yes\r\n"))

    async with line_server(talk) as server:
        backend = MailboxBackend(settings(server.port))
        for _ in range(FAILURES + 1):
            found = await ask(backend, "odd")
            assert isinstance(found, Unavailable)
            assert not isinstance(found, NotReached)  # it may have counted as a failure there
        assert isinstance(await ask(backend), Identity)
        await end(backend)


async def test_an_odd_password_keeps_nobody_else_from_a_pop3_server() -> None:
    async def talk(peer: Peer) -> None:
        await peer.say(b"+OK ready\r\n")
        while line := await peer.line():
            more = b"AUTH-RESP-CODE\r\n.\r\n" if line == b"CAPA" else b""
            await peer.say((b"-ERR cannot read that\r\n" if line == b"PASS odd" else b"+OK\r\n") + more)

    async with line_server(talk) as server:
        backend = MailboxBackend(settings(server.port, protocol="pop3"))
        for _ in range(FAILURES + 1):
            found = await ask(backend, "odd")
            assert isinstance(found, Unavailable)
            assert not isinstance(found, NotReached)
        assert isinstance(await ask(backend), Identity)
        await end(backend)


async def test_a_bad_before_the_password_is_the_server_s() -> None:
    async def talk(peer: Peer) -> None:
        await peer.say(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready\r\n")
        line = await peer.line()
        await peer.say(line.split(b" ")[0] + b" BAD what\r\n")

    async with line_server(talk) as server:
        backend = MailboxBackend(settings(server.port))
        found = [await ask(backend) for _ in range(FAILURES + 1)]
        assert all(isinstance(each, NotReached) for each in found)
        assert "not asked for a while" in str(found[-1])
        await end(backend)


ODD = "\N{SNOWMAN}@example.org"


@pytest.mark.parametrize("reply", [b" BAD cannot read that\r\n", b" NO [UNAVAILABLE] not this one\r\n"])
async def test_an_odd_login_keeps_nobody_else_from_the_server(reply: bytes) -> None:
    async def talk(peer: Peer) -> None:
        await peer.say(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
        line = await peer.line()
        await peer.say(line.split(b" ")[0] + (reply if line.endswith(b"}") else b" OK yes\r\n"))

    async with line_server(talk) as server:
        backend = MailboxBackend(settings(server.port))
        for _ in range(FAILURES + 1):
            assert isinstance(await ask(backend, login=ODD), NotReached)  # the password was not told
        assert isinstance(await ask(backend), Identity)
        await end(backend)


@pytest.mark.parametrize("capability", [b"AUTH-RESP-CODE", b"USER"])
async def test_an_odd_login_keeps_nobody_else_from_a_pop3_server(capability: bytes) -> None:
    async def talk(peer: Peer) -> None:
        await peer.say(b"+OK ready\r\n")
        while line := await peer.line():
            if line == b"CAPA":
                await peer.say(b"+OK\r\n" + capability + b"\r\n.\r\n")
            elif line == b"USER " + ODD.encode():
                await peer.say(b"-ERR cannot read that\r\n")
            else:
                await peer.say(b"+OK\r\n")

    async with line_server(talk) as server:
        backend = MailboxBackend(settings(server.port, protocol="pop3"))
        for _ in range(FAILURES + 1):
            expected = NotReached if capability == b"AUTH-RESP-CODE" else Denied
            assert isinstance(await ask(backend, login=ODD), expected)
        assert isinstance(await ask(backend), Identity)
        await end(backend)


@pytest.mark.parametrize("farewell", [b"", b"* BYE what is that\r\n", b"gibberish\r\n"])
@pytest.mark.parametrize(
    ("login", "password", "paused"),
    [
        (ODD, "secret", False),
        ('a"b@example.org', "secret", False),
        ("x" * 300 + "@example.org", "secret", False),
        (ANNA, "\N{SNOWMAN}", False),
        (ANNA, "secret", True),
    ],
)
async def test_a_connection_that_ends_at_what_somebody_typed_pauses_a_server_only_if_it_was_ordinary(
    login: str, password: str, paused: bool, farewell: bytes
) -> None:
    async def talk(peer: Peer) -> None:
        await peer.say(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] ready\r\n")
        if await peer.line():
            await peer.say(farewell)

    async with line_server(talk) as server:
        backend = MailboxBackend(settings(server.port))
        found = [await ask(backend, password, login) for _ in range(FAILURES + 1)]
        assert all(isinstance(each, Unavailable) and not isinstance(each, NotReached) for each in found[:FAILURES])
        assert ("not asked for a while" in str(found[-1])) is paused
        await end(backend)


# ---- connections


async def test_each_connection_signs_in_once_and_the_next_is_ready() -> None:
    lines: list[str] = []
    async with line_server(honest) as server:
        backend = MailboxBackend(settings(server.port), lines.append)
        for password in ("right", "wrong", "right"):
            await ask(backend, password)
            await made_ahead()
        await end(backend)
    assert sum("is ready" in line for line in lines) == 2
    assert sign_ins(server) == 3
    assert server.connections == 4


async def test_one_made_ahead_that_the_server_has_ended_is_not_used() -> None:
    gone = asyncio.Event()

    async def talk(peer: Peer) -> None:
        if peer.number == 2:
            await peer.say(b"* OK [CAPABILITY IMAP4rev1] ready\r\n* BYE idle for too long\r\n")
            gone.set()
        else:
            await honest(peer)

    async with line_server(talk) as server:
        backend = MailboxBackend(settings(server.port))
        assert isinstance(await ask(backend), Identity)
        await gone.wait()
        await made_ahead()
        assert isinstance(await ask(backend), Identity)
        await end(backend)


async def test_no_more_than_connections_sign_in_at_a_time() -> None:
    at_once = most = 0
    gate = asyncio.Event()

    async def talk(peer: Peer) -> None:
        nonlocal at_once, most
        await peer.say(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
        line = await peer.line()
        if line.endswith(b"LOGOUT"):
            return
        at_once += 1
        most = max(most, at_once)
        if at_once == 2:
            gate.set()
        await gate.wait()
        await asyncio.sleep(0)
        at_once -= 1
        await peer.say(line.split(b" ")[0] + b" OK yes\r\n")

    async with line_server(talk) as server:
        backend = MailboxBackend(settings(server.port, connections=2))
        found = await asyncio.gather(*(ask(backend, f"secret{number}") for number in range(10)))
        await end(backend)
    assert all(isinstance(each, Identity) for each in found)
    assert most == 2


async def test_whoever_gives_up_leaves_no_connection_behind() -> None:
    there, heard_the_end = asyncio.Event(), asyncio.Event()

    async def talk(peer: Peer) -> None:
        there.set()
        await hanging_at_sign_in(peer)
        heard_the_end.set()

    async with line_server(talk) as server:
        backend = MailboxBackend(settings(server.port))
        asked = asyncio.create_task(ask(backend))
        await there.wait()
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await end(backend)
        await asyncio.wait_for(heard_the_end.wait(), 10)


# ---- certificates


def context(authority: Authority, name: str) -> ssl.SSLContext:
    issued = authority.issue(name)
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.load_cert_chain(issued.certificate, issued.key)
    return found


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_the_certificate_must_be_the_host_s(authority: Authority) -> None:
    async with line_server(honest, context(authority, "other.example.org")) as server:
        place = (Place("localhost", server.port),)
        found = await answer(tls="tls", servers=place, ca=authority.ca)
        assert isinstance(found, NotReached)
        assert "certificate: hostname mismatch" in str(found).lower()
        named = await answer(tls="tls", servers=place, ca=authority.ca, tls_name="other.example.org")
        assert isinstance(named, Identity)


async def test_an_unknown_authority_s_certificate_is_none(authority: Authority) -> None:
    async with line_server(honest, context(authority, "localhost")) as server:
        found = await answer(tls="tls", servers=(Place("localhost", server.port),))
    assert isinstance(found, NotReached)
    assert "certificate: " in str(found)
    assert server.heard == []


async def test_what_speaks_no_tls_gets_no_password(authority: Authority) -> None:
    async with line_server(honest) as server:
        found = await answer(tls="tls", servers=(Place("localhost", server.port),), ca=authority.ca)
    assert isinstance(found, NotReached)
    assert sign_ins(server) == 0


def test_a_file_of_certificates_that_is_none_is_said(tmp_path: Path) -> None:
    for path, cause in ((tmp_path / "none.pem", "No such file"), (Path(__file__), "not PEM")):
        with pytest.raises(Unusable, match=cause):
            MailboxBackend(settings(1, tls="tls", ca=path))


# ---- who


async def test_what_the_server_is_told_is_the_login_by_the_template() -> None:
    async with line_server(honest) as server:
        found = await answer(server.port, login="Anna@Example.org")
        assert found == Identity(ANNA, frozenset({ANNA}))
        backend = MailboxBackend(settings(server.port, login="{local}"))
        assert await ask(backend, login="Anna@Example.org") == Identity(ANNA, frozenset({ANNA}))
        await end(backend)
    assert [line for line in server.heard if b" LOGIN " in line] == [
        b'a1 LOGIN "Anna@Example.org" "secret"',
        b'a1 LOGIN "Anna" "secret"',
    ]


async def test_a_login_of_a_domain_that_is_not_ours_is_nobody_s_and_not_asked_for() -> None:
    backend = MailboxBackend(settings(1))
    assert await backend.find("anna@elsewhere.example") is None
