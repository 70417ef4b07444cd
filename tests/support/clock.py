"""A clock that goes only when told to."""


class FakeClock:
    """Call it for the time in seconds; ``advance`` moves it. It starts at 2026-01-01 00:00 UTC."""

    def __init__(self, wall: float = 1_767_225_600.0, monotonic: float = 1000.0) -> None:
        self._wall = wall
        self._monotonic = monotonic

    def __call__(self) -> float:
        return self._wall

    def wall(self) -> float:
        """Seconds since the epoch, as ``time.time``."""
        return self._wall

    def monotonic(self) -> float:
        """Seconds since some moment, as ``time.monotonic``."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass (never backwards: for a clock that is set back there is ``set_wall``)."""
        if seconds < 0:
            raise ValueError("time passes forwards; set_wall() is for a clock that was set back")
        self._wall += seconds
        self._monotonic += seconds

    def set_wall(self, seconds: float) -> None:
        """Somebody sets the machine's clock; the monotonic one does not notice."""
        self._wall = seconds
