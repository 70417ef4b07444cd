"""Jakarta Mail sends through both ports, with DATA and in chunks; every octet arrives."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.clients import Mail, Security, Target, send_with_jakarta_mail
from tests.support.daemon import RunningDaemon, start_daemon

pytestmark = [pytest.mark.interop, pytest.mark.heavy]

PASSWORD = "a pass%word with = and spaces"


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, request: pytest.FixtureRequest
) -> Iterator[RunningDaemon]:
    """A daemon with Ada's account; its mail goes into a maildir."""
    daemon = start_daemon(tmp_path_factory.mktemp("server"), authority, at_end=request.addfinalizer)
    daemon.user("ada", PASSWORD, ["ada@example.org"])
    yield daemon
    assert daemon.stop() == 0


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("chunksize", ["0", "1000"], ids=["DATA", "BDAT"])
def test_what_jakarta_mail_sends_arrives_octet_by_octet(
    chunksize: str, security: Security, server: RunningDaemon, message_path: Path
) -> None:
    before, seen = len(server.log()), set(server.delivered())
    port = server.submissions if security == "tls" else server.submission
    target = Target("localhost", port, security, "ada", PASSWORD, server.ca)
    mail = Mail("ada@example.org", ("bob@elsewhere.example",), message_path)
    sent = send_with_jakarta_mail(target, mail, chunksize=chunksize)
    assert sent.accepted, sent.output
    # its debugging output shows the commands
    chunks = len(re.findall(r"BDAT \d+", sent.output))
    assert chunks == 0 if chunksize == "0" else chunks > 3, sent.output
    server.wait_for("delivery.delivered", after=before)
    (arrived,) = set(server.delivered()) - seen
    # Jakarta Mail 2.0 stuffs dots inside chunks too, where nobody takes them out (RFC 3030 2): they arrive
    said = sent.octets if chunksize == "0" else re.sub(rb"^\.", b"..", sent.octets, flags=re.MULTILINE)
    assert arrived.endswith(b"\r\n" + said)
