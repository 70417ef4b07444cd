"""Hostile clients without end: honest users, known and new ones, are served meanwhile, and the attackers bounded.

How fast they are served is `make attacks`' to say (docs/reports/attacks.md); here no time decides.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.attackers import ATTACKS, EVE, EVES_PASSWORD, Attack, Client, Target, attacking
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario

CLIENTS = 80
MOST_STRANGERS = 40
"""Fewer than there are attackers: the lobby is full all the time."""
TRIES = 30
FILL_THE_LINE = ("wrong passwords", "pipelining past AUTH")
"""Strangers' passwords are hashed one by one (docs/explanation/guard.md): new places wait behind those who guess."""
LIMITS = (
    f"max_unauthenticated_sessions = {MOST_STRANGERS}",
    f"max_handshakes = {MOST_STRANGERS // 2}",
    "max_sessions = 200",
)
CONTENT = b"From: ada@example.org\r\nSubject: s\r\n\r\ntext\r\n"


@pytest.fixture
def target_of_attacks(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, password: str
) -> RunningDaemon:
    """A daemon with a small lobby, Ada's account and an attacker's."""
    daemon = start_daemon(tmp_path, authority, site=LIMITS, at_end=request.addfinalizer)
    daemon.user("ada", password, ["ada@example.org"])
    daemon.user(EVE, EVES_PASSWORD, ["eve@example.org"])
    return daemon


@contextmanager
def under(client: Client, daemon: RunningDaemon, clients: int) -> Iterator[Attack]:
    """The attack runs in a thread of its own, and has begun in earnest when this returns."""
    begun, end, attacks, errors = threading.Event(), threading.Event(), list[Attack](), list[BaseException]()

    async def attack() -> None:
        target = Target(daemon.submission, daemon.submissions, daemon.ca)
        async with attacking(client, target, clients) as going_on:
            attacks.append(going_on)
            while not end.is_set():
                if going_on.contacts >= clients:
                    begun.set()
                await asyncio.sleep(0.02)

    def run() -> None:
        try:
            asyncio.run(attack())
        except BaseException as error:  # told below, in the test's own thread
            errors.append(error)
            begun.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert begun.wait(60), f"only {attacks[0].contacts} contacts"
        yield attacks[0]
    finally:
        end.set()
        thread.join(60)
    assert errors == []


def visit(daemon: RunningDaemon, password: str, source: str) -> None:
    """Ada sends a message from an address, all in one go."""
    with Talk(daemon.submissions, daemon.ca, source=source, greeting=False) as talk:
        assert talk.reply().startswith("220")
        assert talk.say("EHLO client.example.org").startswith("250")
        assert talk.sign_in("ada", password).startswith("235")
        assert talk.transaction(CONTENT).startswith("250")
        assert talk.say("QUIT").startswith("221")


def visit_as_a_stranger(daemon: RunningDaemon, password: str, source: str) -> None:
    """As ``visit``, from where nobody signed in: it may have to make room, and comes again as mail programs do."""
    for _ in range(TRIES):
        try:
            return visit(daemon, password, source)
        except OSError:
            continue
    raise AssertionError(f"{TRIES} tries, and no room")


@pytest.mark.parametrize("name", ATTACKS)
def test_honest_users_are_served_and_attackers_bounded(
    name: str, target_of_attacks: RunningDaemon, password: str
) -> None:
    daemon = target_of_attacks
    visit(daemon, password, "127.0.0.1")  # the place is known from now on
    with Talk(daemon.submissions, daemon.ca) as waiting:
        waiting.say("EHLO client.example.org")
        assert waiting.sign_in("ada", password).startswith("235")
        with under(ATTACKS[name], daemon, CLIENTS) as attack:
            for number in range(3):
                visit(daemon, password, "127.0.0.1")
                if name not in FILL_THE_LINE:
                    visit_as_a_stranger(daemon, password, f"127.77.0.{number + 1}")
                sessions = daemon.ask("sessions")
                strangers = [session for session in sessions if not session["login"]]
                # those that were told to go may not be gone yet
                assert len(strangers) <= 2 * MOST_STRANGERS
            assert attack.contacts >= CLIENTS
        assert waiting.transaction(CONTENT).startswith("250")
    events = {line["event"] for line in daemon.log()}
    assert not events & {"session.failed", "process.ended", "process.stray"}
    assert not any("traceback" in line for line in daemon.log())
    assert len(daemon.pids("submission")) == 1
    assert daemon.stop() == 0
