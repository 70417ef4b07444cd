"""`make demo`: every step holds without a terminal; with one it stays up until Ctrl-C; a step that fails is said."""

import contextlib
import os
import pty
import re
import select
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(300)]

DEMO = Path(__file__).parent.parent.parent / "demo"
SECONDS = 120.0
TITLES = [
    "A server of its own",
    "A message through submission: ",
    "A message through submissions: ",
    "The same message without signing in",
    "The same message with a wrong password",
    "All steps held.",
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A copy of the demo in a folder of its own, whose path has spaces and quotes."""
    folder = tmp_path / "a clone of 'mine' in Köln"
    shutil.copytree(DEMO, folder / "demo", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def command(place: Path) -> list[str]:
    return [sys.executable, str(place / "demo" / "demo.py")]


def run(place: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The demo without a terminal."""
    return subprocess.run(
        command(place),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        env=os.environ | environment,
        cwd="/",
    )


def gone(place: Path) -> bool:
    """No process works on the files of this demo any more."""
    marker = os.fsencode(place)
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if marker in each.read_bytes():
                return False
    return True


def test_without_a_terminal_it_shows_every_step_and_ends_with_0(place: Path) -> None:
    done = run(place)
    assert done.returncode == 0, done.stdout
    assert [title for title in TITLES if title not in done.stdout] == []
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("  ok ")][-1] == "stopped"
    assert done.stdout.count(" 235 2.7.0 ") == 2
    assert done.stdout.count("  ok  copy ") == 2
    assert re.search(r"  ok  refused .* 530 ", done.stdout)
    assert re.search(r"  ok  refused .* 535 ", done.stdout)
    assert '"event":"signin.failed"' in done.stdout
    assert "\x1b" not in done.stdout, "no colours where nobody sees them"
    assert "Password" not in done.stdout, "settings are for somebody who sits there"
    caught = sorted((place / "demo-data" / "caught").glob("*.eml"))
    assert len(caught) == 2
    assert all("Grüße aus Köln!".encode() in path.read_bytes() for path in caught)
    assert gone(place)


def test_it_runs_twice_in_a_row_and_with_its_ports_taken(place: Path) -> None:
    assert run(place).returncode == 0
    taken = []
    for port in (2587, 2465, 9587):
        with contextlib.suppress(OSError):  # somebody else has it, which serves as well
            taken.append(socket.create_server(("127.0.0.1", port)))
    try:
        done = run(place)
    finally:
        for each in taken:
            each.close()
    assert done.returncode == 0, done.stdout
    assert "port 2587" not in done.stdout
    assert "port 2465" not in done.stdout
    assert len(list((place / "demo-data" / "caught").glob("*.eml"))) == 2, "the first run's are gone"


def test_a_folder_that_cannot_be_written_is_replaced(place: Path, tmp_path: Path) -> None:
    (place / "demo-data").write_text("a file where the folder should be")
    temporary = tmp_path / "t"
    temporary.mkdir()
    done = run(place, TMPDIR=str(temporary))
    assert done.returncode == 0, done.stdout
    (folder,) = temporary.glob("pillarbox-demo-data-*")
    assert f"Everything lies in {folder}" in done.stdout
    assert len(list((folder / "caught").glob("*.eml"))) == 2
    assert [path.name for path in temporary.iterdir()] == [folder.name], "the sockets are gone"


def test_a_step_that_does_not_hold_is_said_without_a_traceback(place: Path) -> None:
    source = place / "demo" / "next_hop.py"
    whole = source.read_text()
    assert "lines.append(line.removeprefix" in whole
    source.write_text(whole.replace('lines.append(line.removeprefix(b"."))', 'lines.append(line + b" ")'))
    done = run(place)
    assert done.returncode == 1
    assert "FAILED  the message did not arrive as it was sent" in done.stdout.splitlines()[-1]
    assert "Traceback" not in done.stdout
    assert gone(place)


@dataclass
class Terminal:
    """A demo that runs in a terminal, and what it wrote there."""

    process: subprocess.Popen[bytes]
    descriptor: int
    octets: bytearray = field(default_factory=bytearray)

    def text(self) -> str:
        return self.octets.decode(errors="replace").replace("\r\n", "\n")

    def read_until(self, words: str) -> str:
        """What was written once ``words`` are there; at the end of everything for an empty string."""
        deadline = time.monotonic() + SECONDS
        while not words or words not in self.text():
            if not select.select([self.descriptor], [], [], deadline - time.monotonic())[0]:
                raise AssertionError(f"no {words!r} in:\n{self.text()}")
            try:
                octets = os.read(self.descriptor, 65536)
            except OSError:  # how Linux says that nobody has the other side any more
                octets = b""
            if not octets:
                assert not words, f"it ended without {words!r}:\n{self.text()}"
                break
            self.octets += octets
        return self.text()

    def press_ctrl_c(self) -> None:
        os.write(self.descriptor, b"\x03")


@pytest.fixture
def terminal(place: Path) -> Iterator[Terminal]:
    """The demo, started in a terminal of its own."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", "import os, sys, fcntl, termios\n"
         "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
         "os.execv(sys.argv[1], sys.argv[1:])", *command(place)],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        os.close(ours)


def settings(text: str) -> dict[str, str]:
    """The lines of the settings, by name."""
    return {
        found["name"].strip(): found["value"].strip()
        for found in re.finditer(r"^  (?P<name>[A-Z][\w ,]{1,15}| {2}or) {2,}(?P<value>.+)$", text, re.M)
    }


def test_in_a_terminal_it_stays_up_for_a_mail_program_until_ctrl_c(place: Path, terminal: Terminal) -> None:
    found = settings(terminal.read_until("Ctrl-C ends the demo."))
    submissions = int(found["Port, security"].removesuffix(", SSL/TLS"))
    submission = int(found["or"].removesuffix(", STARTTLS"))
    user, password = found["User name"], found["Password"]
    context = ssl.create_default_context(cafile=str(place / "demo-data" / "certificate.pem"))
    content = b"From: ada@example.org\r\nSubject: by hand\r\n\r\nfrom a mail program\r\n"
    with smtplib.SMTP_SSL(found["Server"], submissions, timeout=30, context=context) as smtp:
        smtp.login(user, password)
        smtp.sendmail(user, ["somebody@elsewhere.example"], content)
    with smtplib.SMTP(found["Server"], submission, timeout=30) as smtp:
        smtp.starttls(context=context)
        smtp.login(user, password)
        smtp.sendmail(user, ["somebody@elsewhere.example"], content)
    assert not gone(place)
    text = terminal.read_until("0004.eml")
    assert '"event":"message.accepted"' in text.partition("Ctrl-C ends")[2], "it tells what happens"
    terminal.press_ctrl_c()
    after = terminal.read_until("").partition("0004.eml")[2]
    assert terminal.process.wait(60) == 0
    assert "  stopped " in re.sub(r"\x1b\[\d+m", "", after)
    assert "Traceback" not in after and "Error" not in after
    assert gone(place)


def test_ctrl_c_before_the_end_is_quiet_too(place: Path, terminal: Terminal) -> None:
    terminal.read_until("init ")
    terminal.press_ctrl_c()
    text = terminal.read_until("")
    assert terminal.process.wait(60) == 130
    assert text.endswith("interrupted\n")
    assert "Traceback" not in text
    assert gone(place)
