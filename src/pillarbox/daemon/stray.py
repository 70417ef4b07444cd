"""Errors that nobody waits for: in callbacks of the loop, and where Python cannot raise. One line of the log each.

    watch(asyncio.get_running_loop())

Left alone they are printed as they are, over many lines and as often as they happen; and some a stranger can cause at
will, such as a name in a ClientHello that is no ASCII. Here one line a second is written at most.

ERRORS
    None.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

from pillarbox.telemetry.events import get_logger

EVERY = 1.0
"""Seconds between two lines."""

log = get_logger("daemon")


class _Stray:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._quiet_until = 0.0
        self._untold = 0

    def in_loop(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is ConnectionResetError:
            # The class itself: aiofastnet's word for a connection that ended within its handshake. Whoever waits for
            # the handshake is told too, and logs it; a line of an error here would be every stranger's to write.
            return
        self._tell(error, str(context.get("message", "")))

    def unraisable(self, unraisable: Any) -> None:
        self._tell(unraisable.exc_value, unraisable.err_msg or "an exception that nobody could catch")

    def _tell(self, error: BaseException | None, reason: str) -> None:
        now = self._clock()
        if now < self._quiet_until:
            self._untold += 1
            return
        self._quiet_until = now + EVERY
        untold, self._untold = self._untold, 0
        log.error("process.stray", reason=f"{reason}: {type(error).__name__}", untold=untold, exc_info=error)


def watch(loop: asyncio.AbstractEventLoop, *, clock: Callable[[], float] = time.monotonic) -> None:
    """From now on, for this loop and this process."""
    stray = _Stray(clock)
    loop.set_exception_handler(stray.in_loop)
    sys.unraisablehook = stray.unraisable
