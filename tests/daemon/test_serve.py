"""``pillarbox serve``, whole and by roles: real processes, a real message."""

import os
import signal
import smtplib
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon

MESSAGE = b"From: anna@example.org\r\nTo: bob@example.net\r\nSubject: hello\r\n\r\nhello\r\n"
ROLES = ("control", "spool", "submission", "delivery")


def send(daemon: RunningDaemon, login: str = "anna", password: str = "a long password") -> None:
    context = ssl.create_default_context(cafile=str(daemon.ca))
    with smtplib.SMTP_SSL("localhost", daemon.submissions, context=context, timeout=20) as client:
        client.login(login, password)
        client.sendmail("anna@example.org", ["bob@example.net"], MESSAGE)


class Apart:
    """The four roles of one configuration, each started by itself, as systemd does."""

    def __init__(self, daemon: RunningDaemon) -> None:
        self.daemon = daemon
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, role: str) -> None:
        with self.daemon.log_path.open("ab") as log:
            self.processes[role] = subprocess.Popen(
                (sys.executable, "-m", "pillarbox", "serve", "--role", role, "--config", str(self.daemon.config)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self, role: str) -> int:
        process = self.processes.pop(role)
        process.send_signal(signal.SIGTERM)
        return process.wait(30)

    def kill(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture
def apart(tmp_path: Path, authority: Authority, request: pytest.FixtureRequest) -> Iterator[Apart]:
    apart = Apart(start_daemon(tmp_path, authority, at_end=request.addfinalizer, start=False))
    yield apart
    apart.kill()


def until_started(apart: Apart, *roles: str, after: int = 0) -> None:
    for role in roles:
        event = "server.ready" if role == "control" else "role.started"
        apart.daemon.wait_for(event, after=after, timeout=30, role=role)


def until_known_to_the_hub(daemon: RunningDaemon) -> None:
    """A hub that starts anew hears of the roles as they come back to it."""
    deadline = time.monotonic() + 20
    while not daemon.ask("status")["ready"]:
        assert time.monotonic() < deadline, daemon.tail()
        time.sleep(0.02)


def test_roles_apart_do_what_the_tree_does_in_whatever_order_they_start(apart: Apart) -> None:
    daemon = apart.daemon
    daemon.data_dir.mkdir()
    for role in reversed(ROLES):
        apart.start(role)
    until_started(apart, *ROLES)
    daemon.user("anna", "a long password", ["anna@example.org"])
    send(daemon)
    daemon.wait_for("delivery.delivered")
    assert len(daemon.delivered()) == 1
    # SIGHUP to any role means all of them
    before = len(daemon.log())
    apart.processes["submission"].send_signal(signal.SIGHUP)
    assert daemon.wait_for("config.reloaded", after=before)["processes"] == 3
    # the spool's restart and the hub's restart drop nobody
    for role in ("spool", "control"):
        before = len(daemon.log())
        assert apart.stop(role) == 0
        apart.start(role)
        until_started(apart, role, after=before)
        send(daemon)
    until_known_to_the_hub(daemon)
    # drain ends those that carry mail, and the rest stays
    daemon.ask("drain")
    assert apart.processes.pop("submission").wait(30) == 0
    assert apart.processes.pop("delivery").wait(30) == 0
    assert apart.stop("spool") == 0
    assert apart.stop("control") == 0


def test_sockets_of_socket_activation_are_used(tmp_path: Path, authority: Authority) -> None:
    """As systemd starts it: descriptors from 3 on, LISTEN_PID the process itself."""
    daemon = start_daemon(tmp_path, authority, start=False, server=["delivery_workers = 1"])
    program = f"""
import os, socket
held = [socket.create_server(("127.0.0.1", port)) for port in ({daemon.submission}, {daemon.submissions})]
copies = [os.dup(one.fileno()) for one in held]
for number, copy in enumerate(copies):
    os.dup2(copy, 100 + number)
for number in range(2):
    os.dup2(100 + number, 3 + number, inheritable=True)
os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="a:b")
os.execv({sys.executable!r}, [{sys.executable!r}, "-m", "pillarbox", "serve", "--config", {str(daemon.config)!r}])
"""
    with daemon.log_path.open("ab") as log:
        daemon.process = subprocess.Popen(
            (sys.executable, "-c", program), stdout=log, stderr=log, start_new_session=True
        )
    try:
        daemon.wait_for("server.ready", timeout=30)
        daemon.user("anna", "a long password", ["anna@example.org"])
        send(daemon)
        daemon.wait_for("delivery.delivered")
        assert daemon.stop() == 0
    finally:
        daemon.kill9()


def test_mistakes_in_the_configuration_are_all_printed(tmp_path: Path, authority: Authority) -> None:
    daemon = start_daemon(tmp_path, authority, start=False, site=["nonsense = 1", "max_recipients = 0"])
    done = subprocess.run(
        (sys.executable, "-m", "pillarbox", "serve", "--config", str(daemon.config)), capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "nonsense" in done.stderr and "max_recipients" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_an_unreadable_key_ends_the_start_with_its_name(tmp_path: Path, authority: Authority) -> None:
    daemon = start_daemon(tmp_path, authority, start=False)
    text = daemon.config.read_text()
    daemon.config.write_text(text.replace("-key.pem", "-no-such-key.pem"))
    with pytest.raises(AssertionError):
        daemon.start()
    assert daemon.process is not None
    assert daemon.process.wait(30) == 1
    assert "no-such-key.pem" in daemon.wait_for("role.failed", role="submission")["reason"]


def test_a_key_of_another_certificate_ends_the_start_with_both_names(tmp_path: Path, authority: Authority) -> None:
    daemon = start_daemon(tmp_path, authority, start=False)
    other = authority.issue("other.example.org").key
    lines = [f'key = "{other}"' if line.startswith("key") else line for line in daemon.config.read_text().split("\n")]
    daemon.config.write_text("\n".join(lines))
    with pytest.raises(AssertionError):
        daemon.start()
    assert daemon.process is not None
    assert daemon.process.wait(30) == 1
    reason = daemon.wait_for("role.failed", role="submission")["reason"]
    assert reason.startswith(f"key {other}: it does not belong to the certificate ")


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path, authority: Authority) -> None:
    daemon = start_daemon(tmp_path, authority, start=False)
    daemon.data_dir.write_text("a file")
    daemon.config.write_text(daemon.config.read_text().replace(str(daemon.data_dir), f"{daemon.data_dir}/a/b"))
    done = subprocess.run(
        (sys.executable, "-m", "pillarbox", "serve", "--config", str(daemon.config)), capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == f"{daemon.data_dir}/a/b: cannot be made: Not a directory\n"


def test_a_port_in_use_is_named(tmp_path: Path, authority: Authority, request: pytest.FixtureRequest) -> None:
    first = start_daemon(tmp_path, authority, at_end=request.addfinalizer)
    done = subprocess.run(
        (sys.executable, "-m", "pillarbox", "serve", "--config", str(first.config)), capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.strip() == f"cannot listen on 127.0.0.1:{first.submission}: Address already in use"
    assert first.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give root up")
def test_root_is_refused_unless_it_is_given_up_or_wanted(tmp_path: Path, authority: Authority) -> None:
    daemon = start_daemon(tmp_path, authority, start=False)
    daemon.config.write_text(daemon.config.read_text().replace("run_as_root = true", ""))
    done = subprocess.run(
        (sys.executable, "-m", "pillarbox", "serve", "--config", str(daemon.config)), capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "server.user" in done.stderr and "server.run_as_root" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give root up")
def test_root_is_given_up_for_good(tmp_path: Path) -> None:
    program = """
import os, pwd
from pillarbox.daemon import privileges
privileges.drop(pwd.getpwnam("nobody"))
nobody = pwd.getpwnam("nobody")
assert os.getresuid() == (nobody.pw_uid,) * 3 and os.getresgid() == (nobody.pw_gid,) * 3
assert 0 not in os.getgroups()
for back in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.seteuid(0)):
    try:
        back()
    except PermissionError:
        continue
    raise AssertionError("root came back")
"""
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
