"""What a settlement means for a message's recipients, in whichever spool they are. Pure: values in, a plan out.

A settlement can come twice (its reply got lost). So a recipient that is gone stays gone, and messages are added only
while something that they tell of (a recipient that leaves, a warning) is still untold.
"""

from collections.abc import Mapping
from typing import NamedTuple

from pillarbox.spool.base import Deferred, Failed, Settlement, State
from pillarbox.spool.schema import GONE


class Known(NamedTuple):
    """A recipient as it is recorded. ``state``: a State's value, or GONE."""

    state: str
    due_at: float
    lane: str
    warned: bool


class Plan(NamedTuple):
    """What to do, by recipient key. ``messages``: add the settlement's; ``finished``: nobody is left."""

    leaving: frozenset[int]
    postponed: Mapping[int, Deferred]
    dead: Mapping[int, Failed]
    warned: frozenset[int]
    messages: bool
    finished: bool


def plan(settlement: Settlement, known: Mapping[int, Known], *, is_bounce: bool) -> Plan:
    """What a settlement leads to. ``known``: all recipients of its message; ``is_bounce``: it is one of ours."""
    outcomes = settlement.outcomes
    open_keys = frozenset(key for key, each in known.items() if each.state != GONE)
    final = frozenset(key for key, outcome in outcomes.items() if not isinstance(outcome, Deferred))
    warned = settlement.warned & open_keys
    untold = any(not known[key].warned for key in warned)
    untold = untold or any(known[key].state != State.DEAD for key in final & open_keys)
    postponed: dict[int, Deferred] = {}
    dead: dict[int, Failed] = {}
    leaving = set()
    for key, outcome in outcomes.items():
        if key not in open_keys:
            continue
        if isinstance(outcome, Deferred):
            postponed[key] = outcome
        elif isinstance(outcome, Failed) and is_bounce:
            dead[key] = outcome
        else:
            leaving.add(key)
    tells = bool(settlement.warned or final)
    return Plan(frozenset(leaving), postponed, dead, warned, untold or not tells, leaving == open_keys != frozenset())


def is_carried_out(settlement: Settlement, known: Mapping[int, Known]) -> bool:
    """Whether the records say what the settlement says: it was carried out before."""
    for key, outcome in settlement.outcomes.items():
        each = known.get(key)
        if isinstance(outcome, Deferred):
            if each is None or (each.state, each.due_at) != (State.DUE, outcome.due_at):
                return False
        elif each is not None and each.state not in (GONE, State.DEAD):
            return False
    return True
