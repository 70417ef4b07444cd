"""App passwords' verbs on a channel, in the spool process.

The operator's (app_password_handlers):

    user.app_password_add     {login, label, expires_at, networks, addresses, directory} -> {id, password};
                              ``directory``: whose person a login without an account here is; "": nobody's
    user.app_password_list    {login} -> [{id, label, created_at, expires_at, networks, addresses, directory, used_at,
                              used_from}]
    user.app_password_revoke  {login, id} -> the label; sessions that it let in end

A submission worker's (use_handlers), and what it says it with (Uses):

    account.app_password_used [login, id, address]

When and from where one was used last is noted on each machine for itself, by each worker once a minute at most.

ERRORS
    UnknownAccount, InvalidAccount (its text is for the operator), Unavailable.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pillarbox.control.channel import Channel, ChannelClosed, Handlers, RemoteError
from pillarbox.control.frames import from_body
from pillarbox.control.link import LinkLike
from pillarbox.directory import app_passwords
from pillarbox.directory.accounts import AccountsStore
from pillarbox.directory.base import Account, AppPassword, InvalidAccount, Unavailable, UnknownAccount
from pillarbox.directory.cluster import ClusterAccounts
from pillarbox.directory.validity import check_addresses, check_login
from pillarbox.telemetry.events import get_logger

log = get_logger("directory")

NOTED_EVERY = 60.0
"""Seconds between two notes of one's use, by each worker."""
NOTED = 4_096
_PATIENCE = 5.0


def app_password_handlers(
    accounts: AccountsStore | ClusterAccounts, own: AccountsStore, *, clock: Callable[[], float] = time.time
) -> Handlers:
    """The operator's verbs. ``own``: this machine's file, which has the uses."""
    service = _Service(accounts, own, clock)
    return {
        "user.app_password_add": service.add,
        "user.app_password_list": service.list_all,
        "user.app_password_revoke": service.revoke,
    }


def use_handlers(own: AccountsStore, *, clock: Callable[[], float] = time.time) -> Handlers:
    """What a submission worker says."""

    async def used(_channel: Channel, body: Any) -> None:
        _login, id_, address = from_body(tuple[str, str, str], body)
        await own.note_use(id_, clock(), address)

    return {"account.app_password_used": used}


class _Service:
    def __init__(
        self, accounts: AccountsStore | ClusterAccounts, own: AccountsStore, clock: Callable[[], float]
    ) -> None:
        self._accounts = accounts
        self._own = own
        self._clock = clock

    async def add(self, _channel: Channel, body: Any) -> dict[str, Any]:
        login = await self._login_of(check_login(from_body(str, body["login"])))
        now = self._clock()
        try:
            made = app_passwords.make(
                from_body(str, body["label"]),
                now=now,
                expires_at=None if body["expires_at"] is None else from_body(float, body["expires_at"]),
                networks=from_body(tuple[str, ...], body["networks"]),
                addresses=check_addresses(from_body(tuple[str, ...], body["addresses"])),
            )
            directory = from_body(str, body["directory"])
        except ValueError as error:
            raise InvalidAccount(str(error)) from error

        def with_it(account: Account) -> Account:
            if account.elsewhere and not directory:
                raise InvalidAccount(f"{account.login} is a person of another directory: say of which")
            if len(account.app_passwords) >= app_passwords.CEILING:
                raise InvalidAccount(f"{account.login} has {app_passwords.CEILING} app passwords; revoke one first")
            stored = replace(made.stored, directory=directory if account.elsewhere else "")
            return replace(account, app_passwords=(*account.app_passwords, stored))

        try:
            stored = await self._accounts.change(login, with_it)
        except UnknownAccount:
            if not directory:
                raise
            stored = _holder(login, replace(made.stored, directory=directory), now)
            await self._accounts.add(stored)
        log.info("account.app_password_added", login=stored.login, id=made.stored.id, label=made.stored.label)
        return {"id": made.stored.id, "password": made.password}

    async def list_all(self, _channel: Channel, body: Any) -> list[dict[str, Any]]:
        account = await self._find(from_body(str, body["login"]))
        uses = await self._own.uses([each.id for each in account.app_passwords])
        return [_view(each, *uses.get(each.id, (None, None))) for each in account.app_passwords]

    async def revoke(self, _channel: Channel, body: Any) -> str:
        login, id_ = await self._login_of(from_body(str, body["login"])), from_body(str, body["id"])
        found: list[AppPassword] = []

        def without_it(account: Account) -> Account:
            found[:] = [each for each in account.app_passwords if each.id == id_]
            if not found:
                raise InvalidAccount(f"{account.login} has no app password {id_}")
            return replace(account, app_passwords=tuple(each for each in account.app_passwords if each.id != id_))

        stored = await self._accounts.change(login, without_it)
        if stored.elsewhere and not stored.app_passwords:
            await self._accounts.remove(stored.login)
        log.info("account.app_password_revoked", login=stored.login, id=id_, label=found[0].label)
        return found[0].label

    async def _login_of(self, login: str) -> str:
        """Of the account that has it as an alias, for nothing of that name is to be made; else the login itself."""
        known = await self._accounts.find(login)
        return login if known is None else known.login

    async def _find(self, login: str) -> Account:
        account = await self._accounts.find(login)
        if account is None:
            raise UnknownAccount(login)
        return account


def _holder(login: str, first: AppPassword, now: float) -> Account:
    """What holds the app passwords of another directory's person."""
    return Account(
        login=login,
        addresses=(),
        domains=(),
        may_redirect=False,
        recipients_per_hour=None,
        disabled=False,
        generation=0,
        created_at=now,
        password_changed_at=now,
        password_hash="",
        scram=None,
        app_passwords=(first,),
    )


def _view(one: AppPassword, used_at: float | None, used_from: str | None) -> dict[str, Any]:
    return {
        "id": one.id,
        "label": one.label,
        "created_at": one.created_at,
        "expires_at": one.expires_at,
        "networks": one.networks,
        "addresses": one.addresses,
        "directory": one.directory,
        "used_at": used_at,
        "used_from": used_from,
    }


class Uses:
    """What AppPasswords tells of uses in a submission worker."""

    def __init__(self, link: LinkLike, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._link = link
        self._clock = clock
        self._noted: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._telling: set[asyncio.Task[None]] = set()

    def used(self, login: str, id_: str, address: str) -> None:
        """Does not wait."""
        now, which = self._clock(), (id_, address)
        if now - self._noted.get(which, -NOTED_EVERY) < NOTED_EVERY:
            return
        self._noted[which] = now
        self._noted.move_to_end(which)
        if len(self._noted) > NOTED:
            self._noted.popitem(last=False)
        task = asyncio.create_task(self._tell(login, id_, address))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, login: str, id_: str, address: str) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._link.request("account.app_password_used", (login, id_, address))
        except (ChannelClosed, TimeoutError, RemoteError, Unavailable):
            return  # a note is missing, nothing else
