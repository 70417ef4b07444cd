"""HAProxy in front, with the PROXY protocol: guard, log and Received see the client's own address."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.clients import CLIENTS, Mail, Security, Target, require
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.ports import steady_ports
from tests.support.processes import until_ready

pytestmark = pytest.mark.interop

PASSWORD = "correct horse battery staple"
CLIENT = "127.0.0.7"
CONFIGURATION = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend submission
    bind 127.0.0.1:{front_submission}
    default_backend submission
frontend submissions
    bind 127.0.0.1:{front_submissions}
    default_backend submissions
backend submission
    server one 127.0.0.1:{submission} {send}
backend submissions
    server one 127.0.0.1:{submissions} {send}
"""


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, request: pytest.FixtureRequest
) -> Iterator[RunningDaemon]:
    """A daemon that believes what 127.0.0.1 says of the client's address."""
    daemon = start_daemon(
        tmp_path_factory.mktemp("server"),
        authority,
        at_end=request.addfinalizer,
        site=('proxy_from = ["127.0.0.1"]',),
    )
    daemon.user("ada", PASSWORD, ["ada@example.org"])
    yield daemon
    assert daemon.stop() == 0


@pytest.fixture(params=["send-proxy", "send-proxy-v2"])
def balancer(server: RunningDaemon, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, int]]:
    """A running HAProxy; its ports by the listener's name."""
    submission, submissions = steady_ports(2)
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(
        CONFIGURATION.format(
            front_submission=submission,
            front_submissions=submissions,
            submission=server.submission,
            submissions=server.submissions,
            send=request.param,
        )
    )
    process = subprocess.Popen([require("haproxy"), "-db", "-q", "-f", str(configuration)])
    try:
        until_ready(
            process,
            lambda: socket.create_connection(("127.0.0.1", submissions), 1).close(),
            lambda: "haproxy does not listen",
        )
        yield {"starttls": submission, "tls": submissions}
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_the_client_behind_haproxy_is_the_peer(
    security: Security, balancer: dict[str, int], server: RunningDaemon, message_path: Path
) -> None:
    before, seen = len(server.log()), set(server.delivered())
    target = Target("localhost", balancer[security], security, "ada", PASSWORD, server.ca, CLIENT)
    sent = CLIENTS["smtplib"](target, Mail("ada@example.org", ("bob@elsewhere.example",), message_path))
    assert sent.accepted, sent.output
    assert server.wait_for("signin.succeeded", after=before)["peer"] == CLIENT
    server.wait_for("delivery.delivered", after=before)
    (arrived,) = set(server.delivered()) - seen
    assert f"([{CLIENT}])".encode() in arrived.split(b"\r\n\tby ")[0]


def test_whoever_comes_past_haproxy_without_a_header_is_closed(server: RunningDaemon) -> None:
    before = len(server.log())
    with socket.create_connection(("127.0.0.1", server.submission), 10) as direct:
        direct.sendall(b"EHLO client.example.org\r\n")
        direct.settimeout(10)
        try:
            said = direct.recv(100)
        except ConnectionResetError:
            said = b""
    assert said == b""
    assert server.wait_for("proxy.refused", after=before)["peer"] == "127.0.0.1"
