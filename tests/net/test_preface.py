"""PROXY headers on real sockets: read before TLS and before the greeting, from listed peers, within their time."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support.streams import GREETING, Served, contexts, served

from pillarbox.net.preface import Origin, Proxies
from pillarbox.net.stream import SmtpStream
from pillarbox.net.tls import switching_context
from pillarbox.smtp.events import Noop

HEADER = b"PROXY TCP4 192.0.2.1 10.0.0.5 40000 465\r\n"
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"
CLIENT = ("192.0.2.1", 40_000)


class Refusals(asyncio.Queue[tuple[str, str]]):
    """What on_refused heard."""

    def hear(self, proxy: str, reason: str) -> None:
        self.put_nowait((proxy, reason))


@asynccontextmanager
async def proxied(
    *,
    hold: bool = False,
    switches: bool = False,
    listed: Callable[[str], bool] = lambda peer: peer == "127.0.0.1",
    header_time: float = 20.0,
) -> AsyncIterator[tuple[Served, Refusals]]:
    refusals = Refusals()
    proxies = Proxies(listed, refusals.hear, header_time)
    async with served(hold=hold, switches=switches, tls=hold, proxies=proxies) as found:
        yield found, refusals


async def say(port: int, octets: bytes, *, one_by_one: bool = False) -> socket.socket:
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    await loop.sock_connect(sock, ("127.0.0.1", port))
    for octet in [octets[place : place + 1] for place in range(len(octets))] if one_by_one else [octets]:
        await loop.sock_sendall(sock, octet)
        await asyncio.sleep(0)
    return sock


async def ended(sock: socket.socket) -> bool:
    """Whether the server closed it without a word."""
    try:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 1), 20) == b""
    except ConnectionResetError:  # it closed with our octets unread
        return True
    finally:
        sock.close()


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize("switches", [False, True])
async def test_the_client_named_is_the_peer_and_what_it_said_is_whole(switches: bool, one_by_one: bool) -> None:
    async with proxied(switches=switches) as (found, _):
        sock = await say(found.port, HEADER + b"NOOP\r\n", one_by_one=one_by_one)
        stream = await asyncio.wait_for(found.streams.get(), 20)
        assert stream.peer == CLIENT
        assert stream.origin == Origin(CLIENT, "127.0.0.1", named=True)
        stream.send(GREETING)
        await stream.flush()
        assert isinstance(await asyncio.wait_for(stream.next_event(), 20), Noop)
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 100), 20) == b"220 test ESMTP\r\n"
        sock.close()


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize("switches", [False, True])
async def test_the_handshake_comes_after_the_header(tmp_path: Path, switches: bool, one_by_one: bool) -> None:
    ours, theirs = contexts(tmp_path)
    if switches:
        switching_context(ours, {"localhost": ours})
    async with proxied(hold=True, switches=switches) as (found, _):
        sock = await say(found.port, HEADER, one_by_one=one_by_one)

        async def serve() -> SmtpStream:
            stream = await found.streams.get()
            await stream.shake_hands(ours, server_side=True)
            return stream

        serving = asyncio.create_task(serve())
        reader, writer = await asyncio.open_connection(sock=sock, ssl=theirs, server_hostname="localhost")
        stream = await asyncio.wait_for(serving, 20)
        assert stream.peer == CLIENT
        stream.send(GREETING)
        await stream.flush()
        assert await reader.readline() == b"220 test ESMTP\r\n"
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("switches", [False, True])
async def test_a_client_hello_in_the_same_packet_as_the_header_is_not_lost(tmp_path: Path, switches: bool) -> None:
    ours, theirs = contexts(tmp_path)
    if switches:
        switching_context(ours, {"localhost": ours})
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = theirs.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    async with proxied(hold=True, switches=switches) as (found, _):
        sock = await say(found.port, HEADER + outgoing.read())
        stream = await asyncio.wait_for(found.streams.get(), 20)
        shaking = asyncio.create_task(stream.shake_hands(ours, server_side=True))
        loop = asyncio.get_running_loop()
        while not shaking.done():
            incoming.write(await asyncio.wait_for(loop.sock_recv(sock, 65_536), 20))
            try:
                client.do_handshake()
            except ssl.SSLWantReadError:
                continue
            await loop.sock_sendall(sock, outgoing.read())
            await shaking
        assert stream.peer == CLIENT
        sock.close()


@pytest.mark.parametrize("octets", [LOCAL, b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN 192.0.2.1 192.0.2.2 1 2\r\n"])
async def test_a_health_check_is_the_proxy_itself(octets: bytes) -> None:
    async with proxied() as (found, refusals):
        sock = await say(found.port, octets)
        stream = await asyncio.wait_for(found.streams.get(), 20)
        assert stream.peer == sock.getsockname()
        assert stream.origin == Origin(stream.peer, "127.0.0.1", named=False)
        assert refusals.empty()
        sock.close()


async def test_a_proxy_that_names_itself_is_a_health_check() -> None:
    async with proxied() as (found, refusals):
        sock = await say(found.port, b"PROXY TCP4 127.0.0.1 127.0.0.1 40000 587\r\n")
        stream = await asyncio.wait_for(found.streams.get(), 20)
        assert stream.origin == Origin(("127.0.0.1", 40_000), "127.0.0.1", named=False)
        assert refusals.empty()
        sock.close()


@pytest.mark.parametrize("octets", [b"EHLO client.example\r\n", b"\x16\x03\x01\x02\x00", b"PROXY TCP4 x\r\n"])
async def test_a_listed_peer_without_a_header_is_closed_and_told_of(octets: bytes) -> None:
    async with proxied() as (found, refusals):
        sock = await say(found.port, octets)
        assert await ended(sock)
        proxy, reason = await refusals.get()
        assert proxy == "127.0.0.1"
        assert "PROXY header" in reason
        assert found.streams.empty()


async def test_an_unlisted_peer_is_served_without_one_and_its_header_is_not_believed() -> None:
    async with proxied(listed=lambda peer: False) as (found, refusals):
        sock = await say(found.port, b"NOOP\r\n")
        stream = await asyncio.wait_for(found.streams.get(), 20)
        assert (stream.peer, stream.origin) == (sock.getsockname(), None)
        stream.send(GREETING)
        assert isinstance(await asyncio.wait_for(stream.next_event(), 20), Noop)
        assert refusals.empty()
        sock.close()


async def test_a_header_that_never_ends_is_waited_for_no_longer_than_its_time() -> None:
    async with proxied(header_time=0.05) as (found, refusals):
        sock = await say(found.port, HEADER[:-1])
        assert await ended(sock)
        assert await refusals.get() == ("127.0.0.1", "the PROXY header took too long")


async def test_a_health_check_that_leaves_without_a_word_makes_no_noise() -> None:
    async with proxied() as (found, refusals):
        (await say(found.port, b"")).close()
        (await say(found.port, HEADER[:9])).close()
        assert await refusals.get() == ("127.0.0.1", "closed inside the PROXY header")
        assert refusals.empty()
        assert found.streams.empty()
