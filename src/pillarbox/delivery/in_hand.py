"""What a delivery worker has in hand of each cell, and of which cells it may begin nothing new now. Pure.

    hand = InHand(("a", "b"))
    hand.took(lease)
    hand.unsettled(lease, +1)           # its settlement was not taken: of its cell nothing new begins
    hand.waits(lease), hand.room()      # True; room for what other cells lend, 0 when none is left
    hand.unsettled(lease, -1)
    hand.gave(lease)

What cannot be settled would be sent twice, so it is not begun. That is a matter of one cell: others go on.
What is in hand of a cell that waits leaves room for as much of the others.

ERRORS
    None. Must not import asyncio.
"""

from collections import Counter
from collections.abc import Collection
from typing import Final

from pillarbox.message.envelope import tag_of
from pillarbox.spool.base import Lease

MOST: Final = 1000
"""Messages in hand."""
MOST_OCTETS: Final = 67_108_864
"""Octets of their contents that came with them."""


class InHand:
    """See the module's text. ``cells``: the names of all; one without a name for a spool that is none."""

    def __init__(self, cells: Collection[str]) -> None:
        self._cells = frozenset(cells)
        self._only = next(iter(cells)) if len(cells) == 1 else None
        self._messages: Counter[str] = Counter()
        self._octets: Counter[str] = Counter()
        self._unsettled: Counter[str] = Counter()

    def _cell(self, lease: Lease) -> str:
        return tag_of(lease.envelope.queue_id) if self._only is None else self._only

    def took(self, lease: Lease) -> None:
        """It is in hand."""
        self._messages[self._cell(lease)] += 1
        self._octets[self._cell(lease)] += len(lease.content or b"")

    def gave(self, lease: Lease) -> None:
        """It is not any more."""
        self._messages[self._cell(lease)] -= 1
        self._octets[self._cell(lease)] -= len(lease.content or b"")

    def unsettled(self, lease: Lease, change: int) -> bool:
        """One settlement more, or less, that its cell did not take; whether it is the first, or was the last."""
        cell = self._cell(lease)
        self._unsettled[cell] += change
        if not self._unsettled[cell]:
            del self._unsettled[cell]
            return True
        return change > 0 and self._unsettled[cell] == 1

    def waits(self, lease: Lease) -> bool:
        """Whether nothing of its cell may begin."""
        return bool(self._unsettled) and self._cell(lease) in self._unsettled

    def room(self) -> int:
        """For how many messages more; 0 also when all cells wait."""
        if self._cells <= self._unsettled.keys() or self._left(self._octets, MOST_OCTETS) <= 0:
            return 0
        return max(self._left(self._messages, MOST), 0)

    def half_empty(self) -> bool:
        """Whether there is room for half of everything."""
        return self._left(self._messages, MOST) >= MOST // 2 and self._left(self._octets, MOST_OCTETS) >= (
            MOST_OCTETS // 2
        )

    def _left(self, in_hand: Counter[str], most: int) -> int:
        total = in_hand.total()
        waiting = sum(in_hand[cell] for cell in self._unsettled)
        return min(most - (total - waiting), 2 * most - total)
