"""Behind a load balancer: guard, limits, log and Received see the client that the PROXY header names."""

import asyncio
import json
import ssl
from ipaddress import ip_network
from pathlib import Path

import pytest
from tests.support.submission import ANNA, PASSWORD, Server, Talker, submission

LISTED = "127.0.0.5"
CLIENT = "192.0.2.77"
HEADER = f"PROXY TCP4 {CLIENT} 10.0.0.5 40000 465\r\n".encode()
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"
PROXIES = (ip_network(LISTED),)


async def through(port: int, octets: bytes, source: str = LISTED) -> Talker:
    client = Talker(*await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0)))
    client.say(octets)
    return client


async def signed_in(server: Server, implicit: bool) -> Talker:
    client = await through(server.submissions if implicit else server.submission, HEADER)
    if implicit:
        await client.writer.start_tls(server.trust(), server_hostname="localhost")
    await client.expect(220)
    await client.command("EHLO client.example", 250)
    if not implicit:
        await client.start_tls(server.trust())
        await client.command("EHLO client.example", 250)
    await client.sign_in()
    return client


@pytest.mark.usefixtures("json_log")
@pytest.mark.parametrize("implicit", [True, False])
async def test_the_named_client_is_in_guard_log_and_received(
    tmp_path: Path, implicit: bool, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    async with submission(tmp_path, proxy_from=PROXIES) as server, await signed_in(server, implicit) as client:
        await client.command(f"MAIL FROM:<{ANNA.login}>", 250)
        await client.command("RCPT TO:<bob@elsewhere.example>", 250)
        await client.command("DATA", 354)
        client.say(f"From: {ANNA.login}\r\n\r\ntext\r\n.\r\n".encode())
        await client.expect(250)
        assert [session["peer"] for session in server.role.sessions()] == [CLIENT]
    assert [attempt.address for attempt in server.guard.successes] == [CLIENT]
    ((_, content),) = server.intake.committed
    assert f"[{CLIENT}]".encode() in content.split(b"\r\n\r\n")[0]
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert {"session.opened", "message.accepted", "session.closed"} <= {line["event"] for line in lines}
    assert {line["peer"] for line in lines} == {CLIENT}
    assert [line["event"] for line in lines if line.get("proxy") == LISTED] == ["session.opened"]


async def test_limits_are_the_clients(tmp_path: Path) -> None:
    async with (
        submission(tmp_path, proxy_from=PROXIES, max_sessions_per_address=1) as server,
        await through(server.submission, HEADER) as first,
        await through(server.submission, HEADER) as second,
        await through(server.submission, HEADER.replace(b".77", b".78")) as other,
    ):
        await first.expect(220)
        await second.expect(421)
        await other.expect(220)


@pytest.mark.parametrize("octets", [b"EHLO client.example\r\n", b"\x16\x03\x01\x02\x00\x01"])
async def test_a_listed_peer_without_a_header_hears_nothing(tmp_path: Path, octets: bytes) -> None:
    async with submission(tmp_path, proxy_from=PROXIES) as server:
        for port in (server.submission, server.submissions):
            async with await through(port, octets) as client:
                assert await _silence(client)
        assert server.role.sessions() == []


async def test_an_unlisted_peers_header_is_a_bad_command_and_no_handshake(tmp_path: Path) -> None:
    async with submission(tmp_path, proxy_from=PROXIES) as server:
        async with await through(server.submission, HEADER, "127.0.0.1") as client:
            await client.expect(220)
            await client.expect(500)
            assert [session["peer"] for session in server.role.sessions()] == ["127.0.0.1"]
        async with await through(server.submissions, HEADER, "127.0.0.1") as client:
            octets = await client.reader.read()
            assert b"220" not in octets
        assert server.guard.successes == []


async def test_without_load_balancers_a_header_is_believed_from_nobody(tmp_path: Path) -> None:
    async with submission(tmp_path) as server, await through(server.submission, HEADER) as client:
        await client.expect(220)
        await client.expect(500)
        assert [session["peer"] for session in server.role.sessions()] == [LISTED]


async def test_a_health_check_is_the_load_balancers_own_session(tmp_path: Path) -> None:
    async with submission(tmp_path, proxy_from=PROXIES) as server, await through(server.submission, LOCAL) as client:
        await client.expect(220)
        await client.command("EHLO check", 250)
        assert [session["peer"] for session in server.role.sessions()] == [LISTED]
        await client.command("QUIT", 221)


async def test_an_unlisted_peer_is_served_on_the_same_address(tmp_path: Path) -> None:
    async with submission(tmp_path, proxy_from=PROXIES) as server:
        client = Talker(
            *await asyncio.open_connection(
                "127.0.0.1", server.submissions, ssl=server.trust(), server_hostname="localhost"
            )
        )
        async with client:
            await client.expect(220)
            await client.command("EHLO client.example", 250)
            await client.sign_in(password=PASSWORD)


async def _silence(client: Talker) -> bool:
    """Whether the connection ends without a word, however it ends."""
    try:
        return await asyncio.wait_for(client.reader.read(), 20) == b""
    except (ConnectionResetError, ssl.SSLError):
        return True
