"""Large contents in chunks: whole or not at all, and nothing left behind."""

import pytest
from tests.spool.messages import NOW, Clock, envelope, read_all, settlement
from tests.support.administrator import Administrator

from pillarbox.spool.base import (
    INLINE_LIMIT,
    Delivered,
    Unavailable,
    UnknownQueueId,
)
from pillarbox.spool.cluster.removal import LINGER, SEARCH_EVERY
from pillarbox.spool.cluster.spool import ClusterSpool


async def large(spool: ClusterSpool, queue_id: str, size: int) -> None:
    """Writes and commits."""
    writer = spool.writer(queue_id)
    await writer.write(b"x" * size)
    await writer.commit(envelope(queue_id=queue_id, size=size))


async def test_a_message_whose_chunks_a_fail_over_took_is_not_accepted(
    spool: ClusterSpool, administrator: Administrator
) -> None:
    sent = envelope(size=3 * INLINE_LIMIT)
    writer = spool.writer(sent.queue_id)
    await writer.write(b"x" * 3 * INLINE_LIMIT)
    await administrator.until("SELECT count(*) >= 2 FROM pillarbox.content_chunk")
    administrator.ask("DELETE FROM pillarbox.content_chunk WHERE seq = 1")
    with pytest.raises(Unavailable, match="not whole"):
        await writer.commit(sent)
    with pytest.raises(UnknownQueueId):
        await spool.show(sent.queue_id)


async def test_content_of_another_size_than_announced_is_refused_and_leaves_nothing(
    spool: ClusterSpool, administrator: Administrator
) -> None:
    sent = envelope(size=2 * INLINE_LIMIT + 1)
    writer = spool.writer(sent.queue_id)
    await writer.write(b"x" * 2 * INLINE_LIMIT)
    with pytest.raises(Unavailable):
        await writer.commit(sent)
    with pytest.raises(Unavailable):
        await writer.write(b"x")
    assert administrator.ask("SELECT count(*) FROM pillarbox.content_chunk") == [(0,)]


async def test_only_one_copy_of_a_repeated_content_stays(spool: ClusterSpool, administrator: Administrator) -> None:
    sent = envelope(size=2 * INLINE_LIMIT)
    for _ in range(2):
        writer = spool.writer(sent.queue_id)
        await writer.write(b"x" * sent.size)
        await writer.commit(sent)
    assert administrator.ask("SELECT count(DISTINCT content_id), count(*) FROM pillarbox.content_chunk") == [(1, 2)]
    assert await read_all(spool.open(sent.queue_id)) == b"x" * sent.size


async def test_an_abandoned_content_leaves_no_chunk(spool: ClusterSpool, administrator: Administrator) -> None:
    writer = spool.writer(envelope().queue_id)
    await writer.write(b"x" * 3 * INLINE_LIMIT)
    await writer.abandon()
    assert administrator.ask("SELECT count(*) FROM pillarbox.content_chunk") == [(0,)]


async def test_a_finished_message_lingers_and_then_leaves_every_table(
    spool: ClusterSpool, administrator: Administrator
) -> None:
    sent = envelope(size=2 * INLINE_LIMIT)
    await large(spool, sent.queue_id, sent.size)
    (lease,) = await spool.lease(NOW, 10)
    await spool.settle(lease, settlement(lease, Delivered("250 ok", "hop")))
    now = spool.cell.loop.time()
    await spool.removal.tick(now + LINGER / 2)
    assert administrator.ask("SELECT count(*) FROM pillarbox.message") == [(1,)]
    await spool.removal.tick(now + LINGER + 1)
    for table in ("message", "recipient", "content_chunk"):
        assert administrator.ask(f"SELECT count(*) FROM pillarbox.{table}") == [(0,)]  # noqa: S608  # one of three


async def test_what_a_dead_process_finished_is_found_by_two_searches_and_no_sooner(
    spool: ClusterSpool, dsn: str, clock: Clock, administrator: Administrator
) -> None:
    await spool.commit(envelope(), b"")
    (lease,) = await spool.lease(NOW, 10)
    await spool.settle(lease, settlement(lease, Delivered("250 ok", "hop")))
    await spool.commit(envelope(), b"")
    spool.removal._finished.clear()  # as if this process had died
    now = spool.cell.loop.time() + 1
    await spool.removal.tick(now)
    assert administrator.ask("SELECT count(*) FROM pillarbox.message") == [(2,)]
    await spool.removal.tick(now + LINGER + 1)
    assert administrator.ask("SELECT count(*) FROM pillarbox.message") == [(1,)]


async def test_one_process_searches_for_what_is_finished_and_when_it_ends_another_one_does(
    spool: ClusterSpool, other: ClusterSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[ClusterSpool] = []
    for each in (spool, other):

        async def look(each: ClusterSpool = each) -> bool:
            searched.append(each)
            return True

        monkeypatch.setattr(each.removal, "look", look)
        await each.lease(NOW, 10)
    now = spool.cell.loop.time() + 1
    for each in (spool, other):
        await each.removal.tick(now)
    (first,) = searched
    (second,) = {spool, other} - {first}
    await first.outbox.close()
    await second.removal.tick(now + SEARCH_EVERY - 1)
    assert searched == [first]
    await second.removal.tick(now + SEARCH_EVERY + 1)
    assert searched == [first, second]
