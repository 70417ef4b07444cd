"""Argon2id for whoever came with another system's hash: at the first sign-in that it verifies, in the spool process.

    account.rehash    [login, password, prepared] -> whether the account has another hash now

A submission worker has just verified the password and may not write accounts. So the spool process verifies it once
more, by the hash that is stored, before it stores the new one: a worker that was taken over can change nobody's
password with this. With ``scram`` in the settings a SCRAM secret is made, too.

The account gets a new generation, as by any change. The sign-in that caused it waits for that and has it; an older
session of the same person, which can only have signed in by a certificate, ends at its next command.

ERRORS
    service.ERRORS.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol
from weakref import WeakValueDictionary

from pillarbox.control.channel import Channel, Handlers
from pillarbox.control.frames import from_body
from pillarbox.directory.base import Account, InvalidAccount
from pillarbox.directory.password import Passwords, is_foreign
from pillarbox.directory.scram import create_secret
from pillarbox.telemetry.events import get_logger

log = get_logger("directory")


class _Accounts(Protocol):
    async def find(self, login: str) -> Account | None: ...

    async def change(self, login: str, make: Callable[[Account], Account]) -> Account: ...


def rehash_handlers(accounts: _Accounts, passwords: Callable[[], Passwords], scram: Callable[[], bool]) -> Handlers:
    """The verb of a submission worker's channel; ``passwords`` and ``scram`` as they are now."""

    turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def rehash(_channel: Channel, body: Any) -> bool:
        login, password = from_body(tuple[str, str], body)
        turn = turns.setdefault(login, asyncio.Lock())
        async with turn:  # who comes second finds it done, and its workers told
            return await renew(login, password)

    async def renew(login: str, password: str) -> bool:
        account = await accounts.find(login)
        if account is None or account.elsewhere or not is_foreign(account.password_hash):
            return False
        old = account.password_hash
        if not await passwords().verify(old, password, known_place=True):
            return False
        secret = await _secret(password) if scram() else account.scram
        new = await passwords().hash(password)

        def with_new(found: Account) -> Account:
            if found.password_hash != old:
                raise InvalidAccount("it has another password meanwhile")
            return replace(found, password_hash=new, scram=secret)

        try:
            stored = await accounts.change(account.login, with_new)
        except InvalidAccount:
            return False
        log.info("account.rehashed", login=stored.login)
        return True

    return {"account.rehash": rehash}


async def _secret(password: str) -> str | None:
    with contextlib.suppress(ValueError):
        return await asyncio.to_thread(create_secret, password)
    return None
