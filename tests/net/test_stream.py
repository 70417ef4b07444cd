"""Streams over real sockets: deadlines, back-pressure, TLS in both roles, and how a transport's end is told."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support.streams import GREETING, OK, contexts, served

from pillarbox.net.stream import (
    READ_AHEAD,
    WRITE_HIGH_WATER,
    ConnectionLost,
    DeadlineExceeded,
    Interrupted,
    SmtpStream,
    connect,
)
from pillarbox.net.tls import switching_context
from pillarbox.smtp.connection import LocalProtocolError
from pillarbox.smtp.events import (
    ConnectionClosed,
    Content,
    Data,
    EndOfContent,
    Hello,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Reset,
    StartTls,
)
from pillarbox.smtp.path import Mailbox
from pillarbox.smtp.reply import Reply


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[SmtpStream, SmtpStream]]:
    """(client, server), connected, the greeting said and read."""
    async with served() as found:
        client = await connect("127.0.0.1", found.port, timeout=10)
        server = await found.streams.get()
        server.send(GREETING)
        await server.flush()
        assert await client.next_event() == GREETING
        yield client, server
        client.abort()


async def code(stream: SmtpStream) -> int:
    """The code of the reply that comes next."""
    reply = await stream.next_event()
    assert isinstance(reply, Reply)
    return reply.code


async def test_events_cross_in_both_directions_and_replies_leave_in_one_write() -> None:
    async with pair() as (client, server):
        client.send(Hello("client.example", True))
        await client.flush()
        assert await server.next_event() == Hello("client.example", True)
        server.send(server.connection.hello_reply("test"))
        await server.flush()
        assert isinstance(await client.next_event(), Reply)
        for command in (Reset(), Reset(), Quit()):
            client.send(command)
        await client.flush()
        for _ in range(2):
            assert await server.next_event() == Reset()
            server.send(OK)
        assert await server.next_event() == Quit()
        server.send(Reply(221, ("Bye",), "2.0.0"))
        assert server.pending_output == len(OK.render()) * 2 + len(b"221 2.0.0 Bye\r\n")
        await server.close()
        assert [await code(client) for _ in range(3)] == [250, 250, 221]
        assert await client.next_event() == ConnectionClosed()


async def test_deadline_ends_the_waiting_and_can_be_moved() -> None:
    async with pair() as (_, server):
        server.set_deadline(60)
        server.set_deadline(0.05)
        with pytest.raises(DeadlineExceeded):
            await server.next_event()
        server.set_deadline(0.02)
        await asyncio.sleep(0.05)  # passes while nobody waits: it is told at the next waiting
        with pytest.raises(DeadlineExceeded):
            await server.next_event()
        server.set_deadline(None)
        waiting = asyncio.create_task(server.next_event())
        await asyncio.sleep(0)
        server.interrupt()
        with pytest.raises(Interrupted):
            await waiting


async def test_peer_that_is_not_waited_for_is_not_read_without_bound() -> None:
    async with pair() as (client, server):
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while True:
                client.send(Reset())
                if client.pending_output > 8_192:
                    sent += client.pending_output
                    await client.flush()

        flooding = asyncio.create_task(flood())
        stood_still = False
        for _ in range(100):
            before = sent
            await asyncio.sleep(0.2)
            if stood_still := 0 < sent == before:
                break
        flooding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await flooding
        assert stood_still, "nobody reads, and still it may write"
        assert sent < 64 * 1024 * 1024, "what is in flight fits the sockets' buffers"
        received = 0
        while received * len(b"RSET\r\n") < READ_AHEAD * 2:
            assert await server.next_event() == Reset()
            received += 1
            server.send(OK)


async def test_answers_to_commands_that_came_in_one_piece_do_not_gather_without_bound() -> None:
    long = Reply(250, ("x" * 400,), "2.0.0")
    async with pair() as (client, server):
        for _ in range(1_000):
            client.send(Reset())
        await client.flush()
        for _ in range(1_000):
            assert await server.next_event() == Reset()
            server.send(long)
            assert server.pending_output <= WRITE_HIGH_WATER + len(long.render())


async def test_reset_is_told_in_words() -> None:
    async with pair() as (client, server):
        transport = client._transport
        assert transport is not None
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        client.abort()
        try:
            event = await server.next_event()
            assert event == ConnectionClosed()
        except ConnectionLost as lost:
            assert "reset" in str(lost)


async def test_refused_unreachable_and_unknown_hosts_are_connection_lost() -> None:
    held = socket.create_server(("127.0.0.1", 0))
    port = held.getsockname()[1]
    held.close()
    with pytest.raises(ConnectionLost, match="refused"):
        await connect("127.0.0.1", port, timeout=10)
    with pytest.raises(ConnectionLost):
        await connect("no-such-host.invalid", 25, timeout=10)


async def test_server_that_never_answers_the_handshake_exceeds_the_deadline(tmp_path: Path) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    try:
        with pytest.raises(DeadlineExceeded):
            await connect(
                "127.0.0.1",
                silent.getsockname()[1],
                tls=contexts(tmp_path)[1],
                server_hostname="localhost",
                timeout=0.2,
            )
    finally:
        silent.close()


@pytest.mark.parametrize("switches", [False, True])
async def test_starttls_in_both_roles_over_both_kinds_of_transport(tmp_path: Path, switches: bool) -> None:
    ours, theirs = contexts(tmp_path)
    if switches:
        switching_context(ours, {})
    async with served(switches=switches, authenticated=False) as found:
        client = await connect("127.0.0.1", found.port, timeout=10)
        server = await found.streams.get()

        async def serve() -> None:
            server.send(GREETING)
            while True:
                event = await server.next_event()
                match event:
                    case Hello():
                        server.send(server.connection.hello_reply("test"))
                    case StartTls():
                        server.send(Reply(220, ("Go ahead",), "2.0.0"))
                        await server.start_tls(ours)
                    case Noop():
                        server.send(OK)
                    case _:
                        return

        serving = asyncio.create_task(serve())
        assert await client.next_event() == GREETING
        client.send(Hello("client", True))
        assert await code(client) == 250
        assert "STARTTLS" in client.connection.extensions
        client.send(StartTls())
        assert await code(client) == 220
        await client.start_tls(theirs, server_hostname="localhost")
        assert client.tls_facts is not None
        assert client.tls_facts[0] == "TLSv1.3"
        assert client.peer_certificate
        client.send(Hello("client", True))
        assert await code(client) == 250
        assert "STARTTLS" not in client.connection.extensions
        assert server.connection.tls
        await client.close()
        await asyncio.wait_for(serving, 10)


@pytest.mark.parametrize("name", ["localhost", "other.example"])
async def test_client_checks_the_certificate_and_its_name(tmp_path: Path, name: str) -> None:
    ours, theirs = contexts(tmp_path)
    async with served(hold=True, tls=True) as found:

        async def serve() -> None:
            server = await found.streams.get()
            with contextlib.suppress(ConnectionLost, ssl.SSLError):
                await server.shake_hands(ours, server_side=True)
                server.send(GREETING)
                await server.flush()

        serving = asyncio.create_task(serve())
        if name == "localhost":
            client = await connect("127.0.0.1", found.port, tls=theirs, server_hostname=name, timeout=10)
            assert await client.next_event() == GREETING
            client.abort()
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect("127.0.0.1", found.port, tls=theirs, server_hostname=name, timeout=10)
        await serving


async def test_untrusted_certificate_is_refused(tmp_path: Path) -> None:
    ours, _ = contexts(tmp_path)
    async with served(hold=True, tls=True) as found:

        async def serve() -> None:
            with contextlib.suppress(ConnectionLost, ssl.SSLError):
                await (await found.streams.get()).shake_hands(ours, server_side=True)

        serving = asyncio.create_task(serve())
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(
                "127.0.0.1", found.port, tls=ssl.create_default_context(), server_hostname="localhost", timeout=10
            )
        await serving


async def test_octets_behind_starttls_are_never_read_as_commands() -> None:
    async with served(authenticated=False) as found:
        reader, writer = await asyncio.open_connection("127.0.0.1", found.port)
        server = await found.streams.get()
        server.send(GREETING)
        await server.flush()
        writer.write(b"EHLO x\r\n")
        assert isinstance(await server.next_event(), Hello)
        server.send(server.connection.hello_reply("test"))
        await server.flush()
        writer.write(b"STARTTLS\r\nMAIL FROM:<injected@example.org>\r\n")
        assert await server.next_event() == StartTls()
        server.send(Reply(220, ("Go ahead",), "2.0.0"))
        with pytest.raises(LocalProtocolError):
            await server.start_tls(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        server.abort()
        writer.close()
        del reader


async def test_nothing_is_read_after_tls_was_closed(tmp_path: Path) -> None:
    """The socket stays open after close_notify and says commands in the clear: they never become events."""
    ours, theirs = contexts(tmp_path)
    async with served(hold=True, tls=True) as found:

        async def serve() -> list[object]:
            server = await found.streams.get()
            await server.shake_hands(ours, server_side=True)
            server.send(GREETING)
            events: list[object] = []
            with contextlib.suppress(ConnectionLost):
                while True:
                    event = await server.next_event()
                    events.append(event)
                    if isinstance(event, ConnectionClosed):
                        break
                    server.send(OK)
            return events

        serving = asyncio.create_task(serve())

        def speak() -> None:
            with socket.create_connection(("127.0.0.1", found.port)) as raw:
                incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                tls = theirs.wrap_bio(incoming, outgoing, server_hostname="localhost")

                def step(call: Callable[[], object]) -> None:
                    while True:
                        try:
                            call()
                            break
                        except ssl.SSLWantReadError:
                            raw.sendall(outgoing.read())
                            incoming.write(raw.recv(65_536))
                    raw.sendall(outgoing.read())

                step(tls.do_handshake)
                step(lambda: tls.read(1024))
                tls.write(b"NOOP\r\n")
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.unwrap()  # close_notify
                raw.sendall(outgoing.read() + b"NOOP\r\nMAIL FROM:<clear@example.org>\r\n")
                raw.settimeout(5)
                with contextlib.suppress(OSError):
                    while raw.recv(65_536):
                        pass

        await asyncio.to_thread(speak)
        events = await asyncio.wait_for(serving, 10)
        assert [event for event in events if not isinstance(event, ConnectionClosed)] in ([], [Noop()])


async def test_large_content_crosses_whole() -> None:
    body = b"".join(b"%06d 0123456789\r\n" % number for number in range(100_000))
    async with pair() as (client, server):

        async def send() -> None:
            client.send(Hello("c", True))
            await client.next_event()
            client.send(Mail(Mailbox("a", "example.org")))
            client.send(Rcpt(Mailbox("b", "example.org")))
            client.send(Data())
            for expected in (250, 250, 354):
                assert await code(client) == expected
            for at in range(0, len(body), 100_000):
                client.send(Content(body[at : at + 100_000]))
                await client.flush()
            client.send(EndOfContent(len(body), frozenset(), False))
            assert await code(client) == 250

        sending = asyncio.create_task(send())
        taken = []
        while True:
            event = await server.next_event()
            match event:
                case Hello():
                    server.send(server.connection.hello_reply("test"))
                case Data():
                    server.send(Reply(354, ("Go",)))
                case Content(octets):
                    taken.append(octets)
                case EndOfContent(size):
                    assert size == len(body)
                    server.send(OK)
                    await server.flush()
                    break
                case _:
                    server.send(OK)
        await sending
        assert b"".join(taken) == body
