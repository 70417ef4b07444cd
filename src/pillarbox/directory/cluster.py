"""The cluster's local accounts, in the spool process of each machine: the first cell has them, accounts.db a copy.

    accounts = ClusterAccounts(store, copy, cell="a")     # copy: AccountsStore.open(path, copy=True)
    await accounts.start()                                # asks what changed, and goes on asking each second

Signing in asks the copy alone and goes on whatever becomes of the cell. A verb changes the cell in one transaction,
which a quorum has when it returns, then takes that and whatever else changed into the copy; workers have been told
when it returns. Other machines ask for it within a second: what changed since the generation that the copy has.
Where the cell demands a quorum that question is confirmed by it, too: a primary whose standbys have left it for
another one answers nothing.

A machine without a copy takes all accounts at once; and so does one whose cell has another history of them than it
(made anew, or brought back from a backup): each generation there has a random mark, and a copy knows that of its own.

ERRORS
    AccountExists, UnknownAccount, CertificateTaken, InvalidAccount; Unavailable, whose text says whether something
    was changed, or that nobody knows: a verb that is repeated then does no harm.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from pillarbox.directory import cell
from pillarbox.directory.accounts import AccountsStore
from pillarbox.directory.base import (
    Account,
    AccountExists,
    CertificateTaken,
    InvalidAccount,
    Unavailable,
    UnknownAccount,
)
from pillarbox.directory.copy import Batch, Change, CopyState, OutOfStep
from pillarbox.directory.preparation import login_key
from pillarbox.directory.rows import key_of
from pillarbox.store.errors import Denied, SchemaTooOld, StoreError, Unknown
from pillarbox.telemetry.counters import gauge
from pillarbox.telemetry.events import get_logger

if TYPE_CHECKING:
    from pillarbox.store.postgresql import Statement, Store, Transaction

T = TypeVar("T")

ASK_EVERY = 1.0
"""Seconds between two questions."""
FIRST_LOOK = 4.0
"""Seconds that a start waits for the first answer."""
VERB_TIME = 10.0
"""Seconds for a verb's transaction."""
_DEADLINES = (5.0, 5.0, 10.0, 20.0, 40.0, 80.0, 120.0)
"""Seconds for a question, longer and longer: one that is given up may leave a process of the server that waits on."""
_PAUSES = (1.0, 1.0, 2.0, 4.0, 8.0)
"""Seconds after one that failed."""
PUBLISHED_AT_ONCE = 200
NAMED = 20
"""Logins in an event."""

ALONE = "bring them in with `pillarbox user publish`, or remove them: until then they sign in on this machine alone"

AGE = gauge(
    "accounts_copy_age_seconds", "Seconds since this machine's copy of the cluster's accounts was known to be current"
)

log = get_logger("directory")


@dataclass(frozen=True, slots=True)
class Publication:
    """What became of this machine's own accounts. ``refused``: (login, why); ``superseded``: gave way to the
    cluster's before."""

    published: Sequence[str]
    refused: Sequence[tuple[str, str]]
    superseded: Sequence[str]


class _NotOurs(Exception):
    """The copy is not one of what is in the cell now."""


class ClusterAccounts:
    """See the module's text; satisfies Accounts. ``name``: the cell's; ``clock``: seconds since the epoch."""

    def __init__(
        self, store: "Store", copy: AccountsStore, *, name: str, clock: Callable[[], float] = time.time
    ) -> None:
        self.trouble: str | None = None
        self._store, self._copy = store, copy
        self._name, self._clock = name, clock
        self._failures = 0
        self._alone: int | None = None
        self._asked = asyncio.Event()
        self._asking: asyncio.Task[None] | None = None

    async def start(self, patience: float = FIRST_LOOK) -> None:
        """Begins to ask; waits for the first answer, for so many seconds."""
        self._asking = asyncio.create_task(self._ask_always(), name=f"accounts of cell {self._name}")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), patience)

    async def close(self) -> None:
        """Ends the asking and notes how old the copy is. The store is closed by whoever made it."""
        if self._asking is not None:
            self._asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._asking
        state = self._copy.copy_state
        if state is not None:
            with contextlib.suppress(Unavailable):
                await self._copy.confirm(state.taken_at, at_once=True)

    def status(self) -> str | None:
        """What an operator should know; None: all is well."""
        said = []
        if self.trouble is not None:
            state = self._copy.copy_state
            age = "none yet" if state is None else f"a copy, {self._clock() - state.taken_at:.0f} s old"
            said.append(f"{age}: {self.trouble}")
        if self._alone:
            said.append(f"{self._alone} not in the cluster: {ALONE}")
        return "; ".join(said) or None

    # -- looking: the copy

    async def find(self, login: str) -> Account | None:
        """See AccountLookup.find."""
        return await self._copy.find(login)

    async def list_void(self) -> set[str]:
        """See AccountsStore.list_void."""
        return await self._copy.list_void()

    async def owners_of(self, names: Sequence[str], but: str) -> dict[str, str]:
        """See AccountsStore.owners_of."""
        return await self._copy.owners_of(names, but)

    async def alone(self) -> frozenset[str]:
        """The logins of accounts that this machine has and the cluster does not."""
        return frozenset(account.login for account in await self._copy.list_alone())

    # -- the verbs: the cell, then the copy

    async def add(self, account: Account) -> None:
        """See Accounts.add."""
        key = login_key(account.login)
        if await self._copy.is_alone(account.login):
            raise AccountExists(account.login)

        async def work(transaction: "Transaction", generation: int) -> None:
            if await cell.find(transaction, key) is not None:
                raise AccountExists(account.login)
            await _put(transaction, key, account, generation)

        await self._change(work)

    async def change(self, login: str, make: Callable[[Account], Account]) -> Account:
        """See Accounts.change. Raises InvalidAccount for one of this machine alone."""
        key = key_of(login)
        if key is None:
            raise UnknownAccount(login)

        async def work(transaction: "Transaction", generation: int) -> Account:
            account = await cell.find(transaction, key)
            if account is None:
                raise UnknownAccount(login)
            made = replace(make(account), generation=generation)
            await _put(transaction, key, made, generation)
            return made

        try:
            return await self._change(work)
        except UnknownAccount:
            if await self._copy.is_alone(login):
                raise InvalidAccount(
                    f"{login} is an account of this machine alone; bring it into the cluster with "
                    "`pillarbox user publish` first, or remove it"
                ) from None
            raise

    async def remove(self, login: str) -> str:
        """See Accounts.remove. One of this machine alone goes from here."""
        key = key_of(login)
        if key is None:
            raise UnknownAccount(login)
        if await self._copy.is_alone(login):
            removed = await self._copy.remove(login)
            self._alone = len(await self._copy.list_alone())
            return removed

        async def work(transaction: "Transaction", generation: int) -> str:
            account = await cell.find(transaction, key)
            if account is None:
                raise UnknownAccount(login)
            cell.add_removal(transaction, key, account.login, generation)
            return account.login

        return await self._change(work)

    async def publish(self) -> Publication:
        """Brings into the cell what this machine has alone, and overwrites nothing there. Repeatable."""
        published: list[str] = []
        refused: list[tuple[str, str]] = []
        alone = await self._copy.list_alone()
        for first in range(0, len(alone), PUBLISHED_AT_ONCE):
            some = alone[first : first + PUBLISHED_AT_ONCE]

            async def work(transaction: "Transaction", generation: int, some: list[Account] = some) -> None:
                known = await cell.find_known(transaction, [login_key(account.login) for account in some])
                for number, account in enumerate(some, generation):
                    why = await _publish(transaction, account, number, known)
                    if why is None:
                        published.append(account.login)
                    else:
                        refused.append((account.login, why))

            await self._change(work, len(some))
        self._alone = len(await self._copy.list_alone())
        return Publication(published, refused, await self._copy.list_superseded())

    async def _change(self, work: Callable[["Transaction", int], Awaitable[T]], count: int = 1) -> T:
        """``work`` with the first of ``count`` new generations, in the cell; then the copy is brought up to it."""
        state = self._copy.copy_state
        if state is None:
            raise Unavailable(f"nothing was changed: there is no copy of the cluster's accounts yet: {self.trouble}")

        async def all_of_it(transaction: "Transaction") -> tuple[T, cell.Head, "Statement"]:
            head = await cell.take_numbers(transaction, count, state.generation, state.id)
            if not head.known:
                raise _NotOurs
            result = await work(transaction, head.generation - count + 1)
            return result, head, cell.add_changes(transaction, state.generation)

        try:
            result, head, found = await self._store.write(all_of_it, deadline=VERB_TIME)
        except Unknown as error:
            raise Unavailable(
                f"whether this was done is not known: cell {self._name}: {error}; look with `pillarbox user show`, "
                "or do it again: that does no harm"
            ) from error
        except (_NotOurs, cell.HeadMissing):
            raise Unavailable(
                f"nothing was changed: the accounts in cell {self._name} are not those that this machine has a copy "
                "of; try again in a moment"
            ) from None
        except StoreError as error:
            raise Unavailable(f"nothing was changed: {self._words(error)}") from error
        try:
            await self._take(head, cell.changes(found.rows))
            await self._catch_up(head)
        except (StoreError, Unavailable, OutOfStep) as error:
            raise Unavailable(
                f"it is changed in the cluster; this machine's copy follows later: {self._words(error)}"
            ) from error
        return result

    # -- keeping the copy up

    async def _ask_always(self) -> None:
        while True:
            try:
                await self._ask(_DEADLINES[min(self._failures, len(_DEADLINES) - 1)])
                await self._succeeded()
            except (StoreError, Unavailable, OutOfStep, cell.HeadMissing) as error:
                self._failed(self._words(error))
            except Exception:  # our bug: the asking must go on all the same
                self._failures += 1
                log.exception("accounts.behind", cell=self._name, reason="the question failed")
            self._asked.set()
            state = self._copy.copy_state
            AGE.set(0.0 if state is None else max(0.0, self._clock() - state.taken_at))
            pause = _PAUSES[min(self._failures, len(_PAUSES)) - 1] if self._failures else ASK_EVERY
            await asyncio.sleep(pause)

    async def _ask(self, deadline: float) -> None:
        """Takes over what changed. Raises StoreError, Unavailable, OutOfStep, HeadMissing."""
        while True:
            state = self._copy.copy_state
            if state is None:
                await self._take_all(deadline)
                return
            began = self._clock()
            head, page = await self._fetch(state.generation, state.id, deadline)
            if not head.known:
                reason = "the cell has an older state of the accounts, or others"
                log.warning("accounts.replaced", cell=self._name, reason=reason)
                await self._take_all(deadline)
                return
            await self._take(head, page)
            if len(page) < cell.PAGE:
                await self._copy.confirm(began)
                return

    async def _fetch(self, since: int, mark: str, deadline: float) -> tuple[cell.Head, tuple[Change, ...]]:
        """A page of what changed since a generation, with its mark; confirmed by the quorum if there must be one."""

        async def work(transaction: "Transaction") -> tuple["Statement", "Statement"]:
            found = cell.add_head(transaction, since, mark), cell.add_changes(transaction, since)
            if self._store.quorum:
                transaction.mark()
            return found

        head, page = await self._store.write(work, deadline=deadline)
        return cell.head(head.rows), cell.changes(page.rows)

    async def _take_all(self, deadline: float) -> None:
        """All accounts, in pages that the copy takes as they come; it is a copy of what is there when it has all."""
        began = self._clock()
        named: dict[str, bool] = {}
        mark, since = "", 0
        while True:
            head, page = await self._fetch(since, mark, deadline)
            if named and not head.known:
                raise OutOfStep
            named |= {change.key: change.account is not None for change in page}
            mark, since = cell.reached(head, page)
            if len(page) < cell.PAGE:
                break
            await self._copy.take(Batch(None, head.scram_key, page))
        await self._copy.take(Batch(CopyState(mark, since, began), head.scram_key, page, named))
        log.info("accounts.copied", cell=self._name, accounts=sum(named.values()))

    async def _take(self, head: cell.Head, page: tuple[Change, ...]) -> None:
        state = self._copy.copy_state
        taken_at = 0.0 if state is None else state.taken_at
        mark, generation = cell.reached(head, page)
        if state is None or generation > state.generation:
            await self._copy.take(Batch(CopyState(mark, generation, taken_at), head.scram_key, page))

    async def _catch_up(self, head: cell.Head) -> None:
        """Where more changed than a page holds."""
        while True:
            state = self._copy.copy_state
            if state is None:
                raise OutOfStep
            if state.generation >= head.generation:
                return
            later, page = await self._fetch(state.generation, state.id, VERB_TIME)
            if not later.known:
                raise OutOfStep
            await self._take(later, page)

    # -- how it is

    async def _succeeded(self) -> None:
        self._failures = 0
        if self.trouble is not None:
            log.info("accounts.current", cell=self._name)
            self.trouble = None
        if self._alone is None:
            alone = await self._copy.list_alone()
            self._alone = len(alone)
            if alone:
                logins = [account.login for account in alone[:NAMED]]
                log.error("accounts.unpublished", cell=self._name, count=len(alone), logins=logins, advice=ALONE)

    def _failed(self, reason: str) -> None:
        self._failures += 1
        if self.trouble is None:
            state = self._copy.copy_state
            if state is None:
                log.error("accounts.missing", cell=self._name, reason=reason)
            else:
                log.error(
                    "accounts.behind", cell=self._name, reason=reason, age=round(self._clock() - state.taken_at, 1)
                )
        self.trouble = reason

    def _words(self, error: Exception) -> str:
        if isinstance(error, cell.HeadMissing):
            return f"cell {self._name}: the row of its table directory is gone; bring it back from a backup"
        if isinstance(error, OutOfStep):
            return f"cell {self._name}: its accounts were replaced meanwhile"
        advice = "; `pillarbox cluster upgrade` brings it up" if isinstance(error, SchemaTooOld | Denied) else ""
        return f"cell {self._name}: {error}{advice}"

    async def list(self) -> list[Account]:
        """See Accounts.list."""
        return await self._copy.list()


async def _put(transaction: "Transaction", key: str, account: Account, generation: int) -> None:
    """Raises CertificateTaken."""
    taken = await cell.find_taken(transaction, key, account.certificates)
    if taken is not None:
        raise CertificateTaken(taken)
    cell.add_put(transaction, key, account, generation)


async def _publish(transaction: "Transaction", account: Account, generation: int, known: set[str]) -> str | None:
    """None: it is there; or why not."""
    key = login_key(account.login)
    if key in known:
        there = await cell.find(transaction, key)
        if there is not None and replace(there, generation=0) == replace(account, generation=0):
            return None  # done before, and nobody heard of it
        return "the cluster has, or had, an account of this name"
    taken = await cell.find_taken(transaction, key, account.certificates)
    if taken is not None:
        return f"one of its certificates is that of {taken}"
    cell.add_put(transaction, key, account, generation)
    return None
