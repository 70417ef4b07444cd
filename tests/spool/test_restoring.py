"""A message brought back is as it was, and one that is there stays as it is."""

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.spool.cells import open_cell
from tests.spool.messages import LATER, NOW, Clock, envelope, new_id, read_all, wishful

from pillarbox.message.envelope import Envelope
from pillarbox.spool.base import (
    INLINE_LIMIT,
    Filter,
    QueuedMessage,
    QueueIdTaken,
    Recipient,
    State,
    Unavailable,
)
from pillarbox.spool.cluster.restoring import ClusterRestorer
from pillarbox.spool.cluster.spool import ClusterSpool
from pillarbox.spool.embedded import EmbeddedSpool, open_spool
from pillarbox.spool.restoring import EmbeddedRestorer
from pillarbox.spool.schema import domain_of
from pillarbox.spool.settings import EmbeddedSettings

LARGE = os.urandom(INLINE_LIMIT + 4_321)


@pytest.fixture(params=["embedded", "cluster"])
async def spool(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EmbeddedSpool | ClusterSpool]:
    opened: EmbeddedSpool | ClusterSpool
    if request.param == "embedded":
        opened = await open_spool(EmbeddedSettings(tmp_path / "spool", 0), clock=Clock())
    else:
        opened = await open_cell(request.getfixturevalue("postgres"), Clock())
    yield opened
    await opened.close()


def stored(sent: Envelope, size: int) -> QueuedMessage:
    """The message with its first recipient gone, and the others each in another state."""
    states = [State.DUE, State.HELD, State.DEAD]
    recipients = tuple(
        Recipient(key, path, domain_of(path), states[key % 3], NOW - 1 + key, key, "451 no\0", 5.25, key % 2 == 1)
        for key, path in enumerate(sent.forward_paths)
        if key or len(sent.forward_paths) == 1
    )
    notify, original = sent.notify, sent.original_recipients
    recipients = tuple(
        replace(each, notify=notify[each.key], original_recipient=original[each.key]) if notify else each
        for each in recipients
    )
    return QueuedMessage(replace(sent, size=size), recipients, leased=False)


async def restore(spool: EmbeddedSpool | ClusterSpool, message: QueuedMessage, content: bytes) -> bool:
    restorer: EmbeddedRestorer | ClusterRestorer
    restorer = EmbeddedRestorer(spool.owner) if isinstance(spool, EmbeddedSpool) else ClusterRestorer(spool.cell)
    writer = restorer.writer(message.envelope.queue_id)
    try:
        for start in range(0, len(content), 70_000):
            await writer.write(content[start : start + 70_000])
        return await writer.restore(message)
    finally:
        await writer.abandon()
        await restorer.close()


@pytest.mark.parametrize("content", [b"", bytes(range(256)), LARGE])
async def test_it_comes_back_with_every_recipients_state(spool: EmbeddedSpool | ClusterSpool, content: bytes) -> None:
    for sent in (wishful(), envelope()):
        message = stored(sent, len(content))
        assert await restore(spool, message, content)
        assert await spool.show(sent.queue_id) == message
        assert await read_all(spool.open(sent.queue_id)) == content


async def test_what_is_due_is_lent_and_nothing_else(spool: EmbeddedSpool | ClusterSpool) -> None:
    message = stored(envelope(), 5)
    later = stored(envelope(), 5)
    later = replace(later, recipients=tuple(replace(each, due_at=LATER) for each in later.recipients))
    several = stored(wishful(), 5)
    for each in (message, later, several):
        await restore(spool, each, b"hello")
    assert [lease.envelope for lease in await spool.lease(NOW, 10)] == [message.envelope]
    lent = {lease.envelope.queue_id: lease.recipients for lease in await spool.lease(LATER, 10)}
    due = tuple(each for each in several.recipients if each.state is State.DUE)
    assert lent == {later.envelope.queue_id: later.recipients, several.envelope.queue_id: due}


@pytest.mark.parametrize("content", [b"hello", LARGE])
async def test_a_repeat_doubles_nothing_and_changes_nothing(
    spool: EmbeddedSpool | ClusterSpool, tmp_path: Path, content: bytes
) -> None:
    message = stored(envelope(), len(content))
    assert await restore(spool, message, content)
    await spool.hold(Filter(), NOW)
    assert not await restore(spool, message, content)
    (there,) = await spool.list(Filter(), NOW, 10)
    assert there.recipients[0].state is State.HELD
    assert await read_all(spool.open(message.envelope.queue_id)) == content
    if isinstance(spool, EmbeddedSpool):
        assert os.listdir(tmp_path / "spool" / "incoming") == []


@pytest.mark.parametrize("content", [b"hello", LARGE])
async def test_another_message_of_the_same_name_is_refused(
    spool: EmbeddedSpool | ClusterSpool, content: bytes
) -> None:
    sent = envelope(size=5)
    await spool.commit(sent, b"first")
    with pytest.raises(QueueIdTaken):
        await restore(spool, stored(replace(sent, login="mallory"), len(content)), content)
    assert await read_all(spool.open(sent.queue_id)) == b"first"


async def test_a_content_of_another_size_is_refused(spool: EmbeddedSpool | ClusterSpool) -> None:
    for content in (b"hello", LARGE):
        with pytest.raises(Unavailable):
            await restore(spool, stored(envelope(), len(content) + 1), content)
    assert await spool.list(Filter(), NOW, 10) == []


async def test_a_message_that_nobody_waits_for_is_not_brought_back(spool: EmbeddedSpool | ClusterSpool) -> None:
    for content in (b"hello", LARGE):
        message = QueuedMessage(envelope(queue_id=new_id(), size=len(content)), (), leased=False)
        with pytest.raises(ValueError, match="nobody waits"):
            await restore(spool, message, content)
    assert await spool.list(Filter(), NOW, 10) == []
