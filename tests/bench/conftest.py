"""Where the load client goes in these tests."""

import asyncio
import ssl

import pytest
from tests.support.certs import Authority

from pillarbox.bench.settings import Target


async def hear(reader: asyncio.StreamReader, replies: int) -> list[int]:
    """The codes of so many replies."""
    codes: list[int] = []
    while len(codes) < replies:
        line = await asyncio.wait_for(reader.readline(), 20)
        assert line.endswith(b"\r\n"), line
        if line[3:4] == b" ":
            codes.append(int(line[:3]))
    return codes


@pytest.fixture
def server_tls(authority: Authority) -> ssl.SSLContext:
    """A server's context for localhost."""
    issued = authority.issue("localhost", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    return context


@pytest.fixture
def trust(authority: Authority) -> ssl.SSLContext:
    """A client's context that trusts it."""
    return ssl.create_default_context(cafile=authority.ca)


USER, PASSWORD = "alice@example.org", "correct horse battery"


def target(
    port: int, context: ssl.SSLContext | None = None, *, starttls: bool = False, sign_in: bool = True
) -> Target:
    """On loopback, with an account."""
    user, password = (USER, PASSWORD) if sign_in else ("", "")
    return Target("127.0.0.1", port, user, password, context, starttls, "localhost", patience=20.0)
