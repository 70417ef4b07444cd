"""The loop of the delivery role: lease what is due, hand it to next hops, settle outcomes."""

import time
from collections.abc import Callable

from pillarbox.delivery.settings import DeliverySettings
from pillarbox.spool.base import Outbox


class Scheduler:
    """``run()`` until ``drain(seconds)`` was called; ``apply(settings)`` at a reload."""

    def __init__(self, outbox: Outbox, settings: DeliverySettings, *, now: Callable[[], float] = time.time) -> None:
        raise NotImplementedError

    async def run(self) -> None:
        """Delivers until drained. Returns after drain() ended."""
        raise NotImplementedError

    async def drain(self, seconds: float) -> None:
        """Starts nothing new, finishes the transactions in hand and settles them, for at most ``seconds``."""
        raise NotImplementedError

    def apply(self, settings: DeliverySettings) -> None:
        """Takes new settings: the messages in hand go on under the old ones, all later ones under these."""
        raise NotImplementedError
