"""The due index alone, and what priorities cost: the rank's arithmetic, lanes, and rows that are not looked at."""

import asyncio
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.spool.messages import envelope, lanes, opened, settlement

from pillarbox.spool.base import Deferred
from pillarbox.spool.due import STEP, DueIndex, Lane, rank
from pillarbox.spool.embedded import EmbeddedSpool

NOW = 10.0**10
NOBODY = frozenset[str]()


def test_a_step_of_priority_weighs_as_much_as_five_minutes() -> None:
    assert STEP == 300.0
    assert rank(NOW, 0) == NOW
    assert rank(NOW, 9) == rank(NOW - 9 * STEP, 0)
    assert rank(NOW, -9) == rank(NOW + 18 * STEP, 9)


LANES = st.dictionaries(
    st.tuples(st.sampled_from(["a", "b", "c", "d"]), st.integers(-9, 9)),
    st.floats(0.0, 10_000.0).map(lambda seconds: round(seconds, 1)),
)


@settings(deadline=None, derandomize=True)
@given(
    lanes=LANES, now=st.floats(0.0, 10_000.0), limit=st.integers(1, 5), skip=st.frozensets(st.sampled_from("abcd"))
)
def test_due_gives_the_lowest_ranks_and_says_up_to_which(
    lanes: dict[Lane, float], now: float, limit: int, skip: frozenset[str]
) -> None:
    """Against sorting everything, for an index that was built and one that was touched into its shape."""
    touched = DueIndex()
    for lane, due_at in lanes.items():
        touched.touch(lane, due_at + 1)
        touched.touch(lane, due_at)
    ranks = sorted(rank(due_at, lane[1]) for lane, due_at in lanes.items() if due_at <= now and lane[0] not in skip)
    left = [due_at for lane, due_at in lanes.items() if lane[0] not in skip]
    for index in (DueIndex(lanes.items()), touched):
        for _ in range(2):  # asking changes nothing
            found, until = index.due(now, skip, limit)
            assert [rank(lanes[lane], lane[1]) for lane in found] == ranks[:limit]
            assert until == (ranks[limit] if len(ranks) > limit else math.inf)
            assert index.next_due(skip) == min(left, default=None)
        assert len(index) == len({domain for domain, _ in lanes})


def test_what_a_search_found_is_believed_unless_it_was_touched_meanwhile() -> None:
    index = DueIndex([(("a", 1), 5.0), (("a", 0), 6.0), (("b", 0), 7.0)])
    index.search()
    index.touch(("a", 0), 6.5)
    index.learn({("a", 1): None, ("a", 0): None, ("b", 0): 9.0})
    assert index.due(8.0, NOBODY, 10) == ([("a", 0)], math.inf)
    assert index.due(9.0, NOBODY, 10) == ([("a", 0), ("b", 0)], math.inf)
    assert index.next_due(frozenset({"a"})) == 9.0


async def steps_of(spool: EmbeddedSpool, step: int = 100) -> list[int]:
    """Counts SQLite's own steps in both readers, ``step`` at a time, in a list that grows."""
    counted: list[int] = []

    def count() -> int:
        counted.append(step)
        return 0

    def watched(db: object) -> None:
        db.set_progress_handler(count, step)  # type: ignore[attr-defined]  # the driver's connection

    for _ in range(2):
        await asyncio.gather(*(spool.owner.read(watched) for _ in range(8)))
    return counted


PLAN = "EXPLAIN QUERY PLAN SELECT due_at, number, key FROM recipient INDEXED BY recipient_due WHERE state = 'due' "


async def test_a_lane_is_read_from_its_index_alone_and_in_order(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        query = PLAN + "AND domain = ? AND priority = ? ORDER BY due_at, number"
        plan = await spool.owner.read(lambda db: [row[-1] for row in db.execute(query, ("a", 0))])
    assert plan == ["SEARCH recipient USING COVERING INDEX recipient_due (domain=? AND priority=?)"]


@pytest.mark.timeout(120)
async def test_a_lease_costs_what_it_lends_whatever_waits_in_whatever_priority(tmp_path: Path) -> None:
    """100,000 recipients in 19 priorities, due and not due: counted in SQLite's own steps, not in time."""
    paths = tuple(f"u{number}@deep.example" for number in range(1_000))
    async with opened(tmp_path) as spool:
        for number in range(100):
            await spool.commit(envelope(*paths, priority=number % 19 - 9), b"")
        for priority in range(-9, 10):
            hold_until = spool.owner.clock() + 3_600.0
            await spool.commit(envelope(*paths, priority=priority, hold_until=hold_until), b"")
        urgent = envelope("x@deep.example", priority=9)
        plain = [envelope("x@other.example") for _ in range(20)]
        for each in (*plain, urgent):
            await spool.commit(each, b"")
        counted = await steps_of(spool)
        now = spool.owner.clock()
        leased = await spool.lease(now, 20, lanes("deep.example"))
        assert {lease.envelope.queue_id for lease in leased} == {each.queue_id for each in plain}
        assert sum(counted) < 10_000
        for lease in leased:
            await spool.settle(lease, settlement(lease, Deferred("451", "hop", now + 7_200.0)))
        counted.clear()
        (first,) = await spool.lease(now, 1)
        assert first.envelope.priority == 9
        assert len(first.recipients) == 1_000
        assert sum(counted) < 60_000, "its 1,000 recipients, not 119,000"
