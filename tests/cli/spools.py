"""Spools for the tests of `pillarbox spool`: filled, read, and emptied."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tests.spool.messages import envelope, wishful

from pillarbox.config import load
from pillarbox.message.envelope import Envelope, queue_id
from pillarbox.spool.base import INLINE_LIMIT, QueuedMessage, Reader, Recipient, State
from pillarbox.spool.cluster.reading import CellReader
from pillarbox.spool.cluster.spool import ClusterSpool, open_cluster
from pillarbox.spool.embedded import EmbeddedSpool, open_spool
from pillarbox.spool.reading import open_reader
from pillarbox.spool.restoring import EmbeddedRestorer
from pillarbox.spool.schema import domain_of
from pillarbox.spool.settings import CellsSettings, ClusterSettings, EmbeddedSettings

LARGE = os.urandom(INLINE_LIMIT + 12_345)
CLUSTER = """
[spool]
kind = "cluster"
durability = "local"
[[spool.cell]]
name = "a"
dsn = "{a}"
[[spool.cell]]
name = "b"
dsn = "{b}"
"""


class Kept(NamedTuple):
    """A message in a spool."""

    message: QueuedMessage
    content: bytes


def new_envelope(sent: Envelope, content: bytes) -> Envelope:
    return replace(sent, queue_id=queue_id(time.time(), os.urandom(10)), size=len(content))


async def fill(directory: Path) -> None:
    """Six messages: of every state, some recipients gone, large and empty."""
    spool = await open_spool(EmbeddedSettings(directory, 0))
    restorer = EmbeddedRestorer(spool.owner)
    states = [State.DUE, State.HELD, State.DEAD]
    for number, content in enumerate((b"", b"hello\0", LARGE, bytes(range(256)))):
        sent = new_envelope(wishful() if number % 2 else envelope(), content)
        recipients = tuple(
            Recipient(key, path, domain_of(path), states[(key + number) % 3], 1e10, 2, "451 no\0", 5.25, True)
            for key, path in enumerate(sent.forward_paths)
            if key or len(sent.forward_paths) == 1
        )
        if sent.notify:
            recipients = tuple(
                replace(each, notify=sent.notify[each.key], original_recipient=sent.original_recipients[each.key])
                for each in recipients
            )
        writer = restorer.writer(sent.queue_id)
        await writer.write(content)
        assert await writer.restore(QueuedMessage(sent, recipients, leased=False))
    await restorer.close()
    await add(spool, b"as it was sent")
    await add(spool, b"another")
    await spool.close()


async def add(spool: EmbeddedSpool | ClusterSpool, content: bytes, tag: str = "") -> str:
    """Commits one; its queue id."""
    sent = new_envelope(envelope(), content)
    if tag:
        sent = replace(sent, queue_id=f"{sent.queue_id}-{tag}")
    await spool.commit(sent, content)
    return sent.queue_id


async def _all(reader: Reader) -> dict[str, Kept]:
    found = {}
    async for stored in reader.messages():
        content = b"".join([octets async for octets in stored.content])
        found[stored.message.envelope.queue_id] = Kept(stored.message, content)
    return found


async def contents(directory: Path) -> dict[str, Kept]:
    """All of an embedded spool, by queue id."""
    reader = await open_reader(EmbeddedSettings(directory))
    try:
        return await _all(reader)
    finally:
        await reader.close()


def dsn_of(config: Path, cell: str) -> str:
    settings = load(config).spool
    assert isinstance(settings, CellsSettings)
    return next(each.dsn for each in settings.cells if each.name == cell)


async def kept(config: Path, cell: str) -> dict[str, Kept]:
    """All of a cell, by queue id."""
    spool = await open_cluster(ClusterSettings(dsn_of(config, cell)), leases=False)
    try:
        return await _all(CellReader(spool.cell))
    finally:
        await spool.close()


async def take_everything(config: Path) -> None:
    """As if everything was delivered, a while ago."""
    settings = load(config).spool
    spool: EmbeddedSpool | ClusterSpool
    if isinstance(settings, CellsSettings):
        spool = await open_cluster(ClusterSettings(dsn_of(config, "a")))
        ids = list(await kept(config, "a"))
    else:
        spool = await open_spool(settings)
        ids = list(await contents(settings.directory))
    for each in ids:
        await spool.expunge(each)
    if isinstance(spool, ClusterSpool):
        await spool.removal.remove(ids)
    await spool.close()
