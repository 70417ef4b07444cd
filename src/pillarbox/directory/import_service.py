"""The operator's verb that brings in people of another system, with their hashes, in the spool process.

    user.import    {login, addresses, password_hash, dry_run} -> {done: "added" | "updated" | "unchanged" | "skipped",
                   why}

An account of that login which shares no address with the person is somebody else's: skipped. A password that has been
set here, or that was renewed at a sign-in, stays; one that is still the other system's follows it.

ERRORS
    service.ERRORS.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pillarbox.control.channel import Channel, Handlers
from pillarbox.control.frames import from_body
from pillarbox.directory.base import Account, InvalidAccount
from pillarbox.directory.password import is_foreign
from pillarbox.directory.schemes.stored import BadStored, read_stored
from pillarbox.directory.validity import check_addresses, check_login
from pillarbox.telemetry.events import get_logger

log = get_logger("directory")


@dataclass(frozen=True, slots=True)
class _Person:
    login: str
    addresses: tuple[str, ...]
    password_hash: str
    dry_run: bool


class _Accounts(Protocol):
    async def find(self, login: str) -> Account | None: ...

    async def add(self, account: Account) -> None: ...

    async def change(self, login: str, make: Callable[[Account], Account]) -> Account: ...


def import_handlers(accounts: _Accounts, clock: Callable[[], float] = time.time) -> Handlers:
    """The verb. ``clock``: seconds since the epoch."""

    async def bring_in(_channel: Channel, body: Any) -> dict[str, str]:
        person = _checked(body)
        account = await accounts.find(person.login)
        if account is None:
            if not person.dry_run:
                await accounts.add(_account(person, clock()))
                log.info("account.imported", login=person.login, done="added")
            return {"done": "added", "why": ""}
        refusal = _refusal(account, person)
        if refusal:
            return {"done": "skipped", "why": refusal}
        made = _updated(account, person, clock())
        if made == account:
            return {"done": "unchanged", "why": _why(account)}
        if not person.dry_run:
            await accounts.change(person.login, lambda found: _updated(found, person, clock()))
            log.info("account.imported", login=person.login, done="updated")
        return {"done": "updated", "why": _why(account)}

    return {"user.import": bring_in}


def _checked(body: Any) -> _Person:
    try:
        person = from_body(_Person, body)
        read_stored(person.password_hash)
        if not is_foreign(person.password_hash):
            raise InvalidAccount("a hash of our own; expected another system's")
    except InvalidAccount:
        raise
    except (BadStored, ValueError) as error:
        raise InvalidAccount(str(error)) from error
    return replace(person, login=check_login(person.login), addresses=check_addresses(person.addresses))


def _account(person: _Person, now: float) -> Account:
    return Account(
        login=person.login,
        addresses=person.addresses,
        domains=(),
        may_redirect=False,
        recipients_per_hour=None,
        disabled=False,
        generation=0,
        created_at=now,
        password_changed_at=now,
        password_hash=person.password_hash,
        scram=None,
    )


def _refusal(account: Account, person: _Person) -> str:
    if account.elsewhere:
        return "the name is that of another directory's person, whose app passwords are kept here"
    if not {account.login.lower(), *account.addresses} & set(person.addresses):
        return "the name is taken: there is an account of this name with other addresses"
    return ""


def _updated(account: Account, person: _Person, now: float) -> Account:
    """Only with what may follow the import; addresses that were added here stay."""
    addresses = tuple(dict.fromkeys((*account.addresses, *person.addresses)))
    made = replace(account, addresses=addresses)
    if is_foreign(account.password_hash) and account.password_hash != person.password_hash:
        return replace(made, password_hash=person.password_hash, password_changed_at=now)
    return made


def _why(account: Account) -> str:
    return "" if is_foreign(account.password_hash) else "the password stays as it is here"
