"""`make cluster` as somebody sees it: at a terminal, with Ctrl-C, and told to end; nothing of it is left behind."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.processes import descendants

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

ROOT = Path(__file__).parent.parent.parent
OWN_SCREEN, BACK = b"\x1b[?1049h\x1b[?25l", b"\x1b[?25h\x1b[?1049l"


class Terminal:
    """The show on a pseudo-terminal of its own, and what it has drawn."""

    def __init__(self, *words: str) -> None:
        self._end, far = pty.openpty()
        self.drawn = b""
        self.process = subprocess.Popen(
            (sys.executable, "-m", "tests.cluster.show", *words),
            cwd=ROOT,
            stdin=far,
            stdout=far,
            stderr=far,
            env={**os.environ, "TERM": "xterm"},
            start_new_session=True,
        )
        os.close(far)
        self.born: set[int] = set()

    def until(self, seen: Callable[[], bool], timeout: float) -> None:
        """Reads until then. Raises AssertionError."""
        began = time.monotonic()
        while not seen():
            assert time.monotonic() - began < timeout, self.drawn[-2000:].decode(errors="replace")
            if select.select([self._end], [], [], 0.2)[0]:
                try:
                    self.drawn += os.read(self._end, 65_536)
                except OSError:  # nobody is at the far end any more
                    self.process.wait(30)
            self.born.update(descendants(self.process.pid))

    def ended(self, timeout: float) -> int:
        """The exit code."""
        self.until(lambda: self.process.poll() is not None, timeout)
        os.close(self._end)
        code = self.process.returncode
        assert code is not None
        return code

    def left(self) -> list[str]:
        """The commands of those that it started and that are there still."""
        found = []
        for pid in self.born:
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if any(word in command for word in ("etcd", "patroni", "postgres", "pillarbox")):
                found.append(command)
        return found


def test_the_table_is_drawn_and_the_screen_is_given_back_when_it_is_told_to_end() -> None:
    show = Terminal("--seconds", "100", "--every", "3")
    show.until(lambda: b"kill -9 " in show.drawn, 150)
    assert OWN_SCREEN in show.drawn
    show.process.send_signal(signal.SIGTERM)
    code = show.ended(150)
    before, after = show.drawn.split(BACK)
    assert b"Pillarbox on a cluster: " in before
    assert b"sub1 127.0.0.11 " in before
    assert b"\x1b" not in after
    assert b" + lost 0\r\n" in after
    assert code == 0
    assert show.left() == []


def test_ctrl_c_in_the_first_seconds_ends_what_has_begun_to_start() -> None:
    show = Terminal()
    show.until(lambda: b"cell a: " in show.drawn, 60)
    show.process.send_signal(signal.SIGINT)
    assert show.ended(150) == 130
    assert b"interrupted" in show.drawn
    assert b"Traceback" not in show.drawn
    assert show.left() == []
