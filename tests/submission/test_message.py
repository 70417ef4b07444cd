"""What a message goes through in a session: lines, the Received field, redirecting, and its lines in the log."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.submission import ANNA, Talker, signed_in, submission

from pillarbox.submission.settings import SiteSettings


async def send(client: Talker, message: bytes, code: int = 250, parameters: str = "") -> list[str]:
    """One transaction of ANNA's, dots stuffed already."""
    await client.command(f"MAIL FROM:<anna@example.org>{parameters}", 250)
    await client.command("RCPT TO:<b@example.net>", 250)
    await client.command("DATA", 354)
    client.say(message + b".\r\n")
    return await client.expect(code)


async def test_a_strict_site_holds_lines_to_998_octets_and_others_pass_them_on(tmp_path: Path) -> None:
    head = b"From: anna@example.org\r\n\r\n"
    async with submission(tmp_path, max_text_line=1000) as server, await signed_in(server) as client:
        await send(client, head + b"x" * 998 + b"\r\n")
        (text,) = await send(client, head + b"x" * 999 + b"\r\n" + b"short\r\n", 554)
        assert text.startswith("5.6.0 ")
        await send(client, head + b"the session goes on\r\n")
    assert len(server.intake.committed) == 2
    (tmp_path / "usual").mkdir()
    async with submission(tmp_path / "usual") as server, await signed_in(server) as client:
        await send(client, head + b"x" * 65_534 + b"\r\n")
        await send(client, head + b"x" * 65_535 + b"\r\n", 554)
    ((_, content),) = server.intake.committed
    assert content.endswith(b"\r\n\r\n" + b"x" * 65_534 + b"\r\n")


async def test_the_tag_of_a_cell_is_in_the_reply_the_envelope_and_the_trace(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        server.intake.cell = "fra1"
        (text,) = await send(client, b"From: anna@example.org\r\n\r\n")
    ((envelope, content),) = server.intake.committed
    assert envelope.queue_id.endswith("-fra1")
    assert text.split()[-1] == envelope.queue_id
    header = content.decode()
    assert f"id {envelope.queue_id}" in header
    assert f"Message-ID: <{envelope.queue_id}@mail.example.org>" in header


async def test_the_client_is_left_out_of_received_when_the_site_says_so(tmp_path: Path) -> None:
    async with submission(tmp_path, hide_client_address=True) as server, await signed_in(server) as client:
        await send(client, b"From: anna@example.org\r\n\r\n")
    ((_, content),) = server.intake.committed
    assert content.startswith(b"Received: by mail.example.org with ESMTPSA ")
    assert b"127.0.0.1" not in content
    assert b"client.example" not in content


async def test_received_says_utf8smtpsa_for_a_message_that_needs_smtputf8_and_no_other(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        await send(client, "From: Änna <anna@example.org>\r\n\r\n".encode(), parameters=" BODY=8BITMIME SMTPUTF8")
        await send(client, b"From: anna@example.org\r\n\r\n", parameters=" SMTPUTF8")
    (first, content), (second, other) = server.intake.committed
    assert (first.smtputf8, second.smtputf8) == (True, False)
    assert b" with UTF8SMTPSA (" in content.split(b"From:")[0]
    assert b" with ESMTPSA (" in other.split(b"From:")[0]


async def test_who_may_redirect_passes_a_foreign_from_under_an_own_resent_from(tmp_path: Path) -> None:
    message = b"From: eve@example.com\r\nResent-From: anna@example.org\r\nMessage-ID: <1@x>\r\n\r\n"
    async with submission(tmp_path) as server, await signed_in(server) as client:
        (text,) = await send(client, message, 550)
        assert text == "5.7.1 You may not send as eve@example.com (From)"
        server.directory.identity = replace(ANNA, may_redirect=True)
        async with await signed_in(server) as allowed:
            await send(allowed, message)
            await send(allowed, message.replace(b"anna@", b"bob@"), 550)
            await send(allowed, b"From: eve@example.com\r\n\r\n", 550)
    ((_, content),) = server.intake.committed
    assert content.endswith(message)


async def test_the_sites_limit_of_recipients_an_hour_holds_unless_the_account_has_its_own(tmp_path: Path) -> None:
    assert SiteSettings("x", (), (), Path(), Path()).recipients_per_hour == 500
    async with submission(tmp_path, recipients_per_hour=7) as server:
        async with await signed_in(server) as client:
            await send(client, b"From: anna@example.org\r\n\r\n")
        server.directory.identity = replace(ANNA, recipients_per_hour=9000)
        async with await signed_in(server) as client:
            await send(client, b"From: anna@example.org\r\n\r\n")
    assert server.guard.limits == [7, 9000]


@pytest.mark.usefixtures("json_log")
async def test_every_line_of_a_message_that_is_refused_has_its_queue_id(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        server.guard.quota = 1
        await client.command("MAIL FROM:<anna@example.org>", 250)
        await client.command("RCPT TO:<b@example.net>", 250)
        await client.command("RCPT TO:<c@example.net>", 450)
        await client.command("RCPT TO:<d@example.net>", 450)
        await client.command("BOGUS", 500)
        await client.command("DATA", 354)
        client.say(b"From: eve@example.org\r\n\r\ntext\r\n.\r\n")
        await client.expect(550)
        await client.command("BOGUS", 500)
        await client.command("QUIT", 221)
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert {line["session"] for line in lines if line["room"] == "submission"} == {lines[0]["session"]}
    opened, *rest = [line for line in lines if "queue_id" in line]
    assert opened["event"] == "transaction.opened"
    assert [line["event"] for line in rest] == [
        "quota.exceeded",  # said once
        "command.refused",
        "command.refused",
        "protocol.broken",
        "command.refused",
    ]
    assert {line["queue_id"] for line in rest} == {opened["queue_id"]}
