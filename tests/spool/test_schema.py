"""Files that an older Pillarbox wrote: with queued mail in every state, opened by this one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.spool.messages import envelope, opened, read_all, settlement, wishful

from pillarbox.message.envelope import Envelope
from pillarbox.spool.base import INLINE_LIMIT, Deferred, Delivered, Filter, Recipient, State
from pillarbox.spool.embedded import EmbeddedSpool, open_spool
from pillarbox.spool.schema import MIGRATIONS
from pillarbox.spool.settings import EmbeddedSettings
from pillarbox.store.sqlite import Database, open_store

NOW = 5_000.0
IDS = [f"00TEST{number:020d}" for number in range(4)]
LARGE = b"x" * (INLINE_LIMIT + 1)

# as version 1 wrote them: column by column, whatever the code's own statements say by now
MESSAGE_1 = (
    "INSERT INTO message (number, queue_id, reverse_path, received_at, size, eight_bit, smtputf8, login, site, "
    "session_id, is_bounce, content_file) VALUES (?, ?, ?, 1000.5, ?, 1, 0, 'alice', 'mail', 's-1', ?, ?)"
)
RECIPIENT_1 = (
    "INSERT INTO recipient (number, key, forward_path, domain, state, due_at, attempts, last_reply, last_attempt_at, "
    "delay_warned) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
RECIPIENTS_1: list[tuple[Any, ...]] = [
    (1, 0, "bob@Example.NET", "example.net", "due", NOW, 0, "", None, 0),
    (1, 1, "carol@example.com", "example.com", "gone", NOW - 60, 1, "", NOW - 50, 0),
    (1, 2, "dave@example.net", "example.net", "due", NOW + 60, 2, "451 later", NOW - 50, 1),
    (2, 0, "bob@example.net", "example.net", "due", NOW - 30, 0, "", None, 0),
    (3, 0, "bob@example.net", "example.net", "held", NOW - 20, 0, "", None, 0),
    (4, 0, "alice@example.org", "example.org", "dead", NOW - 10, 1, "550 no", NOW - 10, 0),
]


@asynccontextmanager
async def made_by(directory: Path, version: int) -> AsyncIterator[Any]:
    """The store of a spool of that version, without anything in it."""
    (directory / "content").mkdir(parents=True)
    store = await open_store(directory / "spool.db", MIGRATIONS[:version])
    try:
        yield store
    finally:
        await store.close()


async def make_version_1(directory: Path) -> None:
    """Four messages, six recipients, one of them gone; one content is a file."""

    def fill(db: Database) -> None:
        for number, queue_id in enumerate(IDS, 1):
            name = queue_id if number == 2 else None
            ours = number == 4
            size = len(LARGE) if name else 5
            db.execute(MESSAGE_1, (number, queue_id, "" if ours else "alice@example.org", size, ours, name))
            if name is None:
                db.execute("INSERT INTO content (number, octets) VALUES (?, ?)", (number, b"hello"))
        db.executemany(RECIPIENT_1, RECIPIENTS_1)

    async with made_by(directory, 1) as store:
        await store.write(fill)
    (directory / "content" / IDS[1]).write_bytes(LARGE)


def plain(number: int, *forward_paths: str, size: int = 5, is_bounce: bool = False) -> Envelope:
    """What a version-1 message is now: without wishes."""
    return Envelope(
        queue_id=IDS[number],
        reverse_path="" if is_bounce else "alice@example.org",
        forward_paths=forward_paths,
        received_at=1000.5,
        size=size,
        eight_bit=True,
        login="alice",
        site="mail",
        session_id="s-1",
        is_bounce=is_bounce,
    )


async def test_mail_that_version_1_queued_is_here_and_leaves(tmp_path: Path) -> None:
    await make_version_1(tmp_path)
    async with opened(tmp_path) as spool:
        first, *others = await spool.list(Filter(), NOW, 10)
        assert first.envelope == plain(0, "bob@Example.NET", "carol@example.com", "dave@example.net")
        assert first.recipients == (
            Recipient(0, "bob@Example.NET", "example.net", State.DUE, NOW, 0, "", None, False),
            Recipient(2, "dave@example.net", "example.net", State.DUE, NOW + 60, 2, "451 later", NOW - 50, True),
        )
        assert [each.envelope for each in others] == [
            plain(1, "bob@example.net", size=len(LARGE)),
            plain(2, "bob@example.net"),
            plain(3, "alice@example.org", is_bounce=True),
        ]
        assert [each.recipients[0].state for each in others] == [State.DUE, State.HELD, State.DEAD]
        assert await read_all(spool.open(IDS[1])) == LARGE
        leases = await spool.lease(NOW, 10)
        assert [(lease.envelope.queue_id, [r.key for r in lease.recipients]) for lease in leases] == [
            (IDS[1], [0]),
            (IDS[0], [0]),
        ], "oldest due first, as before"
        for lease in leases:
            await spool.settle(lease, settlement(lease, Delivered("250 ok", "hop")))
        assert await spool.release(Filter(), NOW) == [IDS[2], IDS[3]]
        assert len(await spool.lease(NOW, 10)) == 2
        assert [r.key for lease in await spool.lease(NOW + 60, 10) for r in lease.recipients] == [2]


async def test_a_commit_of_version_1_that_is_repeated_is_the_same_message(tmp_path: Path) -> None:
    """A submission worker may ask again over an upgrade."""
    await make_version_1(tmp_path)
    async with opened(tmp_path) as spool:
        await spool.commit(plain(2, "bob@example.net"), b"hello")
        assert (await spool.depth(NOW)).messages == 4


async def test_an_upgraded_file_takes_every_wish(tmp_path: Path) -> None:
    await make_version_1(tmp_path)
    sent = wishful()
    async with opened(tmp_path) as spool:
        await spool.commit(sent, b"hello")
    async with opened(tmp_path) as spool:
        assert (await spool.show(sent.queue_id)).envelope == sent
        assert (await spool.depth(NOW)).messages == 5


async def test_priorities_that_version_2_stored_are_obeyed(tmp_path: Path) -> None:
    """It kept them with the message only."""

    def fill(db: Database) -> None:
        for number, queue_id in enumerate(IDS, 1):
            db.execute(MESSAGE_1, (number, queue_id, "alice@example.org", 5, False, None))
            db.execute("UPDATE message SET priority = ? WHERE number = ?", (number * 2 - 6, number))
            db.execute("INSERT INTO content (number, octets) VALUES (?, x'00')", (number,))
            db.execute(RECIPIENT_1, (number, 0, "a@b.example", "b.example", "due", NOW, 0, "", None, 0))

    async with made_by(tmp_path, 2) as store:
        await store.write(fill)
    async with opened(tmp_path) as spool:
        for _ in range(2):
            leases = await spool.lease(NOW, 10)
            assert [(lease.envelope.queue_id, lease.envelope.priority) for lease in leases] == [
                (IDS[3], 2), (IDS[2], 0), (IDS[1], -2), (IDS[0], -4)
            ]  # fmt: skip
            for lease in leases:
                await spool.release_lease(lease)


@pytest.mark.parametrize("size", [5, INLINE_LIMIT + 1])
async def test_every_field_and_wish_survives_a_restart(tmp_path: Path, size: int) -> None:
    sent = wishful(size=size)
    async with opened(tmp_path) as spool:
        writer = spool.writer(sent.queue_id)
        await writer.write(b"x" * size)
        await writer.commit(sent)
        before = await spool.show(sent.queue_id)
    async with opened(tmp_path) as spool:
        assert await spool.show(sent.queue_id) == before
        (lease,) = await spool.lease(10.0**10, 10)
        assert (lease.envelope, lease.recipients) == (sent, before.recipients)
        assert await read_all(spool.open(sent.queue_id)) == b"x" * size


async def test_a_restart_releases_nothing_early_and_keeps_the_order_of_priorities(tmp_path: Path) -> None:
    clock = NOW

    async def reopened() -> EmbeddedSpool:
        return await open_spool(EmbeddedSettings(tmp_path, 0), clock=lambda: clock)

    spool = await reopened()
    held = envelope("x@a.example", hold_until=NOW + 600, priority=9)
    order = [envelope("x@a.example", priority=priority) for priority in (5, 0, -7)]
    for each in (held, *reversed(order)):
        await spool.commit(each, b"")
    for clock in (NOW, NOW + 300, NOW + 599.999):
        await spool.close()
        spool = await reopened()
        leases = await spool.lease(clock, 10)
        assert [lease.envelope for lease in leases] == order
        assert await spool.lease(clock, 10) == []
    await spool.close()
    clock = NOW + 600
    spool = await reopened()
    (first,) = await spool.lease(clock, 1)
    assert first.envelope == held
    await spool.settle(first, settlement(first, Deferred("451", "hop", clock + 60)))
    assert [lease.envelope for lease in await spool.lease(clock, 10)] == order
    await spool.close()
