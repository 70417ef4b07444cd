"""rehash.py: another system's hash is verified, and replaced at the first sign-in, over real UNIX sockets."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.directory.machines import Machine, account, empty_cell
from tests.support.clock import FakeClock

from pillarbox.control.channel import serve
from pillarbox.control.link import Link
from pillarbox.directory.accounts import AccountsStore
from pillarbox.directory.base import Account, Denied, Identity, Reason, Unavailable
from pillarbox.directory.local import REHASH_PAUSE, LocalDirectory
from pillarbox.directory.password import Passwords
from pillarbox.directory.rehash import rehash_handlers
from pillarbox.directory.remote import RemoteAccounts
from pillarbox.directory.scram import read_secret
from pillarbox.directory.service import ERRORS, lookup_handlers
from pillarbox.directory.settings import LocalSettings
from pillarbox.sasl.mechanism import PasswordCredentials

CHEAP = LocalSettings(argon2_memory=64, argon2_time=1, scram=True)
HASHES = {
    "Domino form 1": ("(355E98E7C7B59BD810ED845AD0FD2FC4)", "password"),
    "Domino form 2": ("(GDJ0nDZI8l8RJzlRbemg)", "hashcat"),
    "Domino form 3": ("(HosOQowHtnaYQqFo/XlScup0mC30mC3KmC30mCeACAxpjQN2u)", "pleaseletmein"),
    "bcrypt": ("$2b$04$Zao0hKXfkKeHH7ZhlJSMq.fI2.u4ce/jyzh4XC4Fwpeh96isLD.3W", "right: ünïcödé and spaces"),
}


class Setting:
    """The spool process's part, and a worker's directory that is connected to it."""

    def __init__(self, path: Path, accounts: AccountsStore, verbs: Any) -> None:
        self.path, self.accounts, self.verbs = path, accounts, verbs
        self.passwords = Passwords(CHEAP)
        self.handlers: dict[str, Any] = {
            **lookup_handlers(accounts),
            **rehash_handlers(verbs, lambda: self.passwords, lambda: CHEAP.scram),
        }
        self.asked = 0
        self.clock = FakeClock()

    async def open(self) -> "Setting":
        rehash = self.handlers["account.rehash"]

        async def counted(channel: Any, body: Any) -> Any:
            self.asked += 1
            return await rehash(channel, body)

        self.handlers["account.rehash"] = counted
        self.server = await serve(self.path, lambda _peer: self.handlers, errors=ERRORS)
        heard: dict[str, Any] = {}
        self.link = Link(self.path, heard)
        remote = RemoteAccounts(self.link)
        heard.update(remote.handlers())
        await self.link.start(patience=5)
        self.directory = LocalDirectory(remote, CHEAP, clock=self.clock.monotonic)
        return self

    async def sign_in(self, password: str) -> Identity | Denied:
        return await self.directory.verify(PasswordCredentials("bob", password), known_place=True)

    async def stored(self) -> Account:
        found = await self.accounts.find("bob")
        assert found is not None
        return found

    async def close(self) -> None:
        self.directory.close()
        self.passwords.close()
        await self.link.close()
        await self.server.close()


@pytest.fixture(params=["embedded", "cluster"])
async def setting(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Setting]:
    owner: Any
    if request.param == "cluster":
        owner = await Machine(tmp_path, await empty_cell(request.getfixturevalue("postgres"))).open()
        made = Setting(tmp_path / "spool.sock", owner.copy, owner.accounts)
    else:
        owner = await AccountsStore.open(tmp_path / "accounts.db")
        made = Setting(tmp_path / "spool.sock", owner, owner)
    await made.open()
    yield made
    await made.close()
    await owner.close()


@pytest.mark.parametrize("name", HASHES)
async def test_an_imported_hash_lets_in_and_is_argon2id_after_the_first_sign_in(setting: Setting, name: str) -> None:
    stored, password = HASHES[name]
    await setting.verbs.add(account("bob", password_hash=stored))
    before = await setting.stored()
    assert await setting.sign_in("wrong") == Denied(Reason.WRONG, "bob")
    assert (await setting.stored()).password_hash == stored and setting.asked == 0, "a wrong password renews nothing"

    identity = await setting.sign_in(password)
    after = await setting.stored()
    assert isinstance(identity, Identity)
    assert after.password_hash.startswith("$argon2id$") and after.generation > before.generation
    assert identity.generation == after.generation, "the session of this sign-in goes on"
    assert after.scram is not None and read_secret(after.scram).iterations >= 4096
    assert replace(after, password_hash=stored, scram=None, generation=0) == replace(before, generation=0)

    for _ in range(2):
        again = await setting.sign_in(password)
        assert isinstance(again, Identity) and again.generation == after.generation
    assert setting.asked == 1
    assert await setting.sign_in("wrong") == Denied(Reason.WRONG, "bob")


async def test_a_worker_cannot_change_a_password_that_it_does_not_know(setting: Setting) -> None:
    await setting.verbs.add(account("bob", password_hash=HASHES["Domino form 1"][0]))
    assert await setting.link.request("account.rehash", ("bob", "evil")) is False
    assert await setting.link.request("account.rehash", ("nobody", "evil")) is False
    assert (await setting.stored()).password_hash == HASHES["Domino form 1"][0]
    assert await setting.link.request("account.rehash", ("bob", "password")) is True
    argon2 = (await setting.stored()).password_hash
    assert await setting.link.request("account.rehash", ("bob", "password")) is False
    assert (await setting.stored()).password_hash == argon2, "our own hashes are nobody's to renew"


async def test_many_first_sign_ins_at_once_all_get_in_with_the_last_generation(setting: Setting) -> None:
    await setting.verbs.add(account("bob", password_hash=HASHES["Domino form 2"][0]))
    answers = await asyncio.gather(*(setting.sign_in("hashcat") for _ in range(8)))
    generation = (await setting.stored()).generation
    assert [isinstance(each, Identity) and each.generation for each in answers] == [generation] * 8


async def test_who_cannot_be_renewed_now_is_let_in_and_renewed_later(setting: Setting) -> None:
    await setting.verbs.add(account("bob", password_hash=HASHES["Domino form 2"][0]))
    good = setting.handlers["account.rehash"]

    async def fails(_channel: Any, _body: Any) -> bool:
        setting.asked += 1
        raise Unavailable("the cell is away")

    setting.handlers["account.rehash"] = fails
    for _ in range(3):
        assert isinstance(await setting.sign_in("hashcat"), Identity)
    assert setting.asked == 1, "not tried again and again"
    setting.handlers["account.rehash"] = good
    setting.clock.advance(REHASH_PAUSE)
    assert isinstance(await setting.sign_in("hashcat"), Identity)
    assert (await setting.stored()).password_hash.startswith("$argon2id$")


async def test_a_hash_that_is_not_understood_is_unavailable_not_wrong(setting: Setting) -> None:
    await setting.verbs.add(account("bob", password_hash="{NTLM}8846F7EAEE8FB117AD06BDD830B7586C"))
    with pytest.raises(Unavailable, match="NTLM"):
        await setting.sign_in("password")
