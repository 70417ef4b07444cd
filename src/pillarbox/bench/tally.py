"""What came of a load: counts, times, and rates made of them. Pure.

Times are in seconds inside, in milliseconds in what people read. A percentile is the nearest rank: a time that
really was measured.

ERRORS
    None.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MOST_REASONS = 50
"""Different reasons that are told apart; a server that answers with a new text each time fills no memory."""
OTHER_REASONS = "other"


@dataclass(slots=True)
class Tally:
    """Counts of one load, added to as it runs."""

    accepted: int = 0
    sessions: int = 0
    seconds: float = 0.0
    refused: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    transaction_times: list[float] = field(default_factory=list)
    session_times: list[float] = field(default_factory=list)

    def refuse(self, reply: str) -> None:
        """A message was refused with this reply."""
        _count(self.refused, reply)

    def fail(self, reason: str) -> None:
        """A session ended before its time, or did not begin."""
        _count(self.failed, reason)

    @property
    def rate(self) -> float:
        """Accepted messages per second."""
        return self.accepted / self.seconds if self.seconds else 0.0

    def as_data(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "accepted": self.accepted,
            "refused": self.refused.total(),
            "failed": self.failed.total(),
            "seconds": round(self.seconds, 3),
            "accepted_per_second": round(self.rate, 1),
            "transaction_ms": in_ms(self.transaction_times),
            "session_ms": in_ms(self.session_times),
            "sessions": self.sessions,
            "refusals": dict(self.refused.most_common()),
            "failures": dict(self.failed.most_common()),
        }


def _count(counter: Counter[str], key: str) -> None:
    counter[key if key in counter or len(counter) < MOST_REASONS else OTHER_REASONS] += 1


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The nearest rank among values in rising order; None when there are none. ``share`` above 0, up to 1."""
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1] if ordered else None


def in_ms(times: Sequence[float]) -> dict[str, float | None]:
    """p50, p95, p99 and the longest, in milliseconds."""
    ordered = sorted(times)
    return {
        name: None if value is None else round(value * 1000, 2)
        for name, value in (
            ("p50", percentile(ordered, 0.5)),
            ("p95", percentile(ordered, 0.95)),
            ("p99", percentile(ordered, 0.99)),
            ("max", percentile(ordered, 1.0)),
        )
    }
