"""accounts.db as a copy of the cluster's accounts: what is done with it within a transaction of the file.

The copy has generations of its own, as any accounts.db: of the cluster's it only knows as of which one it is. So
whatever becomes of the cell, on one machine no generation is ever used twice.

An account that is not ``copied`` is this machine's alone. It stays until the cluster has its login, or is known to
have had it: then the cluster's word counts, and what is replaced is kept in ``superseded``.

ERRORS
    OutOfStep.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pillarbox.directory import rows
from pillarbox.directory.base import Account
from pillarbox.store.sqlite import Database


class OutOfStep(Exception):
    """The changes are not those that the copy lacks."""


@dataclass(frozen=True, slots=True)
class CopyState:
    """As of which generation of the cluster's it is a copy; ``id``: the mark that this one has there, if it is still
    the same history; ``taken_at``: a time (seconds since the epoch) at which it was all that there was."""

    id: str
    generation: int
    taken_at: float


@dataclass(frozen=True, slots=True)
class Change:
    """What the cluster says of one login; ``account`` None: it was removed. ``mark``: its generation's there."""

    key: str
    login: str
    generation: int
    account: Account | None
    mark: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Batch:
    """Changes with which the copy is as ``state`` says: all after an earlier generation that the copy had reached.

    Where all accounts are taken, that is after some batches with ``state`` None, which leave the state as it is, and
    ``named`` has the keys of all that there are: others are gone. ``scram_key`` as in ScramState.
    """

    state: CopyState | None
    scram_key: bytes
    changes: tuple[Change, ...]
    named: Collection[str] | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """An account that is another one now. ``account`` has its generation in this file; a removed one is disabled.
    ``superseded``: it was this machine's alone before."""

    key: str
    account: Account
    removed: bool
    superseded: bool


def read_state(db: Database) -> CopyState | None:
    """None: it never was a copy."""
    row: Any = db.execute("SELECT id, generation, taken_at FROM copy").fetchone()
    return None if row is None else CopyState(*row)


def has_copied(db: Database) -> bool:
    """Whether accounts are in the file as copied ones; also before all were taken for the first time."""
    return db.execute("SELECT 1 FROM accounts WHERE copied LIMIT 1").fetchone() is not None


def write_state(db: Database, state: CopyState | None) -> None:
    """None: the accounts in the file are nobody's copy from now on, but this machine's own."""
    db.execute("DELETE FROM copy")
    if state is None:
        db.execute("UPDATE accounts SET copied = 0")
    else:
        db.execute("INSERT INTO copy VALUES (?, ?, ?)", (state.id, state.generation, state.taken_at))


def is_alone(db: Database, key: str) -> bool:
    """Whether the account is there and this machine's alone."""
    return db.execute("SELECT 1 FROM accounts WHERE key = ? AND NOT copied", (key,)).fetchone() is not None


def list_superseded(db: Database) -> list[str]:
    """Their logins."""
    found: Any = db.execute("SELECT login FROM superseded ORDER BY key").fetchall()
    return [row[0] for row in found]


def apply(db: Database, batch: Batch) -> list[Applied]:
    """Brings the copy to the batch's state; what is another one now. Nothing when it is there already.

    Raises OutOfStep.
    """
    state = read_state(db)
    changes = batch.changes
    if batch.named is not None:
        changes += _gone(db, batch.named)
    elif batch.state is not None:
        if state is None:
            raise OutOfStep
        if batch.state.generation <= state.generation:
            return []
    before = {change.key: rows.find(db, change.key) for change in changes}
    applied = [one for change in changes if (one := _apply(db, change, before)) is not None]
    if batch.state is not None:
        write_state(db, batch.state)
    db.execute("UPDATE keys SET value = ? WHERE name = 'scram' AND value <> ?", (batch.scram_key, batch.scram_key))
    return applied


def _gone(db: Database, named: Collection[str]) -> tuple[Change, ...]:
    """A removal for each copied account that the cluster does not have."""
    found: Any = db.execute("SELECT key, login FROM accounts WHERE copied").fetchall()
    return tuple(Change(key, login, 0, None) for key, login in found if key not in named)


def _apply(db: Database, change: Change, before: Mapping[str, Account | None]) -> Applied | None:
    key, known = change.key, before[change.key]
    if change.account is None:
        if known is None:
            return None
        superseded = _supersede(db, key, known)
        return Applied(key, rows.remove(db, known.login), removed=True, superseded=superseded)
    account = change.account
    superseded = False
    if known is None or replace(known, generation=0) != replace(account, generation=0):
        superseded = known is not None and _supersede(db, key, known)
        for mark in account.certificates:  # who had it has lost it by another of these changes, or was alone here
            db.execute("DELETE FROM certificates WHERE mark = ?", (mark,))
        db.execute("DELETE FROM removed WHERE key = ?", (key,))
        stored = rows.insert(db, key, account)
        applied = Applied(key, stored, removed=False, superseded=superseded)
    else:
        applied = None
    db.execute("UPDATE accounts SET copied = 1 WHERE key = ?", (key,))
    return applied


def _supersede(db: Database, key: str, account: Account) -> bool:
    """Keeps what is about to be replaced if it is this machine's alone; whether it is."""
    if not is_alone(db, key):
        return False
    kept = (json.dumps(account.addresses), json.dumps(account.domains), account.password_hash, account.scram)
    db.execute("INSERT OR REPLACE INTO superseded VALUES (?, ?, ?, ?, ?, ?)", (key, account.login, *kept))
    return True
