"""HAProxy looks by SMTP whether a legacy site is there: it is UP, and its looks are no news."""

import csv
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.clients import require
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.ports import steady_ports

pytestmark = pytest.mark.interop

CONFIGURATION = """
global
    stats socket {stats} mode 600 level operator
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
backend printers
    option smtpchk
    server one 127.0.0.1:{port} check inter 100ms fall 1 {send}
"""


def _with_a_legacy_site(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest
) -> tuple[RunningDaemon, int]:
    """A daemon with a site for 127.0.0.7 alone, behind a load balancer at 127.0.0.1; and that site's port."""
    daemon = start_daemon(tmp_path, authority, at_end=request.addfinalizer, start=False)
    (port,) = steady_ports(1)
    issued = authority.issue("print.example.org", "localhost")
    lines = (
        "",
        "[[site]]",
        'name = "print.example.org"',
        f'submission = ["127.0.0.1:{port}"]',
        f'certificate = "{issued.certificate}"',
        f'key = "{issued.key}"',
        'proxy_from = ["127.0.0.1"]',
        "[site.legacy]",
        'networks = ["127.0.0.7/32"]',
        'logins = ["printer"]',
    )
    daemon.config.write_text(daemon.config.read_text() + "\n".join(lines) + "\n")
    daemon.start()
    return daemon, port


def _looked(stats: str) -> tuple[str, str]:
    """Whether the server is up, and what the last look found."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(stats)
        asking.sendall(b"show stat\n")
        with asking.makefile() as answer:
            table = answer.read()
    rows = csv.DictReader(table.removeprefix("# ").splitlines())
    (row,) = (row for row in rows if (row["pxname"], row["svname"]) == ("printers", "one"))
    return row["status"], row["check_status"]


@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2"])
def test_a_legacy_site_is_up_for_an_smtp_check(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, send: str
) -> None:
    daemon, port = _with_a_legacy_site(tmp_path, authority, request)
    with tempfile.TemporaryDirectory() as folder:  # a socket's path has room for 107 octets only
        stats = f"{folder}/stats"
        (tmp_path / "haproxy.cfg").write_text(CONFIGURATION.format(stats=stats, port=port, send=send))
        process = subprocess.Popen([require("haproxy"), "-db", "-q", "-f", str(tmp_path / "haproxy.cfg")])
        try:
            deadline = time.monotonic() + 20
            found = ("", "")
            while found != ("UP", "L7OK") and time.monotonic() < deadline:
                assert process.poll() is None, "haproxy ended"
                time.sleep(0.05)
                if Path(stats).exists():
                    found = _looked(stats)
            assert found == ("UP", "L7OK")
        finally:
            process.terminate()
            process.wait(10)
    assert daemon.stop() == 0
    told = {line["event"] for line in daemon.log()}
    assert not told & {"session.opened", "session.closed", "connection.refused"}
