"""What is taken for another spool is nobody's here, until it is removed without a trace or given back as it was."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.spool.cells import open_cell
from tests.spool.messages import LATER, NOW, Clock, envelope, read_all, wishful

from pillarbox.spool.base import INLINE_LIMIT, Delivered, Filter, Settlement, UnknownQueueId
from pillarbox.spool.cluster.moving import CellSource
from pillarbox.spool.cluster.spool import ClusterSpool
from pillarbox.spool.embedded import EmbeddedSpool, open_spool
from pillarbox.spool.moving import EmbeddedSource
from pillarbox.spool.settings import EmbeddedSettings

LARGE = os.urandom(INLINE_LIMIT + 4_321)
Spool = EmbeddedSpool | ClusterSpool


@pytest.fixture(params=["embedded", "cluster"])
async def spool(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Spool]:
    opened: Spool
    if request.param == "embedded":
        opened = await open_spool(EmbeddedSettings(tmp_path / "spool", 0), clock=Clock())
    else:
        opened = await open_cell(request.getfixturevalue("postgres"), Clock())
    yield opened
    await opened.close()


def source_of(spool: Spool) -> EmbeddedSource | CellSource:
    return EmbeddedSource(spool.owner) if isinstance(spool, EmbeddedSpool) else CellSource(spool.cell)


async def test_what_is_taken_is_neither_lent_nor_listed_nor_added_again(spool: Spool) -> None:
    source, sent = source_of(spool), envelope()
    await spool.commit(sent, b"hello")
    assert await source.take("there", 10) == [sent.queue_id]
    assert await source.taken() == {sent.queue_id: "there"}
    assert list(await source.take("there", 10)) == []
    await spool.commit(sent, b"hello")  # a client that had no answer
    for verb in (spool.hold, spool.release, spool.retry):
        assert list(await verb(Filter(), NOW)) == []
    assert list(await spool.list(Filter(), NOW, 10)) == []
    assert await spool.lease(LATER, 10) == []


async def test_it_is_read_as_it_was_and_given_back_as_it_was(spool: Spool) -> None:
    source, several, large = source_of(spool), wishful(), envelope(size=len(LARGE))
    await spool.commit(several, b"hello")
    writer = spool.writer(large.queue_id)
    await writer.write(LARGE)
    await writer.commit(large)
    await spool.hold(Filter(queue_ids=(several.queue_id,)), NOW)
    before = list(await spool.list(Filter(), NOW, 10))
    ids = list(await source.take("there", 10))
    found = {}
    async for stored in source.load(ids):
        content = await read_all(stored.content)
        assert len(content) == stored.size
        found[stored.message.envelope.queue_id] = (stored.message, content)
    assert [message for message, _ in found.values()] == before
    assert {content for _, content in found.values()} == {b"hello", LARGE}
    assert await source.give_back() == 2
    assert list(await spool.list(Filter(), NOW, 10)) == before
    assert await source.taken() == {}
    assert [lease.envelope for lease in await spool.lease(LATER, 10)] == [large]


async def test_it_is_removed_for_the_spool_that_it_was_taken_for_and_for_no_other(spool: Spool) -> None:
    source, sent = source_of(spool), envelope()
    await spool.commit(sent, b"hello")
    ids = await source.take("there", 10)
    await source.remove(ids, "elsewhere")
    assert await source.give_back() == 1
    ids = await source.take("there", 10)
    await source.remove(ids, "there")
    assert await source.taken() == {}
    assert await source.give_back() == 0
    with pytest.raises(UnknownQueueId):
        await spool.show(sent.queue_id)
    assert [stored async for stored in source.load(ids)] == []


async def test_what_a_worker_of_a_cell_holds_stays_with_it(spool: Spool) -> None:
    if isinstance(spool, EmbeddedSpool):
        pytest.skip("nobody delivers from an embedded spool that is moved")
    source, sent, other = source_of(spool), envelope(), envelope()
    await spool.commit(sent, b"hello")
    (lease,) = await spool.lease(LATER, 10)
    await spool.commit(other, b"hello")
    assert await source.take("there", 10) == [other.queue_id]
    await spool.settle(lease, Settlement(sent.queue_id, {0: Delivered("250 ok", "hop")}))
    assert list(await source.take("there", 10)) == []


async def test_each_spool_has_a_name_of_its_own(spool: Spool, tmp_path: Path) -> None:
    other = await open_spool(EmbeddedSettings(tmp_path / "other", 0), clock=Clock())
    try:
        mine = await source_of(spool).identity()
        assert len(mine) == 32
        assert mine != await source_of(other).identity()
    finally:
        await other.close()


async def test_a_damaged_file_that_is_set_aside_still_knows_what_was_taken(tmp_path: Path) -> None:
    settings, sent = EmbeddedSettings(tmp_path / "spool", 0), envelope()
    spool = await open_spool(settings, clock=Clock())
    await spool.commit(sent, b"hello")
    await source_of(spool).take("there", 10)
    await spool.close()
    (settings.directory / "spool.db.suspect").touch()
    spool = await open_spool(settings, clock=Clock())
    try:
        assert await source_of(spool).taken() == {sent.queue_id: "there"}
        assert await source_of(spool).give_back() == 1
        assert [each.envelope for each in await spool.list(Filter(), NOW, 10)] == [sent]
    finally:
        await spool.close()


async def test_a_cell_says_how_long_a_commit_of_what_was_taken_may_be_repeated(spool: Spool) -> None:
    if isinstance(spool, EmbeddedSpool):
        assert await source_of(spool).quiet_in() == 0
        return
    source = CellSource(spool.cell, 3600.0)
    assert await source.quiet_in() == 0
    await spool.commit(envelope(), b"hello")
    await source.take("there", 10)
    assert 3000 < await source.quiet_in() <= 3600
