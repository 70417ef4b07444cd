"""What the guard needs to know; made by config. Times in seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """``free_failures`` distinct failures a prefix may have within ``window`` before replies get slower (doubling
    from 1 s to ``max_delay``); at ``block_failures`` it is refused for ``block_time``. A login's failures from
    strangers beyond ``login_failures`` delay further strangers. ``good_for``: how long a good sign-in makes a
    place known."""

    free_failures: int = 3
    block_failures: int = 12
    login_failures: int = 10
    window: float = 3600.0
    block_time: float = 900.0
    max_delay: float = 15.0
    good_for: float = 604_800.0
