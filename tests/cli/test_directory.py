"""`pillarbox directory`: what is listed, what a test tells, and its exit codes."""

import json
import os
import pty
import subprocess
import termios
import time
from pathlib import Path

import pytest
from tests.cli.conftest import PROGRAM, Run
from tests.support.certs import Authority
from tests.support.daemon import start_daemon
from tests.support.password_files import PEOPLE, RIGHT


@pytest.fixture
def chained(site: Path) -> Path:
    """The site with local accounts, a password file, and a mailbox server that is not there."""
    text = site.read_text().replace("[[site]]", '[[site]]\ndirectories = ["local", "files", "box"]')
    site.write_text(
        text
        + """
[[directory]]
name = "local"
[[directory]]
kind = "passwd"
name = "files"
file = "people"
[[directory]]
kind = "imap"
name = "box"
names = ["*@box.example"]
servers = ["127.0.0.1:1"]
domains = ["box.example"]
timeout = "2s"
"""
    )
    (site.parent / "people").write_text(PEOPLE)
    return site


def test_the_list_says_which_sites_use_which(run: Run, chained: Path) -> None:
    done = run("directory", "list", "--json", "--config", chained)
    assert done.code == 0
    assert json.loads(done.out) == [
        {"name": "local", "kind": "local", "names": [], "sites": ["mail.example.org"]},
        {"name": "files", "kind": "passwd", "names": [], "sites": ["mail.example.org"]},
        {"name": "box", "kind": "imap", "names": ["*@box.example"], "sites": ["mail.example.org"]},
    ]
    table = run("directory", "list", "--config", chained).out.splitlines()
    assert table[0].split() == ["NAME", "KIND", "LOGINS", "SITES"]
    assert [line.split() for line in table[2:]] == [
        ["files", "passwd", "*", "mail.example.org"],
        ["box", "imap", "*@box.example", "mail.example.org"],
    ]


def test_without_a_file_of_directories_there_are_the_local_accounts(run: Run, site: Path) -> None:
    assert '"kind": "local"' in run("directory", "list", "--json", "--config", site).out


def test_the_right_password_tells_the_steps_and_the_rights(run: Run, chained: Path) -> None:
    done = run("directory", "test", "files", "ANNA", "--password-stdin", "--config", chained, stdin=f"{RIGHT}\n")
    assert done.code == 0
    assert "line 2: anna" in done.err
    assert "addresses: a.smith@example.org anna@example.org" in done.out
    assert RIGHT not in done.out + done.err


@pytest.mark.parametrize(
    ("user", "password", "reason", "says"),
    [
        ("anna", "wrong", "wrong", "the password is wrong"),
        ("bob", RIGHT, "disabled", "the person is disabled"),
        ("nobody", RIGHT, "unknown", "nobody has this login"),
        ("anna\N{ESCAPE}[2J", RIGHT, "wrong", "anna?[2J is not let in"),
    ],
)
def test_a_refusal_says_why_and_the_exit_code_is_1(
    run: Run, chained: Path, user: str, password: str, reason: str, says: str
) -> None:
    arguments = ("directory", "test", "files", user, "--password-stdin", "--config", chained)
    done = run(*arguments, stdin=f"{password}\n")
    assert done.code == 1
    assert says in done.err
    assert "server behind" not in done.err  # a file counts nothing
    assert "\x1b" not in done.out + done.err
    told = json.loads(run(*arguments, "--json", stdin=f"{password}\n").out)
    assert (told["result"], told["reason"], told["directory"], told["user"]) == ("refused", reason, "files", user)
    assert isinstance(told["steps"], list)


def test_without_a_user_it_says_whether_the_server_answers(run: Run, chained: Path) -> None:
    done = run("directory", "test", "files", "--config", chained)
    assert done.code == 0 and done.err.endswith("it answers\n")
    done = run("directory", "test", "box", "--config", chained)
    assert done.code == 3
    assert "it cannot say: 127.0.0.1:1" in done.err
    done = run("directory", "test", "box", "--json", "--config", chained)
    told = json.loads(done.out)
    assert (done.code, told["result"]) == (3, "unavailable") and told["cause"]


def test_a_login_that_no_site_would_ask_it_for_is_said(run: Run, chained: Path) -> None:
    done = run("directory", "test", "box", "anna", "--password-stdin", "--config", chained, stdin="x\n")
    assert "the login is none of its names (*@box.example)" in done.err


def test_wrong_usage_is_2_and_says_what_to_do(run: Run, chained: Path) -> None:
    done = run("directory", "test", "fils", "--config", chained)
    assert (done.code, done.err) == (2, 'error: no directory is named "fils"; there are: local, files, box\n')
    done = run("directory", "test", "files", "--password-stdin", "--config", chained, stdin="x\n")
    assert done.code == 2 and "Name a USER" in done.err
    done = run("directory", "test", "files", "anna", "--config", chained)
    assert done.code == 2 and "--password-stdin" in done.err
    done = run("directory", "test", "files", "anna", "--password-stdin", "--config", chained, stdin="\n")
    assert done.code == 2 and "the password is empty" in done.err


def test_local_accounts_are_the_running_servers(run: Run, chained: Path) -> None:
    done = run("directory", "test", "local", "ada", "--password-stdin", "--config", chained, stdin="x\n")
    assert done.code == 1
    assert "which does not run" in done.err


def test_a_person_at_a_terminal_is_asked_and_nothing_is_echoed(chained: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, "directory", "test", "files", "anna", "--config", chained],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while termios.tcgetattr(ours)[3] & termios.ECHO and time.monotonic() < deadline:
        time.sleep(0.01)  # what is typed before it has hidden the input is thrown away
    os.write(ours, f"{RIGHT}\n".encode())
    try:
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    os.close(theirs)
    os.set_blocking(ours, False)
    seen = os.read(ours, 65_536)
    os.close(ours)
    assert process.returncode == 0
    assert "signed in" in out.decode()
    assert b"Password" in seen and RIGHT.encode() not in seen


@pytest.mark.scenario
def test_with_the_server_running_a_local_account_is_verified(
    run: Run, tmp_path: Path, authority: Authority, request: pytest.FixtureRequest
) -> None:
    server = start_daemon(tmp_path, authority, at_end=request.addfinalizer)
    server.user("ada", "correct horse", ["ada@example.org"])
    arguments = ("directory", "test", "local", "ada", "--password-stdin", "--config", server.config)
    done = run(*arguments, stdin="correct horse\n")
    assert done.code == 0
    assert "addresses: ada@example.org" in done.out
    assert run(*arguments, stdin="wrong\n").code == 1
    assert run("directory", "test", "local", "--config", server.config).code == 0
    assert server.stop() == 0
