"""The guard through a fail-over: blocks stay in force, failures and quotas are neither lost nor counted twice.

What is printed (pytest -s) is what was seen.
"""

import asyncio
import base64
import itertools
import secrets
import threading
import time
from collections.abc import Callable

import psycopg
import pytest
from tests.cluster.machine import BLOCK, Machine
from tests.cluster.stage import DATABASE, Stage
from tests.cluster.strangers import NOT_LET_IN, guess, standing, stranger, used
from tests.support.cell_node import wait_until
from tests.support.talk import Talk

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="session")]

BOB = "bob@example.org"
LIMIT = 40


def sent(stage: Stage, machine: Machine, password: str) -> str:
    """What BOB's message with one recipient was told: "250", the code after the recipient was counted with a + before
    it, or the code of what was refused earlier."""
    try:
        with Talk(machine.port, stage.cell.ca, host=machine.host) as talk:
            talk.say("EHLO client.example.org")
            response = base64.b64encode(f"\0{BOB}\0{password}".encode()).decode()
            assert talk.say(f"AUTH PLAIN {response}").startswith("235")
            for command in (f"MAIL FROM:<{BOB}>", "RCPT TO:<carol@elsewhere.example>"):
                reply = talk.say(command)
                if not reply.startswith("250"):
                    return reply[:3]
            assert talk.say("DATA").startswith("354")
            talk.send(f"From: {BOB}\r\nTo: carol@elsewhere.example\r\n\r\nhello\r\n.\r\n".encode())
            reply = talk.reply()
            return "250" if reply.startswith("250") else f"+{reply[:3]}"
    except OSError:  # silence: the COMMIT waits for its confirmation
        return "+silence"


class Correspondent(threading.Thread):
    """BOB, who sends by each machine in turn until he is told to stop; what he was told each time."""

    def __init__(self, stage: Stage, password: str) -> None:
        super().__init__()
        self._stage, self._password = stage, password
        self.told: list[str] = []
        self.enough = threading.Event()

    def run(self) -> None:
        """Ten messages are left for afterwards."""
        for machine in itertools.cycle(self._stage.submission()):
            self.told.append(sent(self._stage, machine, self._password))
            if self.enough.wait(0.5) or sum(each[0] in "2+" for each in self.told) >= LIMIT - 10:
                return


def until(what: str, true: Callable[[], object]) -> None:
    print(f"{wait_until(what, true, 60.0):6.1f} s until {what}")


def fail_over(stage: Stage, password: str) -> tuple[list[str], list[str]]:
    """Kills the primary; meanwhile strangers guess, each once, and BOB sends. (the strangers, what BOB was told)."""
    bob = Correspondent(stage, password)
    bob.start()
    killed = stage.cell.kill(stage.cell.primary())
    promoted = threading.Thread(target=stage.cell.wait_for_primary, kwargs={"other_than": killed})
    promoted.start()
    guessers, ends_at = [], 0.0
    machines = itertools.cycle(stage.submission())
    while promoted.is_alive() or time.monotonic() < ends_at:
        if promoted.is_alive():
            ends_at = time.monotonic() + 3.0  # and while machines notice it
        guessers.append(stranger())
        told = guess(stage, next(machines), guessers[-1], "guess", f"somebody{len(guessers)}@example.org")
        assert told.startswith("535 "), told
    killed.start()
    bob.enough.set()
    bob.join()
    return guessers, bob.told


def looked_at(stage: Stage) -> None:
    """All of it."""
    one, other = stage.submission()
    password = secrets.token_urlsafe(12)
    one.user(BOB, password, LIMIT)
    until("the account is at the other machine", lambda: BOB in other.command("user", "list"))
    blocked = stranger()
    for number in range(BLOCK):
        assert guess(stage, one, blocked, f"guess {number}").startswith("535 ")
    until("both machines block", lambda: all(blocked in standing(machine).blocked for machine in (one, other)))

    guessers, told = fail_over(stage, password)

    def counted(machine: Machine) -> dict[str, int]:
        failures = standing(machine).failures
        return {source: failures.get(source, 0) for source in guessers}

    each_once = dict.fromkeys(guessers, 1)
    until("each machine has each failure once", lambda: counted(one) == counted(other) == each_once)
    for machine in (one, other):
        assert guess(stage, machine, blocked, "guess") == NOT_LET_IN
    with psycopg.connect(stage.cell.dsn(database=DATABASE)) as connection:
        query = "SELECT count(*) FROM pillarbox.guard_fact WHERE kind = 'f' AND login LIKE 'somebody%'"
        assert connection.execute(query).fetchone() == (len(guessers),)
    accepted, unknown = told.count("250"), sum(each.startswith("+") for each in told)
    until("both machines have the same quota", lambda: used(one, BOB) == used(other, BOB) <= accepted + unknown)
    print(
        f"{len(guessers)} strangers guessed during the fail-over; of BOB's messages {accepted} were accepted, "
        f"{unknown} put off after their recipient was counted, {len(told) - accepted - unknown} before that; counted "
        f"{used(one, BOB)}"
    )
    assert accepted <= used(one, BOB) <= accepted + unknown

    while (last := sent(stage, one, password)) == "250":
        accepted += 1
    assert last == "450"
    assert LIMIT - unknown <= accepted <= LIMIT

    until("both machines know that it is used up", lambda: used(other, BOB) == used(one, BOB) == LIMIT)
    other.lose_power()
    for path in (other.folder / "data").rglob("guard.db*"):
        path.unlink()
    other.start()
    until("a machine without memory knows all from the cell", lambda: remembers(other, blocked, each_once))
    assert guess(stage, other, blocked, "guess") == NOT_LET_IN
    assert sent(stage, other, password) == "450"


def remembers(machine: Machine, blocked: str, failures: dict[str, int]) -> bool:
    try:
        seen = standing(machine)
        return blocked in seen.blocked and failures.items() <= seen.failures.items() and used(machine, BOB) == LIMIT
    except OSError:
        return False


async def test_a_block_holds_and_failures_and_quotas_are_counted_once_whatever_happens_to_the_primary(
    stage: Stage,
) -> None:
    await asyncio.to_thread(looked_at, stage)
    balance = await stage.settle()
    assert balance.lost == 0
