"""Connections as they come in: held for their handshake, turned away, with a certificate by the name asked for."""

import asyncio
import socket
import ssl
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.streams import GREETING, contexts, served

from pillarbox.net.stream import ConnectionLost, SmtpStream, connect, listen
from pillarbox.net.tls import ListenerTls, server_context, switching_context
from pillarbox.smtp.connection import Connection, Role
from pillarbox.smtp.events import Noop
from pillarbox.smtp.reply import Reply


@pytest.mark.parametrize("switches", [False, True])
async def test_a_client_hello_that_waits_for_the_session_is_not_lost(tmp_path: Path, switches: bool) -> None:
    """The guard may take its time, or the session be late: the handshake is as good as any."""
    ours, theirs = contexts(tmp_path)
    if switches:
        switching_context(ours, {"localhost": ours})
    async with served(hold=True, tls=True, switches=switches) as found:
        connecting = asyncio.create_task(
            connect("127.0.0.1", found.port, tls=theirs, server_hostname="localhost", timeout=10)
        )
        server = await found.streams.get()
        await asyncio.sleep(0.05)  # the ClientHello is there by now; if not, less is tested
        await server.shake_hands(ours, server_side=True)
        client = await connecting
        server.send(GREETING)
        await server.flush()
        assert await client.next_event() == GREETING
        client.abort()


@pytest.mark.parametrize("switches", [False, True])
async def test_who_is_turned_away_before_the_handshake_is_hung_up_on(switches: bool) -> None:
    async with served(hold=True, tls=True, switches=switches) as found:
        reader, writer = await asyncio.open_connection("127.0.0.1", found.port)
        server = await found.streams.get()
        assert server.peer == writer.get_extra_info("sockname")
        server.hang_up()
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        await server.close()
        with pytest.raises(ConnectionLost):
            await server.shake_hands(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), server_side=True)


@pytest.mark.parametrize("switches", [False, True])
@pytest.mark.parametrize("hold", [False, True])
async def test_after_peers_were_turned_away_the_next_one_is_heard(tmp_path: Path, switches: bool, hold: bool) -> None:
    """It gets the descriptor of one that was turned away while its connection was made."""
    ours, theirs = contexts(tmp_path)
    if switches:
        switching_context(ours, {"localhost": ours})
    streams: asyncio.Queue[SmtpStream] = asyncio.Queue()
    left = [3]

    def take(stream: SmtpStream) -> None:
        if not left[0]:
            streams.put_nowait(stream)
            return
        left[0] -= 1
        if not hold:
            stream.send(Reply(421, ("Go away",), "4.7.0"))
        stream.hang_up()

    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    listening = await listen(sock, lambda: Connection(Role.SERVER, tls=hold), take, hold=hold, switches=switches)
    for _ in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await asyncio.wait_for(reader.read(), 10) == (b"" if hold else b"421 Go away\r\n")
        writer.close()
        await writer.wait_closed()
    connecting = asyncio.create_task(
        connect("127.0.0.1", port, tls=theirs if hold else None, server_hostname="localhost", timeout=10)
    )
    server = await streams.get()
    if hold:
        await server.shake_hands(ours, server_side=True)
    client = await connecting
    server.send(GREETING)
    hearing = asyncio.create_task(server.next_event())
    assert await client.next_event() == GREETING
    client.send(Noop())
    await client.flush()
    assert isinstance(await asyncio.wait_for(hearing, 10), Noop)
    client.abort()
    server.abort()
    listening.close()


async def test_name_asked_for_picks_the_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, two = authority.issue("one.example"), authority.issue("two.example")
    first = server_context(one.certificate, one.key, ListenerTls())
    second = server_context(two.certificate, two.key, ListenerTls())
    context = switching_context(first, {"one.example": first, "two.example": second})
    trust = ssl.create_default_context(cafile=str(authority.ca))
    async with served(hold=True, tls=True, switches=True) as found:
        for name, chosen in (("one.example", first), ("two.example", second), ("TWO.example", second)):

            async def serve() -> SmtpStream:
                server = await found.streams.get()
                await server.shake_hands(context, server_side=True)
                return server

            serving = asyncio.create_task(serve())
            client = await connect("127.0.0.1", found.port, tls=trust, server_hostname=name, timeout=10)
            server = await serving
            assert server.tls_context is chosen
            client.abort()
