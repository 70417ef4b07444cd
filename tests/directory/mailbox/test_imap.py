"""IMAP's sign-in, towards honest and hostile servers."""

import base64
import re
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings, strategies
from tests.directory.mailbox.behind import answer
from tests.support.line_server import Peer, line_server

from pillarbox.directory.base import Denied, Identity, NotReached, Reason, Unavailable

Talk = Callable[[Peer], Awaitable[None]]

ODD_PASSWORDS = [
    'with "quotes"',
    "back\\slash\\",
    '\\"',
    "{3}",
    "{3+}",
    "ends in a literal {17}",
    "ends in one that does not wait {17+}",
    "(a) [b] %*",
    " spaces at both ends ",
    "ünïcödé",
    "\N{PILE OF POO} and \N{SNOWMAN}",
    'a"\r\na9 LOGIN "b" "c',
    "line\r\nend",
    "bare\nfeed",
    "bare\rreturn",
    "\t\x01\x7f",
    "x" * 1_024,
    "ü" * 512,
    '"' * 1_000,
]


def imap(capabilities: bytes, at_sign_in: Callable[[Peer, bytes], Awaitable[None]] | None = None) -> Talk:
    """A server of these capabilities; ``at_sign_in`` takes over at the line after that."""

    async def talk(peer: Peer) -> None:
        await peer.say(b"* OK ready\r\n")
        line = await peer.line()
        assert line == b"a1 CAPABILITY"
        await peer.say(b"* CAPABILITY IMAP4rev1 " + capabilities + b"\r\na1 OK done\r\n")
        line = await peer.line()
        if at_sign_in is not None and line != b"a2 LOGOUT":  # that one was made ahead, and not needed
            await at_sign_in(peer, line)
            await peer.hang()

    return talk


def saying(reply: bytes) -> Callable[[Peer, bytes], Awaitable[None]]:
    async def say(peer: Peer, line: bytes) -> None:
        await peer.say(reply.replace(b"TAG", line.split(b" ")[0]))

    return say


async def read_login(peer: Peer, line: bytes) -> tuple[bytes, bytes]:
    """The two arguments of a LOGIN as a strict server reads them: quoted strings and literals, nothing else."""
    rest = line.removeprefix(b"a2 LOGIN")
    assert rest != line
    found = []
    for _ in range(2):
        if quoted := re.match(rb' "((?:[^"\\\r\n\0\x80-\xff]|\\["\\])*)"', rest):
            found.append(re.sub(rb"\\(.)", rb"\1", quoted[1]))
            rest = rest[quoted.end() :]
            continue
        literal = re.fullmatch(rb" \{([0-9]+)\}", rest)
        assert literal, rest
        await peer.say(b"+ go on\r\n")
        found.append(await peer.reader.readexactly(int(literal[1])))
        rest = (await peer.reader.readline()).removesuffix(b"\r\n")
    assert rest == b""
    return found[0], found[1]


# ---- what is sent


@pytest.mark.parametrize("password", ODD_PASSWORDS)
@pytest.mark.parametrize("at_once", [True, False])
async def test_plain_carries_any_password(password: str, at_once: bool) -> None:
    seen = []

    async def sign_in(peer: Peer, line: bytes) -> None:
        if at_once:
            encoded = line.removeprefix(b"a2 AUTHENTICATE PLAIN ")
        else:
            assert line == b"a2 AUTHENTICATE PLAIN"
            await peer.say(b"+ \r\n")
            encoded = await peer.line()
        seen.append(base64.b64decode(encoded, validate=True))
        await peer.say(b"a2 OK in\r\n")

    async with line_server(imap(b"AUTH=PLAIN" + b" SASL-IR" * at_once, sign_in)) as server:
        assert isinstance(await answer(server.port, password=password), Identity)
    assert seen == [f"\0anna@example.org\0{password}".encode()]


@pytest.mark.parametrize("password", ODD_PASSWORDS)
async def test_login_says_any_password_and_nothing_else(password: str) -> None:
    seen = []

    async def sign_in(peer: Peer, line: bytes) -> None:
        seen.append(await read_login(peer, line))
        await peer.say(b"a2 OK in\r\n")
        assert await peer.line() == b"a3 LOGOUT"

    async with line_server(imap(b"", sign_in)) as server:
        assert isinstance(await answer(server.port, password=password), Identity)
    assert seen == [(b"anna@example.org", password.encode())]


@settings(max_examples=30)
@given(strategies.text(strategies.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
async def test_login_says_whatever_was_typed_as_two_arguments(password: str) -> None:
    seen = []

    async def sign_in(peer: Peer, line: bytes) -> None:
        seen.append(await read_login(peer, line))
        await peer.say(b"a2 NO\r\n")

    async with line_server(imap(b"", sign_in)) as server:
        assert isinstance(await answer(server.port, password=password), Denied)
    assert seen == [(b"anna@example.org", password.encode())]


async def test_nul_goes_nowhere() -> None:
    async with line_server(imap(b"")) as server:
        assert await answer(server.port, password="a\0b") == Denied(Reason.WRONG)
    assert server.connections == 0


async def test_no_password_is_sent_where_login_is_disabled() -> None:
    async with line_server(imap(b"LOGINDISABLED AUTH=CRAM-MD5")) as server:
        assert isinstance(await answer(server.port), NotReached)
    assert set(server.heard) == {b"a1 CAPABILITY", b"a2 LOGOUT"}  # of the connection that was made ahead


async def test_a_refused_literal_sends_no_password() -> None:
    async with line_server(imap(b"", saying(b"TAG NO [UNAVAILABLE] not now\r\n"))) as server:
        assert isinstance(await answer(server.port, login="ünï@example.org"), NotReached)
    assert set(server.heard) == {b"a1 CAPABILITY", b"a2 LOGIN {17}", b"a2 LOGOUT"}


# ---- what is answered


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"TAG NO [AUTHENTICATIONFAILED] no", Reason.OPAQUE),
        (b"TAG NO [authenticationfailed] no", Reason.OPAQUE),
        (b"TAG NO", Reason.OPAQUE),
        (b"TAG NO wrong [UNAVAILABLE] is only a code in front", Reason.OPAQUE),
        (b"TAG NO [ALERT] Application-specific password required", Reason.OPAQUE),
        (b"TAG NO [AUTHORIZATIONFAILED] no", Reason.OPAQUE),
        (b"* NO a hint\r\n* OK [ALERT] more\r\nTAG NO [EXPIRED] old", Reason.EXPIRED),
        (b"TAG NO [CONTACTADMIN] disabled", Reason.DISABLED),
    ],
)
async def test_a_no_is_the_person_s(reply: bytes, expected: Reason) -> None:
    async with line_server(imap(b"AUTH=PLAIN SASL-IR", saying(reply + b"\r\n"))) as server:
        found = await answer(server.port)
    assert isinstance(found, Denied)
    assert found.reason is expected
    assert "secret" not in str(found.details)


@pytest.mark.parametrize(
    "reply",
    [
        b"TAG BAD what\r\n",
        b"* BYE shutting down\r\n",
        b"",
    ],
)
async def test_what_is_the_server_s_fault_is_nobody_s_password(reply: bytes) -> None:
    async def sign_in(peer: Peer, line: bytes) -> None:
        await peer.say(reply.replace(b"TAG", b"a2"))
        raise EOFError

    async with line_server(imap(b"AUTH=PLAIN SASL-IR", sign_in)) as server:
        assert isinstance(await answer(server.port), Unavailable)


@pytest.mark.parametrize("offered", [b"AUTH=PLAIN", b""])
async def test_a_yes_before_the_password_is_no_yes(offered: bytes) -> None:
    async with line_server(imap(offered, saying(b"TAG OK welcome\r\n"))) as server:
        assert isinstance(await answer(server.port, login="ünï@example.org"), NotReached)


@pytest.mark.parametrize("code", [b"UNAVAILABLE", b"ServerBug", b"INUSE", b"LIMIT", b"PRIVACYREQUIRED"])
async def test_a_code_that_says_not_now_is_no_try_and_the_next_server_is_asked(code: bytes) -> None:
    broken = imap(b"AUTH=PLAIN SASL-IR", saying(b"TAG NO [%b] not now\r\n" % code))
    async with line_server(broken) as first:
        assert isinstance(await answer(first.port), NotReached)
        async with line_server(imap(b"AUTH=PLAIN SASL-IR", saying(b"TAG OK in\r\n"))) as second:
            assert isinstance(await answer(first.port, second.port), Identity)


# ---- hostile servers


async def _endless_line(peer: Peer) -> None:
    await peer.pour(b"x" * 1_024)


async def _endless_lines(peer: Peer) -> None:
    await peer.pour(b"* OK still here\r\n" * 64)


async def _nul(peer: Peer) -> None:
    await peer.say(b"* OK a\0b\r\n")
    await peer.hang()


async def _half(peer: Peer) -> None:
    await peer.say(b"* O")


async def _nothing(peer: Peer) -> None:
    return


def _greets(line: bytes) -> Talk:
    async def talk(peer: Peer) -> None:
        await peer.say(line)
        await peer.hang()

    return talk


@pytest.mark.parametrize(
    "talk",
    [
        _endless_line,
        _endless_lines,
        _nul,
        _half,
        _nothing,
        _greets(b"* BYE too busy\r\n"),
        _greets(b"* PREAUTH everybody is welcome\r\n"),
        _greets(b"+OK POP3 ready\r\n"),
        _greets(b"220 mail.example.org ESMTP\r\n"),
        _greets(b"* OK [CAPABILITY IMAP4rev1\x00] x\r\n"),
        _greets(b"\r\n\r\n\r\n"),
        _greets(b"\xff\xfe\x80\r\n"),
    ],
)
async def test_no_password_is_sent_to_what_is_no_imap_server(talk: Talk) -> None:
    async with line_server(talk) as server:
        assert isinstance(await answer(server.port), NotReached)
    assert not any(b"AUTHENTICATE" in line or b"LOGIN" in line for line in server.heard)


@pytest.mark.parametrize(
    "octets", [b"x" * 1_024, b"* OK still here\r\n" * 64, b"* 1 EXISTS\r\n" * 64, b"a1 OK\r\n" * 64]
)
async def test_a_reply_without_end_ends(octets: bytes) -> None:
    async def sign_in(peer: Peer, line: bytes) -> None:
        await peer.pour(octets)

    async with line_server(imap(b"AUTH=PLAIN SASL-IR", sign_in)) as server:
        found = await answer(server.port)
    assert isinstance(found, Unavailable)
    assert not isinstance(found, NotReached)


# ---- STARTTLS


@pytest.mark.parametrize(
    ("reply", "cause"),
    [
        (b"a2 OK go\r\n* CAPABILITY AUTH=PLAIN SASL-IR\r\n", "sent octets in the clear"),
        (b"a2 NO not today\r\n", "STARTTLS was refused"),
        (b"a2 BAD what\r\n", "STARTTLS was refused"),
    ],
)
async def test_nothing_in_the_clear_is_taken_for_tls(reply: bytes, cause: str) -> None:
    async with line_server(imap(b"STARTTLS AUTH=PLAIN SASL-IR", saying(reply))) as server:
        found = await answer(server.port, tls="starttls")
    assert isinstance(found, NotReached)
    assert cause in str(found)
    assert server.heard == [b"a1 CAPABILITY", b"a2 STARTTLS"]


async def test_no_password_is_sent_where_starttls_is_not_offered() -> None:
    async with line_server(imap(b"AUTH=PLAIN SASL-IR")) as server:
        assert isinstance(await answer(server.port, tls="starttls"), NotReached)
    assert server.heard == [b"a1 CAPABILITY"]
