"""The local accounts, in the spool process: accounts.db and who is told when one changes.

    accounts = await AccountsStore.open(directory / "accounts.db")
    accounts.on_change(listener)         # async listener(login, generation); awaited before the verb returns

Generations come from one sequence for all accounts and are never used twice: an account that is removed and added
again has another one, so nothing that was remembered of the old one fits the new one. A removal is remembered
too, for workers that were not connected when it happened (``changes_since``).

With ``copy=True`` the file is a copy of the cluster's accounts, which ``take`` keeps up (cluster.py asks the cell).
Who reads sees no difference, but that an unknown login is Unavailable until there is a copy. Opened without it
again, all that is in the file is this machine's own.

ERRORS
    AccountExists, UnknownAccount, CertificateTaken; Unavailable when the file cannot be used or nothing is known yet
    (open() raises StoreError). copy.OutOfStep.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pillarbox.directory import rows
from pillarbox.directory.base import Account, ScramState, Unavailable
from pillarbox.directory.copy import (
    Applied,
    Batch,
    CopyState,
    apply,
    has_copied,
    is_alone,
    list_superseded,
    read_state,
    write_state,
)
from pillarbox.directory.preparation import login_key
from pillarbox.directory.rows import MIGRATIONS as MIGRATIONS
from pillarbox.store.sqlite import Database, StoreError, StoreLike, open_store
from pillarbox.telemetry.events import get_logger

T = TypeVar("T")

Listener = Callable[[str, int], Awaitable[None]]
"""(login, generation): sessions and memories of this login with a lower generation are void."""

CACHE_CEILING = 16_384
ONE_BY_ONE = 64
"""Changes of one batch that are told one by one; with more of them everybody asks anew."""
NOTE_EVERY = 60.0
"""Seconds between two notes in the file of when the copy was current, if nothing changes."""

log = get_logger("directory")


class AccountsStore:
    """See the module's text; satisfies Accounts. Made by open()."""

    def __init__(self, store: StoreLike, *, copy: bool = False) -> None:
        self._store = store
        self._is_copy = copy
        self._listeners: list[Listener] = []
        self._renewals: list[Callable[[], None]] = []
        self._cache: OrderedDict[str, Account] = OrderedDict()
        self._aliases: dict[str, str] = {}
        self._changes = 0
        self._scram_state: ScramState | None = None
        self._copy_state: CopyState | None = None
        self._noted_at = 0.0

    @classmethod
    async def open(cls, path: Path, *, copy: bool = False) -> "AccountsStore":
        """Opens or makes the file. Raises StoreError."""
        accounts = cls(await open_store(path, MIGRATIONS), copy=copy)
        await accounts._begin()
        return accounts

    async def _begin(self) -> None:
        state = await self._store.read(read_state)
        if not self._is_copy and (state is not None or await self._store.read(has_copied)):
            await self._store.write(lambda db: write_state(db, None))
            state = None
        self._copy_state = state
        await self._look_at_scram()

    @property
    def scram_state(self) -> ScramState | None:
        """As of the last change; None: not open yet."""
        return self._scram_state

    async def _look_at_scram(self) -> None:
        self._scram_state = await self._store.read(rows.scram_state)

    async def close(self) -> None:
        """Closes the file."""
        await self._store.close()

    def on_change(self, listener: Listener) -> Callable[[], None]:
        """Awaits ``listener`` with each change, before the verb that made it returns. Returns what ends that."""
        self._listeners.append(listener)
        return lambda: _take_out(self._listeners, listener)

    def on_renewal(self, call: Callable[[], None]) -> Callable[[], None]:
        """Calls when more changed than is told one by one: ask changes_since, and scram_state. Returns what ends
        that."""
        self._renewals.append(call)
        return lambda: _take_out(self._renewals, call)

    # -- looking up

    async def find(self, login: str) -> Account | None:
        key = rows.key_of(login)
        if key is None:
            return None
        account = self._cache.get(key) or self._cache.get(self._aliases.get(key, key))
        if account is None:
            changes = self._changes
            account = await self._guarded(self._store.read(lambda db: rows.find(db, key) or rows.find_named(db, key)))
            if account is None:
                self._know_nobody()
            elif changes == self._changes:
                self._remember(login_key(account.login), account)
                self._note_alias(key, login_key(account.login))
        return account

    def _note_alias(self, alias: str, key: str) -> None:
        """Whose it is, until any account changes: that may take it from them."""
        if alias != key:
            if len(self._aliases) >= CACHE_CEILING:
                self._aliases.clear()
            self._aliases[alias] = key

    async def list_void(self) -> set[str]:
        """Aliases (as domino_names.name_key has them) that let nobody in as one who has them."""
        return await self._guarded(self._store.read(rows.list_void))

    async def owners_of(self, names: Sequence[str], but: str) -> dict[str, str]:
        """See rows.owners_of."""
        return await self._guarded(self._store.read(lambda db: rows.owners_of(db, names, but)))

    async def find_certified(self, marks: Sequence[str]) -> Account | None:
        account = await self._guarded(self._store.read(lambda db: rows.find_certified(db, marks)))
        if account is None:
            self._know_nobody()
        return account

    def _know_nobody(self) -> None:
        if self._is_copy and self._copy_state is None:
            raise Unavailable("this machine has no copy of the cluster's accounts yet")

    async def changes_since(self, generation: int | None) -> tuple[int, list[tuple[str, int]]]:
        """The last generation given out, and (login, generation) of each account changed or removed after
        ``generation`` (None: of none)."""
        return await self._guarded(self._store.read(lambda db: rows.changes_since(db, generation)))

    # -- the verbs

    async def add(self, account: Account) -> None:
        stored = await self._guarded(self._store.write(lambda db: rows.add(db, account)))
        await self._tell([_applied(stored)])

    async def change(self, login: str, make: Callable[[Account], Account]) -> Account:
        stored = await self._guarded(self._store.write(lambda db: rows.change(db, login, make)))
        await self._tell([_applied(stored)])
        return stored

    async def replace(self, account: Account) -> Account:
        """change(), whatever it was."""
        return await self.change(account.login, lambda _: account)

    async def remove(self, login: str) -> str:
        account = await self._guarded(self._store.write(lambda db: rows.remove(db, login)))
        await self._tell([_applied(account, removed=True)])
        return account.login

    # -- app passwords' uses, on this machine

    async def note_use(self, id_: str, at: float, address: str) -> None:
        """When (seconds since the epoch) and from where an app password was used last."""
        await self._guarded(self._store.write(lambda db: rows.note_use(db, id_, at, address)))

    async def uses(self, ids: Sequence[str]) -> dict[str, tuple[float, str]]:
        """The last use, on this machine, of those of these that were used."""
        return await self._guarded(self._store.read(lambda db: rows.uses(db, ids)))

    # -- as a copy

    @property
    def copy_state(self) -> CopyState | None:
        """Whose copy it is, as of when; None: of nobody yet."""
        return self._copy_state

    async def take(self, batch: Batch) -> None:
        """Brings the copy to the batch's state; workers have been told when it returns. Raises OutOfStep,
        Unavailable."""

        def work(db: Database) -> tuple[list[Applied], CopyState | None]:
            return apply(db, batch), read_state(db)

        applied, state = await self._guarded(self._store.write(work))
        known = self._copy_state
        if state is not None and (known is None or known.id != state.id or known.generation <= state.generation):
            self._copy_state, self._noted_at = state, state.taken_at
        for one in applied:
            if one.superseded:
                log.warning("account.superseded", login=one.account.login)
        before = self._scram_state
        if applied or before is None or before.key != batch.scram_key:
            await self._tell(applied, all_anew=before is None or before.key != batch.scram_key)

    async def confirm(self, now: float, *, at_once: bool = False) -> None:
        """The copy is all that there is, as of ``now``."""
        state = self._copy_state
        if state is None:
            return
        self._copy_state = noted = replace(state, taken_at=now)
        if at_once or now - self._noted_at >= NOTE_EVERY:
            self._noted_at = now
            query = "UPDATE copy SET taken_at = ? WHERE id = ?"
            await self._guarded(self._store.write(lambda db: db.execute(query, (now, noted.id)).fetchall()))

    async def list_alone(self) -> list[Account]:
        """Those that are this machine's alone."""
        return await self._guarded(self._store.read(rows.list_uncopied))

    async def is_alone(self, login: str) -> bool:
        """Whether there is such an account and it is this machine's alone."""
        key = rows.key_of(login)
        return key is not None and await self._guarded(self._store.read(lambda db: is_alone(db, key)))

    async def list_superseded(self) -> list[str]:
        """Logins whose account of this machine alone gave way to the cluster's."""
        return await self._guarded(self._store.read(list_superseded))

    # -- what all of these do

    async def _tell(self, applied: Sequence[Applied], *, all_anew: bool = False) -> None:
        self._changes += 1
        self._aliases.clear()
        for one in applied:
            if one.removed:
                self._cache.pop(one.key, None)
            else:
                self._remember(one.key, one.account)
        await self._guarded(self._look_at_scram())
        if all_anew or len(applied) > ONE_BY_ONE:
            for call in tuple(self._renewals):
                call()
            return
        told = [(one.account.login, one.account.generation) for one in applied]
        await asyncio.gather(*(listener(*change) for change in told for listener in self._listeners))

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
        return await self._guarded(self._store.read(rows.list_all))


def _applied(account: Account, *, removed: bool = False) -> Applied:
    return Applied(login_key(account.login), account, removed, superseded=False)


def _take_out(calls: list[T], call: T) -> None:
    if call in calls:
        calls.remove(call)
