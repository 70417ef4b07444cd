"""Parameters of MAIL and RCPT over real sockets, from the words of the client to the envelope."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.support.submission import Talker, signed_in, submission

MESSAGE = b"From: anna@example.org\r\n\r\ntext\r\n"


async def send(client: Talker, message: bytes, parameters: str = "") -> None:
    await client.command(f"MAIL FROM:<anna@example.org>{parameters}", 250)
    await client.command("RCPT TO:<b@example.net>", 250)
    await client.command("DATA", 354)
    client.say(message + b".\r\n")
    await client.expect(250)


async def test_every_parameter_reaches_the_envelope(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        await client.command(
            "MAIL FROM:<anna@example.org> SIZE=100 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ+2B1 HOLDFOR=60 BY=120;RT "
            "MT-PRIORITY=3 REQUIRETLS",
            250,
        )
        await client.command("RCPT TO:<b@example.net> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;bob+2Bx@example.org", 250)
        await client.command("RCPT TO:<c@example.net>", 250)
        await client.command("DATA", 354)
        client.say("From: anna@example.org\r\nSubject: \u00fc\r\n\r\n\u00e4\r\n.\r\n".encode())
        await client.expect(250)
    ((envelope, _),) = server.intake.committed
    assert (envelope.eight_bit, envelope.smtputf8) == (True, True)
    assert (envelope.ret, envelope.envid) == ("HDRS", "QQ+1")
    assert envelope.notify == ("SUCCESS,DELAY", "")
    assert envelope.original_recipients == ("rfc822;bob+x@example.org", "")
    assert envelope.hold_until == pytest.approx(envelope.received_at + 60)
    assert envelope.deliver_by == pytest.approx(envelope.received_at + 120)
    assert (envelope.deliver_by_mode, envelope.priority, envelope.require_tls) == ("RT", 3, True)


async def test_a_hold_beyond_the_sites_ceiling_is_501_and_the_session_goes_on(tmp_path: Path) -> None:
    async with submission(tmp_path, max_hold=3600.0) as server, await signed_in(server) as client:
        (text,) = await client.command("MAIL FROM:<anna@example.org> HOLDFOR=3601", 501)
        assert text.startswith("5.5.4 ")
        await send(client, MESSAGE, parameters=" HOLDFOR=3600")
        until = datetime.fromtimestamp(server.intake.committed[0][0].received_at + 600, UTC)
        await send(client, MESSAGE, parameters=f" HOLDUNTIL={until:%Y-%m-%dT%H:%M:%SZ}")
        await send(client, MESSAGE, parameters=" HOLDUNTIL=2020-01-01T00:00:00Z")
    held, until_then, past = [envelope.hold_until for envelope, _ in server.intake.committed]
    assert held == pytest.approx(server.intake.committed[0][0].received_at + 3600)
    assert until_then == int(until.timestamp())
    assert past == 0.0


async def test_tls_required_no_is_taken_from_the_header_unless_requiretls_was_said(tmp_path: Path) -> None:
    field = b"TLS-Required: No\r\n"
    async with submission(tmp_path) as server, await signed_in(server) as client:
        await send(client, field + MESSAGE)
        await send(client, field + MESSAGE, parameters=" REQUIRETLS")
    (first, content), (second, _) = server.intake.committed
    assert (first.tls_optional, first.require_tls) == (True, False)
    assert (second.tls_optional, second.require_tls) == (False, True)
    assert content.endswith(field + MESSAGE)  # the next hop may need it (RFC 8689 5)


async def test_ehlo_offers_what_the_site_did_not_disable(tmp_path: Path) -> None:
    async with submission(tmp_path, max_recipients=7) as server, await signed_in(server) as client:
        offered = await client.command("EHLO x", 250)
        words = {line.partition(" ")[0] for line in offered[1:]}
        assert words >= {"CHUNKING", "BINARYMIME", "DSN", "FUTURERELEASE", "DELIVERBY", "MT-PRIORITY", "REQUIRETLS"}
        assert "LIMITS RCPTMAX=7" in offered
    (tmp_path / "less").mkdir()
    async with (
        submission(tmp_path / "less", disabled_extensions=("CHUNKING", "DSN"), max_hold=0.0) as server,
        await signed_in(server) as client,
    ):
        offered = await client.command("EHLO x", 250)
        words = {line.partition(" ")[0] for line in offered[1:]}
        assert words.isdisjoint({"CHUNKING", "BINARYMIME", "DSN", "FUTURERELEASE"})
        assert "DELIVERBY" in words
        await client.command("MAIL FROM:<anna@example.org> RET=FULL", 555)
        await client.command("MAIL FROM:<anna@example.org> HOLDFOR=1", 555)
        await client.command("MAIL FROM:<anna@example.org> BODY=BINARYMIME", 555)
