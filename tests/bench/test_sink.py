"""The sink, with Python's own client and with octets."""

import asyncio
import smtplib
import socket

import pytest
from tests.bench.conftest import hear

from pillarbox.bench.sink import serve


async def test_it_accepts_counts_and_keeps_nothing() -> None:
    async with serve("127.0.0.1", 0) as (sink, port):

        def work() -> None:
            with smtplib.SMTP("127.0.0.1", port) as client:
                for _ in range(3):
                    assert client.sendmail("a@example.org", ["b@example.net"], b"Subject: x\r\n\r\n.dot\r\n") == {}

        await asyncio.to_thread(work)
    assert (sink.accepted, sink.octets, sink.sessions) == (3, 3 * len(b"Subject: x\r\n\r\n.dot\r\n"), 1)


async def test_a_pipelined_group_is_answered_in_order() -> None:
    async with serve("127.0.0.1", 0) as (sink, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"EHLO x\r\n")
        assert await hear(reader, 2) == [220, 250]
        writer.write(b"MAIL FROM:<>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n")
        assert await hear(reader, 3) == [250, 250, 354]
        writer.write(b"hello\r\n.\r\nRSET\r\nNOOP\r\nQUIT\r\n")
        assert await hear(reader, 4) == [250, 250, 250, 221]
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    assert sink.accepted == 1


async def test_what_is_no_message_is_not_counted() -> None:
    async with serve("127.0.0.1", 0) as (sink, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"NONSENSE\r\nEHLO x\r\n")
        assert await hear(reader, 3) == [220, 500, 250]
        writer.write(b"MAIL FROM:<>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n")
        assert await hear(reader, 3) == [250, 250, 354]
        writer.write(b"a bare\nline feed\r\n.\r\n")
        assert await hear(reader, 1) == [554]
        writer.close()
        await writer.wait_closed()
    assert sink.accepted == 0


async def test_the_end_of_the_sink_ends_its_sessions() -> None:
    async with serve("127.0.0.1", 0) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await hear(reader, 1) == [220]
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_an_address_in_use_is_an_os_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held, pytest.raises(OSError, match="in use"):
        async with serve("127.0.0.1", held.getsockname()[1]):
            pass
