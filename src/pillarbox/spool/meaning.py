"""What an operator's filters and verbs mean, in whichever spool the messages are. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from pillarbox.spool.base import State

PAGE = 500
"""Messages that one verb changes in one transaction."""


def pattern(text: str) -> str:
    """A LIKE pattern (ESCAPE backslash) for text with ``*`` as a wildcard."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%")


class Change(NamedTuple):
    """What a verb does to recipients in one of ``states``: the new state, and due now or when it was.

    ``early``: also ahead of the time that a sender asked for.
    """

    states: Sequence[State]
    state: State
    due_now: bool
    early: bool = False


HOLD = Change((State.DUE,), State.HELD, False)
RELEASE = Change((State.HELD, State.DEAD), State.DUE, True)
RETRY = Change((State.DUE,), State.DUE, True)
