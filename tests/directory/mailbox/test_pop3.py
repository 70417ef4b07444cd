"""POP3's sign-in, towards honest and hostile servers."""

import base64
from collections.abc import Awaitable, Callable

import pytest
from tests.directory.mailbox.behind import answer
from tests.support.line_server import Peer, line_server

from pillarbox.directory.base import Denied, Identity, NotReached, Reason, Unavailable

Talk = Callable[[Peer], Awaitable[None]]


def pop3(capabilities: bytes | None, at_sign_in: Callable[[Peer, bytes], Awaitable[None]] | None = None) -> Talk:
    """A server of these capabilities (a line each; None: it does not know CAPA)."""

    async def talk(peer: Peer) -> None:
        await peer.say(b"+OK ready\r\n")
        assert await peer.line() == b"CAPA"
        await peer.say(b"-ERR what\r\n" if capabilities is None else b"+OK\r\nUSER\r\n" + capabilities + b".\r\n")
        line = await peer.line()
        if at_sign_in is not None and line != b"QUIT":  # that one was made ahead, and not needed
            await at_sign_in(peer, line)
            await peer.hang()

    return talk


def saying(*replies: bytes) -> Callable[[Peer, bytes], Awaitable[None]]:
    """One after each line."""

    async def say(peer: Peer, line: bytes) -> None:
        for number, reply in enumerate(replies):
            if number:
                await peer.line()
            await peer.say(reply + b"\r\n")

    return say


async def pop3_answer(port: int, password: str = "secret", login: str = "anna@example.org") -> object:
    return await answer(port, password=password, login=login, protocol="pop3")


# ---- what is sent


@pytest.mark.parametrize("password", ['q"\\{3}', "ünïcödé and spaces ", "a\r\nDELE 1", "x" * 1_024])
async def test_plain_carries_any_password_in_lines_that_are_short_enough(password: str) -> None:
    seen = []

    async def sign_in(peer: Peer, line: bytes) -> None:
        if line == b"AUTH PLAIN":
            await peer.say(b"+ \r\n")
            encoded = await peer.line()
        else:
            assert len(line) <= 253
            encoded = line.removeprefix(b"AUTH PLAIN ")
        seen.append(base64.b64decode(encoded, validate=True))
        await peer.say(b"+OK in\r\n")
        assert await peer.line() == b"QUIT"

    async with line_server(pop3(b"SASL LOGIN PLAIN\r\n", sign_in)) as server:
        assert isinstance(await pop3_answer(server.port, password), Identity)
    assert seen == [f"\0anna@example.org\0{password}".encode()]


@pytest.mark.parametrize("capabilities", [None, b"", b"SASL CRAM-MD5\r\n"])
async def test_user_and_pass_where_plain_is_not_offered(capabilities: bytes | None) -> None:
    async with line_server(pop3(capabilities, saying(b"+OK", b"+OK in"))) as server:
        assert isinstance(await pop3_answer(server.port, 'ünï "q" \\ {3} '), Identity)
    heard = [line for line in server.heard if line not in {b"CAPA", b"QUIT"}]
    assert heard == [b"USER anna@example.org", 'PASS ünï "q" \\ {3} '.encode()]


@pytest.mark.parametrize(
    ("login", "password"),
    [
        ("anna@example.org", "a\r\nDELE 1"),
        ("anna@example.org", "a\nb"),
        ("anna@example.org", "a\rb"),
        ("anna@example.org", "tab\t"),
        ("anna@example.org", "x" * 249),
        ("anna x@example.org", "secret"),  # a server that reads the first word would let anna in as somebody else
        ("x" * 251, "secret"),
    ],
)
async def test_what_user_and_pass_cannot_say_is_not_said(login: str, password: str) -> None:
    async with line_server(pop3(b"", saying(b"+OK", b"+OK in"))) as server:
        found = await pop3_answer(server.port, password, login)
    assert isinstance(found, Denied)
    assert found.reason is Reason.OPAQUE
    assert set(server.heard) <= {b"CAPA", b"QUIT"}


# ---- what is answered


@pytest.mark.parametrize("reply", [b"-ERR [AUTH] no", b"-ERR no", b"-ERR", b"-ERR [CODE-OF-ITS-OWN] no"])
async def test_a_no_is_the_person_s(reply: bytes) -> None:
    async with line_server(pop3(b"", saying(b"+OK", reply))) as server:
        found = await pop3_answer(server.port)
    assert isinstance(found, Denied)
    assert found.reason is Reason.OPAQUE
    assert "secret" not in str(found.details)


@pytest.mark.parametrize("reply", [b"-ERR [SYS/TEMP] later", b"-ERR [sys/perm] call us", b"-ERR [LOGIN-DELAY] wait"])
async def test_what_is_the_server_s_fault_is_nobody_s_password(reply: bytes) -> None:
    async with line_server(pop3(b"", saying(b"+OK", reply))) as server:
        assert isinstance(await pop3_answer(server.port), NotReached)


async def test_where_codes_tell_a_no_without_one_is_not_the_person_s() -> None:
    async with line_server(pop3(b"AUTH-RESP-CODE\r\n", saying(b"+OK", b"-ERR something"))) as server:
        assert isinstance(await pop3_answer(server.port), Unavailable)
    async with line_server(pop3(b"AUTH-RESP-CODE\r\n", saying(b"+OK", b"-ERR [AUTH] no"))) as server:
        assert isinstance(await pop3_answer(server.port), Denied)


@pytest.mark.parametrize("to", ["USER", "PASS"])
async def test_in_use_is_no_yes_for_some_say_it_before_they_know_the_password(to: str) -> None:
    replies = (
        (b"-ERR [IN-USE] Temporary authentication failure.",)
        if to == "USER"
        else (b"+OK", b"-ERR [IN-USE] by another")
    )
    async with line_server(pop3(b"", saying(*replies))) as server:
        assert isinstance(await pop3_answer(server.port), Unavailable)


async def test_a_yes_before_the_password_is_no_yes() -> None:
    async with line_server(pop3(b"SASL PLAIN\r\n", saying(b"+OK welcome"))) as server:
        assert isinstance(await pop3_answer(server.port, "x" * 300), NotReached)


# ---- hostile servers


def _greets(octets: bytes, times: int = 1) -> Talk:
    async def talk(peer: Peer) -> None:
        await peer.pour(octets, times)
        if times == 1:
            await peer.hang()

    return talk


@pytest.mark.parametrize(
    "talk",
    [
        _greets(b"x" * 1_024, 4_000),
        _greets(b"+OK\r\n+OK\r\n" + b"A\r\n" * 1_000, 4_000),  # capabilities without end
        _greets(b"-ERR [SYS/TEMP] too busy\r\n"),
        _greets(b"* OK IMAP4rev1\r\n"),
        _greets(b"+OKAY\r\n"),
        _greets(b"+ok ready\r\n"),
        _greets(b"+OK a\0b\r\n"),
        _greets(b"\xff\r\n"),
    ],
)
async def test_no_password_is_sent_to_what_is_no_pop3_server(talk: Talk) -> None:
    async with line_server(talk) as server:
        assert isinstance(await pop3_answer(server.port), NotReached)
    assert set(server.heard) <= {b"CAPA"}


@pytest.mark.parametrize("octets", [b"x" * 1_024, b"spam\r\n" * 64, b"+\r\n" * 64])
async def test_a_reply_without_end_ends(octets: bytes) -> None:
    async def sign_in(peer: Peer, line: bytes) -> None:
        await peer.say(b"+OK\r\n")
        await peer.line()
        await peer.pour(octets)

    async with line_server(pop3(b"", sign_in)) as server:
        found = await pop3_answer(server.port)
    assert isinstance(found, Unavailable)
    assert not isinstance(found, NotReached)


@pytest.mark.parametrize("reply", [b"+OK go\r\n+OK\r\nSASL PLAIN\r\n.\r\n", b"-ERR no\r\n"])
async def test_nothing_in_the_clear_is_taken_for_tls(reply: bytes) -> None:
    async def at_stls(peer: Peer, line: bytes) -> None:
        assert line == b"STLS"
        await peer.say(reply)

    async with line_server(pop3(b"STLS\r\nSASL PLAIN\r\n", at_stls)) as server:
        assert isinstance(await answer(server.port, protocol="pop3", tls="starttls"), NotReached)
    assert server.heard == [b"CAPA", b"STLS"]
