"""Purses: recipients of a login that a worker has in hand, so that the usual message costs no round trip.

    if purses.pay(login, 3, now): ...                      # a subtraction
    else: await purses.fill_and_pay(login, 3, limit, now)  # asks the ledger for BATCH at once

One question per login is under way at a time; who comes meanwhile waits for its answer and looks into the purse
again, so that ten sessions of one login do not take ten batches. What is in hand goes back when it was not used for
``IDLE`` seconds, and when its minute is over: used later than it was counted, it would come free too early.

When the ledger cannot be asked, this worker's own count decides: all that it was granted in the last 60 minutes.

ERRORS
    None are raised. Must not import control: the guard lends it a way to ask.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pillarbox.guard.quota import BUCKET, Quota

BATCH = 32
"""Recipients of one login that are taken at a time."""
IDLE = 5.0
"""Seconds after which recipients in hand and not used go back."""

Ask = Callable[[str, int, int, int], Awaitable[int | None]]
"""(login, need, batch, limit) -> granted (0: over the limit), or None when the ledger cannot say."""
Report = Callable[[str, int], None]
"""(login, recipients): tells the ledger of recipients taken without asking, or, below zero, given back."""


@dataclass(slots=True)
class _Purse:
    """Recipients in hand, taken in ``minute``; when one was last used."""

    left: int = 0
    used_at: float = 0.0
    minute: int = 0
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Purses:
    """See the module's text. ``clock`` is for the timer that returns what is idle."""

    def __init__(self, ask: Ask, report: Report, clock: Callable[[], float]) -> None:
        self._ask = ask
        self._report = report
        self._clock = clock
        self._quota = Quota()  # what this worker was granted, for when the ledger cannot be asked
        self._purses: dict[str, _Purse] = {}
        self._timer: asyncio.TimerHandle | None = None

    def pay(self, login: str, recipients: int, now: float) -> bool:
        """Takes them from what is in hand, or returns False."""
        purse = self._purses.get(login)
        if purse is None or purse.left < recipients or purse.minute != int(now // BUCKET):
            return False
        purse.left -= recipients
        purse.used_at = now
        return True

    async def fill_and_pay(self, login: str, recipients: int, limit: int, now: float) -> bool:
        """Takes them from the ledger; False: over the limit, nothing taken."""
        purse = self._purses.get(login)
        if purse is None:
            purse = self._purses[login] = _Purse()
            self._watch()
        async with purse.asking:
            if self.pay(login, recipients, now):  # somebody else's answer was enough
                return True
            if purse.left and purse.minute != int(now // BUCKET):
                self._empty(login, purse, now)
            return await self._fill(login, purse, recipients, limit, now)

    async def _fill(self, login: str, purse: _Purse, recipients: int, limit: int, now: float) -> bool:
        in_hand, purse.left = purse.left, 0  # nobody else pays from it while we ask
        need = recipients - in_hand
        purse.used_at, purse.minute = now, int(now // BUCKET)
        try:
            granted = await self._ask(login, need, max(need, BATCH), limit)
        except BaseException:  # the session ended while asking: what the ledger then grants counts as used
            purse.left += in_hand
            raise
        if granted is None:
            if self._quota.take(login, need, limit, now):
                self._report(login, need)
                return True
            purse.left += in_hand
            return False
        self._quota.add(login, granted, now)
        if granted < need:
            purse.left += in_hand + granted
            return False
        purse.left += granted - need
        return True

    def give_back(self, login: str, recipients: int, now: float) -> None:
        """Gives them back, and what is in hand with them."""
        purse = self._purses.get(login)
        if purse is not None:
            recipients += purse.left
            purse.left = 0
        self._return(login, recipients, now)

    def return_idle(self, now: float) -> None:
        """Gives back what was not used for ``IDLE`` seconds; called by a timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for login, purse in list(self._purses.items()):
            if abs(now - purse.used_at) >= IDLE and not purse.asking.locked():
                self._empty(login, purse, purse.used_at)
                del self._purses[login]
        self._watch()

    def close(self) -> None:
        """Gives everything back."""
        for login, purse in self._purses.items():
            self._empty(login, purse, purse.used_at)
        self._purses.clear()
        self.return_idle(self._clock())

    def _empty(self, login: str, purse: _Purse, now: float) -> None:
        left, purse.left = purse.left, 0
        self._return(login, left, now)

    def _return(self, login: str, recipients: int, now: float) -> None:
        if recipients > 0:
            self._quota.give_back(login, recipients, now)
            self._report(login, -recipients)

    def _watch(self) -> None:
        if self._purses and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(IDLE, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.return_idle(self._clock())
