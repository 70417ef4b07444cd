"""Two machines over one cell: what one counts, the other judges by; and with the cell away each goes on by itself."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.cell_users import make_owned
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.postgres import Postgres, running_postgres
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario

GUESSER, OFFICE, THIRD = "127.0.0.7", "127.0.0.8", "127.0.0.9"
GUARD = """
[guard]
free_failures = 1
block_failures = 3
max_delay = "1s"
"""
WITHIN = 60.0
"""Seconds for what takes about one: a busy machine decides no test."""


@pytest.fixture
def node() -> Iterator[Postgres]:
    """A node of the test's own, to kill."""
    with running_postgres(durable=True) as running:
        yield running


@pytest.fixture
def machines(
    node: Postgres, tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, password: str
) -> tuple[RunningDaemon, RunningDaemon]:
    cell = asyncio.run(make_owned(node))
    spool = f'[spool]\nkind = "cluster"\ndurability = "local"\n[[spool.cell]]\nname = "a"\ndsn = "{cell.dsn}"\n'
    daemons = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        daemons.append(
            start_daemon(
                tmp_path / name,
                authority,
                at_end=request.addfinalizer,
                site=('failed_sign_in_time = "50ms"', "recipients_per_hour = 10"),
                extra=GUARD + spool,
            )
        )
    one, two = daemons
    one.user("ada", password, ["ada@example.org"])
    until("the account is at the other machine", lambda: two.ask("user.list"))
    return one, two


def until(what: str, true: Callable[[], Any]) -> None:
    """Polls; prints how long it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() < began + WITHIN, f"not within {WITHIN} s: {what}"
        time.sleep(0.02)
    print(f"{time.monotonic() - began:6.2f} s until {what}")


def sign_in(daemon: RunningDaemon, source: str, password: str) -> str:
    """What a new connection gets: the refusal at connect, or the reply to its sign-in."""
    with Talk(daemon.submission, source=source) as talk:
        if not talk.greeting.startswith("220"):
            return talk.greeting
        talk.start_tls(daemon.ca)
        return talk.sign_in("ada", password)


def blocked(daemon: RunningDaemon) -> set[str]:
    return {block["prefix"].removesuffix("/32") for block in daemon.ask("guard.list")["blocks"]}


def failures(daemon: RunningDaemon) -> int:
    prefixes = daemon.ask("guard.list")["prefixes"]
    return sum(each["failures"] for each in prefixes if each["name"].startswith(GUESSER))


def used(daemon: RunningDaemon) -> int:
    found: int = daemon.ask("guard.quota", {"login": "ada"})["used"]
    return found


def send(daemon: RunningDaemon, password: str, recipients: int) -> str:
    """The reply to the last RCPT, or to the content."""
    with Talk(daemon.submissions, daemon.ca, source=OFFICE) as talk:
        talk.say("EHLO client.example.org")
        assert talk.sign_in("ada", password).startswith("235")
        forward_paths = [f"{number}@example.net" for number in range(recipients)]
        return talk.transaction(b"From: ada@example.org\r\n\r\n\r\n", "ada@example.org", *forward_paths)


def test_guesses_at_one_machine_block_at_both_and_an_unblock_at_the_other_lifts_both(
    machines: tuple[RunningDaemon, RunningDaemon], password: str
) -> None:
    one, two = machines
    assert sign_in(one, OFFICE, password).startswith("235 ")
    for number in range(3):
        assert sign_in(one, GUESSER, f"guess {number}").startswith("535 5.7.8 ")
    until("the guesser is blocked at the other machine", lambda: GUESSER in blocked(two))
    for daemon in machines:
        assert sign_in(daemon, GUESSER, password).startswith("421 Too many failed ")
    for number in range(5):  # a known place is never blocked, wherever it is known from
        sign_in(two, OFFICE, f"typing error {number}")
    places = [place for place in two.ask("guard.list")["prefixes"] if place["name"].startswith(OFFICE)]
    assert [place["known"] for place in places] == [True]
    for daemon in machines:
        assert sign_in(daemon, OFFICE, password).startswith("235 ")
    two.ask("guard.unblock", {"prefix": GUESSER})
    until("the unblock has come to the first machine", lambda: GUESSER not in blocked(one))
    for daemon in machines:
        assert sign_in(daemon, GUESSER, password).startswith("235 ")
    assert [daemon.stop() for daemon in machines] == [0, 0]


def test_a_quota_holds_over_both_machines(machines: tuple[RunningDaemon, RunningDaemon], password: str) -> None:
    one, two = machines
    assert send(one, password, 6).startswith("250")
    until("the other machine knows what was taken", lambda: used(two) >= 6)
    assert send(two, password, 5).startswith("450 4.7.0 ")
    assert [daemon.stop() for daemon in machines] == [0, 0]


def test_kill_9_of_a_machine_loses_nothing_that_was_told_and_doubles_nothing(
    machines: tuple[RunningDaemon, RunningDaemon], password: str
) -> None:
    one, two = machines
    assert send(one, password, 3).startswith("250")
    for number in range(2):
        assert sign_in(one, GUESSER, f"guess {number}").startswith("535 5.7.8 ")
    until("the other machine knows", lambda: failures(two) == 2 and used(two) >= 3)
    one.kill9()
    assert sign_in(two, GUESSER, "guess 2").startswith("535 5.7.8 ")
    one.start()
    until("the machine that was killed knows", lambda: (failures(one), blocked(one)) == (3, {GUESSER}))
    until("both know the same", lambda: used(one) == used(two) >= 3)
    assert failures(two) == 3
    assert [line for line in one.log() if line["event"] == "guard.renamed"] == []
    assert [daemon.stop() for daemon in machines] == [0, 0]


def test_with_the_cell_away_each_machine_goes_on_by_itself_and_afterwards_all_is_merged(
    node: Postgres, machines: tuple[RunningDaemon, RunningDaemon], password: str
) -> None:
    one, two = machines
    node.kill9()
    for daemon in machines:
        daemon.wait_for("guard.alone", timeout=WITHIN)
    for number in range(3):
        assert sign_in(one, GUESSER, f"guess {number}").startswith("535 5.7.8 ")
    for number in range(2):
        assert sign_in(one, THIRD, f"guess {number}").startswith("535 5.7.8 ")
    assert sign_in(two, THIRD, "guess 2").startswith("535 5.7.8 ")
    assert blocked(one) == {GUESSER}
    assert blocked(two) == set()
    (process,) = [process for process in one.ask("status")["processes"] if process["role"] == "spool"]
    assert process["guard"].startswith("counts alone for ")
    command = (sys.executable, "-P", "-m", "pillarbox", "status", "--config", str(one.config))
    assert "guard          counts alone for " in subprocess.run(command, capture_output=True, text=True).stdout
    assert one.stop() == 0  # what waits to be told is told by its next start
    node.start()
    one.start()
    two.wait_for("guard.together", timeout=WITHIN)
    until("both are blocked at one", lambda: blocked(one) == {GUESSER, THIRD})
    until("both are blocked at two", lambda: blocked(two) == {GUESSER, THIRD})
    alone = [line for daemon in machines for line in daemon.log() if line["event"] == "guard.alone"]
    assert len(alone) <= 3, "once per outage and start"
    assert [daemon.stop() for daemon in machines] == [0, 0]
