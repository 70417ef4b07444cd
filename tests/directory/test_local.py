"""local.py: what is remembered of verified logins, and for how long."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.support.clock import FakeClock

from pillarbox.directory import local as module
from pillarbox.directory.base import Account, Denied, Identity, Reason, ScramState, Unavailable
from pillarbox.directory.local import LocalDirectory
from pillarbox.directory.password import Passwords
from pillarbox.directory.settings import LocalSettings
from pillarbox.sasl.mechanism import PasswordCredentials

BOB = Account("bob", (), (), False, None, False, 1, 0.0, 0.0, "right", None)


class Lookup:
    """Accounts in a dict; ``failing``: out of reach."""

    def __init__(self, *accounts: Account) -> None:
        self.accounts = {account.login: account for account in accounts}
        self.failing = False
        self.scram_state: ScramState | None = ScramState(frozenset(), False, bytes(32))

    async def find_certified(self, marks: Sequence[str]) -> Account | None:
        found = (account for mark in marks for account in self.accounts.values() if mark in account.certificates)
        return next(found, None)

    async def find(self, login: str) -> Account | None:
        if self.failing:
            raise Unavailable("the accounts are out of reach")
        return self.accounts.get(login)


class Counted:
    """A hash that compares, counts, and may be held up."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, stored: str, password: str) -> bool:
        self.count += 1
        return stored == password


class Setting:
    def __init__(self, lookup: Lookup, cache: float = 300.0) -> None:
        self.lookup, self.hash, self.clock = lookup, Counted(), FakeClock()
        settings = LocalSettings(cache=cache)
        self.directory = LocalDirectory(
            lookup, settings, passwords=Passwords(settings, self.hash), clock=self.clock.monotonic
        )

    async def sign_in(self, password: str, login: str = "bob") -> Identity | Denied:
        return await self.directory.verify(PasswordCredentials(login, password), known_place=True)


async def test_a_verified_login_is_not_hashed_again_for_as_long_as_the_settings_say() -> None:
    setting = Setting(Lookup(BOB))
    for _ in range(5):
        assert isinstance(await setting.sign_in("right"), Identity)
    assert setting.hash.count == 1
    setting.clock.advance(300)
    assert isinstance(await setting.sign_in("right"), Identity)
    assert setting.hash.count == 2
    setting.directory.close()


async def test_a_wrong_password_repeated_is_not_hashed_again_either() -> None:
    setting = Setting(Lookup(BOB))
    for _ in range(5):
        assert await setting.sign_in("wrong") == Denied(Reason.WRONG, "bob")
        assert await setting.sign_in("right", "nobody") == Denied(Reason.UNKNOWN)
    assert setting.hash.count == 2
    setting.directory.close()


async def test_with_a_cache_of_0_every_sign_in_is_hashed() -> None:
    setting = Setting(Lookup(BOB), cache=0)
    for _ in range(3):
        assert isinstance(await setting.sign_in("right"), Identity)
        assert isinstance(await setting.sign_in("wrong"), Denied)
    assert setting.hash.count == 6
    setting.directory.close()


async def test_another_generation_is_never_answered_from_memory() -> None:
    setting = Setting(Lookup(BOB))
    assert isinstance(await setting.sign_in("right"), Identity)
    setting.lookup.accounts["bob"] = replace(BOB, generation=2, password_hash="new")
    assert await setting.sign_in("right") == Denied(Reason.WRONG, "bob")
    setting.lookup.accounts["bob"] = replace(BOB, generation=3, disabled=True)
    assert await setting.sign_in("right") == Denied(Reason.DISABLED, "bob")
    setting.directory.close()


async def test_a_password_changed_while_its_hash_waits_is_not_accepted() -> None:
    setting = Setting(Lookup(BOB))

    def change_meanwhile(stored: str, password: str) -> bool:
        setting.lookup.accounts["bob"] = replace(BOB, generation=2, password_hash="new")
        return stored == password

    settings = LocalSettings()
    directory = LocalDirectory(setting.lookup, settings, passwords=Passwords(settings, change_meanwhile))
    assert await directory.verify(PasswordCredentials("bob", "right"), known_place=True) == Denied(
        Reason.WRONG, "bob"
    )
    directory.close()
    setting.directory.close()


async def test_an_account_that_keeps_changing_is_unavailable_not_endless() -> None:
    setting = Setting(Lookup(BOB))

    def change_always(stored: str, password: str) -> bool:
        account = setting.lookup.accounts["bob"]
        setting.lookup.accounts["bob"] = replace(account, generation=account.generation + 1)
        return True

    settings = LocalSettings()
    directory = LocalDirectory(setting.lookup, settings, passwords=Passwords(settings, change_always))
    with pytest.raises(Unavailable):
        await directory.verify(PasswordCredentials("bob", "right"), known_place=True)
    directory.close()
    setting.directory.close()


async def test_out_of_reach_nobody_is_let_in_from_memory() -> None:
    setting = Setting(Lookup(BOB))
    assert isinstance(await setting.sign_in("right"), Identity)
    setting.lookup.failing = True
    with pytest.raises(Unavailable):
        await setting.sign_in("right")
    setting.directory.close()


async def test_guesses_push_no_verified_login_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RIGHT_CEILING", 10)
    monkeypatch.setattr(module, "WRONG_CEILING", 10)
    setting = Setting(Lookup(BOB))
    await setting.sign_in("right")
    for number in range(100):
        await setting.sign_in(f"guess {number}")
    assert setting.hash.count == 101
    assert isinstance(await setting.sign_in("right"), Identity)
    assert setting.hash.count == 101
    assert len(setting.directory._wrong) == 10
    setting.directory.close()


async def test_the_memory_of_verified_logins_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RIGHT_CEILING", 10)
    accounts = [replace(BOB, login=f"user {number}") for number in range(50)]
    setting = Setting(Lookup(*accounts))
    for one in accounts:
        assert isinstance(await setting.sign_in("right", one.login), Identity)
    assert len(setting.directory._right) == 10
    setting.directory.close()


async def test_no_password_is_kept_in_the_memory() -> None:
    setting = Setting(Lookup(BOB))
    await setting.sign_in("right")
    entries = list(setting.directory._right._entries)
    assert len(entries) == 1
    assert len(entries[0]) == 16 and b"right" not in entries[0]
    other = Setting(Lookup(BOB))
    await other.sign_in("right")
    assert list(other.directory._right._entries) != entries, "each process has its own key"
    setting.directory.close()
    other.directory.close()


async def test_what_cannot_be_right_costs_no_hash() -> None:
    setting = Setting(Lookup(BOB))
    for login, password in (("bob", ""), ("bob", "a\0"), ("b\0b", "right"), ("bob", "x" * 1025), ("x" * 2000, "y")):
        assert isinstance(await setting.sign_in(password, login), Denied)
    assert setting.hash.count == 0
    setting.directory.close()


async def test_many_sessions_of_one_login_at_once_all_get_in() -> None:
    setting = Setting(Lookup(BOB))
    results = await asyncio.gather(*(setting.sign_in("right") for _ in range(50)))
    assert all(isinstance(result, Identity) for result in results)
    setting.directory.close()
