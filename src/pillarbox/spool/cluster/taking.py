"""Which recipients are lent next, and to whom: the SQL of a lease.

Recipients that are due are read by lane (domain with site, and priority): from each lane those that wait longest,
however many wait behind them or in lanes that are skipped. The lanes are found by jumping along the index from one to
the next; when there are more than LANES of them, each taking goes on where the last one stopped, so that every lane
has its turn and no taking has to look at all.

Those who take do it one after the other (a lock for the length of a transaction that is sent whole, so nobody can
stop in the middle of it): two at a time would find the same recipients.
"""

from collections.abc import Collection
from typing import NamedTuple

from pillarbox.spool.cluster.schema import BY_INDEX, FREE, TURN
from pillarbox.spool.due import STEP, Lane
from pillarbox.store.postgresql import Statement, Transaction

LANES = 500
"""Lanes that one taking looks at. Up to so many, what is lent is what waits longest of all."""
PROMOTED = 1_000
"""Recipients whose time came that become due in one transaction."""


FIRST: Lane = ("", -32_768)
"""Before every lane."""


class Wanted(NamedTuple):
    """What is looked for: messages with something due at ``now`` outside ``skip``, in lanes after ``after``;
    ``octets`` in all, about."""

    now: float
    limit: int
    skip: Collection[str]
    octets: int
    after: Lane = FIRST


_PROMOTE = """
UPDATE recipient r SET state = 'due' FROM (
    SELECT l.queue_id, l.key FROM recipient l WHERE l.state = 'later' AND l.due_at <= %s
    ORDER BY l.due_at LIMIT %s FOR UPDATE SKIP LOCKED
) come WHERE r.queue_id = come.queue_id AND r.key = come.key
"""

_LANES = """
lane (domain, priority) AS (
    (SELECT r.domain, r.priority FROM recipient r
    WHERE r.state = 'due' AND (r.domain, r.priority) > (%(domain)s, %(priority)s)
    ORDER BY r.domain, r.priority LIMIT 1)
    UNION ALL
    SELECT n.domain, n.priority FROM lane l CROSS JOIN LATERAL (
        SELECT r.domain, r.priority FROM recipient r
        WHERE r.state = 'due' AND (r.domain, r.priority) > (l.domain, l.priority)
        ORDER BY r.domain, r.priority LIMIT 1
    ) n
)
"""

_DUE = f"r.state = 'due' AND r.due_at <= %(now)s AND {FREE}"

_TAKE = f"""
WITH RECURSIVE {_LANES}, seen AS MATERIALIZED (
    SELECT l.domain, l.priority FROM lane l WHERE l.domain <> ALL (%(skip)s) LIMIT {LANES}
), head AS MATERIALIZED (
    SELECT l.domain, l.priority FROM seen l CROSS JOIN LATERAL (
        SELECT r.due_at FROM recipient r WHERE r.domain = l.domain AND r.priority = l.priority AND {_DUE}
        ORDER BY r.due_at LIMIT 1
    ) first
    ORDER BY first.due_at - {STEP} * l.priority LIMIT %(limit)s
), found AS (
    SELECT next.queue_id, min(next.due_at - {STEP} * h.priority) AS rank FROM head h CROSS JOIN LATERAL (
        SELECT r.queue_id, r.due_at FROM recipient r
        WHERE r.domain = h.domain AND r.priority = h.priority AND {_DUE}
        ORDER BY r.due_at LIMIT %(limit)s
    ) next
    GROUP BY next.queue_id ORDER BY rank, next.queue_id LIMIT %(limit)s
), weighed AS (
    SELECT f.queue_id, f.rank, sum(m.weight) OVER (ORDER BY f.rank, f.queue_id) - m.weight AS before
    FROM found f JOIN message m USING (queue_id)
), taken AS (
    SELECT r.queue_id, r.key FROM weighed w JOIN recipient r USING (queue_id)
    WHERE w.before < %(octets)s AND r.domain <> ALL (%(skip)s) AND {_DUE}
    FOR UPDATE OF r SKIP LOCKED
), lent AS (
    UPDATE recipient r SET leased_by = %(worker)s, lease = %(lease)s
    FROM taken t JOIN weighed w USING (queue_id) WHERE r.queue_id = t.queue_id AND r.key = t.key
    RETURNING w.rank, r.queue_id, r.key
)
SELECT rank, queue_id, key FROM lent
UNION ALL
(SELECT NULL, domain, priority FROM seen OFFSET {LANES - 1} LIMIT 1)
"""  # noqa: S608  # fixed text; values are bound

_IS_DUE = f"""
WITH RECURSIVE {_LANES}
SELECT coalesce((SELECT min(r.due_at) FROM recipient r WHERE r.state = 'later') <= %(now)s, false), EXISTS (
    SELECT FROM lane l CROSS JOIN LATERAL (
        SELECT FROM recipient r WHERE r.domain = l.domain AND r.priority = l.priority AND {_DUE} LIMIT 1
    ) first
    WHERE l.domain <> ALL (%(skip)s)
)
"""  # noqa: S608  # as above


def add_promotion(transaction: Transaction, now: float) -> None:
    """Those whose time has come are due."""
    transaction.add(_PROMOTE, (now, PROMOTED))


def add_taking(transaction: Transaction, wanted: Wanted, worker: int, lease: int) -> Statement:
    """Lends to a worker. Rows (rank, queue id, key) of all that it has now; and one (None, domain, priority) with the
    last lane that was looked at, if there may be more."""
    transaction.add(*BY_INDEX)
    transaction.add(TURN)
    add_promotion(transaction, wanted.now)
    domain, priority = wanted.after
    values = {
        "now": wanted.now,
        "limit": wanted.limit,
        "skip": list(wanted.skip),
        "octets": wanted.octets,
        "domain": domain,
        "priority": priority,
        "worker": worker,
        "lease": lease,
    }
    return transaction.add(_TAKE, values)


def is_due(now: float, skip: Collection[str]) -> tuple[str, dict[str, object]]:
    """The statement that says whether somebody's time has come, and whether something is due outside ``skip``."""
    domain, priority = FIRST
    return _IS_DUE, {"now": now, "skip": list(skip), "domain": domain, "priority": priority}
