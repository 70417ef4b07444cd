"""What a machine's ledger tells other machines, and what of theirs it must leave out.

    sharing = Sharing(outbox, node)
    sharing.tell("p", now, now + 604_800.0, place="192.0.2.1/32")
    if not sharing.undone(fact): ...

What an operator lifted or a good sign-in cleared is remembered for as long as facts from before it can still arrive:
old failures and blocks do not come back, in whatever order they are heard.

ERRORS
    None. Must not import asyncio, store, control.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping

from pillarbox.guard.facts import Elsewhere, Fact, Outbox
from pillarbox.guard.quota import BUCKET, BUCKETS

UNDOINGS = 65_536
"""Lifted places, forgotten logins and cleared pairs remembered at most."""
PLACE_STEP = 3600.0
"""Seconds by which a known place's last sign-in must have moved to be told again."""
URGENT = ("b", "l", "g")
"""Kinds that do not wait for their second."""
_SLACK = {"p": PLACE_STEP, "b": 5.0, "l": 5.0, "g": 5.0, "c": 5.0}
"""Seconds by which clocks may differ before a fact that the cell has is told again."""


class Sharing:
    """See the module's text. ``node``: octets that no other machine has, 16 of them as a rule. ``urgent`` is called
    when something should be told at once; ``before``: recipients that were loaded from the file, by login and minute,
    until the first time that everything was heard."""

    def __init__(self, outbox: Outbox, node: bytes) -> None:
        self._outbox, self.node = outbox, node
        self.elsewhere = Elsewhere()
        self.urgent: Callable[[], None] = lambda: None
        self.before: dict[tuple[str, int], int] | None = {}
        self._undone: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._places: OrderedDict[str, float] = OrderedDict()

    def tell(
        self, kind: str, at: float, ends: float, *, place: str = "", login: str = "", id: bytes = b"", amount: int = 1
    ) -> None:
        """Waits for the next exchange."""
        fact = Fact(kind, place, login, id, at, ends, amount)
        self._outbox.put(fact)
        if kind in ("l", "g", "c"):
            self.undo(fact)
        if kind in URGENT:
            self.urgent()

    def tell_missing(self, facts: Iterable[Fact], present: Mapping[tuple[str, str, str, bytes], Fact]) -> int:
        """Tells what the cell does not have, or older; how many. ``present``: all that was heard, by key."""
        count = 0
        for fact in facts:
            there = present.get(fact.key)
            if there is None or _is_newer(fact, there):
                self._outbox.put(fact)
                count += 1
        return count

    def tell_place(self, place: str, at: float, good_for: float) -> None:
        """Tells a known place, not more often than ``PLACE_STEP``."""
        if abs(at - self._places.get(place, 0.0)) >= PLACE_STEP:
            self.heard_place(place, at)
            self.tell("p", at, at + good_for, place=place)

    def heard_place(self, place: str, at: float) -> None:
        """Somebody told it: for a while it need not be told again."""
        self._places[place] = at
        self._places.move_to_end(place)
        if len(self._places) > UNDOINGS:
            self._places.popitem(last=False)

    def tell_bucket(self, login: str, minute: int, recipients: int) -> None:
        """What this machine took in one minute."""
        self._outbox.put(self.bucket(login, minute, recipients))

    def bucket(self, login: str, minute: int, recipients: int) -> Fact:
        """The fact of it. Its time is the minute's end: nowhere does it come free too early."""
        at = (minute + 1) * BUCKET - 1
        identity = self.node + minute.to_bytes(8, "big")
        return Fact("q", "", login, identity, at, at + (BUCKETS + 2) * BUCKET, recipients)

    def mine(self, fact: Fact) -> int | None:
        """The minute, if it is a bucket of this machine."""
        return int.from_bytes(fact.id[-8:], "big") if fact.id[:-8] == self.node else None

    def rename(self, node: bytes) -> None:
        """Another name from now on; this machine's buckets must then be told anew."""
        self.node = node
        self._outbox.drop("q")

    def undoings(self) -> Iterator[tuple[str, str, str, float]]:
        """Kind, place, login and time of what was undone, here or elsewhere."""
        for (kind, place, login), at in self._undone.items():
            yield kind, place, login, at

    def undo(self, fact: Fact) -> None:
        """Remembers what was lifted, forgotten or cleared."""
        key = (fact.kind, fact.place, fact.login)
        self._undone[key] = max(fact.at, self._undone.get(key, 0.0))
        self._undone.move_to_end(key)
        if len(self._undone) > UNDOINGS:
            self._undone.popitem(last=False)

    def undone(self, fact: Fact) -> bool:
        """Whether a failure or a block is from before what undid it."""
        keys = [("l", fact.place, "")]
        if fact.kind == "f":
            keys += [("g", "", fact.login), ("c", fact.place, fact.login)]
        return any(fact.at <= self._undone.get(key, 0.0) for key in keys)


def _is_newer(fact: Fact, there: Fact) -> bool:
    if fact.kind == "q":
        return fact.amount != there.amount
    slack = _SLACK.get(fact.kind)
    return slack is not None and (fact.at > there.at + slack or fact.ends > there.ends + slack)
