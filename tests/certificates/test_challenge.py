"""The http-01 responder: what was published and nothing else, whatever is sent; nobody takes its places for long."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from pillarbox.certificates import challenge
from pillarbox.certificates.challenge import MAX_CONNECTIONS, MAX_HEAD, Responder

PATH = "/.well-known/acme-challenge/evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
CONTENT = b"evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"


@pytest.fixture
async def responder() -> AsyncIterator[tuple[Responder, int]]:
    """One on a free port, with one answer."""
    made = Responder()
    listening = socket.create_server(("127.0.0.1", 0))
    port: int = listening.getsockname()[1]
    await made.listen([listening])
    made.publish(PATH, CONTENT)
    yield made, port
    await made.close()


async def ask(port: int, octets: bytes, *, end: bool = False) -> bytes:
    """Everything that is answered until the connection ends; b"" when it is cut."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(octets)
        if end:
            writer.write_eof()
        async with asyncio.timeout(20):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def get(path: str, *, method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    """A request as an authority sends it."""
    return f"{method} {path} {version}\r\nHost: mail.example.org\r\nUser-Agent: authority\r\n\r\n".encode()


async def test_what_was_published_is_answered(responder: tuple[Responder, int]) -> None:
    _, port = responder
    head, _, content = (await ask(port, get(PATH))).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert f"Content-Length: {len(CONTENT)}".encode() in head
    assert content == CONTENT


async def test_it_is_answered_octet_by_octet(responder: tuple[Responder, int]) -> None:
    _, port = responder
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for octet in get(PATH):
        writer.write(bytes((octet,)))
        await writer.drain()
    assert (await reader.read()).endswith(CONTENT)
    writer.close()


async def test_what_was_withdrawn_is_unknown(responder: tuple[Responder, int]) -> None:
    made, port = responder
    made.withdraw(PATH)
    assert (await ask(port, get(PATH))).startswith(b"HTTP/1.1 404 Not Found\r\n")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/.well-known/acme-challenge/",
        PATH + "/",
        PATH + "?x",
        PATH[:-1],
        PATH.upper(),
        "/.well-known/acme-challenge/../acme-challenge/" + PATH.rpartition("/")[2],
        "//" + PATH,
        PATH.replace("-", "%2D"),
        "/etc/passwd",
    ],
)
async def test_any_other_path_is_not_found(responder: tuple[Responder, int], path: str) -> None:
    _, port = responder
    assert await ask(port, get(path)) == (
        b"HTTP/1.1 404 Not Found\r\nContent-Type: application/octet-stream\r\nContent-Length: 0\r\n"
        b"Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "OPTIONS", "CONNECT"])
async def test_any_other_method_is_not_found(responder: tuple[Responder, int], method: str) -> None:
    _, port = responder
    assert (await ask(port, get(PATH, method=method))).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    "octets",
    [
        b"\r\n\r\n",
        b"EHLO x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        get(PATH, version="HTTP/2.0"),
        get(PATH, version="HTTP/1.1 "),
        f"GET  {PATH} HTTP/1.1\r\n\r\n".encode(),
        f"get {PATH} HTTP/1.1\r\n\r\n".encode(),
        f"GET http://mail.example.org{PATH} HTTP/1.1\r\n\r\n".encode(),
        f"GET {PATH}\0 HTTP/1.1\r\n\r\n".encode(),
        f"GET {PATH}\u017f HTTP/1.1\r\n\r\n".encode(),
        f"GET {PATH}\nHost: x HTTP/1.1\r\n\r\n".encode(),
        b"GET /" + b"x" * 1024 + b" HTTP/1.1\r\n\r\n",
        b"X" * (MAX_HEAD + 100),
        b"GET / HTTP/1.1\r\nX: " + b"y" * MAX_HEAD + b"\r\n\r\n",
    ],
    ids=lambda octets: repr(octets[:20]),
)
async def test_what_is_no_request_is_refused_and_the_next_one_served(
    responder: tuple[Responder, int], octets: bytes
) -> None:
    _, port = responder
    assert (await ask(port, octets)).startswith(b"HTTP/1.1 400 Bad Request\r\n") or len(octets) > MAX_HEAD
    assert (await ask(port, get(PATH))).endswith(CONTENT)


async def test_a_request_cut_off_gets_nothing(responder: tuple[Responder, int]) -> None:
    _, port = responder
    assert await ask(port, get(PATH)[:-2], end=True) == b""


async def test_who_says_nothing_is_cut(responder: tuple[Responder, int], monkeypatch: pytest.MonkeyPatch) -> None:
    _, port = responder
    monkeypatch.setattr(challenge, "TIME", 0.05)
    assert await ask(port, b"GET /") == b""


async def test_who_holds_connections_keeps_no_authority_out(responder: tuple[Responder, int]) -> None:
    made, port = responder
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS + 20)]
    try:
        assert (await ask(port, get(PATH))).endswith(CONTENT)
        async with asyncio.timeout(20):
            for reader, _ in held[:20]:  # the oldest went
                try:
                    assert await reader.read() == b""
                except ConnectionError:
                    continue
        assert len(made._open) <= MAX_CONNECTIONS
        assert not held[-1][0].at_eof()
    finally:
        for _, writer in held:
            writer.close()
