"""testssl.sh finds nothing of medium severity or worse on either port, with the test's own authority trusted."""

import json
import subprocess
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.clients import require
from tests.support.daemon import start_daemon

pytestmark = [pytest.mark.interop, pytest.mark.heavy, pytest.mark.timeout(600)]

BAD = {"MEDIUM", "HIGH", "CRITICAL", "FATAL"}


@pytest.mark.parametrize("port", ["submission", "submissions"])
def test_testssl_finds_nothing_of_medium_or_worse(port: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    program = require("testssl")
    authority = Authority(tmp_path, crl="http://crl.example.org/ca.crl")
    server = start_daemon(tmp_path, authority, at_end=request.addfinalizer)
    report = tmp_path / "report.json"
    command = [
        *(program, "--quiet", "--warnings", "batch", "--color", "0", "--nodns", "none", "--ip", "127.0.0.1"),
        *(
            "--add-ca",
            str(server.ca),
            "--jsonfile",
            str(report),
            "--connect-timeout",
            "10",
            "--openssl-timeout",
            "10",
        ),
        *(("--starttls", "smtp") if port == "submission" else ()),
        f"localhost:{getattr(server, port)}",
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    found = json.loads(report.read_text())
    asked = {each["id"] for each in found}
    # it did get to the end, and did trust the chain
    assert {"TLS1_2", "TLS1_3", "cert_chain_of_trust", "heartbleed", "LUCKY13"} <= asked, done.stdout.decode()
    bad = [(each["id"], each["severity"], each["finding"]) for each in found if each["severity"] in BAD]
    assert bad == []
    assert server.stop() == 0
