"""Transactions that others get between: each statement sees what was committed before it, and waits for locks."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.spool.messages import NOW, envelope, lanes, settlement
from tests.support.administrator import Administrator

from pillarbox.spool.base import Deferred, Delivered, Filter, Lease, LeaseLost, State
from pillarbox.spool.cluster.schema import VOID_AFTER
from pillarbox.spool.cluster.settling import Settling, carry_out
from pillarbox.spool.cluster.spool import ClusterSpool
from pillarbox.store.postgresql import Rows, Statement, Transaction, Values

DONE = Delivered("250 ok", "mx.example.net")

_WAITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
_ALMOST_VOID = f"UPDATE pillarbox.worker SET seen = clock_timestamp() - interval '{VOID_AFTER - 0.5} seconds'"  # noqa: S608  # a constant
_VOID = f"SELECT seen < clock_timestamp() - interval '{VOID_AFTER} seconds' FROM pillarbox.worker"  # noqa: S608  # as above


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
    (first,) = await spool.lease(NOW, 10, lanes("there.example"))
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


class Paused:
    """The next transaction of a cell, all of which was carried out but its COMMIT: that waits for ``go_on``."""

    def __init__(self, spool: ClusterSpool) -> None:
        self._cell, self._write = spool.cell, spool.cell.write
        self.carried_out, self.go_on = asyncio.Event(), asyncio.Event()
        self._cell.write = self  # type: ignore[method-assign]  # in its place, once

    async def __call__(self, work: Callable[[Transaction], Awaitable[Any]], **more: Any) -> Any:
        self._cell.write = self._write  # type: ignore[method-assign]  # as it was

        async def paused(transaction: Transaction) -> Any:
            result = await work(transaction)
            await transaction.fetch("SELECT 1")
            self.carried_out.set()
            await self.go_on.wait()
            return result

        return await self._write(paused, **more)


async def done_or_waiting(task: "asyncio.Task[Any]", administrator: Administrator) -> None:
    """Until it needs nobody, or what somebody has locked."""
    async with asyncio.timeout(20):
        while not (task.done() or administrator.ask(_WAITING)):  # noqa: ASYNC110  # the server sets no event of ours
            await asyncio.sleep(0.01)


async def test_a_message_that_a_new_worker_takes_while_it_is_deleted_is_not_deleted(
    spool: ClusterSpool, other: ClusterSpool, administrator: Administrator
) -> None:
    """The worker's own row is as new as its lease."""
    sent = envelope()
    await spool.commit(sent, b"")
    paused = Paused(other)
    leasing = asyncio.create_task(other.lease(NOW, 10))
    await paused.carried_out.wait()
    deleting = asyncio.create_task(spool.expunge(sent.queue_id))
    await done_or_waiting(deleting, administrator)
    paused.go_on.set()
    (lease,) = await leasing
    with pytest.raises(LeaseLost):
        await deleting
    await other.settle(lease, settlement(lease, Deferred("450 later", "mx", NOW + 60)))
    assert (await spool.show(sent.queue_id)).envelope == sent


@pytest.mark.parametrize("verb", ["hold", "retry"])
async def test_a_message_that_a_new_worker_takes_during_a_verb_is_left_alone(
    spool: ClusterSpool, other: ClusterSpool, administrator: Administrator, verb: str
) -> None:
    sent = envelope()
    await spool.commit(sent, b"")
    paused = Paused(other)
    leasing = asyncio.create_task(other.lease(NOW, 10))
    await paused.carried_out.wait()
    changing = asyncio.create_task(getattr(spool, verb)(Filter(), NOW + 1))
    await done_or_waiting(changing, administrator)
    paused.go_on.set()
    (lease,) = await leasing
    assert await changing == []
    (recipient,) = (await spool.show(sent.queue_id)).recipients
    assert (recipient.state, recipient.due_at) == (State.DUE, lease.recipients[0].due_at)


@pytest.mark.parametrize("what", ["lease", "expunge", "hold"])
async def test_a_worker_that_is_heard_of_just_before_its_leases_are_void_keeps_them(
    spool: ClusterSpool, other: ClusterSpool, administrator: Administrator, what: str
) -> None:
    """Its heartbeat is confirmed when they would be void already."""
    sent = envelope()
    await spool.commit(sent, b"")
    (lease,) = await spool.lease(NOW, 10)
    spool.outbox._heart.cancel()
    administrator.ask(_ALMOST_VOID)
    paused = Paused(spool)
    beating = asyncio.create_task(spool.outbox._beat_once())
    await paused.carried_out.wait()
    await administrator.until(_VOID)
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "lease": lambda: other.lease(NOW, 10),
        "expunge": lambda: other.expunge(sent.queue_id),
        "hold": lambda: other.hold(Filter(), NOW),
    }
    asking = asyncio.ensure_future(calls[what]())
    await done_or_waiting(asking, administrator)
    paused.go_on.set()
    await beating
    assert spool.extend(lease)
    if what == "expunge":
        with pytest.raises(LeaseLost):
            await asking
    else:
        assert await asking == []
    await spool.settle(lease, settlement(lease, Deferred("450 later", "mx", NOW + 60)))
    (recipient,) = (await spool.show(sent.queue_id)).recipients
    assert (recipient.state, recipient.due_at) == (State.DUE, NOW + 60)
