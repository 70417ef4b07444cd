"""What one message's life does to the tables, asked of the tables."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.spool.messages import bounce, envelope

from pillarbox.spool.base import Deferred, Delivered, Failed, NewMessage, Outcome, Settlement
from pillarbox.spool.rows import Settled, insert, remove, settle
from pillarbox.spool.schema import MIGRATIONS
from pillarbox.store.sqlite import Database, Store, open_store

NOW = 5_000.0


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(tmp_path / "spool.db", MIGRATIONS)
    yield opened
    await opened.close()


def queue_ids(db: Database) -> set[str]:
    return {queue_id for (queue_id,) in db.execute("SELECT queue_id FROM message")}


@pytest.mark.parametrize(
    ("outcome", "warned"),
    [
        (Delivered("250 ok", "hop"), False),
        (Failed("550 no", "hop", "5.1.1"), False),
        (Deferred("451 x", "hop", NOW + 60), True),
    ],
)
async def test_a_settlement_carried_out_twice_adds_its_report_once(
    store: Store, outcome: Outcome, warned: bool
) -> None:
    sent = envelope("a@example.net", "b@example.net")
    report: NewMessage = bounce()
    keys = frozenset({0}) if warned else frozenset()
    told = Settlement(sent.queue_id, {0: outcome}, (report,), keys)

    def twice(db: Database) -> tuple[Settled, set[str], Settled, set[str]]:
        insert(db, 1, sent, b"hello", None, NOW)
        first = settle(db, told, NOW, [2])
        after_first = queue_ids(db)
        remove(db, 2)  # the report was delivered meanwhile
        return first, after_first, settle(db, told, NOW, [3]), queue_ids(db)

    first, after_first, second, after_second = await store.write(twice)
    assert after_first == {sent.queue_id, report.envelope.queue_id}
    assert after_second == {sent.queue_id}
    assert len(first.due) == len(second.due) + 1
    assert not first.finished


async def test_a_settlement_of_a_message_that_left_adds_nothing(store: Store) -> None:
    sent, report = envelope("a@example.net"), bounce()
    told = Settlement(sent.queue_id, {0: Delivered("250 ok", "hop")}, (report,))

    def work(db: Database) -> tuple[Settled, Settled, set[str]]:
        insert(db, 1, sent, b"hello", None, NOW)
        first = settle(db, told, NOW, [2])
        remove(db, 2)
        return first, settle(db, told, NOW, [3]), queue_ids(db)

    first, second, left = await store.write(work)
    assert (first.finished, second.finished, left) == (True, False, set())
