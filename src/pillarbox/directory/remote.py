"""The local accounts as a submission worker has them: find, and hear of changes.

    handlers = {}
    link = Link(path, handlers, errors=...)
    accounts = RemoteAccounts(link)
    handlers.update(accounts.handlers())        # before link.start()
    accounts.on_change(lambda login, generation: ...)

What was found is remembered while the channel lasts: the spool process tells of each change (and who has no SCRAM
secret now), and awaits the answer, before the operator's verb returns. So a remembered account is never
older than the last verb that returned. An alias is remembered until any account changes. With the channel the memory
ends; at the next one this worker asks for what it missed, and on_change hears of it.

on_change is called with the login as the directory spells it and the new generation: sessions of that login with a
lower generation end at their next command.

ERRORS
    Unavailable: no channel within ``PATIENCE`` seconds, or no answer.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pillarbox.control.channel import Channel, ChannelClosed, Handlers, RemoteError
from pillarbox.control.frames import from_body
from pillarbox.control.link import LinkLike
from pillarbox.directory.base import Account, ScramState, Unavailable
from pillarbox.directory.preparation import login_key

PATIENCE = 2.0
ANSWER_TIME = 5.0
CACHE_CEILING = 4_096

OnChange = Callable[[str, int], None]


class RemoteAccounts:
    """See the module's text; satisfies AccountLookup and RehashesAccounts."""

    def __init__(self, link: LinkLike) -> None:
        self._link = link
        self._cache: OrderedDict[str, Account] = OrderedDict()
        self._aliases: dict[str, str] = {}
        self._calls: list[OnChange] = []
        self._changes = 0
        self._seen: int | None = None
        self._scram_state: ScramState | None = None
        link.on_connect(self._watch)

    def handlers(self) -> Handlers:
        """What the spool process says to us; for the link's handlers."""
        return {"account.changed": self._changed}

    def on_change(self, call: OnChange) -> None:
        """Calls with (login, generation) of each account that changed or was removed."""
        self._calls.append(call)

    @property
    def scram_state(self) -> ScramState | None:
        """As the spool process told it last."""
        return self._scram_state

    async def find_certified(self, marks: Sequence[str]) -> Account | None:
        body = await self._ask("account.certified", list(marks))
        return None if body is None else from_body(Account, body)

    async def find(self, login: str) -> Account | None:
        try:
            key = login_key(login)
        except ValueError:
            return None
        account = self._cache.get(key) or self._cache.get(self._aliases.get(key, key))
        if account is not None and self._link.connected:
            return account
        changes = self._changes
        body = await self._ask("account.find", key)
        if body is None:
            return None
        account = from_body(Account, body)
        if changes == self._changes:
            self._remember(key, account)
        return account

    def _remember(self, asked: str, account: Account) -> None:
        key = login_key(account.login)
        self._cache[key] = account
        if len(self._cache) > CACHE_CEILING:
            self._cache.popitem(last=False)
        if asked != key:
            if len(self._aliases) >= CACHE_CEILING:
                self._aliases.clear()
            self._aliases[asked] = key

    async def rehash(self, login: str, password: str) -> bool:
        return from_body(bool, await self._ask("account.rehash", (login, password), repeat=False))

    async def _ask(self, verb: str, body: Any, *, repeat: bool = True) -> Any:
        try:
            async with asyncio.timeout(ANSWER_TIME):
                return await self._link.request(verb, body, patience=PATIENCE, repeat=repeat)
        except ChannelClosed as error:
            raise Unavailable(f"the spool process cannot be reached: {error}") from error
        except TimeoutError as error:
            raise Unavailable(f"the spool process has not answered within {ANSWER_TIME:g} s") from error
        except RemoteError as error:
            raise Unavailable(f"the spool process: {error}") from error

    async def _watch(self) -> None:
        self._forget_all()
        answer = await self._link.request("account.watch", self._seen)
        missing, more = from_body(tuple[list[str], bool], answer["scram"])
        self._scram_state = ScramState(frozenset(missing), more, from_body(bytes, answer["key"]))
        for login, generation in from_body(list[tuple[str, int]], answer["changed"]):
            self._tell(login, generation)
        self._seen = max(self._seen or 0, from_body(int, answer["last"]))
        self._forget_all()

    def _forget_all(self) -> None:
        self._changes += 1
        self._cache.clear()
        self._aliases.clear()

    def _changed(self, _channel: Channel, body: Any) -> bool:
        login, generation, (missing, more) = from_body(tuple[str, int, tuple[list[str], bool]], body)
        if self._scram_state is not None:
            self._scram_state = replace(self._scram_state, missing=frozenset(missing), more=more)
        self._changes += 1
        self._cache.pop(login_key(login), None)
        self._aliases.clear()  # whosever they were: another account may have one of them now
        self._seen = max(self._seen or 0, generation)
        self._tell(login, generation)
        return True

    def _tell(self, login: str, generation: int) -> None:
        for call in self._calls:
            call(login, generation)
