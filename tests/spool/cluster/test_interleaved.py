"""A settlement whose statements others get between: each statement sees what was committed before it."""

from collections.abc import Awaitable, Callable

import pytest
from tests.spool.messages import NOW, envelope, settlement

from pillarbox.spool.base import Delivered, Lease
from pillarbox.spool.cluster.settling import Settling, carry_out
from pillarbox.spool.cluster.spool import ClusterSpool
from pillarbox.store.postgresql import Rows, Statement, Transaction, Values

DONE = Delivered("250 ok", "mx.example.net")


class Interrupted(Transaction):
    """A transaction that sends its statements one by one, and lets ``between`` happen after each."""

    def __init__(self, real: Transaction, between: Callable[[], Awaitable[None]]) -> None:
        self._real, self._between = real, between
        self._kept: list[Statement] = []

    def add(self, query: str, values: Values = ()) -> Statement:
        statement = Statement(query, values)
        self._kept.append(statement)
        return statement

    async def fetch(self, query: str, values: Values = ()) -> Rows:
        last = self.add(query, values)
        await self.send()
        return last.rows

    async def send(self) -> None:
        kept, self._kept = self._kept, []
        for statement in kept:
            statement.rows = await self._real.fetch(statement.query, statement.values)
            await self._between()


def _settling(spool: ClusterSpool, lease: Lease) -> Settling:
    held = spool.outbox._held[lease.lease_id]
    return Settling(held.queue_id, held.identity.id, held.taking, held.alone, settlement(lease, DONE))


@pytest.mark.parametrize("after", range(6))
async def test_a_recipient_that_the_same_worker_takes_during_a_settlement_of_its_message_stays(
    spool: ClusterSpool, after: int
) -> None:
    """After each of its statements."""
    sent = envelope("a@here.example", "b@there.example")
    await spool.commit(sent, b"")
    (first,) = await spool.lease(NOW, 10, frozenset({"there.example"}))
    job = _settling(spool, first)
    steps = 0
    taken: list[Lease] = []

    async def take() -> None:
        nonlocal steps
        if steps == after:
            taken.extend(await spool.lease(NOW, 10))
        steps += 1

    async def work(real: Transaction) -> None:
        interrupted = Interrupted(real, take)
        await carry_out(interrupted, [job], NOW)
        await interrupted.send()

    await spool.cell.write(work)
    (lease,) = taken or await spool.lease(NOW, 10)
    assert [recipient.forward_path for recipient in lease.recipients] == ["b@there.example"]
    (waiting,) = (await spool.show(sent.queue_id)).recipients
    assert waiting.forward_path == "b@there.example"
