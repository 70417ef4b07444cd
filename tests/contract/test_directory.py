"""What every directory promises: one suite over the local directory in one process, behind a real UNIX socket, and
there with accounts that are a copy of a cluster's, whose verbs change the cluster."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.directory.machines import Machine, empty_cell
from tests.support.clock import FakeClock

from pillarbox.control.channel import ChannelServer, serve
from pillarbox.control.link import Link
from pillarbox.directory.accounts import AccountsStore
from pillarbox.directory.base import Denied, Identity, Reason, Unavailable
from pillarbox.directory.local import LocalDirectory
from pillarbox.directory.remote import RemoteAccounts
from pillarbox.directory.service import ERRORS, lookup_handlers, operator_handlers
from pillarbox.directory.settings import LocalSettings
from pillarbox.sasl.mechanism import PasswordCredentials

CHEAP = LocalSettings(argon2_memory=64, argon2_time=1)


class Site:
    """A directory, and the operator's verbs over a socket of their own."""

    def __init__(self, directory: LocalDirectory, operator: Link, accounts: AccountsStore) -> None:
        self.directory, self.operator, self.accounts = directory, operator, accounts

    async def add(self, login: str, password: str = "right", **fields: Any) -> None:
        await self.operator.request("user.add", {"login": login, "password": password, **fields})

    async def sign_in(self, login: str, password: str, authzid: str = "") -> Identity | Denied:
        return await self.directory.verify(PasswordCredentials(login, password, authzid), known_place=True)


@pytest.fixture(params=["one process", "behind a socket", "a cluster's copy behind a socket"])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    machine: Machine | None = None
    if request.param.startswith("a cluster's"):
        machine = await Machine(tmp_path, await empty_cell(request.getfixturevalue("postgres"))).open()
    accounts = await AccountsStore.open(tmp_path / "accounts.db") if machine is None else machine.copy
    handlers = operator_handlers(accounts if machine is None else machine.accounts, CHEAP)
    operator_server = await serve(tmp_path / "operator.sock", lambda _peer: handlers, errors=ERRORS)
    operator = Link(tmp_path / "operator.sock")
    await operator.start(patience=5)
    links, servers = [operator], [operator_server]
    lookup: AccountsStore | RemoteAccounts = accounts
    if request.param.endswith("behind a socket"):
        lookup = await _behind_a_socket(tmp_path / "spool.sock", accounts, links, servers)
    directory = LocalDirectory(lookup, CHEAP, clock=FakeClock().monotonic)
    yield Site(directory, operator, accounts)
    directory.close()
    for link in links:
        await link.close()
    for server in servers:
        await server.close()
    await (accounts if machine is None else machine).close()


async def _behind_a_socket(
    path: Path, accounts: AccountsStore, links: list[Link], servers: list[ChannelServer]
) -> RemoteAccounts:
    lookups = lookup_handlers(accounts)
    servers.append(await serve(path, lambda _peer: lookups, errors=ERRORS))
    handlers: dict[str, Any] = {}
    link = Link(path, handlers)
    remote = RemoteAccounts(link)
    handlers.update(remote.handlers())
    links.append(link)
    await link.start(patience=5)
    assert link.connected
    return remote


async def test_the_right_password_yields_the_identity_in_the_directorys_spelling(site: Site) -> None:
    await site.add(
        "Bob@Example.org",
        addresses=["Robert@example.org", "robert@EXAMPLE.org"],
        domains=["App.Example.org"],
        may_redirect=True,
        recipients_per_hour=7,
    )
    identity = await site.sign_in("bOB@example.ORG", "right")
    assert isinstance(identity, Identity)
    assert identity.login == "Bob@Example.org"
    assert identity.addresses == {"bob@example.org", "robert@example.org"}
    assert identity.domains == {"app.example.org"}
    assert identity.may_redirect and identity.recipients_per_hour == 7 and identity.generation > 0


async def test_a_login_that_is_no_address_gives_none(site: Site) -> None:
    await site.add("bob")
    identity = await site.sign_in("bob", "right")
    assert isinstance(identity, Identity) and identity.addresses == frozenset()


async def test_wrong_unknown_and_disabled_are_told_apart_for_the_log(site: Site) -> None:
    await site.add("bob")
    await site.add("carol", disabled=True)
    for _ in range(2):  # hashed, then remembered
        assert await site.sign_in("BOB", "wrong") == Denied(Reason.WRONG, "bob")
        assert await site.sign_in("nobody", "right") == Denied(Reason.UNKNOWN)
        assert await site.sign_in("carol", "right") == Denied(Reason.DISABLED, "carol")
        assert await site.sign_in("carol", "wrong") == Denied(Reason.WRONG, "carol")


async def test_a_password_change_holds_at_once(site: Site) -> None:
    await site.add("bob")
    before = await site.sign_in("bob", "right")
    await site.operator.request("user.password", {"login": "bob", "password": "changed"})
    assert await site.sign_in("bob", "right") == Denied(Reason.WRONG, "bob")
    after = await site.sign_in("bob", "changed")
    assert isinstance(before, Identity) and isinstance(after, Identity)
    assert after.generation > before.generation


async def test_a_password_remembered_as_wrong_is_right_once_it_is_set(site: Site) -> None:
    await site.add("bob")
    assert await site.sign_in("bob", "next") == Denied(Reason.WRONG, "bob")
    await site.operator.request("user.password", {"login": "bob", "password": "next"})
    assert isinstance(await site.sign_in("bob", "next"), Identity)


async def test_disable_enable_and_modify_hold_at_once(site: Site) -> None:
    await site.add("bob")
    assert isinstance(await site.sign_in("bob", "right"), Identity)
    await site.operator.request("user.disable", {"login": "bob"})
    assert await site.sign_in("bob", "right") == Denied(Reason.DISABLED, "bob")
    await site.operator.request("user.enable", {"login": "bob"})
    await site.operator.request("user.modify", {"login": "bob", "addresses": ["b@example.org"]})
    identity = await site.sign_in("bob", "right")
    assert isinstance(identity, Identity) and identity.addresses == {"b@example.org"}


async def test_an_account_removed_and_added_again_is_another_one(site: Site) -> None:
    """Its old password was remembered under a generation that no account of that name ever has again."""
    await site.add("bob", "old")
    first = await site.sign_in("bob", "old")
    await site.operator.request("user.remove", {"login": "BOB"})
    assert await site.sign_in("bob", "old") == Denied(Reason.UNKNOWN)
    await site.add("bob", "new")
    assert await site.sign_in("bob", "old") == Denied(Reason.WRONG, "bob")
    second = await site.sign_in("bob", "new")
    assert isinstance(first, Identity) and isinstance(second, Identity) and second.generation > first.generation


async def test_only_oneself_may_be_asked_for_as_authzid(site: Site) -> None:
    await site.add("bob")
    await site.add("carol")
    assert isinstance(await site.sign_in("bob", "right", authzid="BOB"), Identity)
    assert await site.sign_in("bob", "right", authzid="carol") == Denied(Reason.WRONG)


async def test_an_empty_password_is_never_right(site: Site) -> None:
    await site.add("bob")
    assert await site.sign_in("bob", "") == Denied(Reason.WRONG)
    assert await site.sign_in("bob", "\N{SOFT HYPHEN}") == Denied(Reason.WRONG), "empty once prepared"
    assert await site.sign_in("", "") == Denied(Reason.WRONG)


@pytest.mark.parametrize(
    ("stored", "typed"),
    [
        ("caf\u00e9", "cafe\u0301"),
        ("I\u00adX", "IX"),
        ("\u2168", "IX"),
        ("with\u00a0space", "with space"),
        ("\N{THUMBS UP SIGN}", "\N{THUMBS UP SIGN}"),
        ("p" * 1024, "p" * 1024),
    ],
)
async def test_passwords_are_compared_prepared(site: Site, stored: str, typed: str) -> None:
    await site.add("bob", stored)
    assert isinstance(await site.sign_in("bob", typed), Identity)


async def test_logins_are_compared_prepared_and_without_case(site: Site) -> None:
    await site.add("Jos\u00e9 Stra\u00dfe/ORG")
    assert isinstance(await site.sign_in("JOSE\u0301 STRASSE/org", "right"), Identity)


@pytest.mark.parametrize(
    ("login", "password"),
    [
        ("bob\0", "right"),
        ("bob", "right\0"),
        ("bob", "right\r\n"),
        ("bob\n", "right"),
        ("b" * 10_000, "right"),
        ("bob", "r" * 100_000),
        ("*", "right"),
        ("bob)(uid=*", "right"),
        ("bob' OR 1=1 --", "right"),
        ("%", "right"),
        ("\ufffd", "\ue000"),
        ("\u0627a", "right"),
        ("bob ", "right"),
        ("b\u043eb", "right"),  # a Cyrillic o
    ],
)
async def test_hostile_input_is_denied_and_hurts_nobody(site: Site, login: str, password: str) -> None:
    await site.add("bob")
    assert isinstance(await site.sign_in(login, password), Denied)
    assert isinstance(await site.sign_in("bob", "right"), Identity)


async def test_nothing_of_an_account_or_of_credentials_shows_in_a_repr(site: Site) -> None:
    await site.add("bob", "hunter2")
    account = await site.accounts.find("bob")
    assert account is not None
    assert repr(account) == "Account('bob')"
    assert "hunter2" not in repr(PasswordCredentials("bob", "hunter2"))


async def test_unavailable_when_the_accounts_cannot_be_asked(site: Site) -> None:
    await site.add("bob")
    await site.accounts.close()
    with pytest.raises(Unavailable):
        await site.sign_in("never asked for", "right")
