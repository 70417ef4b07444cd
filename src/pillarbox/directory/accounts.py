"""The local accounts, in the spool process: accounts.db and who is told when one changes.

    accounts = await AccountsStore.open(directory / "accounts.db")
    accounts.on_change(listener)         # async listener(login, generation); awaited before the verb returns

Generations come from one sequence for all accounts and are never used twice: an account that is removed and added
again has another one, so nothing that was remembered of the old one fits the new one. A removal is remembered
too, for workers that were not connected when it happened (``changes_since``).

ERRORS
    AccountExists, UnknownAccount, CertificateTaken; Unavailable when the file cannot be used (open() raises
    StoreError).
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pillarbox.directory.base import (
    Account,
    AccountExists,
    CertificateTaken,
    ScramState,
    Unavailable,
    UnknownAccount,
)
from pillarbox.directory.preparation import login_key
from pillarbox.store.sqlite import Database, StoreError, StoreLike, open_store

T = TypeVar("T")

Listener = Callable[[str, int], Awaitable[None]]
"""(login, generation): sessions and memories of this login with a lower generation are void."""

CACHE_CEILING = 16_384
MISSING_CEILING = 256
"""Accounts without a SCRAM secret that are told of by name."""

MIGRATIONS = (
    """
    CREATE TABLE accounts (
        key TEXT PRIMARY KEY NOT NULL,
        login TEXT NOT NULL,
        addresses TEXT NOT NULL,
        domains TEXT NOT NULL,
        may_redirect INTEGER NOT NULL,
        recipients_per_hour INTEGER,
        disabled INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        created_at REAL NOT NULL,
        password_changed_at REAL NOT NULL,
        password_hash TEXT NOT NULL,
        scram TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE removed (key TEXT PRIMARY KEY NOT NULL, login TEXT NOT NULL, generation INTEGER NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE TABLE generations (last INTEGER NOT NULL) STRICT;
    INSERT INTO generations (last) VALUES (0);
    """,
    """
    CREATE TABLE certificates (mark TEXT PRIMARY KEY NOT NULL, key TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE INDEX certificates_by_key ON certificates (key);
    CREATE TABLE keys (name TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO keys (name, value) VALUES ('scram', randomblob(32));
    CREATE INDEX accounts_without_scram ON accounts (key) WHERE scram IS NULL;
    """,
)

_COLUMNS = (
    "login, addresses, domains, may_redirect, recipients_per_hour, disabled, generation, created_at, "
    "password_changed_at, password_hash, scram"
)
_MARKS = "(SELECT json_group_array(mark) FROM certificates WHERE certificates.key = accounts.key)"
_FIND = f"SELECT {_COLUMNS}, {_MARKS} FROM accounts WHERE key = ?"  # noqa: S608  made of constants
_LIST = f"SELECT {_COLUMNS}, {_MARKS} FROM accounts ORDER BY key"  # noqa: S608  made of constants
_INSERT = f"INSERT OR REPLACE INTO accounts (key, {_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608  as above


class AccountsStore:
    """See the module's text; satisfies Accounts. Made by open()."""

    def __init__(self, store: StoreLike) -> None:
        self._store = store
        self._listeners: list[Listener] = []
        self._cache: OrderedDict[str, Account] = OrderedDict()
        self._changes = 0
        self._scram_state: ScramState | None = None

    @classmethod
    async def open(cls, path: Path) -> "AccountsStore":
        """Opens or makes the file. Raises StoreError."""
        accounts = cls(await open_store(path, MIGRATIONS))
        await accounts._look_at_scram()
        return accounts

    @property
    def scram_state(self) -> ScramState | None:
        """As of the last change; None: not open yet."""
        return self._scram_state

    async def _look_at_scram(self) -> None:
        self._scram_state = await self._store.read(_scram_state)

    async def close(self) -> None:
        """Closes the file."""
        await self._store.close()

    def on_change(self, listener: Listener) -> Callable[[], None]:
        """Awaits ``listener`` with each change, before the verb that made it returns. Returns what ends that."""
        self._listeners.append(listener)

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return stop

    async def find(self, login: str) -> Account | None:
        key = _key(login)
        if key is None:
            return None
        account = self._cache.get(key)
        if account is None:
            changes = self._changes
            account = await self._guarded(self._store.read(lambda db: _find(db, key)))
            if account is not None and changes == self._changes:
                self._remember(key, account)
        return account

    async def find_certified(self, marks: Sequence[str]) -> Account | None:
        def select(db: Database) -> Account | None:
            for mark in marks:
                row: Any = db.execute("SELECT key FROM certificates WHERE mark = ?", (mark,)).fetchone()
                if row is not None:
                    return _find(db, row[0])
            return None

        return await self._guarded(self._store.read(select))

    async def add(self, account: Account) -> None:
        key = login_key(account.login)

        def insert(db: Database) -> Account:
            if _find(db, key) is not None:
                raise AccountExists(account.login)
            db.execute("DELETE FROM removed WHERE key = ?", (key,))
            return _insert(db, key, account)

        stored = await self._guarded(self._store.write(insert))
        await self._tell(key, stored, stored.generation)

    async def replace(self, account: Account) -> Account:
        key = login_key(account.login)

        def update(db: Database) -> Account:
            if _find(db, key) is None:
                raise UnknownAccount(account.login)
            return _insert(db, key, account)

        stored = await self._guarded(self._store.write(update))
        await self._tell(key, stored, stored.generation)
        return stored

    async def remove(self, login: str) -> None:
        key = _key(login)

        def delete(db: Database) -> tuple[Account, int]:
            account = None if key is None else _find(db, key)
            if account is None:
                raise UnknownAccount(login)
            generation = _next_generation(db)
            db.execute("DELETE FROM accounts WHERE key = ?", (key,))
            db.execute("DELETE FROM certificates WHERE key = ?", (key,))
            db.execute("INSERT OR REPLACE INTO removed VALUES (?, ?, ?)", (key, account.login, generation))
            return account, generation

        account, generation = await self._guarded(self._store.write(delete))
        await self._tell(login_key(account.login), replace(account, disabled=True), generation, removed=True)

    async def changes_since(self, generation: int | None) -> tuple[int, list[tuple[str, int]]]:
        """The last generation given out, and (login, generation) of each account changed or removed after
        ``generation`` (None: of none)."""

        def select(db: Database) -> tuple[int, list[tuple[str, int]]]:
            last: Any = db.execute("SELECT last FROM generations").fetchone()
            if generation is None:
                return last[0], []
            rows: Any = db.execute(
                "SELECT login, generation FROM accounts WHERE generation > ?1 "
                "UNION ALL SELECT login, generation FROM removed WHERE generation > ?1",
                (generation,),
            ).fetchall()
            return last[0], [(login, changed) for login, changed in rows]

        return await self._guarded(self._store.read(select))

    async def _tell(self, key: str, account: Account, generation: int, *, removed: bool = False) -> None:
        self._changes += 1
        if removed:
            self._cache.pop(key, None)
        else:
            self._remember(key, account)
        await self._guarded(self._look_at_scram())
        await asyncio.gather(*(listener(account.login, generation) for listener in self._listeners))

    def _remember(self, key: str, account: Account) -> None:
        known = self._cache.get(key)
        if known is not None and known.generation > account.generation:
            return  # a later change was told first
        self._cache[key] = account
        self._cache.move_to_end(key)
        if len(self._cache) > CACHE_CEILING:
            self._cache.popitem(last=False)

    @staticmethod
    async def _guarded(work: Awaitable[T]) -> T:
        try:
            return await work
        except StoreError as error:
            raise Unavailable(str(error)) from error

    async def list(self) -> list[Account]:
        def select(db: Database) -> list[Account]:
            rows = db.execute(_LIST)
            return [_account(row) for row in rows]

        return await self._guarded(self._store.read(select))


def _key(login: str) -> str | None:
    try:
        return login_key(login)
    except ValueError:
        return None  # no account can have it


def _next_generation(db: Database) -> int:
    row: Any = db.execute("UPDATE generations SET last = last + 1 RETURNING last").fetchall()
    return int(row[0][0])


def _insert(db: Database, key: str, account: Account) -> Account:
    stored = replace(account, generation=_next_generation(db))
    values = (
        key,
        stored.login,
        json.dumps(stored.addresses),
        json.dumps(stored.domains),
        stored.may_redirect,
        stored.recipients_per_hour,
        stored.disabled,
        stored.generation,
        stored.created_at,
        stored.password_changed_at,
        stored.password_hash,
        stored.scram,
    )
    db.execute(_INSERT, values)
    _certify(db, key, stored.certificates)
    return stored


def _certify(db: Database, key: str, marks: Sequence[str]) -> None:
    db.execute("DELETE FROM certificates WHERE key = ?", (key,))
    for mark in marks:
        taken: Any = db.execute(
            "SELECT login FROM accounts JOIN certificates ON accounts.key = certificates.key WHERE mark = ?", (mark,)
        ).fetchone()
        if taken is not None:
            raise CertificateTaken(taken[0])
        db.execute("INSERT INTO certificates VALUES (?, ?)", (mark, key))


def _scram_state(db: Database) -> ScramState:
    rows: Any = db.execute(
        "SELECT key FROM accounts WHERE scram IS NULL AND NOT disabled LIMIT ?", (MISSING_CEILING + 1,)
    ).fetchall()
    missing = frozenset(row[0] for row in rows[:MISSING_CEILING])
    key: Any = db.execute("SELECT value FROM keys WHERE name = 'scram'").fetchone()
    return ScramState(missing, len(rows) > MISSING_CEILING, bytes(key[0]))


def _find(db: Database, key: str) -> Account | None:
    row = db.execute(_FIND, (key,)).fetchone()
    return None if row is None else _account(row)


def _account(row: Any) -> Account:
    login, addresses, domains, may_redirect, per_hour, disabled, generation, created, changed, hash_, scram, marks = (
        row
    )
    return Account(
        login=login,
        addresses=tuple(json.loads(addresses)),
        domains=tuple(json.loads(domains)),
        may_redirect=bool(may_redirect),
        recipients_per_hour=per_hour,
        disabled=bool(disabled),
        generation=generation,
        created_at=created,
        password_changed_at=changed,
        password_hash=hash_,
        scram=scram,
        certificates=tuple(sorted(json.loads(marks))),
    )
