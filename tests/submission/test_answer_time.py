"""authentication.py: the time of a refusal tells nothing of what a directory knows, however long that takes. The
clock is the loop's own, and jumps to the next moment at which something is due: seconds are exact, and cost
nothing."""

import asyncio
import selectors
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from tests.support.submission import RecordingGuard

from pillarbox.directory.base import Denied, Identity, Reason
from pillarbox.guard.base import Verdict
from pillarbox.net.stream import Stream
from pillarbox.sasl.mechanism import Credentials
from pillarbox.smtp.events import Auth
from pillarbox.submission.admission import Admission
from pillarbox.submission.authentication import Asker, authenticate, failure_time
from pillarbox.submission.replies import Refused
from pillarbox.submission.settings import SiteSettings
from pillarbox.submission.site import Services, Site
from pillarbox.telemetry.events import get_logger


class _Jumping(selectors.SelectSelector):
    """Waits for nobody: time passes at once."""

    now = 1_000.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += timeout or 0.0
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Jumping()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


class SlowDirectory:
    """Needs its time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def verify(self, credentials: Credentials, *, known_place: bool) -> Identity | Denied:
        await asyncio.sleep(self.seconds)
        return Denied(Reason.WRONG)


async def _answered_after(seconds: float, fixed: float, delay: float) -> float:
    nowhere = Path("none.pem")
    settings = SiteSettings(name="mail.example.org", submission=(), submissions=(), certificate=nowhere, key=nowhere)
    site = Site(replace(settings, failed_sign_in_time=fixed), SlowDirectory(seconds), cast(Any, None))
    guard = RecordingGuard(Verdict(known_place=True, delay=delay))
    services = Services(cast(Any, None), guard, now=lambda: 0.0, random=bytes)
    asker = Asker("192.0.2.1", site, services, Admission[Any](), get_logger("submission"))
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(Refused):
        await authenticate(cast(Stream, None), Auth("PLAIN", b"\0anna\0wrong"), asker)
    return loop.time() - began


@pytest.mark.parametrize(
    ("seconds", "delay", "answered"),
    [(0.0, 0.0, 1.0), (0.3, 0.0, 1.0), (0.97, 0.0, 1.0), (1.03, 0.0, 2.0), (1.9, 0.0, 2.0), (4.2, 0.0, 5.0),
     (0.3, 4.0, 5.0), (1.5, 4.0, 6.0)],
)  # fmt: skip
def test_a_refusal_comes_after_a_whole_number_of_fixed_times_and_the_guards_delay(
    seconds: float, delay: float, answered: float
) -> None:
    loop = JumpingLoop()
    try:
        assert loop.run_until_complete(_answered_after(seconds, 1.0, delay)) == pytest.approx(answered, abs=0.01)
    finally:
        loop.close()


def test_where_there_is_no_fixed_time_nothing_waits() -> None:
    assert failure_time(3.0, 0.0) == 0.0
    assert failure_time(0.0, 1.0) == failure_time(1.0, 1.0) == 1.0
