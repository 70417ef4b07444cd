"""The protocol of Dovecot's authentication service, towards honest and hostile servers."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from tests.support.line_server import Peer, line_server

from pillarbox.directory.base import Denied, Identity, NotReached, Reason, Unavailable
from pillarbox.directory.dovecot.backend import DovecotBackend
from pillarbox.directory.dovecot.settings import DovecotSettings
from pillarbox.directory.wire import Place

Talk = Callable[[Peer], Awaitable[None]]
HELLO = b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t7\nCUID\t1\nCOOKIE\tabc\nDONE\n"
ANNA = "anna@example.org"


def saying(reply: bytes, hello: bytes = HELLO) -> Talk:
    """To each question the same, with its number for ID."""

    async def talk(peer: Peer) -> None:
        await peer.say(hello)
        while True:
            word, number, *_ = (await peer.line()).split(b"\t")
            if word == b"AUTH":
                await peer.say(reply.replace(b"ID", number) + b"\n")

    return talk


def make(*ports: int, narrate: Callable[[str], None] = lambda _: None, connections: int = 4) -> DovecotBackend:
    servers = tuple(Place("127.0.0.1", port) for port in ports)
    settings = DovecotSettings(
        name="dovecot", servers=servers, domains=("example.org",), timeout=2.0, connections=connections
    )
    return DovecotBackend(settings, narrate)


async def ask(
    backend: DovecotBackend, password: str = "secret", login: str = ANNA
) -> Identity | Denied | Unavailable:
    person = await backend.find(login)
    assert person is not None
    try:
        return await backend.check(person, password)
    except Unavailable as error:
        return error


async def answer(*ports: int, password: str = "secret") -> Identity | Denied | Unavailable:
    backend = make(*ports)
    try:
        return await ask(backend, password)
    finally:
        backend.close()
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
async def settled() -> AsyncIterator[None]:
    """The ends of connections are heard before the loop closes."""
    yield
    for _ in range(3):
        await asyncio.sleep(0)


# ---- what is asked


@pytest.mark.parametrize("password", ["a\tb", "a\nAUTH\t9\tPLAIN", "ünï \N{PILE OF POO}", "\x01", "x" * 1_024])
async def test_any_password_is_one_field_of_one_question(password: str) -> None:
    async with line_server(saying(b"OK\tID\tuser=anna@example.org")) as server:
        assert isinstance(await answer(server.port, password=password), Identity)
    version, pid, question = server.heard
    assert version == b"VERSION\t1\t1"
    assert pid.startswith(b"CPID\t")
    head, encoded = question.split(b"\tresp=")
    assert head == b"AUTH\t1\tPLAIN\tservice=smtp\tnologin\tno-penalty\tsecured"
    assert base64.b64decode(encoded, validate=True) == f"\0{ANNA}\0{password}".encode()


async def test_nul_goes_nowhere() -> None:
    assert await answer(1, password="a\0b") == Denied(Reason.WRONG)


async def test_answers_find_their_questions_whatever_their_order() -> None:
    async def talk(peer: Peer) -> None:
        await peer.say(HELLO)
        await peer.line()
        await peer.line()
        replies: list[bytes] = []
        for _ in range(3):
            _, number, *_, encoded = (await peer.line()).split(b"\t")
            password = base64.b64decode(encoded.removeprefix(b"resp=")).split(b"\0")[2]
            verdict = b"FAIL" if password == b"wrong" else b"OK"
            replies.insert(0, verdict + b"\t" + number + b"\tuser=anna@example.org\n")
        for reply in replies:
            await peer.say(reply)
        await peer.hang()

    async with line_server(talk) as server:
        backend = make(server.port)
        found = await asyncio.gather(*(ask(backend, password) for password in ("a", "wrong", "b")))
        backend.close()
    assert [type(each) for each in found] == [Identity, Denied, Identity]
    assert server.connections == 1


async def test_whoever_gives_up_takes_the_question_back() -> None:
    asked = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.say(HELLO)
        while True:
            if (await peer.line()).startswith(b"AUTH\t1"):
                asked.set()
            elif peer.heard[-1].startswith(b"AUTH\t2"):
                await peer.say(b"OK\t1\tuser=bob@example.org\nOK\t2\tuser=anna@example.org\n")

    async with line_server(talk) as server:
        backend = make(server.port)
        first = asyncio.create_task(ask(backend))
        await asked.wait()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert await ask(backend) == Identity(ANNA, frozenset({ANNA}))
        backend.close()
    assert b"CANCEL\t1" in server.heard


# ---- what is answered


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"FAIL\tID", Reason.OPAQUE),
        (b"FAIL\tID\tuser=anna@example.org", Reason.OPAQUE),
        (b"FAIL\tID\tuser=anna@example.org\tcode=something_new", Reason.OPAQUE),
        (b"FAIL\tID\tuser=anna@example.org\tcode=user_disabled", Reason.DISABLED),
        (b"FAIL\tID\tuser=anna@example.org\tuser_disabled", Reason.DISABLED),
        (b"FAIL\tID\tcode=authz_fail", Reason.DISABLED),
        (b"FAIL\tID\tauthz", Reason.DISABLED),
        (b"FAIL\tID\tcode=pass_expired", Reason.EXPIRED),
        (b"FAIL\tID\tpass_expired", Reason.EXPIRED),
        (b"OK\tID\tuser=anna@example.org\tnologin\treason=moved", Reason.DISABLED),
        (b"OK\tID\tuser=anna@elsewhere.example", Reason.ELSEWHERE),
        (b"OK\tID\tuser=", Reason.ELSEWHERE),
        (b"OK\tID", Reason.ELSEWHERE),
        (b"OK\tID\tuser=\xff\xfe@elsewhere.example", Reason.ELSEWHERE),
    ],
)
async def test_denied(reply: bytes, reason: Reason) -> None:
    async with line_server(saying(reply)) as server:
        found = await answer(server.port)
    assert isinstance(found, Denied)
    assert found.reason is reason


async def test_whose_addresses_follows_from_the_name_that_dovecot_has() -> None:
    async with line_server(saying(b"OK\tID\tuser=anna.smith@example.org\toriginal_user=anna@example.org")) as server:
        found = await answer(server.port)
    assert found == Identity("anna.smith@example.org", frozenset({"anna.smith@example.org"}))


@pytest.mark.parametrize("field", [b"temp", b"code=temp_fail"])
async def test_a_temporary_failure_is_no_try_and_the_next_server_is_asked(field: bytes) -> None:
    async with line_server(saying(b"FAIL\tID\t" + field)) as first:
        assert isinstance(await answer(first.port), NotReached)
        async with line_server(saying(b"OK\tID\tuser=anna@example.org")) as second:
            assert isinstance(await answer(first.port, second.port), Identity)


async def test_a_proxy_s_password_is_not_shown() -> None:
    lines: list[str] = []
    async with line_server(saying(b"OK\tID\tuser=anna@example.org\tproxy\thost=10.0.0.1\tpass=secret")) as server:
        backend = make(server.port, narrate=lines.append)
        assert isinstance(await ask(backend), Identity)
        backend.close()
    assert any("answered OK user=anna@example.org" in line for line in lines)
    assert not any("secret" in line for line in lines)


# ---- hostile servers


def _hello(octets: bytes, times: int = 1) -> Talk:
    async def talk(peer: Peer) -> None:
        await peer.pour(octets, times)
        if times == 1:
            await peer.hang()

    return talk


@pytest.mark.parametrize(
    "talk",
    [
        _hello(b"x" * 1_024, 4_000),
        _hello(b"VERSION\t1\t1\n" + b"MECH\tPLAIN\n" * 1_000, 4_000),
        _hello(b"VERSION\t2\t0\nMECH\tPLAIN\nDONE\n"),
        _hello(b"VERSION\t1\t2\nMECH\tSCRAM-SHA-256\nDONE\n"),
        _hello(b"* OK Dovecot ready.\r\n"),
        _hello(b"DONE\n"),
        _hello(b"VERSION\n"),
        _hello(b"VERSION\t1\t2\0\n"),
        _hello(b""),
    ],
)
async def test_no_password_is_sent_to_what_is_no_such_server(talk: Talk) -> None:
    async with line_server(talk) as server:
        assert isinstance(await answer(server.port), NotReached)
    assert not any(line.startswith(b"AUTH") for line in server.heard)


@pytest.mark.parametrize(
    "reply",
    [b"x" * 10_000, b"OK\tx\tuser=anna\nOK\t99\tuser=bob\nOK\nNOTHING\t1", b"CONT\tID\tabc", b"OK\tID\tuser=a\0b"],
)
async def test_what_is_no_answer_lets_nobody_in(reply: bytes) -> None:
    async with line_server(saying(reply)) as server:
        found = await answer(server.port)
    assert isinstance(found, Unavailable)
    assert not isinstance(found, NotReached)


async def test_a_connection_that_ends_ends_all_its_questions_and_the_next_is_a_new_one() -> None:
    async def talk(peer: Peer) -> None:
        if peer.number > 1:
            await saying(b"OK\tID\tuser=anna@example.org")(peer)
        await peer.say(HELLO)
        for _ in range(4):
            await peer.line()
        await peer.say(b"OK\t1\tus")

    async with line_server(talk) as server:
        backend = make(server.port)
        assert all(isinstance(each, Unavailable) for each in await asyncio.gather(ask(backend), ask(backend)))
        assert isinstance(await ask(backend), Identity)
        backend.close()
    assert server.connections == 2
