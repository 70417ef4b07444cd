"""The spool over a real cell: whatever happens to a node, what was accepted is delivered, all of it.

Producers commit, a delivery worker leases and settles, both of this program; the cell's mishaps are those of
test_cell.py. What is printed (pytest -s) is what was seen: its times decide nothing.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import pytest
from tests.cluster.test_cell import (
    a_standby_dies,
    patroni_hangs,
    postgres_is_killed,
    power_fails,
    switched_by_hand,
    the_primary_hangs,
    the_primary_is_alone_with_its_clients,
)
from tests.spool.messages import envelope
from tests.support.cell import Cell

from pillarbox.spool.base import Delivered, Lease, Settlement, SpoolError
from pillarbox.spool.cluster.spool import ClusterSpool, make_tables, open_cluster
from pillarbox.spool.settings import ClusterSettings

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

SIZE = 2_000


@pytest.fixture(scope="module")
def dsn(long_running_cell: Cell) -> str:
    """Of a database with the spool's tables."""
    dsn = long_running_cell.create_database("spool", owner="pillarbox")
    asyncio.run(make_tables(ClusterSettings(dsn)))
    return dsn


class Traffic:
    """Producers and a delivery worker, with what they were told. ``delivered`` counts what the next hop got."""

    def __init__(self, submission: ClusterSpool, delivery: ClusterSpool) -> None:
        self.submission, self.delivery = submission, delivery
        submission.cell.store.quorum = delivery.cell.store.quorum = True
        self.accepted: list[str] = []
        self.put_off = 0
        self.delivered: Counter[str] = Counter()
        self.settled: set[str] = set()
        self.longest = 0.0
        self._accepted_at = time.monotonic()
        self.stop = asyncio.Event()

    async def produce(self) -> None:
        """One after the other; what is refused or unknown is put off, as a client is with a 451."""
        while not self.stop.is_set():
            each = envelope(f"x@d{len(self.accepted) % 7}.example", size=SIZE)
            try:
                await self.submission.commit(each, b"x" * SIZE)
            except SpoolError:
                self.put_off += 1
                await asyncio.sleep(0.1)
                continue
            now = time.monotonic()
            self.longest = max(self.longest, now - self._accepted_at)
            self._accepted_at = now
            self.accepted.append(each.queue_id)

    async def deliver(self) -> None:
        """Until told to stop and nothing is left."""
        while True:
            try:
                leases = await self.delivery.lease(time.time(), 50)
                await asyncio.gather(*map(self._attempt, leases))
                if not leases:
                    await self.delivery.wait_due(0.2)
                if not leases and self.stop.is_set() and not (await self.delivery.depth(time.time())).messages:
                    return
            except SpoolError:
                await asyncio.sleep(0.1)

    async def _attempt(self, lease: Lease) -> None:
        queue_id = lease.envelope.queue_id
        if not self.delivery.extend(lease):  # as before a final dot
            await self.delivery.release_lease(lease)
            return
        self.delivered[queue_id] += 1
        for _ in range(600):
            try:
                await self.delivery.settle(lease, Settlement(queue_id, {0: Delivered("250 ok", "hop")}))
            except SpoolError as error:
                if type(error).__name__ == "LeaseLost":
                    return
                await asyncio.sleep(0.1)
                continue
            self.settled.add(queue_id)
            return

    async def more(self, count: int) -> None:
        """Until so many more are accepted."""
        wanted = len(self.accepted) + count
        async with asyncio.timeout(120):
            while len(self.accepted) < wanted:  # noqa: ASYNC110  # the producers set no event
                await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "mishap",
    [
        power_fails,
        *(
            pytest.param(mishap, marks=pytest.mark.heavy)
            for mishap in (
                postgres_is_killed,
                switched_by_hand,
                a_standby_dies,
                the_primary_hangs,
                the_primary_is_alone_with_its_clients,
                patroni_hangs,
            )
        ),
    ],
)
async def test_what_was_accepted_is_delivered_when(cell: Cell, dsn: str, mishap: Callable[[Cell], None]) -> None:
    submission = await open_cluster(ClusterSettings(dsn, "pillarbox submission"))
    delivery = await open_cluster(ClusterSettings(dsn, "pillarbox delivery"))
    traffic = Traffic(submission, delivery)
    running = [asyncio.create_task(traffic.produce()) for _ in range(8)]
    delivering = asyncio.create_task(traffic.deliver())
    await traffic.more(300)
    await asyncio.to_thread(mishap, cell)
    await traffic.more(300)
    traffic.stop.set()
    await asyncio.gather(*running)
    async with asyncio.timeout(120):
        await delivering
    await submission.close()
    await delivery.close()
    accepted = set(traffic.accepted)
    lost = accepted - traffic.delivered.keys()
    doubled = sum(count - 1 for count in traffic.delivered.values())
    unasked = len(traffic.delivered.keys() - accepted)
    print(
        f"\n{mishap.__doc__} Accepted {len(accepted)}, lost {len(lost)}, delivered again {doubled}, put off "
        f"{traffic.put_off} ({unasked} of them delivered all the same), longest pause {traffic.longest:.1f} s"
    )
    assert lost == set()
    assert len(accepted) == len(traffic.accepted) >= 600
