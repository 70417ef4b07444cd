"""The store: group commit, failures that stay alone, migrations, checkpoints, damage."""

import asyncio
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import apsw
import pytest

from pillarbox.store.sqlite import (
    CHECKPOINT_PAGES,
    PAGE_SIZE,
    Closed,
    Conflict,
    Corrupt,
    Damaged,
    Database,
    SchemaTooNew,
    Store,
    StoreError,
    TooOld,
    check_version,
    open_store,
)

SCHEMA = ("CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT",)


def add(text: object) -> Callable[[Database], int]:
    """Work that adds a row and gives its number."""

    def work(db: Database) -> int:
        db.execute("INSERT INTO note (text) VALUES (?)", (text,))
        return db.last_insert_rowid()

    return work


def texts(db: Database) -> list[str]:
    """All rows, in order."""
    return [str(text) for (text,) in db.execute("SELECT text FROM note ORDER BY id")]


async def opened(path: Path) -> Store:
    """A store with SCHEMA."""
    return await open_store(path / "notes.db", SCHEMA)


async def test_what_was_written_is_read_and_is_there_after_a_restart(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    assert await store.write(add("one")) == 1
    assert await store.read(texts) == ["one"]
    await store.close()
    store = await opened(tmp_path)
    assert await store.read(texts) == ["one"]
    await store.close()


async def test_the_file_is_as_the_notes_on_durability_say(tmp_path: Path) -> None:
    store = await opened(tmp_path)

    def settings_of(db: Database) -> list[object]:
        names = ("journal_mode", "synchronous", "page_size", "wal_autocheckpoint", "secure_delete")
        return [db.pragma(name) for name in names]

    assert await store.write(settings_of) == ["wal", 2, PAGE_SIZE, 0, 0]
    await store.close()


async def test_many_writes_share_transactions_and_resolve_in_order(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    order: list[int] = []
    commits = 0

    def note(number: int, future: "asyncio.Future[int]") -> None:
        order.append(number)

    def count(db: Database) -> None:
        def committed() -> bool:
            nonlocal commits
            commits += 1
            return False

        db.set_commit_hook(committed)

    await store.write(count)
    futures = [store.write(add(str(number))) for number in range(2000)]
    for number, future in enumerate(futures):
        future.add_done_callback(partial(note, number))
    await asyncio.gather(*futures)
    await asyncio.sleep(0)
    assert order == list(range(2000))
    assert await store.read(texts) == [str(number) for number in range(2000)]
    assert 4 <= commits < 200
    await store.close()


async def test_a_write_that_raises_fails_alone(tmp_path: Path) -> None:
    store = await opened(tmp_path)

    def fail(db: Database) -> None:
        db.execute("INSERT INTO note (text) VALUES ('half done')")
        raise LookupError("mine")

    results = await asyncio.gather(
        store.write(add("a")),
        store.write(fail),
        store.write(add("b")),
        store.write(add(b"not text")),
        store.write(add("c")),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [int, LookupError, int, Conflict, int]
    assert await store.read(texts) == ["a", "b", "c"]
    await store.close()


async def test_a_write_whose_caller_went_away_is_still_carried_out(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    store.write(add("left")).cancel()
    await store.write(add("stayed"))
    assert await store.read(texts) == ["left", "stayed"]
    await store.close()


async def test_close_finishes_what_was_asked_and_then_refuses(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    asked = [store.write(add(str(number))) for number in range(100)]
    await store.close()
    await store.close()
    assert all(future.done() for future in asked)
    with pytest.raises(Closed):
        await store.write(add("late"))
    with pytest.raises(Closed):
        await store.read(texts)
    assert os.listdir(tmp_path) == ["notes.db"], "a clean close leaves no log behind"


async def test_a_reader_sees_one_snapshot_and_cannot_write(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    with pytest.raises(StoreError):
        await store.read(add("x"))
    assert await store.read(texts) == []
    await store.close()


async def test_the_log_does_not_grow_without_end_under_writes(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    largest = 0
    for _ in range(80):
        await asyncio.gather(*(store.write(add("x" * 8000)) for _ in range(100)))
        largest = max(largest, (tmp_path / "notes.db-wal").stat().st_size)  # a test may block
    assert CHECKPOINT_PAGES * PAGE_SIZE / 2 < largest < 3.5 * CHECKPOINT_PAGES * PAGE_SIZE, "64 MiB were written"
    await store.close()


async def test_migrations_are_applied_once_each_and_in_order(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.write(add("kept"))
    await store.close()
    more = (*SCHEMA, "ALTER TABLE note ADD COLUMN seen INTEGER; UPDATE note SET seen = 7;")
    for _ in range(2):
        store = await open_store(tmp_path / "notes.db", more)
        assert await store.read(lambda db: db.execute("SELECT text, seen FROM note").fetchall()) == [("kept", 7)]
        await store.close()


async def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.write(add("kept"))
    await store.close()
    with pytest.raises(StoreError):
        await open_store(tmp_path / "notes.db", (*SCHEMA, "DELETE FROM note; SELECT nonsense;"))
    store = await opened(tmp_path)
    assert await store.read(texts) == ["kept"]
    await store.close()


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "notes.db", (*SCHEMA, "CREATE TABLE other (id INTEGER)"))
    await store.close()
    with pytest.raises(SchemaTooNew, match=r"schema 2.*knows 1"):
        await opened(tmp_path)


async def test_what_is_no_database_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_bytes(b"not a database at all" * 1000)
    with pytest.raises(Corrupt, match=r"notes\.db"):
        await opened(tmp_path)


async def test_what_can_be_read_of_a_damaged_file_is_read_up_to_the_damage(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await asyncio.gather(*(store.write(add(f"{number} " + "x" * 500)) for number in range(1000)))
    pages = await store.read(lambda db: int(db.pragma("page_count")))
    await store.close()
    with (tmp_path / "notes.db").open("r+b") as file:
        file.seek(pages // 2 * PAGE_SIZE)
        file.write(b"\xff" * PAGE_SIZE)
    damaged = Damaged(tmp_path / "notes.db")
    read: list[int] = []
    with pytest.raises(Corrupt):
        read.extend(row["id"] for row in damaged.rows("SELECT id FROM note NOT INDEXED ORDER BY id"))
    for row_text in damaged.rows("SELECT text FROM note WHERE id = 1"):
        assert row_text["text"].startswith("0 ")
    damaged.close()
    with pytest.raises(Closed):
        list(damaged.rows("SELECT 1"))


@pytest.mark.parametrize("version", ["3.40.1", "3.51.2", "3.7.0"])
def test_a_sqlite_with_the_wal_reset_bug_is_refused(version: str) -> None:
    with pytest.raises(TooOld, match=r"3\.51\.3"):
        check_version(version)


@pytest.mark.parametrize("version", ["3.51.3", "3.52.0", "4.0.0", apsw.sqlite_lib_version()])
def test_a_newer_sqlite_is_fine(version: str) -> None:
    check_version(version)


async def test_a_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="missing"):
        await open_store(tmp_path / "missing" / "notes.db", SCHEMA)
