"""The operator's verb that brings in people of another system, with their hashes, in the spool process.

    user.import    {login, addresses, password_hash, dry_run, names} -> {done: "added" | "updated" | "unchanged" |
                   "skipped", why, ambiguous: those of the names that another account has, too}

An account of that login which shares no address with the person is somebody else's: skipped. A password that has been
set here, or that was renewed at a sign-in, stays; one that is still the other system's follows it. So do the names,
further logins of the account: what an earlier import gave it goes; what an operator gave it stays.

ERRORS
    service.ERRORS.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pillarbox.control.channel import Channel, Handlers
from pillarbox.control.frames import from_body
from pillarbox.directory.aliases import check_aliases, followed
from pillarbox.directory.base import Account, InvalidAccount
from pillarbox.directory.password import is_foreign
from pillarbox.directory.preparation import login_key
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
    names: tuple[str, ...] = ()


class _Accounts(Protocol):
    async def find(self, login: str) -> Account | None: ...

    async def add(self, account: Account) -> None: ...

    async def change(self, login: str, make: Callable[[Account], Account]) -> Account: ...

    async def owners_of(self, names: Sequence[str], but: str) -> dict[str, str]: ...


def import_handlers(accounts: _Accounts, clock: Callable[[], float] = time.time) -> Handlers:
    """The verb. ``clock``: seconds since the epoch."""

    async def bring_in(_channel: Channel, body: Any) -> dict[str, Any]:
        person = _checked(body)
        done, why = await carry_out(person)
        ambiguous = () if done == "skipped" else await accounts.owners_of(person.names, person.login)
        return {"done": done, "why": why, "ambiguous": list(ambiguous)}

    async def carry_out(person: _Person) -> tuple[str, str]:
        account = await accounts.find(person.login)
        if account is None or login_key(account.login) != login_key(person.login):  # not whose alias that is
            if not person.dry_run:
                await accounts.add(_account(person, clock()))
                log.info("account.imported", login=person.login, done="added")
            return "added", ""
        refusal = _refusal(account, person)
        if refusal:
            return "skipped", refusal
        made = _updated(account, person, clock())
        if made == account:
            return "unchanged", _why(account)
        if not person.dry_run:
            await accounts.change(person.login, lambda found: _updated(found, person, clock()))
            log.info("account.imported", login=person.login, done="updated")
        return "updated", _why(account)

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
    return replace(
        person,
        login=check_login(person.login),
        addresses=check_addresses(person.addresses),
        names=check_aliases(person.names),
    )


def _account(person: _Person, now: float) -> Account:
    account = Account(
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
    return followed(account, person.names)


def _refusal(account: Account, person: _Person) -> str:
    if account.elsewhere:
        return "the name is that of another directory's person, whose app passwords are kept here"
    if not {account.login.lower(), *account.addresses} & set(person.addresses):
        return "the name is taken: there is an account of this name with other addresses"
    return ""


def _updated(account: Account, person: _Person, now: float) -> Account:
    """Only with what may follow the import; addresses that were added here stay."""
    addresses = tuple(dict.fromkeys((*account.addresses, *person.addresses)))
    made = followed(replace(account, addresses=addresses), person.names)
    if is_foreign(account.password_hash) and account.password_hash != person.password_hash:
        return replace(made, password_hash=person.password_hash, password_changed_at=now)
    return made


def _why(account: Account) -> str:
    return "" if is_foreign(account.password_hash) else "the password stays as it is here"
