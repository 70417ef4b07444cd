"""A site for devices beside a normal one in one process: who may come, TLS of every age or none, line feeds, whom and
as whom they may write. Who may sign in where is in test_legacy_sign_in.py."""

import json
import re
import ssl
from ipaddress import ip_network
from pathlib import Path

import pytest
from tests.support.office import DEVICE, PASSWORDS, PERSON, Office, from_source, office
from tests.support.submission import Talker, submission, talker

from pillarbox.submission.settings import LegacySettings, Mailboxes

BALANCER = "127.0.0.5"
WITHIN, OUTSIDE = "192.0.2.17", "198.51.100.17"
PRINTERS = (ip_network("192.0.2.16/28"),)
TURNED_AWAY = ["Not from your network, closing the connection"]


def header(client: str) -> bytes:
    return f"PROXY TCP4 {client} 10.0.0.5 40000 587\r\n".encode()


async def greeted(port: int, tls: ssl.SSLContext | None = None) -> tuple[Talker, list[str]]:
    """A session, and what its EHLO reply offers."""
    client = await talker(port, tls=tls)
    await client.expect(220)
    return client, await client.command("EHLO device.example", 250)


async def device_session(place: Office) -> Talker:
    """The printer's, signed in without TLS."""
    client, _ = await greeted(place.legacy)
    await client.sign_in(DEVICE, PASSWORDS[DEVICE])
    return client


async def send(client: Talker, octets: bytes, sender: str = DEVICE, code: int = 250) -> list[str]:
    await client.command(f"MAIL FROM:<{sender}>", 250)
    await client.command("RCPT TO:<bob@elsewhere.example>", 250)
    await client.command("DATA", 354)
    client.say(octets)
    return await client.expect(code)


# --- who may come


async def test_whoever_is_not_in_the_networks_is_turned_away_before_any_verb(tmp_path: Path) -> None:
    async with office(tmp_path, networks=(ip_network("127.0.0.8/29"),), plaintext=True) as place:
        async with await from_source(place.legacy, "127.0.0.7") as stranger:
            stranger.say(b"EHLO x\r\nAUTH PLAIN =\r\n")
            assert await stranger.expect(554) == TURNED_AWAY
            with pytest.raises((EOFError, ConnectionError)):
                await stranger.reply()
        with pytest.raises((ssl.SSLError, EOFError, ConnectionError)):  # not even a handshake
            async with await talker(place.legacy_tls, tls=place.context()) as stranger:
                await stranger.expect(220)
        assert place.server.role.sessions() == []
        async with await from_source(place.legacy, "127.0.0.8") as printer:
            await printer.expect(220)


@pytest.mark.parametrize(
    ("peer", "served"),
    [("::1", True), ("::ffff:127.0.0.1", False)],
)
async def test_an_address_counts_as_what_it_is(tmp_path: Path, peer: str, served: bool) -> None:
    legacy = LegacySettings((ip_network("::/1"),), frozenset({"printer"}))
    async with (
        submission(tmp_path, legacy=legacy, proxy_from=(ip_network(BALANCER),)) as server,
        await from_source(server.submission, BALANCER) as client,
    ):
        client.say(f"PROXY TCP6 {peer} ::1 40000 587\r\n".encode())
        await client.expect(220 if served else 554)


@pytest.mark.usefixtures("json_log")
async def test_behind_a_load_balancer_the_client_counts(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    legacy = LegacySettings(PRINTERS, frozenset({"printer"}))
    async with submission(tmp_path, legacy=legacy, proxy_from=(ip_network(BALANCER),)) as server:
        for client, code in ((WITHIN, 220), (OUTSIDE, 554)):
            async with await from_source(server.submission, BALANCER) as through:
                through.say(header(client))
                await through.expect(code)
        for own in (b"PROXY UNKNOWN\r\n", header(BALANCER)):
            async with await from_source(server.submission, BALANCER) as check:  # the balancer's own look
                check.say(own)
                await check.expect(220)
                await check.command("EHLO check", 250)
                await check.command("QUIT", 221)
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    refused = [(line["peer"], line["reason"]) for line in lines if line["event"] == "connection.refused"]
    assert refused == [(OUTSIDE, "not in the site's networks")]
    assert [line["peer"] for line in lines if line["event"] == "session.opened"] == [WITHIN]


async def test_who_looks_from_outside_the_networks_signs_in_by_no_way(tmp_path: Path) -> None:
    """A listed peer that says LOCAL on purpose: what it is told is that we are there."""
    async with office(
        tmp_path, site={"proxy_from": (ip_network(BALANCER),)}, networks=PRINTERS, plaintext=True
    ) as place:
        async with await from_source(place.legacy, BALANCER) as client:
            client.say(b"PROXY UNKNOWN\r\n")
            await client.expect(220)
            assert not [line for line in await client.command("EHLO check", 250) if line.startswith("AUTH")]
            await client.command("AUTH PLAIN AGEAYg==", 504)
            await client.sign_in(DEVICE, PASSWORDS[DEVICE], 504)
            await client.command("HELO check", 250)
            await client.sign_in(DEVICE, PASSWORDS[DEVICE], 503)
            await client.command(f"MAIL FROM:<{DEVICE}>", 530)
        async with await from_source(place.legacy, BALANCER) as client:
            client.say(header(WITHIN))
            await client.expect(220)
            await client.command("EHLO printer", 250)
            await client.sign_in(DEVICE, PASSWORDS[DEVICE])


async def test_a_load_balancer_within_the_networks_lets_nobody_in(tmp_path: Path) -> None:
    everything_here = LegacySettings((ip_network("127.0.0.0/8"),), frozenset({"printer"}))
    async with (
        submission(tmp_path, legacy=everything_here, proxy_from=(ip_network(BALANCER),)) as server,
        await from_source(server.submission, BALANCER) as through,
    ):
        through.say(header(OUTSIDE))
        assert await through.expect(554) == TURNED_AWAY


# --- TLS of every age, or none


async def test_sign_in_without_tls_is_taken_there_and_nowhere_else(tmp_path: Path) -> None:
    async with office(tmp_path, plaintext=True) as place:
        printer, offered = await greeted(place.legacy)
        async with printer:
            assert "AUTH SCRAM-SHA-256 PLAIN LOGIN" in offered
            assert "STARTTLS" in offered
            await printer.sign_in(DEVICE, PASSWORDS[DEVICE])
            await send(printer, f"From: {DEVICE}\r\n\r\na scan\r\n.\r\n".encode(), DEVICE)
        person, offered = await greeted(place.normal)
        async with person:
            assert not [line for line in offered if line.startswith("AUTH")]
            await person.sign_in(PERSON, PASSWORDS[PERSON], 530)
        ((envelope, content),) = place.server.intake.committed
        assert envelope.login == DEVICE
        assert re.search(rb"\r\n\tby print\.example\.org with ESMTPA\r\n", content)


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
async def test_a_token_is_not_taken_outside_tls_there_either(tmp_path: Path, mechanism: str) -> None:
    async with office(tmp_path, plaintext=True) as place:
        printer, _ = await greeted(place.legacy)
        async with printer:
            await printer.command(f"AUTH {mechanism} dG9rZW4=", 504)
            await printer.start_tls(place.context())
            (offer,) = (line for line in await printer.command("EHLO x", 250) if line.startswith("AUTH "))
            assert mechanism in offer.split()


async def test_without_the_word_none_a_legacy_site_wants_tls(tmp_path: Path) -> None:
    async with office(tmp_path, minimum=ssl.TLSVersion.TLSv1) as place:
        printer, offered = await greeted(place.legacy)
        async with printer:
            assert not [line for line in offered if line.startswith("AUTH")]
            await printer.sign_in(DEVICE, PASSWORDS[DEVICE], 530)


@pytest.mark.parametrize(
    ("minimum", "version", "name"),
    [
        (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1, "TLSv1"),
        (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, "TLSv1.1"),
        (ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_1, "TLSv1.1"),
        (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
    ],
)
async def test_old_tls_is_spoken_there_implicit_and_by_starttls(
    tmp_path: Path, minimum: ssl.TLSVersion, version: ssl.TLSVersion, name: str
) -> None:
    async with office(tmp_path, minimum=minimum) as place:
        implicit, _ = await greeted(place.legacy_tls, place.old_context(version))
        upgraded, _ = await greeted(place.legacy)
        await upgraded.start_tls(place.old_context(version))
        await upgraded.command("EHLO device.example", 250)
        for printer in (implicit, upgraded):
            async with printer:
                tls = printer.writer.get_extra_info("ssl_object")
                assert tls.version() == name
                await printer.sign_in(DEVICE, PASSWORDS[DEVICE])
                await send(printer, f"From: {DEVICE}\r\n\r\na scan\r\n.\r\n".encode(), DEVICE)
        first, second = (content.partition(b"\r\n\r\n")[0] for _, content in place.server.intake.committed)
        assert f"({name} ".encode() in first, "the version that was spoken, not the oldest that has the cipher"
        assert f"({name} ".encode() in second


async def test_old_tls_is_refused_by_the_normal_site_beside_it(tmp_path: Path) -> None:
    async with office(tmp_path, minimum=ssl.TLSVersion.TLSv1) as place:
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await talker(place.normal_tls, tls=place.old_context(version))
            person, _ = await greeted(place.normal)
            async with person:
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    await person.start_tls(place.old_context(version))


async def test_a_version_below_the_sites_is_refused_by_a_legacy_site_too(tmp_path: Path) -> None:
    async with office(tmp_path, minimum=ssl.TLSVersion.TLSv1_1) as place:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await talker(place.legacy_tls, tls=place.old_context(ssl.TLSVersion.TLSv1))


async def test_starttls_after_a_sign_in_without_it_forgets_who_signed_in(tmp_path: Path) -> None:
    async with office(tmp_path, plaintext=True) as place, await device_session(place) as printer:
        await send(printer, f"From: {DEVICE}\r\n\r\none\r\n.\r\n".encode(), DEVICE)
        await printer.start_tls(place.context())
        (session,) = place.server.role.sessions()
        assert (session["login"], session["messages"]) == ("", 1)
        await printer.command(f"MAIL FROM:<{DEVICE}>", 530)
        assert any(line.startswith("AUTH ") for line in await printer.command("EHLO device.example", 250))
        await printer.command(f"MAIL FROM:<{DEVICE}>", 530)
        await printer.sign_in(PERSON, PASSWORDS[PERSON], 535)
        await printer.sign_in(DEVICE, PASSWORDS[DEVICE])
        await send(printer, f"From: {DEVICE}\r\n\r\ntwo\r\n.\r\n".encode(), DEVICE)
        (session,) = place.server.role.sessions()
        assert (session["login"], session["messages"]) == (DEVICE, 2)


async def test_who_was_forgotten_has_a_strangers_time_and_commands_anew(tmp_path: Path) -> None:
    site = {"unauthenticated_timeout": 3.0}
    async with office(tmp_path, plaintext=True, site=site) as place, await device_session(place) as printer:
        for _ in range(60):  # more than a stranger may say
            await printer.command("NOOP", 250)
        place.server.waited.seconds = 100.0  # longer than a stranger may take
        await printer.start_tls(place.context())
        await printer.command("EHLO device.example", 250)
        await printer.command("NOOP", 250)
        assert await printer.expect(421) == ["4.4.2 Timeout, closing the connection"]


# --- line ends and chunks


async def test_a_bare_line_feed_is_made_a_line_end_there_and_refused_elsewhere(tmp_path: Path) -> None:
    octets = b"From: %s\nSubject: scan\n\nline\n.\nmore\n\r\n.\r\n"
    async with office(tmp_path, plaintext=True) as place:
        async with await device_session(place) as printer:
            await send(printer, octets % DEVICE.encode(), DEVICE)
        ((_, content),) = place.server.intake.committed
        assert content.endswith(b"\r\nSubject: scan\r\n\r\nline\r\n.\r\nmore\r\n\r\n")
        assert content.count(b"\n") == content.count(b"\r\n")
        person, _ = await greeted(place.normal_tls, place.context())
        async with person:
            await person.sign_in(PERSON, PASSWORDS[PERSON])
            await send(person, octets % PERSON.encode(), PERSON, 554)


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n", b"\r\n.\r"])
async def test_nothing_but_crlf_dot_crlf_ends_content_there_either(tmp_path: Path, end: bytes) -> None:
    smuggled = b"MAIL FROM:<mallory@evil.example>\r\n"
    async with office(tmp_path, plaintext=True) as place, await device_session(place) as printer:
        octets = f"From: {DEVICE}\r\n\r\ntext".encode() + end + smuggled + b"\r\n.\r\n"
        await send(printer, octets, DEVICE, 554 if b"\r" in end.replace(b"\r\n", b"") else 250)
        await printer.command("NOOP", 250)
        for _, content in place.server.intake.committed:
            assert content.endswith(smuggled + b"\r\n")


async def test_a_bare_cr_is_refused_there_by_its_name(tmp_path: Path) -> None:
    async with office(tmp_path, plaintext=True) as place, await device_session(place) as printer:
        (text,) = await send(printer, f"From: {DEVICE}\r\n\r\na\rb\n\r\n.\r\n".encode(), DEVICE, 554)
        assert text == "5.6.0 Bare CR in the message: a CR must be followed by LF"


async def test_commands_there_are_as_strict_as_anywhere(tmp_path: Path) -> None:
    async with office(tmp_path, plaintext=True) as place, await device_session(place) as printer:
        await printer.command(f"MAIL FROM:<{DEVICE}>\nRCPT TO:<bob@elsewhere.example>", 500)


async def test_chunks_are_neither_offered_nor_taken(tmp_path: Path) -> None:
    async with office(tmp_path, plaintext=True) as place:
        printer, offered = await greeted(place.legacy)
        assert not {"CHUNKING", "BINARYMIME"}.intersection(offered)
        async with printer:
            await printer.sign_in(DEVICE, PASSWORDS[DEVICE])
            await printer.command(f"MAIL FROM:<{DEVICE}> BODY=BINARYMIME", 555)
            await printer.command(f"MAIL FROM:<{DEVICE}>", 250)
            await printer.command("RCPT TO:<bob@elsewhere.example>", 250)
            printer.say(b"BDAT 5 LAST\r\na\nb\nc")
            await printer.expect(502)
            await printer.command("NOOP", 250)


# --- whom they may write to, and as whom


async def test_a_list_of_recipients_is_kept_to(tmp_path: Path) -> None:
    recipients = Mailboxes(frozenset({"archive@elsewhere.example"}), frozenset({"example.org"}))
    async with office(tmp_path, plaintext=True, recipients=recipients) as place:
        async with await device_session(place) as printer:
            await printer.command(f"MAIL FROM:<{DEVICE}>", 250)
            for allowed in ("Archive@Elsewhere.example", "anybody@EXAMPLE.org"):
                await printer.command(f"RCPT TO:<{allowed}>", 250)
            for refused in (
                "bob@elsewhere.example",
                "archive@elsewhere.example.evil.example",
                "x@sub.example.org",
                "x@example.org.",
                '"archive@elsewhere.example"@evil.example',
                '"x@example.org"@evil.example',
                "postmaster",
            ):
                code = 553 if refused.endswith(".") else 550
                lines = await printer.command(f"RCPT TO:<{refused}>", code)
                assert code == 553 or lines == [f"5.7.1 Devices of this site may not write to {refused}"]
            await printer.command("DATA", 354)
            printer.say(f"From: {DEVICE}\r\n\r\na scan\r\n.\r\n".encode())
            await printer.expect(250)
        ((envelope, _),) = place.server.intake.committed
        assert list(envelope.forward_paths) == ["Archive@Elsewhere.example", "anybody@EXAMPLE.org"]


async def test_a_domain_that_is_called_postmaster_allows_no_postmaster_without_one(tmp_path: Path) -> None:
    odd = Mailboxes(domains=frozenset({"postmaster"}))
    async with office(tmp_path, plaintext=True, recipients=odd) as place, await device_session(place) as printer:
        await printer.command(f"MAIL FROM:<{DEVICE}>", 250)
        await printer.command("RCPT TO:<x@postmaster>", 250)
        await printer.command("RCPT TO:<Postmaster>", 550)


async def test_a_recipient_that_is_not_allowed_costs_no_quota(tmp_path: Path) -> None:
    nobody = Mailboxes(domains=frozenset({"example.org"}))
    async with office(tmp_path, plaintext=True, recipients=nobody) as place, await device_session(place) as printer:
        left = place.server.guard.quota
        await printer.command(f"MAIL FROM:<{DEVICE}>", 250)
        await printer.command("RCPT TO:<bob@elsewhere.example>", 550)
        assert place.server.guard.quota == left


async def test_a_from_that_is_built_in_is_taken_and_no_other(tmp_path: Path) -> None:
    senders = Mailboxes(frozenset({"scanner@device.local"}), frozenset({"brother.invalid"}))
    async with office(tmp_path, plaintext=True, senders=senders) as place, await device_session(place) as printer:
        for fixed in ("Scanner@device.local", "BRN001BA9@brother.invalid", DEVICE):
            await send(printer, f"From: <{fixed}>\r\n\r\na scan\r\n.\r\n".encode(), fixed)
        await printer.command(f"MAIL FROM:<{PERSON}>", 550)
        await send(printer, f"From: {PERSON}\r\n\r\na scan\r\n.\r\n".encode(), DEVICE, 550)
        assert len(place.server.intake.committed) == 3
        assert {envelope.login for envelope, _ in place.server.intake.committed} == {DEVICE}
