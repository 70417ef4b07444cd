"""Attacks on the real daemon, from the network and from the machine: everybody else is served, nothing is open."""

import os
import resource
import stat
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario

CONTENT = b"From: ada@example.org\r\nSubject: s\r\n\r\ntext\r\n"
FLOODERS = 40  # fewer than one address may have without a sign-in: Ada is at the same one


@pytest.mark.parametrize("line", [b"EHLO x\r\n", b"HELP\r\n", b"x\r\nNOOP\r\n"])
def test_a_flood_of_commands_from_one_address_keeps_nobody_from_sending(
    daemon: RunningDaemon, password: str, line: bytes
) -> None:
    """Replies that nobody reads, commands by the ten thousand: each session ends after fifty, the others go on."""
    flooders = [Talk(daemon.submission) for _ in range(FLOODERS)]
    try:
        for flooder in flooders:
            flooder.send(line * (60_000 // len(line)))
        with Talk(daemon.submissions, daemon.ca) as talk:
            assert talk.say("EHLO client.example.org").startswith("250")
            assert talk.sign_in("ada", password).startswith("235")
            assert talk.transaction(CONTENT).startswith("250")
        for flooder in flooders:
            answers = 0
            try:
                while not flooder.reply().startswith("421"):
                    answers += 1
            except ConnectionError:  # a reset overtook the last replies: we sent more than was read
                pass
            assert answers <= 50
    finally:
        for flooder in flooders:
            flooder.reset()


def test_no_file_or_socket_is_open_to_other_users_whatever_the_umask(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, password: str
) -> None:
    daemon = start_daemon(tmp_path, authority, at_end=request.addfinalizer, start=False)
    before = os.umask(0)
    try:
        daemon.start()
    finally:
        os.umask(before)
    daemon.user("ada", password, ["ada@example.org"])
    with Talk(daemon.submissions, daemon.ca) as talk:
        talk.say("EHLO client.example.org")
        assert talk.sign_in("ada", password).startswith("235")
        assert talk.transaction(CONTENT + b"y" * 70 + (b"\r\n" + b"z" * 70) * 8_000 + b"\r\n").startswith("250")
    assert stat.S_IMODE(daemon.data_dir.stat().st_mode) == 0o700
    found = [daemon.data_dir, *daemon.data_dir.rglob("*"), *daemon.run_dir.rglob("*")]
    names = {path.name for path in found}
    assert {"accounts.db", "guard.db", "spool.db", "lock", "control.sock", "hub.sock", "submission.sock"} <= names
    open_to_others = []
    for path in found:
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:  # delivered meanwhile
            continue
        if mode & 0o007:
            open_to_others.append((path.name, oct(mode)))
    assert open_to_others == []


@pytest.mark.parametrize("role", ["submission", "spool", "delivery"])
def test_a_crash_leaves_no_memory_on_the_disk(daemon: RunningDaemon, role: str) -> None:
    """There are passwords, mail and keys in it."""
    for pid in daemon.pids(role):
        assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
