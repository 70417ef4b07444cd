"""The file of Domino's console lines: lines of several processes, rotation, full disks, folders that are gone."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pillarbox.telemetry import domino_lines, events
from pillarbox.telemetry.domino_lines import LOOK_EVERY, DominoLines

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d   SMTP Server: (.*)")
SESSION = {"peer": "192.0.2.1", "messages": 2, "login": "anna"}


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The clock by which it looks after the file: one number, to be changed."""
    moment = [1000.0]
    monkeypatch.setattr("pillarbox.telemetry.domino_lines.time.monotonic", lambda: moment[0])
    yield moment
    domino_lines.configure(None)


def texts(path: Path) -> list[str]:
    found = [LINE.fullmatch(line) for line in path.read_text().split("\n")[:-1]]
    assert all(found), path.read_text()
    return [match[1] for match in found if match is not None]


def said(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """The events that the log got since the last call."""
    return re.findall(r"domino_lines\.\w+", capfd.readouterr().out)


def test_events_become_lines_whatever_the_level_of_the_log(
    tmp_path: Path, now: list[float], capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "console.log"
    domino_lines.configure(path)
    events.configure(form="json", level="error")
    try:
        log = events.get_logger("submission").bind(peer="192.0.2.1")
        log.info("session.opened", port=1)
        log.warning("signin.failed", login="a b/ORG", reason="wrong")
        log.bind(login="anna").info("signin.succeeded", mechanism="PLAIN")
        log.info("message.accepted", queue_id="X")
        log.info("session.closed", messages=1)
        log.warning("signin.blocked", login="x")
        log.info("connection.refused", reason="draining")
        log.info("connection.refused", reason="blocked")
    finally:
        events.configure(form="readable", level="info")
    assert texts(path) == [
        "192.0.2.1 connected",
        "Authentication failed for user a b/ORG ; connecting host 192.0.2.1",
        "Authentication succeeded for user anna ; connecting host 192.0.2.1",
        "192.0.2.1 disconnected. 1 message[s] received",
        "Connection from [192.0.2.1] rejected for policy reasons.",
        "Connection from [192.0.2.1] rejected for policy reasons.",
    ]
    assert capfd.readouterr().out == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("login", ["x\r\ny", "a ; b", "[::1]", "\x00\x85\u2028\ud800", "x" * 10_000, ""])
def test_a_login_stays_in_its_line_and_its_punctuation_says_nothing(
    tmp_path: Path, now: list[float], login: str
) -> None:
    lines = DominoLines(tmp_path / "log")
    lines.take("signin.failed", {**SESSION, "login": login})
    (text,) = texts(tmp_path / "log")
    match = re.fullmatch(r"Authentication failed for user ([^][;]*) ; connecting host 192\.0\.2\.1", text)
    assert match is not None and len(match[1]) <= domino_lines.LOGIN_CEILING and match[1].isprintable()
    lines.close()


def test_a_rotated_file_is_left_for_the_new_one(tmp_path: Path, now: list[float]) -> None:
    path = tmp_path / "log"
    lines = DominoLines(path)
    lines.take("session.opened", SESSION)
    path.rename(tmp_path / "log.1")
    now[0] += LOOK_EVERY
    lines.take("session.closed", SESSION)
    assert texts(path) == ["192.0.2.1 disconnected. 2 message[s] received"]
    path.rename(tmp_path / "log.2")
    path.touch()
    now[0] += LOOK_EVERY
    lines.take("session.opened", SESSION)
    assert texts(path) == texts(tmp_path / "log.1") == ["192.0.2.1 connected"]
    lines.close()


def test_a_reload_opens_it_at_once(tmp_path: Path, now: list[float]) -> None:
    path = tmp_path / "log"
    domino_lines.configure(path)
    log = events.get_logger("submission").bind(peer="192.0.2.1")
    log.info("session.opened")
    path.rename(tmp_path / "log.1")
    domino_lines.configure(path)
    log.info("session.opened")
    assert len(texts(path)) == len(texts(tmp_path / "log.1")) == 1


def test_a_folder_that_is_gone_is_said_once_and_once_when_it_is_back(
    tmp_path: Path, now: list[float], capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    lines = DominoLines(folder / "log")
    for _ in range(3):
        lines.take("session.opened", SESSION)
        now[0] += LOOK_EVERY
    assert said(capfd) == ["domino_lines.failed"]
    folder.mkdir()
    lines.take("session.opened", SESSION)
    lines.take("session.opened", SESSION)
    assert said(capfd) == ["domino_lines.resumed"]
    assert len(texts(folder / "log")) == 2
    lines.close()


@pytest.mark.parametrize("what", ["folder", "pipe"])
def test_what_is_no_file_stops_nobody(
    tmp_path: Path, now: list[float], capfd: pytest.CaptureFixture[str], what: str
) -> None:
    path = tmp_path / "log"
    path.mkdir() if what == "folder" else os.mkfifo(path)
    DominoLines(path).take("session.opened", SESSION)
    assert said(capfd) == ["domino_lines.failed"]


def test_a_full_disk_stops_nobody(now: list[float], capfd: pytest.CaptureFixture[str]) -> None:
    lines = DominoLines(Path("/dev/full"))
    lines.take("session.opened", SESSION)
    lines.take("session.opened", SESSION)
    assert said(capfd) == ["domino_lines.failed"]
    lines.close()


FULL_SOON = """
import resource, signal, sys
from pathlib import Path
from pillarbox.telemetry.domino_lines import DominoLines
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
lines = DominoLines(Path(sys.argv[1]))
fields = {"login": "anna", "peer": "203.0.113.99"}
lines.take("signin.failed", fields)
size = Path(sys.argv[1]).stat().st_size
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (2 * size - 2, most))   # without the last digit and the line's end
lines.take("signin.failed", fields)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
lines.take("signin.failed", fields)
"""


def test_a_line_that_found_no_room_for_its_end_names_no_shorter_address(tmp_path: Path) -> None:
    path = tmp_path / "log"
    subprocess.run((sys.executable, "-c", FULL_SOON, str(path)), check=True)
    whole, cut, after = texts(path)
    assert whole == after
    assert cut == whole[:-1] + " (cut)"


MANY = """
import sys
from pathlib import Path
from pillarbox.telemetry.domino_lines import DominoLines
lines = DominoLines(Path(sys.argv[1]))
for number in range(500):
    lines.take("signin.failed", {"login": sys.argv[2] * 100, "peer": "192.0.2.1"})
"""


def test_processes_share_it_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writers = [subprocess.Popen((sys.executable, "-c", MANY, str(path), letter)) for letter in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    found = texts(path)
    assert len(found) == 1500
    for letter in "abc":
        assert found.count(f"Authentication failed for user {letter * 100} ; connecting host 192.0.2.1") == 500
