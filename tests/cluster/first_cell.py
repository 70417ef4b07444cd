"""The first cell is away, the one that has the accounts and what the guard counts, beside a second that is well.

Each of these faults also looks, while the cell is away and after it is back, and raises AssertionError when
- mail of who comes now is not taken and delivered through the second cell, or any is taken by the first;
- somebody with the right password is refused (save for a 454 while a spool process has no successor yet), or one with
  a wrong password is told anything but 535;
- a machine does not count and block by itself, or knows what it cannot know;
- something that the first cell holds does not arrive when the cell is back;
- the machines' counts are not the same then: each failure once, each block everywhere.

What was seen is a line of ``stage.notes``. Synchronous, like all faults.
"""

import itertools
import socket
import time
from collections.abc import Callable
from functools import partial

from tests.cluster.load import PATIENCE, SENDER, content
from tests.cluster.machine import BLOCK, Machine
from tests.cluster.stage import Stage
from tests.cluster.strangers import NOT_LET_IN, Standing, guess, standing, stranger
from tests.support.cell_node import Node, wait_until
from tests.support.talk import Talk

AWAY = 30.0
"""Seconds that it is away at least; two cells' worth of work on one machine takes its time."""
NEWCOMERS = 20
"""Messages of people who come while it is away: whose COMMIT is without an answer waits for it, and so may all of
the load's clients."""
DEFERRED = "bob@elsewhere.example"
SIGN_IN = 2.0
"""Seconds for which a sign-in may have been under way when the accounts were there again."""
INFINITE = float("inf")
NOTICED = ("submission", "cell.failed")


def first_cell(stage: Stage) -> None:
    """kill -9 of all machines of the first cell, which has accounts and guard, for 30 s; mail and sign-ins go on."""
    _without(stage, stage.cell.nodes)


def first_cell_without_quorum(stage: Stage) -> None:
    """kill -9 of two machines of the first cell, for 30 s: it confirms nothing; mail and sign-ins go on."""
    primary = stage.cell.primary()
    _without(stage, [node for node in stage.cell.nodes if node is not primary])


def processes_without_first_cell(stage: Stage) -> None:
    """The first cell is away for 30 s; kill -9 of spool and submission processes; others start without it."""
    _without(stage, stage.cell.nodes, lambda: _kill_processes(stage))


def _kill_processes(stage: Stage) -> None:
    """First spool processes, then a submission process: a new one of these has nobody else to ask for accounts."""

    def answer() -> bool:
        try:
            for machine in stage.submission():
                standing(machine)
                socket.create_connection((machine.host, machine.port), 5).close()
        except OSError:
            return False
        return all(machine.well() for machine in stage.machines)

    for role, machines in (("spool", stage.machines), ("submission", stage.submission()[1:])):
        after = {machine.name: machine.units[role].starts + 1 for machine in machines}
        for machine in machines:
            machine.kill(role)
        _until(
            stage,
            f"each {role} process has its successor",
            partial(_started, machines, role, after),
        )
        _until(stage, "and each machine listens, and its guard answers", answer)


def _started(machines: list[Machine], role: str, starts: dict[str, int]) -> bool:
    return all(machine.units[role].starts >= starts[machine.name] for machine in machines)


def _nothing() -> None:
    """Nothing else happens."""


def _without(stage: Stage, dead: list[Node], meanwhile: Callable[[], None] = _nothing) -> None:
    for tag in ("-a", "-b"):
        assert _accepted(stage, tag, 0.0), f"the cell {tag[1:]} takes no mail"
    began = time.monotonic()
    noticed = {machine.name: machine.events[NOTICED] for machine in stage.submission()}
    _hold(stage)
    for node in dead:
        stage.cell.kill(node)
    stage.load.hop.rcpt.pop(DEFERRED, None)
    away_at = time.monotonic()
    seen, guesses = "", _Guesses(stage)
    try:
        _until(
            stage,
            "both machines notice it",
            lambda: all(machine.events[NOTICED] > noticed[machine.name] for machine in stage.submission()),
        )
        since = time.monotonic()
        held = {queue_id for queue_id in stage.books.outstanding() if queue_id.endswith("-a")}
        meanwhile()
        replaced_at = time.monotonic() + SIGN_IN if meanwhile is not _nothing else since
        newcomers = _mail(stage)
        guesses.make()
        stage.hurry.wait(max(0.0, away_at + AWAY - time.monotonic()))
        if not stage.hurry.is_set():
            seen = _look(stage, replaced_at, held, newcomers)
    finally:
        for node in dead:
            node.start("etcd")
        for node in dead:
            node.start()
    back_at = time.monotonic()
    stage.cell.wait_for_members(3)
    _until(stage, "what the first cell held is delivered", lambda: not held - stage.books.there)
    delivered = time.monotonic() - back_at
    _until(stage, "the guard's counts are the same everywhere", guesses.merged)
    if not stage.hurry.is_set():
        put_off = stage.probes.refused_sign_ins(since, replaced_at)
        assert all(reply.startswith("454") for reply in put_off), f"while processes were replaced: {put_off}"
        refusals = [
            *stage.probes.refused_sign_ins(began, since),
            *stage.probes.refused_sign_ins(replaced_at, INFINITE),
        ]
        assert not refusals, f"{len(refusals)} people were refused: {refusals[0]}"
        stage.notes.append(
            f"first cell away for {back_at - away_at:.0f} s: {seen}; {len(put_off)} put off by 454 while processes "
            f"were replaced; {len(held)} messages held by the first, delivered {delivered:.0f} s after its start; "
            f"the guard's counts the same everywhere after {time.monotonic() - back_at:.0f} s"
        )


def _hold(stage: Stage) -> None:
    """The next hop defers for a moment, so that the first cell holds something. It must be told to go on."""
    stage.load.hop.rcpt[DEFERRED] = "450 4.2.0 not now"

    def holds() -> bool:
        return sum(queue_id.endswith("-a") for queue_id in stage.books.outstanding()) >= 10

    try:
        _until(stage, "the first cell holds ten messages", holds)
    except AssertionError:
        stage.load.hop.rcpt.pop(DEFERRED, None)
        raise


def _accepted(stage: Stage, tag: str, since: float) -> set[str]:
    found = tuple(stage.books.accepted.items())
    return {queue_id for queue_id, when in found if queue_id.endswith(tag) and when >= since}


def _mail(stage: Stage) -> set[str]:
    """Mail of newcomers, at each machine in turn: all taken at once, by the second cell. Returns the queue ids."""
    taken: set[str] = set()
    for number, machine in zip(range(NEWCOMERS), itertools.cycle(stage.submission()), strict=False):
        if stage.hurry.is_set():
            break
        with Talk(machine.port, stage.cell.ca, host=machine.host) as talk:
            talk.say("EHLO client.example.org")
            reply = talk.say(f"AUTH PLAIN {stage.load.response}")
            assert reply.startswith("235"), f"somebody new was told {reply}"
            reply = talk.transaction(content(f"newcomer-{time.monotonic()}-{number}", 1_000), SENDER, DEFERRED)
        queue_id = stage.books.accept(reply, time.monotonic())
        assert queue_id.endswith("-b"), f"mail of a newcomer: {reply}"
        taken.add(queue_id)
    return taken


def _look(stage: Stage, since: float, held: set[str], newcomers: set[str]) -> str:
    """At mail and people, while the first cell is away; says what there was."""
    now = time.monotonic()
    late = newcomers - stage.books.there
    assert not late, f"{len(late)} of {len(newcomers)} messages of newcomers were not delivered"
    first = _accepted(stage, "-a", since)
    assert not first, f"{len(first)} were accepted by a cell that is away"
    assert held, "the first cell held nothing"
    assert not held & stage.books.there, "what a cell holds that is away was delivered"
    people = stage.probes.signed_in(since, now)
    assert people.good >= (now - since) / 4, f"{people} signed in"
    second = _accepted(stage, "-b", since)
    return (
        f"{len(second)} messages accepted and {len(second & stage.books.there)} of them delivered through the second "
        f"meanwhile, {people.good} people signed in anew, none refused"
    )


class _Guesses:
    """One stranger guesses at one machine until it is blocked there; another one at both, a little."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._one, self._other = stage.submission()
        self._blocked, self._seen = stranger(), stranger()
        self._here, self._there = 2, 1

    def make(self) -> None:
        """With what each machine must know of it by itself."""
        for number in range(BLOCK):
            self._guess(self._one, self._blocked, f"guess {number}")
        for machine, count in ((self._one, self._here), (self._other, self._there)):
            for number in range(count):
                self._guess(machine, self._seen, f"guess {number} at {machine.name}")
        if self._stage.hurry.is_set():
            return
        _until(
            self._stage,
            "a guesser is blocked where it was counted",
            lambda: guess(self._stage, self._one, self._blocked, "guess") == NOT_LET_IN,
        )
        here, there = standing(self._one), standing(self._other)
        assert self._blocked in here.blocked, "refused, and not listed"
        assert self._blocked not in there.blocked | there.failures.keys(), "known where nobody could tell it"
        counted = here.failures.get(self._seen), there.failures.get(self._seen)
        assert counted == (self._here, self._there), f"{counted} failures were counted"

    def _guess(self, machine: Machine, source: str, password: str) -> None:
        if not self._stage.hurry.is_set():
            reply = guess(self._stage, machine, source, password)
            assert reply.startswith("535 "), f"a wrong password was told {reply}"

    def merged(self) -> bool:
        """Whether every machine that takes mail knows all of it, once."""

        def knows(seen: Standing) -> bool:
            return self._blocked in seen.blocked and seen.failures.get(self._seen) == self._here + self._there

        try:
            return knows(standing(self._one)) and knows(standing(self._other))
        except OSError:
            return False


def _until(stage: Stage, what: str, true: Callable[[], bool]) -> None:
    """Waits for it, unless there is a hurry. Raises AssertionError."""
    wait_until(what, lambda: stage.hurry.is_set() or true(), PATIENCE)
