"""The tables of guard.db: what the ledger stores, loads and expires.

Rows are the ledger's facts, one statement per fact; their order is that of time, so that loading them rebuilds the
windows as they were. ``Deltas`` holds the last state of each row that changed since the last write.

ERRORS
    None of its own; must not import asyncio: it runs in the store's threads.
"""

from dataclasses import dataclass, field
from typing import TypeVar

from pillarbox.guard.base import Blocked
from pillarbox.guard.counts import Failure
from pillarbox.guard.node import TABLE as NODE_TABLE
from pillarbox.store.sqlite import Database

K = TypeVar("K")
V = TypeVar("V")

MIGRATIONS = (
    """
    CREATE TABLE failures (
        prefix TEXT NOT NULL,
        fingerprint BLOB NOT NULL,
        login TEXT NOT NULL,
        at REAL NOT NULL,
        PRIMARY KEY (prefix, fingerprint)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX failures_by_time ON failures (at);
    CREATE TABLE places (prefix TEXT PRIMARY KEY NOT NULL, at REAL NOT NULL) STRICT, WITHOUT ROWID;
    CREATE INDEX places_by_time ON places (at);
    CREATE TABLE blocks (
        prefix TEXT PRIMARY KEY NOT NULL,
        until REAL NOT NULL,
        failures INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE quotas (
        login TEXT NOT NULL,
        minute INTEGER NOT NULL,
        recipients INTEGER NOT NULL,
        PRIMARY KEY (login, minute)
    ) STRICT, WITHOUT ROWID;
    """,
    NODE_TABLE
    + """
    CREATE TABLE undoings (
        kind TEXT NOT NULL,           -- l, g, c: see schema.py
        prefix TEXT NOT NULL,
        login TEXT NOT NULL,
        at REAL NOT NULL,
        PRIMARY KEY (kind, prefix, login)
    ) STRICT, WITHOUT ROWID;
    """,
)

FAILURES_CEILING = 200_000
"""Failures that stay in the file at most, the latest ones: an attack within one window cannot fill the disk."""
_TRIM_FAILURES = "DELETE FROM failures WHERE at <= (SELECT at FROM failures ORDER BY at DESC LIMIT 1 OFFSET ?)"
LOAD_CEILING = 200_000
"""Rows of one table that are loaded at most, the latest ones."""
PENDING_CEILING = 100_000
"""Rows that wait for the disk at most: when it fails for long, the counts in memory are what there is."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was stored and has not expired, the oldest first."""

    failures: list[tuple[bytes, Failure]] = field(default_factory=list)
    places: list[tuple[str, float]] = field(default_factory=list)
    blocks: list[tuple[str, Blocked]] = field(default_factory=list)
    quotas: list[tuple[str, int, int]] = field(default_factory=list)
    undoings: list[tuple[str, str, str, float]] = field(default_factory=list)


def load(db: Database, now: float, failures_since: float, places_since: float, minutes_since: int) -> Loaded:
    """Reads what has not expired."""
    failures = db.execute(
        "SELECT prefix, fingerprint, login, at FROM failures WHERE at > ? ORDER BY at DESC LIMIT ?",
        (failures_since, LOAD_CEILING),
    ).fetchall()
    places = db.execute(
        "SELECT prefix, at FROM places WHERE at > ? ORDER BY at DESC LIMIT ?", (places_since, LOAD_CEILING)
    ).fetchall()
    blocks = db.execute(
        "SELECT prefix, until, failures FROM blocks WHERE until > ? ORDER BY until DESC LIMIT ?", (now, LOAD_CEILING)
    ).fetchall()
    quotas = db.execute(
        "SELECT login, minute, recipients FROM quotas WHERE minute >= ? ORDER BY minute DESC LIMIT ?",
        (minutes_since, LOAD_CEILING),
    ).fetchall()
    undoings = db.execute(
        "SELECT kind, prefix, login, at FROM undoings ORDER BY at DESC LIMIT ?", (LOAD_CEILING,)
    ).fetchall()
    return Loaded(
        failures=[(print_, Failure(prefix, login, at)) for prefix, print_, login, at in reversed(failures)],
        places=[(prefix, at) for prefix, at in reversed(places)],
        blocks=[(prefix, Blocked(until, count)) for prefix, until, count in reversed(blocks)],
        quotas=[(login, minute, recipients) for login, minute, recipients in reversed(quotas)],
        undoings=[(kind, prefix, login, at) for kind, prefix, login, at in reversed(undoings)],
    )


@dataclass(slots=True)
class Deltas:
    """The rows that changed, by key; None: the row is gone. ``expire``: rows older than these times are deleted
    (failures and places by time, blocks by their end, quotas by minute, undoings by time)."""

    failures: dict[tuple[str, bytes], Failure | None] = field(default_factory=dict)
    places: dict[str, float] = field(default_factory=dict)
    blocks: dict[str, Blocked | None] = field(default_factory=dict)
    quotas: dict[tuple[str, int], int] = field(default_factory=dict)
    undoings: dict[tuple[str, str, str], float] = field(default_factory=dict)
    expire: tuple[float, float, float, int, float] | None = None

    def __bool__(self) -> bool:
        return bool(self.failures or self.places or self.blocks or self.quotas or self.undoings or self.expire)

    def merged(self, newer: "Deltas") -> "Deltas":
        """These and, over them, newer ones: for when a write did not succeed."""
        return Deltas(
            failures=_merge(self.failures, newer.failures),
            places=_merge(self.places, newer.places),
            blocks=_merge(self.blocks, newer.blocks),
            quotas=_merge(self.quotas, newer.quotas),
            undoings=_merge(self.undoings, newer.undoings),
            expire=newer.expire or self.expire,
        )

    def apply(self, db: Database) -> None:
        """Writes them; runs inside one transaction."""
        if self.expire is not None:
            failures_since, places_since, now, minutes_since, undoings_since = self.expire
            db.execute("DELETE FROM failures WHERE at <= ?", (failures_since,))
            db.execute(_TRIM_FAILURES, (FAILURES_CEILING,))
            db.execute("DELETE FROM places WHERE at <= ?", (places_since,))
            db.execute("DELETE FROM blocks WHERE until <= ?", (now,))
            db.execute("DELETE FROM quotas WHERE minute < ?", (minutes_since,))
            db.execute("DELETE FROM undoings WHERE at <= ?", (undoings_since,))
        db.executemany(
            "DELETE FROM failures WHERE prefix = ? AND fingerprint = ?",
            [key for key, failure in self.failures.items() if failure is None],
        )
        db.executemany(
            "INSERT OR REPLACE INTO failures (prefix, fingerprint, login, at) VALUES (?, ?, ?, ?)",
            [(*key, failure.login, failure.at) for key, failure in self.failures.items() if failure is not None],
        )
        db.executemany("INSERT OR REPLACE INTO places (prefix, at) VALUES (?, ?)", list(self.places.items()))
        db.executemany(
            "DELETE FROM blocks WHERE prefix = ?", [(key,) for key, block in self.blocks.items() if block is None]
        )
        db.executemany(
            "INSERT OR REPLACE INTO blocks (prefix, until, failures) VALUES (?, ?, ?)",
            [(key, block.until, block.failures) for key, block in self.blocks.items() if block is not None],
        )
        db.executemany(
            "INSERT OR REPLACE INTO quotas (login, minute, recipients) VALUES (?, ?, ?)",
            [(*key, recipients) for key, recipients in self.quotas.items()],
        )
        db.executemany(
            "INSERT OR REPLACE INTO undoings (kind, prefix, login, at) VALUES (?, ?, ?, ?)",
            [(*key, at) for key, at in self.undoings.items()],
        )


def _merge(older: dict[K, V], newer: dict[K, V]) -> dict[K, V]:
    merged = older | newer
    for key in list(merged)[: max(0, len(merged) - PENDING_CEILING)]:
        del merged[key]
    return merged
