"""The local accounts' verbs on a channel, in the spool process.

    lookup_handlers(accounts)              what a submission worker may do: find
    operator_handlers(accounts, settings)  what the operator may do

Give ``ERRORS`` to control.serve for both.

A worker says ``account.watch`` on each connection, with the last generation that it heard of (None: none yet), and
hears of what changed since. From then on each change comes to it as the request ``account.changed`` (login,
generation, scram as below); the operator's verb returns when every connected worker has answered, or after
``TELL_TIME`` seconds with a line in the log. When a copy of a cluster's accounts takes many changes at once, the
workers' channels are closed instead: they come back and ask.

    account.find       login -> account or None
    account.certified  [mark of a certificate, the surest first] -> account or None
    account.watch      generation or None -> {last: generation, changed: [[login, generation]],
                       scram: [the enabled accounts without a secret, whether there are more of them],
                       key: of the secrets of names that nobody has}

The operator's verbs answer with an account without its secrets ({login, addresses, domains, may_redirect,
recipients_per_hour, disabled, created_at, password_changed_at, scram: bool, certificates: [mark],
current_hash: bool, imported_hash: bool: another system's, alone: bool: this machine has it and the cluster does not,
elsewhere: bool: only the app passwords of another directory's person, app_passwords: how many, aliases: [name],
void_aliases: those that let nobody in, as another account has them, too}):

    user.add       {login, password, addresses, domains, may_redirect, recipients_per_hour, disabled, aliases}; all
                   but the first two may be left out
    user.list      nothing -> [account]
    user.show      {login}
    user.password  {login, password}
    user.disable, user.enable  {login}
    user.modify    {login, addresses, domains, may_redirect, recipients_per_hour}; what is left out stays
    user.alias     {login, add: [name], remove: [name]}: further login names
    user.remove    {login} -> None
    user.publish   nothing -> {published: [login], refused: [[login, why]], superseded: [login]}: what this machine
                   has alone goes into the cluster, and overwrites nothing there
    user.certify, user.decertify  {login, mark}: a client certificate signs in as this account, or does no longer

Passwords travel in clear over the operator's socket, a UNIX socket of mode 0660, and are hashed here, in a thread:
so the hash's parameters are in one place.

ERRORS
    AccountExists, UnknownAccount, CertificateTaken, InvalidAccount (its text is for the operator), Unavailable.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from pillarbox.control.channel import Channel, ChannelClosed, Handlers, RemoteError
from pillarbox.control.frames import from_body
from pillarbox.directory.accounts import AccountsStore
from pillarbox.directory.aliases import changed
from pillarbox.directory.base import (
    Account,
    AccountExists,
    CertificateTaken,
    InvalidAccount,
    ScramState,
    Unavailable,
    UnknownAccount,
)
from pillarbox.directory.certificate import check_mark
from pillarbox.directory.cluster import ClusterAccounts, Publication
from pillarbox.directory.domino_names import name_key
from pillarbox.directory.password import Passwords, is_foreign
from pillarbox.directory.scram import create_secret
from pillarbox.directory.settings import LocalSettings
from pillarbox.directory.validity import check_addresses, check_domains, check_login, check_password, check_quota
from pillarbox.telemetry.events import get_logger

log = get_logger("directory")

ERRORS: tuple[type[Exception], ...] = (
    AccountExists,
    UnknownAccount,
    CertificateTaken,
    InvalidAccount,
    Unavailable,
)
"""What control.serve(errors=...) is to carry by name."""

TELL_TIME = 2.0
"""Seconds that a worker has to answer that it heard of a change."""


def lookup_handlers(accounts: AccountsStore, *, tell_time: float = TELL_TIME) -> Handlers:
    """The verbs of a submission worker's channel."""
    service = _LookupService(accounts, tell_time)
    return {
        "account.find": service.find,
        "account.certified": service.certified,
        "account.watch": service.watch,
    }


class _LookupService:
    def __init__(self, accounts: AccountsStore, tell_time: float) -> None:
        self._accounts = accounts
        self._tell_time = tell_time
        self._watchers: set[Channel] = set()
        self._stop_listening: list[Callable[[], None]] = []

    async def find(self, _channel: Channel, body: Any) -> Account | None:
        return await self._accounts.find(from_body(str, body))

    async def certified(self, _channel: Channel, body: Any) -> Account | None:
        return await self._accounts.find_certified(from_body(list[str], body))

    async def watch(self, channel: Channel, body: Any) -> dict[str, Any]:
        seen = None if body is None else from_body(int, body)
        if not self._watchers:
            self._stop_listening = [
                self._accounts.on_change(self._tell_all),
                self._accounts.on_renewal(self._send_away),
            ]
        if channel not in self._watchers:  # before the look: a change in between is told twice rather than never
            self._watchers.add(channel)
            channel.on_close(lambda: self._left(channel))
        last, changed = await self._accounts.changes_since(seen)
        state = self._accounts.scram_state
        if state is None:
            raise Unavailable("the accounts are not open")
        return {"last": last, "changed": changed, "scram": _scram(state), "key": state.key}

    def _left(self, channel: Channel) -> None:
        self._watchers.discard(channel)
        if not self._watchers:
            for stop in self._stop_listening:
                stop()

    def _send_away(self) -> None:
        """Each comes back at once, and asks what changed and for the key."""
        for channel in tuple(self._watchers):
            channel.close()

    async def _tell_all(self, login: str, generation: int) -> None:
        watchers = tuple(self._watchers)
        state = self._accounts.scram_state
        change = (login, generation, ([], True) if state is None else _scram(state))
        await asyncio.gather(*(_tell(channel, change, self._tell_time) for channel in watchers))


def _scram(state: ScramState) -> tuple[list[str], bool]:
    return sorted(state.missing), state.more


async def _tell(channel: Channel, change: tuple[str, int, tuple[list[str], bool]], tell_time: float) -> None:
    try:
        async with asyncio.timeout(tell_time):
            await channel.request("account.changed", change)
    except ChannelClosed:
        return  # it asks what changed when it connects again
    except (TimeoutError, RemoteError) as error:
        log.error("account.change_unheard", login=change[0], pid=channel.peer.pid, reason=type(error).__name__)


@dataclass(frozen=True, slots=True)
class NewUser:
    """The body of user.add."""

    login: str
    password: str
    addresses: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    may_redirect: bool = False
    recipients_per_hour: int | None = None
    disabled: bool = False
    aliases: tuple[str, ...] = ()


def operator_handlers(
    accounts: AccountsStore | ClusterAccounts,
    settings: LocalSettings,
    *,
    passwords: Passwords | None = None,
    clock: Callable[[], float] = time.time,
) -> Handlers:
    """The operator's verbs."""
    service = _OperatorService(accounts, settings, passwords or Passwords(settings), clock)
    return {
        "user.add": service.add,
        "user.list": service.list_all,
        "user.show": service.show,
        "user.password": service.password,
        "user.disable": service.disable,
        "user.enable": service.enable,
        "user.modify": service.modify,
        "user.alias": service.alias,
        "user.remove": service.remove,
        "user.certify": service.certify,
        "user.decertify": service.decertify,
        "user.publish": service.publish,
    }


class _OperatorService:
    def __init__(
        self,
        accounts: AccountsStore | ClusterAccounts,
        settings: LocalSettings,
        passwords: Passwords,
        clock: Callable[[], float],
    ) -> None:
        self._accounts = accounts
        self._settings = settings
        self._passwords = passwords
        self._clock = clock

    async def add(self, _channel: Channel, body: Any) -> dict[str, Any]:
        new = _body(NewUser, body)
        now = self._clock()
        login = check_login(new.login)
        password_hash, scram = await self._hash(new.password)
        account = Account(
            login=login,
            addresses=check_addresses(new.addresses),
            domains=check_domains(new.domains),
            may_redirect=new.may_redirect,
            recipients_per_hour=check_quota(new.recipients_per_hour),
            disabled=new.disabled,
            generation=0,
            created_at=now,
            password_changed_at=now,
            password_hash=password_hash,
            scram=scram,
        )
        account = changed(account, add=new.aliases)
        await self._accounts.add(account)
        log.info("account.added", login=login)
        return self._view(account, void=await self._void(account))

    async def list_all(self, _channel: Channel, _body: Any) -> list[dict[str, Any]]:
        alone, void = await self._list_alone(), await self._accounts.list_void()
        return [
            self._view(account, alone=account.login in alone, void=void) for account in await self._accounts.list()
        ]

    async def show(self, _channel: Channel, body: Any) -> dict[str, Any]:
        login = _field(str, body, "login")
        account = await self._accounts.find(login)
        if account is None:
            raise UnknownAccount(login)
        alone = account.login in await self._list_alone()
        return self._view(account, alone=alone, void=await self._void(account))

    async def _void(self, account: Account) -> set[str]:
        names = [alias.name for alias in account.aliases]
        return {name_key(name) for name in await self._accounts.owners_of(names, account.login)}

    async def _list_alone(self) -> frozenset[str]:
        return await self._accounts.alone() if isinstance(self._accounts, ClusterAccounts) else frozenset()

    async def password(self, _channel: Channel, body: Any) -> dict[str, Any]:
        login = _field(str, body, "login")
        password_hash, scram = await self._hash(_field(str, body, "password"))
        changes = {"password_hash": password_hash, "scram": scram, "password_changed_at": self._clock()}
        return await self._change(login, changes, "account.password_changed")

    async def disable(self, _channel: Channel, body: Any) -> dict[str, Any]:
        return await self._change(_field(str, body, "login"), {"disabled": True}, "account.disabled")

    async def enable(self, _channel: Channel, body: Any) -> dict[str, Any]:
        return await self._change(_field(str, body, "login"), {"disabled": False}, "account.enabled")

    async def modify(self, _channel: Channel, body: Any) -> dict[str, Any]:
        login = _field(str, body, "login")
        changes: dict[str, Any] = {}
        if "addresses" in body:
            changes["addresses"] = check_addresses(_field(tuple[str, ...], body, "addresses"))
        if "domains" in body:
            changes["domains"] = check_domains(_field(tuple[str, ...], body, "domains"))
        if "may_redirect" in body:
            changes["may_redirect"] = _field(bool, body, "may_redirect")
        if "recipients_per_hour" in body:
            per_hour = None if body["recipients_per_hour"] is None else _field(int, body, "recipients_per_hour")
            changes["recipients_per_hour"] = check_quota(per_hour)
        return await self._change(login, changes, "account.modified")

    async def alias(self, _channel: Channel, body: Any) -> dict[str, Any]:
        login = _field(str, body, "login")
        add, remove = (_field(tuple[str, ...], body, name) for name in ("add", "remove"))
        return await self._change_by(login, lambda found: changed(found, add=add, remove=remove), "account.modified")

    async def remove(self, _channel: Channel, body: Any) -> None:
        login = await self._accounts.remove(_field(str, body, "login"))
        log.info("account.removed", login=login)

    async def certify(self, _channel: Channel, body: Any) -> dict[str, Any]:
        login, mark = _field(str, body, "login"), _mark(body)

        def with_it(account: Account) -> Account:
            return replace(account, certificates=tuple(dict.fromkeys((*account.certificates, mark))))

        return await self._change_by(login, with_it, "account.certified")

    async def decertify(self, _channel: Channel, body: Any) -> dict[str, Any]:
        login, mark = _field(str, body, "login"), _mark(body)

        def without_it(account: Account) -> Account:
            if mark not in account.certificates:
                raise InvalidAccount(f"{account.login} has no certificate {mark}")
            return replace(account, certificates=tuple(one for one in account.certificates if one != mark))

        return await self._change_by(login, without_it, "account.decertified")

    async def publish(self, _channel: Channel, _body: Any) -> Publication:
        if not isinstance(self._accounts, ClusterAccounts):
            raise InvalidAccount('the spool is embedded: there is no cluster; see [spool] kind = "cluster"')
        done = await self._accounts.publish()
        for login in done.published:
            log.info("account.published", login=login)
        return done

    async def _change(self, login: str, changes: dict[str, Any], event: str) -> dict[str, Any]:
        return await self._change_by(login, lambda account: replace(account, **changes), event)

    async def _change_by(self, login: str, make: Callable[[Account], Account], event: str) -> dict[str, Any]:
        def make_own(account: Account) -> Account:
            if account.elsewhere:
                raise InvalidAccount(f"{account.login} is a person of another directory; here are app passwords only")
            return make(account)

        stored = await self._accounts.change(login, make_own)
        log.info(event, login=stored.login)
        return self._view(stored, void=await self._void(stored))

    async def _hash(self, password: str) -> tuple[str, str | None]:
        prepared = check_password(password)
        scram = None
        if self._settings.scram:
            try:
                scram = await asyncio.to_thread(create_secret, prepared)
            except ValueError as error:
                raise InvalidAccount(f"the password {error}") from error
        return await self._passwords.hash(prepared), scram

    def _view(self, account: Account, *, alone: bool = False, void: Collection[str] = ()) -> dict[str, Any]:
        return {
            "login": account.login,
            "addresses": account.addresses,
            "domains": account.domains,
            "may_redirect": account.may_redirect,
            "recipients_per_hour": account.recipients_per_hour,
            "disabled": account.disabled,
            "created_at": account.created_at,
            "password_changed_at": account.password_changed_at,
            "scram": account.scram is not None,
            "certificates": account.certificates,
            "current_hash": self._passwords.is_current(account.password_hash),
            "imported_hash": not account.elsewhere and is_foreign(account.password_hash),
            "alone": alone,
            "elsewhere": account.elsewhere,
            "app_passwords": len(account.app_passwords),
            "aliases": [alias.name for alias in account.aliases],
            "void_aliases": [alias.name for alias in account.aliases if name_key(alias.name) in void],
        }


def _body(kind: type[NewUser], body: Any) -> NewUser:
    try:
        return from_body(kind, body)
    except ValueError as error:
        raise InvalidAccount(str(error)) from error


def _field(kind: type[Any], body: Any, name: str) -> Any:
    try:
        return from_body(kind, body[name])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidAccount(f"{name}: missing or of the wrong kind") from error


def _mark(body: Any) -> str:
    try:
        return check_mark(_field(str, body, "mark"))
    except ValueError as error:
        raise InvalidAccount(str(error)) from error
