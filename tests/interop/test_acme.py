"""A real ACME authority (Pebble): http-01 and dns-01, the account, and what is said when it does not issue."""

import asyncio
import socket
import socketserver
import ssl
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.clients import require
from tests.support.nameserver import NameServer
from tests.support.pebble import Pebble, running_pebble
from tests.support.ports import steady_ports

from pillarbox.certificates.authority import AcmeAuthority
from pillarbox.certificates.challenge import Responder
from pillarbox.certificates.keeper import Keeper
from pillarbox.certificates.settings import AcmeSettings

pytestmark = pytest.mark.interop

NAME, OTHER = "acme.example.org", "post.example.net"


@pytest.fixture
def pebble(tmp_path: Path, authority: Authority, nameserver: NameServer) -> Iterator[Pebble]:
    """An authority for which NAME is at 127.0.0.1."""
    require("pebble")
    nameserver.add(NAME, "A", "127.0.0.1")
    (port,) = steady_ports(1)
    with running_pebble(tmp_path, authority, nameserver, port) as running:
        yield running


def _settings(tmp_path: Path, pebble: Pebble, **more: object) -> AcmeSettings:
    return AcmeSettings(
        folder=tmp_path / "certificates",
        names=(NAME,),
        directory=pebble.directory,
        email="postmaster@example.org",
        authority=pebble.ca,
        listen=(("127.0.0.1", pebble.responder_port),),
        **more,  # type: ignore[arg-type]  # fields of the class, by the test that names them
    )


async def _until_tried(keeper: Keeper, name: str = NAME) -> dict[str, object]:
    """Runs the keeper until the name's first try has ended."""
    running = asyncio.create_task(keeper.run())
    try:
        async with asyncio.timeout(60):
            while True:
                found = keeper.status().get(name)
                if found is not None and (found["until"] or found["reason"]):
                    return found
                await asyncio.sleep(0.02)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_issued_by_http_01(tmp_path: Path, pebble: Pebble) -> None:
    settings = _settings(tmp_path, pebble)
    responder = Responder()
    await responder.listen([socket.create_server(settings.listen[0])])
    try:
        found = await _until_tried(Keeper(settings, AcmeAuthority, responder))
    finally:
        await responder.close()
    assert found["reason"] is None
    pair = settings.pair(NAME)
    assert pair.stat().st_mode & 0o777 == 0o600
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair, pair)
    assert "BEGIN PRIVATE KEY" in (settings.folder / "account" / "key.pem").read_text()
    assert responder._answers == {}, "what was proven is not shown any longer"


async def test_the_account_is_made_once(tmp_path: Path, pebble: Pebble, nameserver: NameServer) -> None:
    nameserver.add(OTHER, "A", "127.0.0.1")
    settings = replace(_settings(tmp_path, pebble), names=(NAME, OTHER))
    responder = Responder()
    await responder.listen([socket.create_server(settings.listen[0])])
    try:
        found = await _until_tried(Keeper(settings, AcmeAuthority, responder), OTHER)
    finally:
        await responder.close()
    assert found["reason"] is None
    assert settings.pair(NAME).read_bytes() != settings.pair(OTHER).read_bytes()
    assert (pebble.folder / "pebble.log").read_text().count("There are now 1 accounts") == 1


async def test_what_the_authority_refuses_is_said_with_what_to_do(tmp_path: Path, pebble: Pebble) -> None:
    """Nobody listens where it looks."""
    found = await _until_tried(Keeper(_settings(tmp_path, pebble), AcmeAuthority, Responder()))
    assert found["until"] is None
    assert "could not see that the name is ours" in str(found["reason"])
    assert "port 80" in str(found["advice"])
    assert found["next_try"] is not None


async def test_an_authority_that_is_away_is_said(tmp_path: Path, pebble: Pebble) -> None:
    pebble.stop()
    found = await _until_tried(Keeper(_settings(tmp_path, pebble), AcmeAuthority, Responder()))
    assert "cannot be reached" in str(found["reason"])
    assert "reaches the authority's directory" in str(found["advice"])


async def test_an_authority_whose_own_certificate_is_not_trusted_is_not_used(tmp_path: Path, pebble: Pebble) -> None:
    settings = replace(_settings(tmp_path, pebble), authority=None)
    found = await _until_tried(Keeper(settings, AcmeAuthority, Responder()))
    assert "certificate verify failed" in str(found["reason"])


class _Records(socketserver.ThreadingTCPServer):
    """Where the hook of the test has its records made; ``asked`` are the verbs that came."""

    def __init__(self, nameserver: NameServer) -> None:
        super().__init__(("127.0.0.1", 0), _Record)
        self.nameserver = nameserver
        self.asked: list[str] = []


class _Record(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        verb, name, value = self.rfile.readline().decode().split()
        server = self.server
        assert isinstance(server, _Records)
        server.asked.append(verb)
        if verb == "present":
            server.nameserver.add(name, "TXT", f'"{value}"')
        else:
            server.nameserver.remove(name, "TXT")
        self.wfile.write(b"done\n")


_HOOK = """\
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as asking:
    asking.sendall(" ".join(sys.argv[2:]).encode() + b"\\n")
    sys.exit(asking.recv(10) != b"done\\n")
"""


async def test_issued_by_dns_01_through_a_hook(tmp_path: Path, pebble: Pebble, nameserver: NameServer) -> None:
    hook = tmp_path / "hook.py"
    hook.write_text(_HOOK)
    with _Records(nameserver) as records:
        threading.Thread(target=records.serve_forever, daemon=True).start()
        command = (sys.executable, str(hook), str(records.server_address[1]))
        settings = _settings(tmp_path, pebble, hook=command)
        found = await _until_tried(Keeper(settings, AcmeAuthority, Responder()))
        records.shutdown()
    assert found["reason"] is None
    assert records.asked == ["present", "remove"]
    assert nameserver.asked(f"_acme-challenge.{NAME}", "TXT") >= 1


async def test_a_hook_that_fails_is_said_and_nothing_is_asked_of_the_authority_s_eyes(
    tmp_path: Path, pebble: Pebble
) -> None:
    settings = _settings(tmp_path, pebble, hook=("/bin/sh", "-c", "echo no such zone >&2; exit 3"))
    found = await _until_tried(Keeper(settings, AcmeAuthority, Responder()))
    assert "exit code 3: no such zone" in str(found["reason"])
    assert "run the hook by hand" in str(found["advice"])


EXTERNAL = {"account-7": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}


async def test_an_authority_that_gives_out_accounts_issues_to_those_alone(
    tmp_path: Path, authority: Authority, nameserver: NameServer
) -> None:
    require("pebble")
    nameserver.add(NAME, "A", "127.0.0.1")
    (port,) = steady_ports(1)
    with running_pebble(tmp_path, authority, nameserver, port, external=EXTERNAL) as pebble:
        bare = await _until_tried(Keeper(_settings(tmp_path, pebble), AcmeAuthority, Responder()))
        assert "externalAccountRequired" in str(bare["reason"])
        assert "external_account in [acme]" in str(bare["advice"])
        file = tmp_path / "external.key"
        settings = _settings(tmp_path, pebble, external_account="account-7", external_key_file=file)
        for content, wrong in (("not the key", "external_key_file"), ("bm90IHRoZSBrZXk", "the authority said")):
            file.write_text(content)
            refused = await _until_tried(_fresh(settings, Responder()))
            assert str(refused["reason"]).startswith(wrong)
        file.write_text(EXTERNAL["account-7"] + "\n")
        responder = Responder()
        await responder.listen([socket.create_server(("127.0.0.1", port))])
        try:
            found = await _until_tried(_fresh(settings, responder))
        finally:
            await responder.close()
    assert found["reason"] is None


def _fresh(settings: AcmeSettings, responder: Responder) -> Keeper:
    """A keeper that knows of no failure before."""
    for noted in (settings.folder / "account").glob("*.json"):
        noted.unlink()
    return Keeper(settings, AcmeAuthority, responder)
