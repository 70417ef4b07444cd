"""Two machines over one cell share what wrong passwords may reach the server behind: a real Dovecot counts them."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.cell_users import make_owned
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.dovecot import Dovecot, running_dovecot
from tests.support.postgres import Postgres, running_postgres
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario

ANNA, BOB = "anna@example.org", "bob@example.org"
OFFICE = "127.0.0.8"
WRONG_TRIES = 6
GUARD = '[guard]\nfree_failures = 200\nblock_failures = 300\nlogin_failures = 200\nmax_delay = "1s"\n'
WITHIN = 60.0
"""Seconds for what takes about one: a busy machine decides no test."""


@pytest.fixture
def node() -> Iterator[Postgres]:
    with running_postgres(durable=True) as running:
        yield running


@pytest.fixture
def dovecot(authority: Authority, password: str) -> Iterator[Dovecot]:
    with running_dovecot(authority.issue("localhost"), {ANNA: password, BOB: password}) as running:
        yield running


@pytest.fixture
def machines(
    node: Postgres, dovecot: Dovecot, tmp_path: Path, authority: Authority, request: pytest.FixtureRequest
) -> tuple[RunningDaemon, RunningDaemon]:
    cell = asyncio.run(make_owned(node))
    spool = f'[spool]\nkind = "cluster"\ndurability = "local"\n[[spool.cell]]\nname = "a"\ndsn = "{cell.dsn}"\n'
    directory = (
        f'[[directory]]\nname = "box"\nkind = "imap"\nservers = ["127.0.0.1:{dovecot.imap}"]\ntls = "none"\n'
        f'domains = ["example.org"]\nwrong_tries = {WRONG_TRIES}\n'
    )
    daemons = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        daemons.append(
            start_daemon(
                tmp_path / name,
                authority,
                at_end=request.addfinalizer,
                site=('directories = ["box"]', 'failed_sign_in_time = "50ms"'),
                extra=GUARD + directory + spool,
            )
        )
    return daemons[0], daemons[1]


def sign_in(daemon: RunningDaemon, login: str, password: str) -> str:
    with Talk(daemon.submissions, daemon.ca, source=OFFICE) as talk:
        talk.say("EHLO client.example.org")
        return talk.sign_in(login, password)


def came(dovecot: Dovecot, login: str) -> int:
    """Wrong passwords of this person that Dovecot saw."""
    return sum(f"({login}," in line and "mismatch" in line for line in dovecot.log().splitlines())


def counted(daemon: RunningDaemon) -> int:
    """Failures from the office that this machine has heard of."""
    prefixes = daemon.ask("guard.list")["prefixes"]
    return sum(each["failures"] for each in prefixes if each["name"].startswith(OFFICE))


def until(what: str, true: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not true():
        assert time.monotonic() < began + WITHIN, f"not within {WITHIN} s: {what}"
        time.sleep(0.02)


def test_two_machines_together_pass_on_no_more_wrong_passwords_than_one_may(
    machines: tuple[RunningDaemon, RunningDaemon], dovecot: Dovecot, password: str
) -> None:
    one, two = machines
    for daemon in machines:  # the office is a known place at both
        assert sign_in(daemon, BOB, password).startswith("235 ")
    for number, (here, there) in enumerate(((one, two), (two, one))):
        assert sign_in(here, BOB, f"typing error {number}").startswith("535 ")
        until("the other machine has heard of it, and so of this one", lambda: counted(there) > number)  # noqa: B023 -- it is called in this round
    for number in range(2 * WRONG_TRIES):
        for name, daemon in (("one", one), ("two", two)):
            assert sign_in(daemon, ANNA, f"guess {number} at {name}").startswith("535 ")
    assert came(dovecot, ANNA) == WRONG_TRIES
    assert sign_in(one, ANNA, password).startswith("535 "), "here nobody gets further until the window has ended"
    assert came(dovecot, ANNA) == WRONG_TRIES
    assert sign_in(two, BOB, password).startswith("235 "), "anna's tries are not bob's"
    assert [daemon.stop() for daemon in machines] == [0, 0]
