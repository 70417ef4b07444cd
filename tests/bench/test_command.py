"""`pillarbox bench`: the real program against the real daemon, and as a sink."""

import json
import signal
import smtplib
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.daemon import start_daemon
from tests.support.ports import steady_ports

PROGRAM = (sys.executable, "-P", "-m", "pillarbox", "bench")


def bench(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        (*PROGRAM, *map(str, arguments)), input=stdin, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


def test_it_measures_the_real_server_and_says_that_it_sends_real_mail(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest
) -> None:
    server = start_daemon(tmp_path, authority, at_end=request.addfinalizer)
    server.user("ada", "secret of ada", ["ada@example.org"])
    secret = tmp_path / "password"
    secret.write_text("secret of ada\n")
    common = ("--user", "ada", "--sender", "ada@example.org", "--ca", server.ca, "--password-file", secret)

    done = bench("--to", f"127.0.0.1:{server.submissions}", *common, "--messages", 20, "--connections", 2, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["accepted"], found["refused"], found["failed"]) == (20, 0, 0)
    assert found["transaction_ms"]["p50"] <= found["transaction_ms"]["p99"] <= found["transaction_ms"]["max"]
    assert "REAL messages (20) from ada@example.org to ada@example.org" in done.stderr

    done = bench("--to", f"localhost:{server.submission}", "--starttls", *common, "--messages", 3, "--idle", 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("accepted  3 in ")
    assert server.stop() == 0
    assert sum(line["event"] == "message.accepted" for line in server.log()) == 23


def test_a_wrong_password_and_a_foreign_sender_fail_with_the_server_s_words(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest
) -> None:
    server = start_daemon(tmp_path, authority, at_end=request.addfinalizer)
    server.user("ada", "secret of ada", ["ada@example.org"])
    goal = ("--to", f"127.0.0.1:{server.submissions}", "--user", "ada", "--ca", server.ca, "--messages", 4)
    wrong = bench(*goal, "--sender", "ada@example.org", "--password-stdin", stdin="guess\n")
    assert wrong.returncode == 1
    assert wrong.stdout == ""
    assert "error: 127.0.0.1" in wrong.stderr
    assert "535 5.7.8" in wrong.stderr
    foreign = bench(*goal, "--sender", "eve@example.org", "--password-stdin", stdin="secret of ada\n")
    assert foreign.returncode == 1
    assert "refused   4 x 550 5.7.1" in foreign.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--to", "mail.example.org"],
        ["--to", "mail.example.org", "--user", "ada"],
        ["--to", "mail.example.org", "--user", "ada@example.org", "--messages", "1", "--seconds", "1s"],
        ["--to", "mail.example.org", "--user", "ada@example.org", "--seconds", "1"],
        ["--to", "mail.example.org", "--user", "ada@example.org", "--size", "large"],
        ["--to", "mail example", "--user", "ada@example.org"],
        ["--to", "mail.example.org", "--user", "ada@example.org", "--recipient", "bob"],
        ["--to", "mail.example.org", "--user", "ada@example.org"],
        ["--sink", "somewhere"],
        ["--sink", "127.0.0.1:2525", "--to", "mail.example.org"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    done = bench(*arguments)
    assert (done.returncode, done.stdout) == (2, "")


def test_the_sink_counts_until_it_is_interrupted() -> None:
    port = steady_ports(1)[0]
    sink = subprocess.Popen(
        (*PROGRAM, "--sink", f"127.0.0.1:{port}", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert sink.stderr is not None
        assert "accepts everything" in sink.stderr.readline()
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.sendmail("a@example.org", ["b@example.net"], "Subject: x\r\n\r\nx\r\n")
        sink.send_signal(signal.SIGINT)
        output, _ = sink.communicate(timeout=30)
    finally:
        sink.kill()
        sink.wait()
    assert sink.returncode == 0
    assert json.loads(output) == {"accepted": 1, "octets": 17, "sessions": 1}
