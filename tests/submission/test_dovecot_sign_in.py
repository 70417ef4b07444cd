"""SCRAM and tokens at a site whose people are a real Dovecot's: one answer for all who are refused."""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import scramp  # type: ignore[import-untyped]  # it ships no types
from tests.support.certs import Authority
from tests.support.dovecot import PASSWORD, Dovecot, running_dovecot
from tests.support.submission import Server, Talker, submission, talker

from pillarbox.directory.dovecot.backend import DovecotBackend
from pillarbox.directory.dovecot.directory import DovecotDirectory
from pillarbox.directory.dovecot.settings import DovecotSettings
from pillarbox.directory.tries import Tries
from pillarbox.directory.wire import Place
from pillarbox.guard.base import Verdict

ANNA, BOB = "anna@example.org", "bob@example.org"


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    issued = Authority(tmp_path_factory.mktemp("authority")).issue("localhost")
    people, mechanisms = {ANNA: PASSWORD, BOB: PASSWORD}, "plain scram-sha-256 xoauth2"
    with running_dovecot(issued, people, denied=[BOB], mechanisms=mechanisms, clear=True) as running:
        yield running


@pytest.fixture
async def server(dovecot: Dovecot, tmp_path: Path) -> AsyncIterator[Server]:
    settings = DovecotSettings(
        name="box", servers=(Place(path=str(dovecot.auth_socket)),), domains=("example.org",), wrong_tries=5
    )
    backend = DovecotBackend(settings)
    directory = DovecotDirectory(backend, settings, Tries(), lambda: b"k" * 32)
    await backend.prepare()
    mechanisms = ("SCRAM-SHA-256", "PLAIN", "OAUTHBEARER", "XOAUTH2")
    async with submission(tmp_path, people=directory, mechanisms=mechanisms) as running:
        yield running
    directory.close()


async def greeted(server: Server) -> tuple[Talker, list[str]]:
    client = await talker(server.submissions, tls=server.trust())
    await client.expect(220)
    return client, await client.command("EHLO client.example", 250)


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def scram(client: Talker, login: str, password: str, code: int) -> list[str]:
    """The exchange up to the answer to the proof."""
    peer = scramp.ScramClient(["SCRAM-SHA-256"], login, password)
    (first,) = await client.command(f"AUTH SCRAM-SHA-256 {b64(peer.get_client_first())}", 334)
    peer.set_server_first(base64.b64decode(first).decode())
    answer = await client.command(b64(peer.get_client_final()), code)
    if code == 334:
        peer.set_server_final(base64.b64decode(answer[0]).decode())
        return await client.command("", 235)
    return answer


async def test_scram_signs_in_and_dovecots_signature_is_shown(server: Server) -> None:
    client, lines = await greeted(server)
    assert "AUTH SCRAM-SHA-256 PLAIN OAUTHBEARER XOAUTH2" in lines
    async with client:
        await scram(client, ANNA, PASSWORD, 334)
        await client.command(f"MAIL FROM:<{ANNA}>", 250)
    assert not server.guard.failures


async def test_whoever_is_refused_hears_the_same_and_is_counted(server: Server) -> None:
    client, _ = await greeted(server)
    heard = set()
    async with client:
        for login, password in ((ANNA, "wrong"), ("nobody@example.org", PASSWORD), (BOB, PASSWORD)):
            heard.add(tuple(await scram(client, login, password, 535)))
    assert len(heard) == 1
    assert [attempt.login for attempt in server.guard.failures] == [ANNA, "nobody@example.org", BOB]


async def test_whoever_asks_for_channel_binding_is_refused_before_dovecot_hears_of_it(server: Server) -> None:
    client, lines = await greeted(server)
    assert not any("PLUS" in line for line in lines)
    async with client:
        first = b64(f"p=tls-unique,,n={ANNA},r=abcdefgh")
        await client.command(f"AUTH SCRAM-SHA-256 {first}", 535)
        (answer,) = await client.command(f"AUTH SCRAM-SHA-256 {b64(f'y,,n={ANNA},r=abcdefgh')}", 334)
        nonce = base64.b64decode(answer).decode().split(",")[0]
        stripped = b64(f"c=biws,{nonce},p={'A' * 43}=")  # what a "n" would have made of it
        await client.command(stripped, 535)


async def test_the_error_document_is_ours_whatever_dovecot_says(server: Server) -> None:
    client, _ = await greeted(server)
    async with client:
        response = b64(f"user={ANNA}\x01auth=Bearer nonsense\x01\x01")
        (answer,) = await client.command(f"AUTH XOAUTH2 {response}", 334)
        assert base64.b64decode(answer) == b'{"status":"401","schemes":"bearer","scope":""}'
        await client.command("", 535)


async def test_a_challenge_without_a_proof_is_a_failure_of_a_stranger_and_of_nobody_else(server: Server) -> None:
    client, _ = await greeted(server)
    first = f"AUTH SCRAM-SHA-256 {b64('n,,n=nobody@example.org,r=abcdefgh')}"
    async with client:
        await client.command(first, 334)
        await client.command("*", 501)
        await client.command(first, 334)
        await client.command(b64("no proof"), 535)
        await client.command(first, 334)
    async with asyncio.timeout(10):  # the third is counted when the connection was seen to end
        for _ in range(3):
            await server.guard.counted.acquire()
    assert [attempt.login for attempt in server.guard.failures] == ["nobody@example.org"] * 3
    server.guard.verdict = Verdict(known_place=True, delay=0.0)
    client, _ = await greeted(server)
    async with client:
        await client.command(first, 334)
        await client.command("*", 501)
        await scram(client, ANNA, PASSWORD, 334)
    assert len(server.guard.failures) == 3
