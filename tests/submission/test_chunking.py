"""BDAT over real sockets: the same transaction as DATA, an answer to each chunk, errors that lose no step."""

import asyncio
from pathlib import Path

import pytest
from tests.support.submission import Talker, signed_in, submission

from pillarbox.spool.base import Unavailable

HEADER = (
    b"From: anna@example.org\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n"
    b"Bcc: secret@example.net\r\n\r\n"
)
KEPT = HEADER.replace(b"Bcc: secret@example.net\r\n", b"")


async def begin(client: Talker, parameters: str = "") -> None:
    await client.command(f"MAIL FROM:<anna@example.org>{parameters}", 250)
    await client.command("RCPT TO:<b@example.net>", 250)


async def bdat(client: Talker, octets: bytes, code: int = 250, *, last: bool = False) -> str:
    client.say(b"BDAT %d%s\r\n" % (len(octets), b" LAST" if last else b"") + octets)
    return (await client.expect(code))[0]


@pytest.mark.parametrize("cut", [1, 30, len(HEADER) - 1, len(HEADER), len(HEADER) + 3])
async def test_chunks_join_to_one_message_with_the_fix_ups_of_data(tmp_path: Path, cut: int) -> None:
    content = HEADER + b".leading dot\r\n.\r\nend\r\n"
    async with submission(tmp_path) as server, await signed_in(server) as client:
        await begin(client)
        assert await bdat(client, content[:cut]) == f"2.0.0 {cut} octets received"
        assert server.intake.committed == []
        text = await bdat(client, content[cut:], last=True)
    ((envelope, stored),) = server.intake.committed
    assert text == f"2.0.0 Ok: queued as {envelope.queue_id}"
    assert stored.startswith(b"Received: from client.example ([127.0.0.1])\r\n\tby mail.example.org with ESMTPSA ")
    assert stored.endswith(KEPT + b".leading dot\r\n.\r\nend\r\n")
    assert b"secret" not in stored
    assert envelope.size == len(stored)
    assert not envelope.binary


async def test_an_empty_last_chunk_ends_the_message(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        await begin(client)
        await bdat(client, HEADER + b"text\r\n")
        await bdat(client, b"", last=True)
        await begin(client)  # the session goes on, by DATA as well
        await client.command("DATA", 354)
        client.say(HEADER + b"text\r\n.\r\n")
        await client.expect(250)
    (_, first), (_, second) = server.intake.committed
    assert first.endswith(KEPT + b"text\r\n")
    assert second.endswith(KEPT + b"text\r\n")


async def test_pipelined_chunks_are_answered_in_order(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        client.say(
            b"MAIL FROM:<anna@example.org>\r\nRCPT TO:<b@example.net>\r\n"
            + b"BDAT %d\r\n" % len(HEADER)
            + HEADER
            + b"BDAT 4\r\nab\r\nBDAT 0 LAST\r\nNOOP\r\n"
        )
        texts = [(await client.expect(250))[0] for _ in range(6)]
    assert texts[2] == f"2.0.0 {len(HEADER)} octets received"
    assert texts[3] == "2.0.0 4 octets received"
    assert "queued as" in texts[4]
    assert len(server.intake.committed) == 1


async def test_binary_content_arrives_octet_by_octet_and_is_marked(tmp_path: Path) -> None:
    body = bytes(range(256)) * 3 + b"\r\r\n\n\n\0\r"
    async with submission(tmp_path) as server, await signed_in(server) as client:
        await begin(client, " BODY=BINARYMIME")
        await bdat(client, HEADER + body[:100])
        await bdat(client, body[100:], last=True)
    ((envelope, stored),) = server.intake.committed
    assert stored.endswith(KEPT + body)
    assert (envelope.binary, envelope.eight_bit) == (True, True)


async def test_an_octet_above_127_in_any_chunk_makes_the_message_eight_bit(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        for middle in (b"\xc3\xa4", b"ae"):
            await begin(client, " BODY=8BITMIME")
            await bdat(client, HEADER)
            await bdat(client, middle + b"\r\n")
            await bdat(client, b"end\r\n", last=True)
    assert [envelope.eight_bit for envelope, _ in server.intake.committed] == [True, False]


async def test_text_with_a_bare_line_end_is_refused_and_the_session_goes_on(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        await begin(client)
        client.say(b"BDAT %d\r\n" % (len(HEADER) + 4) + HEADER + b"a\nb\r")
        client.say(b"BDAT 2 LAST\r\n\r\n")
        codes = [(await client.reply())[0] for _ in range(2)]
        assert codes[-1] // 100 == 5
        await client.command("RSET", 250)
        await begin(client)
        await bdat(client, HEADER, last=True)
    assert len(server.intake.committed) == 1


async def test_a_sender_that_is_not_ones_own_is_refused_at_its_chunk_and_the_rest_is_thrown_away(
    tmp_path: Path,
) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        await begin(client)
        text = await bdat(client, b"From: eve@example.org\r\n\r\n", 550)
        assert text == "5.7.1 You may not send as eve@example.org (From)"
        await bdat(client, b"QUIT\r\nNOOP\r\n", 503)
        await bdat(client, b"QUIT\r\n", 503, last=True)
        await client.command("RSET", 250)
        await begin(client)
        await bdat(client, HEADER, last=True)
    assert len(server.intake.committed) == 1
    assert server.guard.quota == 1_000_000 - 1


async def test_chunks_without_a_recipient_are_refused_and_none_of_their_octets_is_a_command(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        await bdat(client, b"NOOP\r\nNOOP\r\n", 503, last=True)
        await client.command("MAIL FROM:<anna@example.org>", 250)
        await bdat(client, b"NOOP\r\nNOOP\r\n", 503)
        await client.command("VRFY still.in.step", 252)
    assert server.intake.committed == []


async def test_spool_that_cannot_say_is_451_at_the_last_chunk(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        server.intake.refuse_at_commit = Unavailable("down")
        await begin(client)
        await bdat(client, HEADER)
        await bdat(client, b"text\r\n", 451, last=True)
        server.intake.refuse_at_commit = None
        await begin(client)
        await bdat(client, HEADER, last=True)
    assert len(server.intake.committed) == 1


async def test_large_content_in_chunks_flows_to_the_spool(tmp_path: Path) -> None:
    line = b"x" * 76 + b"\r\n"
    body = line * 40_000
    async with submission(tmp_path) as server, await signed_in(server) as client:
        await begin(client)
        await bdat(client, HEADER)
        for start in range(0, len(body), 1 << 20):
            await bdat(client, body[start : start + (1 << 20)])
        await bdat(client, b"", last=True)
    ((_, stored),) = server.intake.committed
    assert stored.endswith(KEPT + body)
    assert 0 < server.intake.largest_write < len(body) // 2


@pytest.mark.parametrize("end", ["QUIT", "RSET", "EHLO x", "gone"])
async def test_what_was_sent_in_chunks_is_nothing_until_the_last(tmp_path: Path, end: str) -> None:
    async with submission(tmp_path) as server:
        async with await signed_in(server) as client:
            await begin(client)
            await bdat(client, HEADER + b"x" * 70 + b"\r\n" + (b"y" * 98 + b"\r\n") * 20_000)
            if end == "gone":
                client.writer.transport.abort()
            else:
                await client.command(end, 221 if end == "QUIT" else 250)
            async with asyncio.timeout(20):
                await server.intake.abandoned.acquire()
        assert server.guard.quota == 1_000_000
    assert server.intake.committed == []


async def test_chunk_that_stops_coming_is_given_up_and_so_are_chunks_without_end(tmp_path: Path) -> None:
    async with submission(tmp_path, data_timeout=0.2) as server, await signed_in(server) as client:
        await begin(client)
        client.say(b"BDAT 1000 LAST\r\n" + HEADER)
        await client.expect(421)
        assert await client.ended()
    (tmp_path / "again").mkdir()
    async with (
        submission(tmp_path / "again", data_total_timeout=0.3) as server,
        await signed_in(server) as client,
    ):
        await begin(client)
        code = 250
        while code == 250:
            client.say(b"BDAT 6\r\nX: y\r\n")
            code, _ = await client.reply()
        assert code == 421
    assert server.intake.committed == []
