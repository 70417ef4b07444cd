"""Sessions over real sockets: sign-in, transactions, refusals, and what a broken or hostile peer gets."""

import asyncio
import ssl
from pathlib import Path

import pytest
from tests.support.submission import ANNA, signed_in, submission, talker

from pillarbox.guard.base import Blocked, Verdict
from pillarbox.spool.base import Full, Unavailable
from pillarbox.submission.session import MAX_COMMANDS_BEFORE_SIGN_IN

MESSAGE = (
    b"From: Anna <anna@example.org>\r\nTo: bob@example.net\r\nSubject: Hello\r\n"
    b"Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\nHello Bob\r\n..dots stay\r\n"
)


async def test_message_over_implicit_tls_is_committed_with_only_received_added(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        await client.command("MAIL FROM:<anna@example.org>", 250)
        await client.command("RCPT TO:<bob@example.net>", 250)
        await client.command("DATA", 354)
        client.say(MESSAGE.replace(b"\r\n..", b"\r\n...") + b".\r\n")
        lines = await client.expect(250)
        await client.command("QUIT", 221)
        assert await client.ended()
    ((envelope, content),) = server.intake.committed
    assert lines == [f"2.0.0 Ok: queued as {envelope.queue_id}"]
    assert content.startswith(
        b"Received: from client.example ([127.0.0.1])\r\n\tby mail.example.org with ESMTPSA (TLSv1.3"
    )
    assert content.endswith(MESSAGE)
    assert content.count(b"\nDate:") == 1
    assert envelope.size == len(content)
    assert (envelope.reverse_path, envelope.forward_paths) == ("anna@example.org", ("bob@example.net",))
    assert (envelope.login, envelope.site, envelope.eight_bit) == (ANNA.login, "mail.example.org", False)


async def test_starttls_then_a_pipelined_transaction(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await talker(server.submission) as client:
        await client.expect(220)
        offered = await client.command("EHLO [127.0.0.1]", 250)
        assert "STARTTLS" in offered
        assert not [line for line in offered if line.startswith("AUTH")]
        await client.start_tls(server.trust())
        offered = await client.command("EHLO [127.0.0.1]", 250)
        assert "AUTH PLAIN LOGIN" in offered
        assert "STARTTLS" not in offered
        await client.sign_in()
        client.say(b"MAIL FROM: <anna@example.org>\r\nRCPT TO:<b@example.net>\r\nRCPT TO:<c@example.net>\r\nDATA\r\n")
        for code in (250, 250, 250, 354):
            await client.expect(code)
        client.say(MESSAGE + b".\r\n")
        await client.expect(250)
    ((envelope, content),) = server.intake.committed
    assert envelope.forward_paths == ("b@example.net", "c@example.net")
    assert b" for <" not in content.split(b"\r\nFrom:")[0]


async def test_plaintext_left_behind_starttls_ends_the_session(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await talker(server.submission) as client:
        await client.expect(220)
        await client.command("EHLO x", 250)
        client.say(b"STARTTLS\r\nEHLO injected\r\n")
        assert await client.reader.read() in (b"", b"220 2.0.0 Ready to start TLS\r\n")


@pytest.mark.parametrize("command", ["MAIL FROM:<anna@example.org>", "RCPT TO:<b@example.net>", "DATA", "VRFY anna"])
async def test_before_sign_in_nobody_gets_anything(tmp_path: Path, command: str) -> None:
    async with submission(tmp_path) as server:
        async with await talker(server.submissions, tls=server.trust()) as client:
            await client.expect(220)
            await client.command("EHLO x", 250)
            await client.command(command, 530)
        async with await talker(server.submission) as client:
            await client.expect(220)
            await client.command("EHLO x", 250)
            await client.command(command, 530)
            await client.command("AUTH PLAIN AGEAYg==", 530)


async def test_failed_sign_ins_get_one_text_and_are_told_to_the_guard(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await talker(server.submissions, tls=server.trust()) as client:
        await client.expect(220)
        await client.command("EHLO x", 250)
        wrong = await client.sign_in(password="wrong", code=535)
        unknown = await client.sign_in(login="nobody@example.org", code=535)
        empty = await client.command("AUTH PLAIN AAA=", 535)
        assert wrong == unknown == empty
        await client.sign_in()
    assert [attempt.login for attempt in server.guard.failures] == ["anna@example.org", "nobody@example.org"]
    assert [attempt.login for attempt in server.guard.successes] == ["anna@example.org"]


async def test_failures_are_answered_at_one_time_whatever_their_cause(tmp_path: Path) -> None:
    async with (
        submission(tmp_path, failed_sign_in_time=0.4) as server,
        await talker(server.submissions, tls=server.trust()) as client,
    ):
        await client.expect(220)
        await client.command("EHLO x", 250)
        loop = asyncio.get_running_loop()
        for login in (ANNA.login, "nobody@example.org"):
            began = loop.time()
            await client.sign_in(login=login, password="wrong", code=535)
            assert loop.time() - began >= 0.4


async def test_login_mechanism_with_and_without_initial_response(tmp_path: Path) -> None:
    async with submission(tmp_path) as server:
        for first in ("AUTH login", "AUTH LOGIN YW5uYUBleGFtcGxlLm9yZw=="):
            async with await talker(server.submissions, tls=server.trust()) as client:
                await client.expect(220)
                await client.command("EHLO x", 250)
                prompt = await client.command(first, 334)
                if first == "AUTH login":
                    assert prompt == ["VXNlcm5hbWU6"]
                    prompt = await client.command("YW5uYUBleGFtcGxlLm9yZw==", 334)
                assert prompt == ["UGFzc3dvcmQ6"]
                await client.command("Y29ycmVjdCBob3JzZSBiYXR0ZXJ5", 235)


async def test_cancelled_exchange_is_501_and_the_session_goes_on(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await talker(server.submissions, tls=server.trust()) as client:
        await client.expect(220)
        await client.command("EHLO x", 250)
        await client.command("AUTH LOGIN", 334)
        await client.command("*", 501)
        await client.command("AUTH PLAIN", 334)
        await client.command("not base64!", 501)
        await client.sign_in()
    assert not server.guard.failures


async def test_directory_that_cannot_say_is_454_never_535(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await talker(server.submissions, tls=server.trust()) as client:
        server.directory.down = True
        await client.expect(220)
        await client.command("EHLO x", 250)
        await client.sign_in(code=454)
        server.directory.down = False
        await client.sign_in()
    assert not server.guard.failures


async def test_blocked_address_is_refused_before_anything_is_hashed(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await talker(server.submissions, tls=server.trust()) as client:
        server.guard.verdict = Verdict(False, 0.0, Blocked(until=2e9, failures=12))
        await client.expect(220)
        await client.command("EHLO x", 250)
        await client.sign_in(code=421)
        assert await client.ended()
    assert server.directory.verified == 0


async def test_blocked_address_is_refused_at_connect(tmp_path: Path) -> None:
    async with submission(tmp_path) as server:
        server.guard.blocked = Blocked(until=2e9, failures=12)
        async with await talker(server.submission) as client:
            await client.expect(421)
            assert await client.ended()
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await talker(server.submissions, tls=server.trust())


async def test_waiting_room_for_failures_is_bounded(tmp_path: Path) -> None:
    async with submission(tmp_path, failed_sign_in_time=30.0, max_delayed_sessions_per_address=2) as server:
        clients = []
        for _ in range(2):
            client = await talker(server.submissions, tls=server.trust())
            clients.append(client)
            await client.expect(220)
            await client.command("EHLO x", 250)
            client.say(b"AUTH PLAIN AGFubmFAZXhhbXBsZS5vcmcAd3Jvbmc=\r\n")
        for _ in clients:
            await server.guard.counted.acquire()
        async with await talker(server.submissions, tls=server.trust()) as client:
            await client.expect(220)
            await client.command("EHLO x", 250)
            await client.sign_in(password="wrong", code=421)
            assert await client.ended()
        for client in clients:
            client.writer.transport.abort()
        await server.role.drain(0.1)


async def test_sender_that_is_not_ones_own_is_refused_in_envelope_and_header(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        (text,) = await client.command("MAIL FROM:<boss@example.org>", 550)
        assert text == "5.7.1 You may not send as boss@example.org (sender)"
        for header in (b"From: boss@example.org", b"From: anna@example.org\r\nSender: boss@example.org"):
            await client.command("MAIL FROM:<>", 250)
            await client.command("RCPT TO:<b@example.net>", 250)
            await client.command("DATA", 354)
            client.say(header + b"\r\nSubject: x\r\n\r\nx\r\n.\r\n")
            (text,) = await client.expect(550)
            assert text.startswith("5.7.1 You may not send as boss@example.org")
    assert not server.intake.committed


async def test_null_reverse_path_with_own_from_is_accepted(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        await client.command("MAIL FROM:<>", 250)
        await client.command("RCPT TO:<b@example.net>", 250)
        await client.command("DATA", 354)
        client.say(b"From: A.User@Example.Org\r\nSubject: read\r\n\r\nx\r\n.\r\n")
        await client.expect(250)
    ((envelope, content),) = server.intake.committed
    assert envelope.reverse_path == ""
    assert b"\r\nDate: " in content
    assert b"\r\nMessage-ID: <" in content


@pytest.mark.parametrize(
    ("octets", "code", "status"),
    [
        (b"From: anna@example.org\r\n\r\nbare\nLF\r\n.\r\n", 554, "5.6.0"),
        (b"From: anna@example.org\r\n\r\nx\n.\r\nMAIL FROM:<>\r\n.\r\n", 554, "5.6.0"),
        (b"From: anna@example.org\r\n\r\nx\r\n\0.\r\nMAIL FROM:<>\r\n.\r\n", 554, "5.6.0"),
        (b"From: anna@example.org\r\n\r\n" + b"y" * 70_000 + b"\r\n.\r\n", 554, "5.6.0"),
        (b"Subject: nobody\r\n\r\nx\r\n.\r\n", 550, "5.7.1"),
    ],
)
async def test_bad_content_is_refused_after_its_true_end_and_the_session_goes_on(
    tmp_path: Path, octets: bytes, code: int, status: str
) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        await client.command("MAIL FROM:<anna@example.org>", 250)
        await client.command("RCPT TO:<b@example.net>", 250)
        await client.command("DATA", 354)
        client.say(octets)
        (text,) = await client.expect(code)
        assert text.startswith(status)
        await client.command("NOOP", 250)
        await client.command("RCPT TO:<b@example.net>", 503)
    assert not server.intake.committed
    assert server.guard.quota == 1_000_000


async def test_large_content_flows_to_the_spool_in_chunks_octet_for_octet(tmp_path: Path) -> None:
    body = b"".join(b"%07d abcdefghijklmnopqrstuvwxyz\r\n" % number for number in range(60_000))
    async with submission(tmp_path) as server, await signed_in(server) as client:
        await client.command(f"MAIL FROM:<anna@example.org> SIZE={len(body)}", 250)
        await client.command("RCPT TO:<b@example.net>", 250)
        await client.command("DATA", 354)
        client.say(b"From: anna@example.org\r\nDate: x\r\nMessage-ID: <1@x>\r\n\r\n" + body + b".\r\n")
        await client.writer.drain()
        await client.expect(250)
    ((envelope, content),) = server.intake.committed
    assert content.endswith(b"\r\n\r\n" + body)
    assert envelope.size == len(content)
    assert 0 < server.intake.largest_write <= 1_048_576


async def test_message_over_the_limit_is_refused_at_mail_and_while_it_comes(tmp_path: Path) -> None:
    async with submission(tmp_path, max_message_size=10_000) as server, await signed_in(server) as client:
        await client.command("MAIL FROM:<anna@example.org> SIZE=10001", 552)
        await client.command("MAIL FROM:<anna@example.org>", 250)
        await client.command("RCPT TO:<b@example.net>", 250)
        await client.command("DATA", 354)
        client.say(b"From: anna@example.org\r\n\r\n" + b"line\r\n" * 5_000 + b".\r\n")
        await client.expect(552)
        await client.command("NOOP", 250)
    assert not server.intake.committed


async def test_refusal_that_waits_for_the_end_of_content_holds_no_header(tmp_path: Path) -> None:
    """Otherwise a header of many fields costs thirty times its size for as long as its sender likes."""
    async with submission(tmp_path) as server, await signed_in(server) as client:
        for command, code in (("MAIL FROM:<anna@example.org>", 250), ("RCPT TO:<b@example.net>", 250), ("DATA", 354)):
            await client.command(command, code)
        (session,) = server.role._sessions
        assert session._posting is not None
        transaction = session._posting.transaction
        assert transaction is not None
        await transaction.add_content(b"From: bea@example.org\r\n" + b"X: y\r\n" * 40_000 + b"\r\n")
        refusal = transaction.content_refusal
        assert refusal is not None
        assert (refusal.__traceback__, refusal.__context__, refusal.__cause__) == (None, None, None)
        assert not transaction._header
        client.say(b"\r\n.\r\n")
        await client.expect(550)


async def test_header_sent_octet_by_octet_arrives_whole(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        await client.command("MAIL FROM:<anna@example.org>", 250)
        await client.command("RCPT TO:<b@example.net>", 250)
        await client.command("DATA", 354)
        for octet in MESSAGE.replace(b"\r\n..", b"\r\n...") + b".\r\n":
            client.say(bytes([octet]))
            await client.writer.drain()
            await asyncio.sleep(0)
        await client.expect(250)
    assert server.intake.committed[0][1].endswith(MESSAGE)


async def test_content_without_a_body_is_a_header(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        await client.command("MAIL FROM:<anna@example.org>", 250)
        await client.command("RCPT TO:<b@example.net>", 250)
        await client.command("DATA", 354)
        client.say(b"From: anna@example.org\r\nSubject: only\r\n.\r\n")
        await client.expect(250)
    assert server.intake.committed[0][1].endswith(b"From: anna@example.org\r\nSubject: only\r\n")


async def test_spool_errors_become_451_and_452(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        server.intake.refuse_at_mail = Full("below its reserve")
        await client.command("MAIL FROM:<anna@example.org>", 452)
        server.intake.refuse_at_mail = Unavailable("gone")
        await client.command("MAIL FROM:<anna@example.org>", 451)
        server.intake.refuse_at_mail = None
        for error, code in ((Unavailable("gone"), 451), (Full("full"), 452)):
            server.intake.refuse_at_commit = error
            await client.command("MAIL FROM:<anna@example.org>", 250)
            await client.command("RCPT TO:<b@example.net>", 250)
            await client.command("DATA", 354)
            client.say(MESSAGE + b".\r\n")
            (text,) = await client.expect(code)
            assert "gone" not in text
    assert not server.intake.committed
    assert server.guard.quota == 1_000_000


async def test_quota_and_recipient_limit(tmp_path: Path) -> None:
    async with submission(tmp_path, max_recipients=3) as server, await signed_in(server) as client:
        server.guard.quota = 2
        await client.command("MAIL FROM:<anna@example.org>", 250)
        await client.command("RCPT TO:<b@example.net>", 250)
        await client.command("RCPT TO:<b@example.net>", 250)  # the same again: counted once
        await client.command("RCPT TO:<c@example.net>", 250)
        await client.command("RCPT TO:<d@example.net>", 450)
        server.guard.quota = 10
        await client.command("RCPT TO:<d@example.net>", 250)
        await client.command("RCPT TO:<e@example.net>", 452)
        await client.command("RSET", 250)
        assert server.guard.quota == 12


async def test_account_change_ends_the_session_at_the_next_command(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        await client.command("NOOP", 250)
        server.role.account_changed("Anna@example.org", 1)
        await client.command("MAIL FROM:<anna@example.org>", 421)
        assert await client.ended()


async def test_drain_ends_idle_sessions_and_finishes_the_transaction_in_hand(tmp_path: Path) -> None:
    async with submission(tmp_path) as server:
        idle, busy = await signed_in(server), await signed_in(server)
        server.intake.gate = asyncio.Event()
        await busy.command("MAIL FROM:<anna@example.org>", 250)
        await busy.command("RCPT TO:<b@example.net>", 250)
        await busy.command("DATA", 354)
        busy.say(MESSAGE + b".\r\n")
        await server.intake.waiting.wait()
        draining = asyncio.create_task(server.role.drain(20.0))
        await idle.expect(421)
        assert await idle.ended()
        server.intake.gate.set()
        await busy.expect(250)
        await busy.command("NOOP", 421)
        await draining
        for client in (idle, busy):
            client.writer.close()
    assert len(server.intake.committed) == 1


async def test_peer_that_leaves_inside_the_content_leaves_nothing(tmp_path: Path) -> None:
    async with submission(tmp_path) as server:
        client = await signed_in(server)
        await client.command("MAIL FROM:<anna@example.org>", 250)
        await client.command("RCPT TO:<b@example.net>", 250)
        await client.command("DATA", 354)
        client.say(b"From: anna@example.org\r\n\r\n" + b"half a message\r\n" * 40_000)
        await client.writer.drain()
        client.writer.transport.abort()
        async with asyncio.timeout(20):
            await server.intake.abandoned.acquire()
        assert server.guard.quota == 1_000_000
    assert not server.intake.committed


async def test_slow_stranger_is_sent_away_in_its_budget(tmp_path: Path) -> None:
    async with submission(tmp_path, unauthenticated_timeout=0.3) as server, await talker(server.submission) as client:
        await client.expect(220)
        client.say(b"EHL")
        await client.expect(421)
        assert await client.ended()


@pytest.mark.parametrize("implicit", [True, False])
async def test_handshake_that_is_never_finished_ends_in_the_strangers_budget(tmp_path: Path, implicit: bool) -> None:
    async with (
        submission(tmp_path, unauthenticated_timeout=0.5) as server,
        await talker(server.submissions if implicit else server.submission) as client,
    ):
        if not implicit:
            await client.expect(220)
            await client.command("EHLO x", 250)
            await client.command("STARTTLS", 220)
        client.say(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
        assert await client.ended()


async def test_tls_hello_on_the_starttls_port_gets_a_line_that_says_so(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await talker(server.submission) as client:
        await client.expect(220)
        client.say(b"\x16\x03\x01\x02\x00\x01\x00")
        (text,) = await client.expect(554)
        assert "submissions port" in text
        assert await client.ended()


async def test_plaintext_on_the_submissions_port_is_hung_up_on(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await talker(server.submissions) as client:
        client.say(b"EHLO x\r\n")
        assert b"220" not in await client.reader.read()


async def test_sessions_per_address_are_limited(tmp_path: Path) -> None:
    async with submission(tmp_path, max_sessions_per_address=1) as server, await talker(server.submission) as first:
        await first.expect(220)
        async with await talker(server.submission) as second:
            await second.expect(421)
            assert await second.ended()
        await first.command("QUIT", 221)
        assert await first.ended()
        async with await talker(server.submission) as third:
            await third.expect(220)


@pytest.mark.parametrize("command", [b"EHLO x\r\n", b"HELP\r\n", b"bad\r\nNOOP\r\n"])
async def test_flood_of_commands_before_sign_in_gets_fifty_answers_and_a_421(tmp_path: Path, command: bytes) -> None:
    async with submission(tmp_path) as server, await talker(server.submission) as client:
        await client.expect(220)
        client.say(command * 5_000)
        codes: list[int] = []
        while not codes or codes[-1] != 421:
            code, _ = await client.reply()
            codes.append(code)
        assert len(codes) == MAX_COMMANDS_BEFORE_SIGN_IN + 1


async def test_signed_in_session_is_not_cut_off_for_many_commands(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        client.say(b"RSET\r\n" * 500)
        for _ in range(500):
            await client.expect(250)


async def test_process_has_no_more_sessions_than_files_whatever_the_site_allows(tmp_path: Path) -> None:
    async with submission(tmp_path, ceiling=1) as server, await talker(server.submission) as first:
        await first.expect(220)
        async with await talker(server.submission) as second:
            await second.expect(421)
            assert await second.ended()


async def test_help_verify_and_unknown_commands(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        await client.command("VRFY bob", 252)
        await client.command("HELP", 214)
        await client.command("NOOP anything", 250)
        await client.command("FROB", 500)
        await client.command("EXPN list", 502)


async def test_quit_without_reading_and_reset_leave_the_server_serving(tmp_path: Path) -> None:
    async with submission(tmp_path) as server:
        client = await signed_in(server)
        client.say(b"QUIT\r\n")
        await client.writer.drain()
        client.writer.transport.abort()
        async with await signed_in(server) as other:
            await other.command("NOOP", 250)
