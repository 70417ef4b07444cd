"""The first cell is away, the one that has the accounts and what the guard counts, beside a second that is well.

Each of these faults also looks, while the cell is away and after it is back, and raises AssertionError when
- mail is not taken and delivered through the second cell, or is taken by the first;
- somebody with the right password is refused, or one with a wrong password is told anything but 535;
- a machine does not count and block by itself, or knows what it cannot know;
- something that the first cell holds does not arrive when the cell is back;
- the machines' counts are not the same then: each failure once, each block everywhere.

What was seen is a line of ``stage.notes``. Synchronous, like all faults.
"""

import time
from collections.abc import Callable

from tests.cluster.load import PATIENCE
from tests.cluster.machine import BLOCK, Machine
from tests.cluster.stage import Stage
from tests.cluster.strangers import NOT_LET_IN, Standing, guess, standing, stranger
from tests.support.cell_node import Node, wait_until

AWAY = 30.0
"""Seconds that it is away at least; two cells' worth of work on one machine takes its time."""
NOTICED = 4.0
"""Seconds after which no message is in hand any more that the first cell confirmed before."""
DEFERRED = "bob@elsewhere.example"


def first_cell(stage: Stage) -> None:
    """kill -9 of all machines of the first cell, which has accounts and guard, for 30 s; mail and sign-ins go on."""
    _without(stage, stage.cell.nodes)


def first_cell_without_quorum(stage: Stage) -> None:
    """kill -9 of two machines of the first cell, for 30 s: it confirms nothing; mail and sign-ins go on."""
    primary = stage.cell.primary()
    _without(stage, [node for node in stage.cell.nodes if node is not primary])


def processes_without_first_cell(stage: Stage) -> None:
    """The first cell is away for 30 s; kill -9 of spool and submission processes; others start without it."""

    def kill() -> None:
        one, other = stage.submission()
        for machine in stage.machines:
            machine.kill("spool")
        other.kill("submission")
        _until(stage, "all processes are there again", lambda: _answers(stage, (one, other)))

    _without(stage, stage.cell.nodes, kill)


def _answers(stage: Stage, machines: tuple[Machine, ...]) -> bool:
    """Whether their spool processes answer, and everything is there."""
    try:
        for machine in machines:
            standing(machine)
    except OSError:
        return False
    return all(machine.well() for machine in stage.machines)


def _without(stage: Stage, dead: list[Node], meanwhile: Callable[[], None] = lambda: None) -> None:
    for tag in ("-a", "-b"):
        assert _accepted(stage, tag, 0.0), f"the cell {tag[1:]} takes no mail"
    began = time.monotonic()
    _hold(stage)
    for node in dead:
        stage.cell.kill(node)
    stage.load.hop.rcpt.pop(DEFERRED, None)
    away_at = time.monotonic()
    try:
        stage.hurry.wait(NOTICED)
        since = time.monotonic()
        held = {queue_id for queue_id in stage.books.outstanding() if queue_id.endswith("-a")}
        meanwhile()
        guesses = _Guesses(stage)
        guesses.make()
        stage.hurry.wait(max(0.0, away_at + AWAY - time.monotonic()))
        seen = "" if stage.hurry.is_set() else _look(stage, since, held)
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
    people = stage.probes.signed_in(began, time.monotonic())
    if not stage.hurry.is_set():
        assert people.refused == 0, f"{people.refused} people were refused"
        stage.notes.append(
            f"{seen}; {len(held)} held by the first, all delivered {delivered:.0f} s after its start; the guard's "
            f"counts the same everywhere after {time.monotonic() - back_at:.0f} s"
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


def _look(stage: Stage, since: float, held: set[str]) -> str:
    """At mail and people, while the first cell is away; says what there was."""
    now = time.monotonic()
    second = _accepted(stage, "-b", since)
    delivered = second & stage.books.there
    assert len(second) >= 2 * (now - since), f"the second cell took {len(second)} messages only"
    assert len(delivered) >= len(second) // 2, f"{len(delivered)} of {len(second)} of the second cell were delivered"
    first = _accepted(stage, "-a", since)
    assert not first, f"{len(first)} were accepted by a cell that is away"
    assert held, "the first cell held nothing"
    assert not held & stage.books.there, "what a cell holds that is away was delivered"
    people = stage.probes.signed_in(since, now)
    assert people.good >= (now - since) / 4, f"{people} signed in"
    return (
        f"first cell away for {now - since + NOTICED:.0f} s: {len(second)} accepted and {len(delivered)} delivered "
        f"through the second, {people.good} signed in anew and {people.refused} refused"
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
