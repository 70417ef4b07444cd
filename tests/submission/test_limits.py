"""What one session may cost: time, commands, lines in the log, recipients; over real sockets, after sign-in."""

import asyncio
import base64
import json
import socket
import ssl
from pathlib import Path

import pytest
from tests.support import submission as support
from tests.support.submission import ANNA, PASSWORD, Server, Talker, signed_in, submission

from pillarbox.submission.refusals import LINES
from pillarbox.submission.session import MAX_COMMANDS_WITHOUT_MESSAGE
from pillarbox.submission.settings import SiteSettings

HEADER = b"From: anna@example.org\r\nTo: b@example.net\r\n\r\n"


def test_an_honest_session_has_at_least_the_times_of_rfc_5321_4_5_3_2() -> None:
    site = SiteSettings("mail.example.org", (), (), Path(), Path())
    assert site.idle_timeout >= 300  # 4.5.3.2.7
    assert site.data_timeout >= 180  # 4.5.3.2.5
    assert site.data_total_timeout >= 3600


async def begin(client: Talker) -> None:
    """Until the content is awaited."""
    await client.command("MAIL FROM:<anna@example.org>", 250)
    await client.command("RCPT TO:<b@example.net>", 250)
    await client.command("DATA", 354)


async def ended(server: Server) -> None:
    """Returns when the server's sessions are gone."""
    tasks = list(server.role._sessions.values())
    async with asyncio.timeout(20):
        await asyncio.gather(*tasks)


async def test_content_that_stops_coming_is_given_up_after_data_timeout(tmp_path: Path) -> None:
    async with submission(tmp_path, data_timeout=0.2) as server, await signed_in(server) as client:
        await begin(client)
        client.say(HEADER)
        (text,) = await client.expect(421)
        assert text.startswith("4.4.2 ")
        assert await client.ended()
    assert server.intake.committed == []
    assert server.guard.quota == 1_000_000


@pytest.mark.usefixtures("json_log")
@pytest.mark.parametrize(
    ("octets", "inside"),
    [
        (b"NOOP\n", "timeout inside a command line"),
        (b"DATA\r\n" + HEADER + b"text\n.\n", "timeout inside the content"),
        (b"DATA\r\n" + HEADER + b"text\n.\r\n", "timeout inside the content"),
        (b"", "timeout"),
    ],
)
async def test_the_log_says_what_a_device_did_not_end(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], octets: bytes, inside: str
) -> None:
    async with (
        submission(tmp_path, idle_timeout=0.5, data_timeout=0.5) as server,
        await signed_in(server) as client,
    ):
        await client.command("MAIL FROM:<anna@example.org>", 250)
        await client.command("RCPT TO:<b@example.net>", 250)
        client.say(octets)
        if octets.startswith(b"DATA"):
            await client.expect(354)
        await client.expect(421)
        await ended(server)
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [line["how"] for line in lines if line["event"] == "session.closed"] == [inside]


async def test_content_that_drips_for_ever_is_given_up_after_data_total_timeout(tmp_path: Path) -> None:
    """Each piece is in time for data_timeout, so only the whole can be late."""
    async with (
        submission(tmp_path, data_timeout=600.0, data_total_timeout=0.5) as server,
        await signed_in(server) as client,
    ):
        await begin(client)
        client.say(HEADER)
        answer = asyncio.create_task(client.expect(421))
        while not answer.done():
            client.say(b"x\r\n")
            await asyncio.wait([answer], timeout=0.01)
        assert (await answer)[0].startswith("4.4.2 ")
    assert server.intake.committed == []


async def test_content_that_never_ends_is_given_up_after_data_total_timeout_however_fast_it_comes(
    tmp_path: Path,
) -> None:
    async with submission(tmp_path, data_total_timeout=0.5) as server, await signed_in(server) as client:
        await begin(client)
        client.say(HEADER)
        answer = asyncio.create_task(client.expect(421))
        piece = (b"x" * 998 + b"\r\n") * 64
        while not answer.done():
            client.say(piece)
            done = asyncio.create_task(client.writer.drain())
            await asyncio.wait([answer, done], return_when=asyncio.FIRST_COMPLETED)
            done.cancel()
            await asyncio.wait([done])
        await answer
    assert server.intake.committed == []


@pytest.mark.usefixtures("json_log")
async def test_peer_that_never_reads_its_replies_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    def bound() -> socket.socket:
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # accepted connections have it too
        return sock

    def flood(server: Server) -> ssl.SSLSocket:
        raw = socket.create_connection(("127.0.0.1", server.submissions), 20)
        sock = server.trust().wrap_socket(raw, server_hostname="localhost")
        token = base64.b64encode(f"\0{ANNA.login}\0{PASSWORD}".encode()).decode()
        for line, code in (("", b"220"), ("EHLO x\r\n", b"250"), (f"AUTH PLAIN {token}\r\n", b"235")):
            sock.sendall(line.encode())
            assert sock.recv(4096).startswith(code)
        sock.sendall(b"EHLO x\r\n" * 900)
        return sock

    monkeypatch.setattr(support, "_bound", bound)
    name = ".".join(["long" * 15] * 4)  # replies that no buffer on the way can take
    async with submission(tmp_path, idle_timeout=0.5, name=name) as server:
        sock = await asyncio.to_thread(flood, server)
        (session,) = server.role._sessions
        await ended(server)
        sock.close()
        assert session._commands < 900  # what had no room to be answered was not read on
    closed = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()][-1]
    assert (closed["event"], closed["how"]) == ("session.closed", "timeout")


@pytest.mark.parametrize("command", ["NOOP", "RSET", "HELP", "VRFY bob", "EHLO x"])
async def test_endless_commands_without_a_message_end_in_421(tmp_path: Path, command: str) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        client.say(f"{command}\r\n".encode() * (MAX_COMMANDS_WITHOUT_MESSAGE + 100))
        for _ in range(MAX_COMMANDS_WITHOUT_MESSAGE):
            code, _ = await client.reply()
            assert code in {214, 250, 252}
        (text,) = await client.expect(421)
        assert text.startswith("4.7.0 ")
        assert await client.ended()


async def test_empty_transactions_and_refused_recipients_are_commands_without_a_message(tmp_path: Path) -> None:
    async with submission(tmp_path, max_recipients=1) as server, await signed_in(server) as client:
        await client.command("MAIL FROM:<anna@example.org>", 250)
        client.say(b"RCPT TO:<b@example.net>\r\n" + b"RCPT TO:<c@example.net>\r\n" * MAX_COMMANDS_WITHOUT_MESSAGE)
        await client.expect(250)
        for _ in range(MAX_COMMANDS_WITHOUT_MESSAGE - 1):
            await client.expect(452)
        await client.expect(421)
    (tmp_path / "again").mkdir()
    async with submission(tmp_path / "again") as server, await signed_in(server) as client:
        client.say(b"MAIL FROM:<anna@example.org>\r\nRSET\r\n" * MAX_COMMANDS_WITHOUT_MESSAGE)
        for _ in range(MAX_COMMANDS_WITHOUT_MESSAGE):
            await client.expect(250)
        await client.expect(421)


async def test_an_accepted_message_and_new_recipients_make_a_session_welcome_again(tmp_path: Path) -> None:
    many = MAX_COMMANDS_WITHOUT_MESSAGE + 200
    async with submission(tmp_path, max_recipients=many) as server, await signed_in(server) as client:
        for _ in range(2):
            client.say(b"NOOP\r\n" * (MAX_COMMANDS_WITHOUT_MESSAGE - 10))
            for _ in range(MAX_COMMANDS_WITHOUT_MESSAGE - 10):
                await client.expect(250)
            client.say(b"MAIL FROM:<anna@example.org>\r\n")
            client.say(b"".join([b"RCPT TO:<%d@example.net>\r\n" % number for number in range(many)]))
            for _ in range(many + 1):
                await client.expect(250)
            await client.command("DATA", 354)
            client.say(HEADER + b".\r\n")
            await client.expect(250)
    assert [len(envelope.forward_paths) for envelope, _ in server.intake.committed] == [many, many]


@pytest.mark.usefixtures("json_log")
async def test_bad_commands_have_so_many_lines_in_the_log_and_then_a_count(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        for _ in range(LINES + 5):
            await client.command("BOGUS", 500)
            await client.command("MAIL FROM:<eve@example.org>", 550)
        await client.command("QUIT", 221)
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    told = [line["event"] for line in lines if line["event"] in {"protocol.broken", "command.refused"}]
    assert len(told) == LINES
    assert lines[-1]["event"] == "session.closed"
    assert lines[-1]["unlogged"] == LINES + 10


@pytest.mark.usefixtures("json_log")
async def test_an_accepted_message_gives_refusals_their_lines_back(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        for _ in range(2):
            for _ in range(LINES):
                await client.command("MAIL FROM:<eve@example.org>", 550)
            await begin(client)
            client.say(HEADER + b".\r\n")
            await client.expect(250)
        await client.command("QUIT", 221)
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [line["event"] for line in lines].count("command.refused") == 2 * LINES
    assert "unlogged" not in lines[-1]


async def test_message_with_over_a_hundred_received_fields_is_a_loop(tmp_path: Path) -> None:
    trace = b"Received: from a.example by b.example; Tue, 24 Nov 2026 10:00:00 +0000\r\n"
    async with submission(tmp_path) as server, await signed_in(server) as client:
        await begin(client)
        client.say(trace * 101 + HEADER + b".\r\n")
        (text,) = await client.expect(554)
        assert text.startswith("5.4.6 ")
        await begin(client)
        client.say(trace * 100 + HEADER + b".\r\n")
        await client.expect(250)
        await begin(client)  # many fields are no loop
        client.say(b"X-Trace: 1\r\n" * 101 + HEADER + b".\r\n")
        await client.expect(250)
    assert len(server.intake.committed) == 2
