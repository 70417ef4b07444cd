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

from pillarbox.guard.facts import Elsewhere, Fact, Outbox
from pillarbox.guard.quota import BUCKET, BUCKETS

UNDOINGS = 65_536
"""Lifted places, forgotten logins and cleared pairs remembered at most."""
PLACE_STEP = 3600.0
"""Seconds by which a known place's last sign-in must have moved to be told again."""


class Sharing:
    """See the module's text. ``node``: octets that no other machine has."""

    def __init__(self, outbox: Outbox, node: bytes) -> None:
        self._outbox, self._node = outbox, node
        self.elsewhere = Elsewhere()
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
        """What this machine took in one minute. Its time is the minute's end: nowhere does it come free too early."""
        at = (minute + 1) * BUCKET - 1
        bucket = self._node + minute.to_bytes(8, "big")
        self.tell("q", at, at + (BUCKETS + 2) * BUCKET, login=login, id=bucket, amount=recipients)

    def mine(self, fact: Fact) -> bool:
        """Whether it is a bucket of this machine."""
        return fact.id[:-8] == self._node

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
