"""service.py and remote.py: the operator, the spool process and two workers, over real UNIX sockets."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pillarbox.control.channel import ChannelServer, RemoteError, serve
from pillarbox.control.link import Link
from pillarbox.directory.accounts import AccountsStore
from pillarbox.directory.base import Denied, Identity, Reason, Unavailable
from pillarbox.directory.local import LocalDirectory
from pillarbox.directory.remote import RemoteAccounts
from pillarbox.directory.service import ERRORS, lookup_handlers, operator_handlers
from pillarbox.directory.settings import LocalSettings
from pillarbox.sasl.mechanism import PasswordCredentials

CHEAP = LocalSettings(argon2_memory=64, argon2_time=1)


class Worker:
    """One submission worker's directory."""

    def __init__(self, path: Path) -> None:
        handlers: dict[str, Any] = {}
        self.link = Link(path, handlers)
        self.accounts = RemoteAccounts(self.link)
        handlers.update(self.accounts.handlers())
        self.handlers = handlers
        self.heard: list[tuple[str, int]] = []
        self.accounts.on_change(lambda login, generation: self.heard.append((login, generation)))
        self.directory = LocalDirectory(self.accounts, CHEAP)

    async def sign_in(self, login: str, password: str) -> Identity | Denied:
        return await self.directory.verify(PasswordCredentials(login, password), known_place=True)

    async def close(self) -> None:
        self.directory.close()
        await self.link.close()


class House:
    """The spool process's part, and who is connected to it."""

    def __init__(self, directory: Path, settings: LocalSettings) -> None:
        self.directory = directory
        self.settings = settings
        self.workers: list[Worker] = []
        self.finds = 0
        self.lookup_server: ChannelServer | None = None
        self.accounts: AccountsStore
        self.operator: Link

    async def open(self) -> None:
        self.accounts = await AccountsStore.open(self.directory / "accounts.db")
        verbs = operator_handlers(self.accounts, self.settings)
        self.operator_server = await serve(self.directory / "operator.sock", lambda _peer: verbs, errors=ERRORS)
        self.operator = Link(self.directory / "operator.sock")
        await self.operator.start(patience=5)
        await self.serve_lookups()

    async def serve_lookups(self, tell_time: float = 2.0) -> None:
        def handlers(_peer: object) -> dict[str, Any]:
            lookups = lookup_handlers(self.accounts, tell_time=tell_time)  # one per connection, as a daemon may

            def find(channel: Any, body: Any) -> Any:
                self.finds += 1
                return lookups["account.find"](channel, body)

            return {**lookups, "account.find": find}

        self.lookup_server = await serve(self.directory / "spool.sock", handlers, errors=ERRORS)

    async def stop_lookups(self) -> None:
        assert self.lookup_server is not None
        await self.lookup_server.close()
        self.lookup_server = None

    async def worker(self) -> Worker:
        worker = Worker(self.directory / "spool.sock")
        self.workers.append(worker)
        await worker.link.start(patience=5)
        return worker

    async def verb(self, name: str, **fields: Any) -> Any:
        return await self.operator.request(f"user.{name}", fields or None)

    async def close(self) -> None:
        await self.operator.close()
        for worker in self.workers:
            await worker.close()
        await self.operator_server.close()
        if self.lookup_server is not None:
            await self.lookup_server.close()
        await self.accounts.close()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    built = House(tmp_path, CHEAP)
    await built.open()
    yield built
    await built.close()


async def test_a_password_change_holds_at_once_in_two_workers(house: House) -> None:
    one, two = await house.worker(), await house.worker()
    await house.verb("add", login="bob", password="old")
    for worker in (one, two):
        assert isinstance(await worker.sign_in("bob", "old"), Identity)
    await house.verb("password", login="bob", password="new")
    for worker in (one, two):
        assert worker.heard[-1][0] == "bob", "told before the operator's verb returned"
        assert await worker.sign_in("bob", "old") == Denied(Reason.WRONG, "bob")
        assert isinstance(await worker.sign_in("bob", "new"), Identity)


async def test_an_alias_holds_at_once_in_two_workers_and_so_does_another_accounts(house: House) -> None:
    one, two = await house.worker(), await house.worker()
    added = await house.verb("add", login="Bob@Example.org", password="x", aliases=["Bob Wood/Sales"])
    assert (added["aliases"], added["void_aliases"]) == (["Bob Wood/Sales"], [])
    for worker in (one, two):
        who = await worker.sign_in("CN=Bob Wood/OU=Sales", "x")
        assert isinstance(who, Identity) and (who.login, who.account) == ("Bob@Example.org", "Bob@Example.org")
    asked = house.finds
    assert isinstance(await one.sign_in("CN=Bob Wood/OU=Sales", "x"), Identity) and house.finds == asked
    await house.verb("add", login="amy", password="x")
    told = await house.verb("alias", login="amy", add=["bob wood/sales", "amy w"], remove=[])
    assert told["aliases"] == ["bob wood/sales", "amy w"] and told["void_aliases"] == ["bob wood/sales"]
    for worker in (one, two):
        assert await worker.sign_in("CN=Bob Wood/OU=Sales", "x") == Denied(Reason.UNKNOWN)
        assert isinstance(await worker.sign_in("bob@example.org", "x"), Identity)
    assert [each["void_aliases"] for each in await house.verb("list")] == [["bob wood/sales"], ["Bob Wood/Sales"]]
    shown = await house.verb("show", login="amy W")
    assert (shown["login"], shown["void_aliases"]) == ("amy", ["bob wood/sales"])
    await house.verb("alias", login="amy", add=[], remove=["Bob Wood/Sales"])
    for worker in (one, two):
        assert isinstance(await worker.sign_in("CN=Bob Wood/OU=Sales", "x"), Identity)
    await house.verb("disable", login="bob@example.org")
    assert await one.sign_in("Bob Wood/Sales", "x") == Denied(Reason.DISABLED, "Bob@Example.org")


async def test_each_verb_that_changes_an_account_is_told_with_a_higher_generation(house: House) -> None:
    worker = await house.worker()
    await house.verb("add", login="Bob", password="x")
    for name in ("disable", "enable", "modify", "remove"):
        await house.verb(name, login="BOB")
    logins, generations = zip(*worker.heard, strict=True)
    assert set(logins) == {"Bob"}
    assert list(generations) == [1, 2, 3, 4, 5]


async def test_an_unchanged_account_is_asked_for_once(house: House) -> None:
    worker = await house.worker()
    await house.verb("add", login="bob", password="x")
    for _ in range(20):
        assert isinstance(await worker.sign_in("bob", "x"), Identity)
    assert house.finds == 1


async def test_what_changed_while_a_worker_was_away_is_told_when_it_returns(house: House) -> None:
    worker = await house.worker()
    for login in ("bob", "carol", "dave"):
        await house.verb("add", login=login, password="x")
        assert isinstance(await worker.sign_in(login, "x"), Identity)
    worker.heard.clear()
    await house.stop_lookups()
    await house.verb("disable", login="bob")
    await house.verb("remove", login="carol")
    await house.serve_lookups()
    assert await worker.sign_in("bob", "x") == Denied(Reason.DISABLED, "bob")
    assert sorted(worker.heard) == [("bob", 4), ("carol", 5)]
    assert await worker.sign_in("carol", "x") == Denied(Reason.UNKNOWN)
    assert isinstance(await worker.sign_in("dave", "x"), Identity)


async def test_out_of_reach_is_unavailable_whatever_is_remembered(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pillarbox.directory.remote.PATIENCE", 0.05)
    worker = await house.worker()
    await house.verb("add", login="bob", password="x")
    assert isinstance(await worker.sign_in("bob", "x"), Identity)
    await house.stop_lookups()
    async with asyncio.timeout(10):
        while worker.link.connected:  # noqa: ASYNC110  a link has no event for its end
            await asyncio.sleep(0.002)
    with pytest.raises(Unavailable):
        await worker.sign_in("bob", "x")


async def test_a_worker_that_does_not_answer_holds_the_operator_for_the_time_limit_only(house: House) -> None:
    await house.stop_lookups()
    await house.serve_lookups(tell_time=0.05)
    stuck, well = await house.worker(), await house.worker()
    never: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    stuck.handlers["account.changed"] = lambda *_: never
    async with asyncio.timeout(10):
        await house.verb("add", login="bob", password="x")
    assert well.heard == [("bob", 1)]
    never.cancel()


async def test_workers_may_look_up_and_nothing_else(house: House) -> None:
    worker = await house.worker()
    for verb in ("user.list", "user.add", "user.password", "user.remove"):
        with pytest.raises(RemoteError) as caught:
            await worker.link.request(verb, {"login": "bob", "password": "x"})
        assert caught.value.kind == "unknown_verb"


async def test_the_operator_sees_accounts_without_their_secrets(house: House) -> None:
    added = await house.verb(
        "add", login="Bob", password="hunter2", addresses=["Bob@Example.org", "bob@example.org"], domains=["Ex.org"]
    )
    assert added == await house.verb("show", login="bob") == (await house.verb("list"))[0]
    created = added.pop("created_at")
    assert created == added.pop("password_changed_at") > 0
    assert added == {
        "login": "Bob",
        "addresses": ["bob@example.org"],
        "domains": ["ex.org"],
        "may_redirect": False,
        "recipients_per_hour": None,
        "disabled": False,
        "scram": False,
        "certificates": [],
        "current_hash": True,
        "imported_hash": False,
        "alone": False,
        "elsewhere": False,
        "app_passwords": 0,
        "aliases": [],
        "void_aliases": [],
    }


async def test_modify_changes_only_what_is_named(house: House) -> None:
    await house.verb("add", login="bob", password="x", addresses=["a@example.org"], recipients_per_hour=7)
    changed = await house.verb("modify", login="bob", domains=["example.org"], may_redirect=True)
    assert (changed["addresses"], changed["recipients_per_hour"]) == (["a@example.org"], 7)
    assert (changed["domains"], changed["may_redirect"]) == (["example.org"], True)
    changed = await house.verb("modify", login="bob", addresses=[], recipients_per_hour=None)
    assert (changed["addresses"], changed["recipients_per_hour"]) == ([], None)
    assert changed["may_redirect"]


@pytest.mark.parametrize(
    ("verb", "fields", "kind"),
    [
        ("add", {"login": "BOB", "password": "x"}, "AccountExists"),
        ("add", {"login": "", "password": "x"}, "InvalidAccount"),
        ("add", {"login": " carol", "password": "x"}, "InvalidAccount"),
        ("add", {"login": "car\nol", "password": "x"}, "InvalidAccount"),
        ("add", {"login": "c" * 256, "password": "x"}, "InvalidAccount"),
        ("add", {"login": "carol", "password": ""}, "InvalidAccount"),
        ("add", {"login": "carol", "password": "\N{SOFT HYPHEN}"}, "InvalidAccount"),
        ("add", {"login": "carol", "password": "secret\0"}, "InvalidAccount"),
        ("add", {"login": "carol", "password": "s" * 1025}, "InvalidAccount"),
        ("add", {"login": "carol"}, "InvalidAccount"),
        ("add", {"login": "carol", "password": 5}, "InvalidAccount"),
        ("add", {"login": "carol", "password": "x", "addresses": ["carol"]}, "InvalidAccount"),
        ("add", {"login": "carol", "password": "x", "addresses": ["a b@example.org"]}, "InvalidAccount"),
        ("add", {"login": "carol", "password": "x", "addresses": ["a@b@example.org"]}, "InvalidAccount"),
        ("add", {"login": "carol", "password": "x", "addresses": ["Carol <c@example.org>"]}, "InvalidAccount"),
        ("add", {"login": "carol", "password": "x", "domains": ["@example.org"]}, "InvalidAccount"),
        ("add", {"login": "carol", "password": "x", "recipients_per_hour": 0}, "InvalidAccount"),
        ("show", {"login": "carol"}, "UnknownAccount"),
        ("show", {}, "InvalidAccount"),
        ("password", {"login": "carol", "password": "x"}, "UnknownAccount"),
        ("password", {"login": "bob"}, "InvalidAccount"),
        ("modify", {"login": "bob", "addresses": "b@example.org"}, "InvalidAccount"),
        ("modify", {"login": "bob", "recipients_per_hour": "many"}, "InvalidAccount"),
        ("disable", {"login": "\0"}, "UnknownAccount"),
        ("remove", {"login": "carol"}, "UnknownAccount"),
    ],
)
async def test_bad_input_is_refused_by_name_and_changes_nothing(
    house: House, verb: str, fields: dict[str, Any], kind: str
) -> None:
    before = await house.verb("add", login="bob", password="x")
    with pytest.raises(RemoteError) as caught:
        await house.verb(verb, **fields)
    assert caught.value.kind == kind
    if len(str(fields.get("password", ""))) > 1:
        assert str(fields["password"]) not in str(caught.value)
    assert await house.verb("list") == [before]


async def test_a_scram_secret_is_stored_with_the_password_when_the_settings_say_so(tmp_path: Path) -> None:
    house = House(tmp_path, LocalSettings(scram=True, argon2_memory=64, argon2_time=1))
    await house.open()
    assert (await house.verb("add", login="bob", password="x"))["scram"]
    first = await house.accounts.find("bob")
    await house.verb("password", login="bob", password="y")
    second = await house.accounts.find("bob")
    assert first is not None and second is not None and first.scram != second.scram
    assert str(second.scram).startswith("SCRAM-SHA-256$100000:")
    with pytest.raises(RemoteError) as caught:
        await house.verb("password", login="bob", password="\N{GRINNING FACE}")
    assert caught.value.kind == "InvalidAccount" and "SCRAM" in str(caught.value)
    await house.close()


async def test_concurrent_verbs_on_one_account_lose_nothing(house: House) -> None:
    await house.verb("add", login="bob", password="x")
    await asyncio.gather(
        house.verb("modify", login="bob", addresses=["a@example.org"]),
        house.verb("modify", login="bob", domains=["example.org"]),
        house.verb("password", login="bob", password="y"),
        house.verb("disable", login="bob"),
    )
    found = await house.verb("show", login="bob")
    assert (found["addresses"], found["domains"], found["disabled"]) == (["a@example.org"], ["example.org"], True)
    await house.verb("enable", login="bob")
    assert isinstance(await (await house.worker()).sign_in("bob", "y"), Identity)


async def test_passwords_and_hashes_are_in_no_log_line(house: House, capfd: pytest.CaptureFixture[str]) -> None:
    await house.verb("add", login="bob", password="hunter2hunter2")
    await house.verb("password", login="bob", password="swordfish99")
    with pytest.raises(RemoteError):
        await house.verb("password", login="bob", password="swordfish\0")
    out = "".join(capfd.readouterr())
    assert "account.added" in out and "account.password_changed" in out
    for secret in ("hunter2", "swordfish", "argon2id"):
        assert secret not in out


async def test_without_a_cluster_there_is_nothing_to_publish_to(house: House) -> None:
    with pytest.raises(RemoteError, match="embedded") as caught:
        await house.operator.request("user.publish")
    assert caught.value.kind == "InvalidAccount"
