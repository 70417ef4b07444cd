"""R6: a 250 is a promise. The whole tree is killed at random moments under load; what was promised arrives."""

import random
import re
import threading
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario

CLIENTS = 4


class Load:
    """Clients that send message after message until the server goes; ``promised``: the marks with a 250."""

    def __init__(self, daemon: RunningDaemon, password: str, round_: int) -> None:
        self.promised: list[str] = []
        self.enough = threading.Event()
        self._daemon = daemon
        self._password = password
        self._threads = [threading.Thread(target=self._send, args=(f"{round_}-{n}",)) for n in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        """Until every client has found the server gone."""
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _send(self, name: str) -> None:
        try:
            with Talk(self._daemon.submissions, self._daemon.ca) as talk:
                talk.say("EHLO client.example.org")
                assert talk.sign_in("ada", self._password).startswith("235")
                for number in range(100_000):
                    mark = f"mark-{name}-{number}-"
                    size = 200 if number % 10 else 300_000  # in the row, or in a file of its own
                    content = f"From: ada@example.org\r\nSubject: {mark}\r\n\r\n" + ("x" * 70 + "\r\n") * (size // 72)
                    if talk.transaction(content.encode()).startswith("250"):
                        self.promised.append(mark)
                    if len(self.promised) >= 20:
                        self.enough.set()
        except OSError:
            self.enough.set()


def rounds(tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, password: str, count: int) -> None:
    """``count`` times: load, kill -9, start again. At the end everything promised must arrive."""
    daemon = start_daemon(tmp_path, authority, at_end=request.addfinalizer)
    daemon.user("ada", password, ["ada@example.org"])
    moment = random.Random(20260101)
    promised: list[str] = []
    for round_ in range(count):
        load = Load(daemon, password, round_)
        assert load.enough.wait(60)
        threading.Event().wait(moment.uniform(0.0, 0.3))  # the random moment itself
        daemon.kill9()
        load.wait()
        assert load.promised, daemon.tail()
        promised += load.promised
        daemon.start()
    lost = missing(daemon, promised)
    assert lost == set(), f"{len(lost)} of {len(promised)} lost"
    assert daemon.stop() == 0


def missing(daemon: RunningDaemon, promised: list[str]) -> set[str]:
    """Which marks have not arrived once the queue is empty, or after two minutes."""
    left = set(promised)
    for _ in range(1200):
        arrived = {mark for content in daemon.delivered() for mark in re.findall(rb"mark-[\d-]+", content[:2000])}
        left -= {mark.decode() for mark in arrived}
        if not left:
            break
        threading.Event().wait(0.1)
    return left


@pytest.mark.timeout(300)
def test_three_times_in_a_row(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, password: str
) -> None:
    rounds(tmp_path, authority, request, password, 3)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_twenty_times_in_a_row(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, password: str
) -> None:
    rounds(tmp_path, authority, request, password, 20)
