"""A damaged spool file: set aside under a name of its own, and what can be read of it taken over into a fresh one.

Nothing of the damaged file is changed or removed: it, its log and the content files lie beside the new ones as
``spool.db.corrupt-TIME`` and ``content.corrupt-TIME``. What is taken over is read through the tables as they were;
a message may be delivered twice this way (its settlement was in the damaged part), none that is readable is lost.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pillarbox.store.sqlite import Damaged, Database, Store, StoreError, sync_directory
from pillarbox.telemetry.events import get_logger

_PAGE = 200
_FIRST = 1
_TABLES = ("message", "content", "recipient")

log = get_logger("spool")


class SetAside(NamedTuple):
    """Where the damaged files lie now."""

    database: Path
    content: Path


def set_aside(database: Path, content: Path, when: str) -> SetAside:
    """Renames the file, its log and its content directory; makes an empty content directory. Raises OSError."""
    moved = SetAside(_unused(database, when), _unused(content, when))
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{database}{suffix}", f"{moved.database}{suffix}")
    os.rename(content, moved.content)
    content.mkdir(mode=0o700)
    sync_directory(database.parent)
    return moved


def _unused(path: Path, when: str) -> Path:
    """A name beside ``path`` that nothing has."""
    wanted = path.with_name(f"{path.name}.corrupt-{when}")
    number = _FIRST
    while wanted.exists():
        number += 1
        wanted = path.with_name(f"{path.name}.corrupt-{when}.{number}")
    return wanted


async def salvage(moved: SetAside, store: Store, content: Path) -> tuple[int, int]:
    """Takes over what can be read: (messages taken over, messages that were seen but could not be read whole)."""
    try:
        damaged = Damaged(moved.database)
    except StoreError:
        return 0, 0
    taken = lost = 0
    try:
        numbers = _numbers(damaged)
        for start in range(0, len(numbers), _PAGE):
            page = [_read(damaged, number, moved.content, content) for number in numbers[start : start + _PAGE]]
            whole = [rows for rows in page if rows is not None]
            sync_directory(content)
            await store.write(partial(_insert, messages=whole))
            taken += len(whole)
            lost += len(page) - len(whole)
    finally:
        damaged.close()
    return taken, lost


def _numbers(damaged: Damaged) -> list[int]:
    """The messages' numbers, read from both ends up to the damage, and from every table that has them."""
    numbers: set[int] = set()
    for table in ("message", "recipient"):
        for order in ("ASC", "DESC"):
            with contextlib.suppress(StoreError):
                for row in damaged.rows(f"SELECT number FROM {table} ORDER BY number {order}"):  # noqa: S608  # fixed text
                    numbers.add(row["number"])
    return sorted(numbers)


Rows = dict[str, list[dict[str, Any]]]


def _read(damaged: Damaged, number: int, old: Path, new: Path) -> Rows | None:
    """One message from all tables, its content file taken into its new place; None when it is not whole."""
    try:
        rows = {table: list(_of(damaged, table, number)) for table in _TABLES}
    except StoreError:
        return None
    with contextlib.suppress(StoreError):  # older files have no such table
        rows["taken"] = list(_of(damaged, "taken", number))
    if not rows["message"] or not rows["recipient"]:
        return None
    name = rows["message"][0]["content_file"]
    if name is None:
        return rows if rows["content"] else None
    try:
        _take_over(old / name, new / name)
    except OSError:
        return None
    return rows


def _take_over(old: Path, new: Path) -> None:
    """The file under a second name; or a copy, where the kernel lets nobody link another user's file: with a user for
    each role a large content is the submission worker's."""
    try:
        os.link(old, new)
    except PermissionError:
        with old.open("rb") as source, new.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())


def _of(damaged: Damaged, table: str, number: int) -> Iterator[dict[str, Any]]:
    return damaged.rows(f"SELECT * FROM {table} WHERE number = ?", (number,))  # noqa: S608  # fixed text


def _insert(db: Database, messages: list[Rows]) -> None:
    for rows in messages:
        for table, found in rows.items():
            for row in found:
                marks = ", ".join("?" * len(row))
                db.execute(
                    f"INSERT OR IGNORE INTO {table} ({', '.join(row)}) VALUES ({marks})",  # noqa: S608  # names of columns
                    tuple(row.values()),
                )
