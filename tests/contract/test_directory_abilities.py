"""What a directory promises beside passwords: SCRAM secrets, certificates; in one process, behind a socket, and
there with accounts that are a copy of a cluster's."""

import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest
from tests.directory.machines import Machine, empty_cell
from tests.support.certs import Authority

from pillarbox.control.channel import ChannelServer, RemoteError, serve
from pillarbox.control.link import Link
from pillarbox.directory.accounts import AccountsStore
from pillarbox.directory.base import (
    CertificateDirectory,
    Denied,
    Identity,
    Reason,
    ScramDirectory,
    TokenDirectory,
    Unavailable,
)
from pillarbox.directory.cluster import ClusterAccounts
from pillarbox.directory.local import LocalDirectory
from pillarbox.directory.remote import RemoteAccounts
from pillarbox.directory.scram import ITERATIONS, read_secret
from pillarbox.directory.service import ERRORS, lookup_handlers, operator_handlers
from pillarbox.directory.settings import LocalSettings, TokenSettings
from pillarbox.sasl.mechanism import ProvenCredentials, ScramSecret, TokenCredentials

SECRET = "a secret of at least thirty-two octets"


class Site:
    """A directory with every ability, and the operator's verbs."""

    def __init__(
        self,
        directory: LocalDirectory,
        accounts: AccountsStore,
        verbs: AccountsStore | ClusterAccounts,
        operator: Link,
    ) -> None:
        self.directory, self.accounts, self.verbs, self.operator = directory, accounts, verbs, operator

    async def verb(self, verb: str, **body: Any) -> Any:
        return await self.operator.request(f"user.{verb}", body)


@pytest.fixture(params=["one process", "behind a socket", "a cluster's copy behind a socket"])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    (tmp_path / "token.key").write_text(SECRET)
    tokens = TokenSettings(tmp_path / "token.key", "https://id.example", "pillarbox")
    settings = LocalSettings(argon2_memory=64, argon2_time=1, scram=True, tokens=tokens)
    machine: Machine | None = None
    if request.param.startswith("a cluster's"):
        machine = await Machine(tmp_path, await empty_cell(request.getfixturevalue("postgres"))).open()
    accounts = await AccountsStore.open(tmp_path / "accounts.db") if machine is None else machine.copy
    verbs = accounts if machine is None else machine.accounts
    handlers = operator_handlers(verbs, settings)
    servers: list[ChannelServer] = [await serve(tmp_path / "operator.sock", lambda _: handlers, errors=ERRORS)]
    operator = Link(tmp_path / "operator.sock")
    await operator.start(patience=5)
    links, lookup = [operator], accounts
    if request.param.endswith("behind a socket"):
        lookups = lookup_handlers(accounts)
        servers.append(await serve(tmp_path / "spool.sock", lambda _: lookups, errors=ERRORS))
        ours: dict[str, Any] = {}
        link = Link(tmp_path / "spool.sock", ours)
        lookup = RemoteAccounts(link)  # type: ignore[assignment]  # both are an AccountLookup
        ours.update(lookup.handlers())  # type: ignore[attr-defined]  # as above
        await link.start(patience=5)
        links.append(link)
    directory = LocalDirectory(lookup, settings)
    yield Site(directory, accounts, verbs, operator)
    directory.close()
    for link in links:
        await link.close()
    for server in servers:
        await server.close()
    await (accounts if machine is None else machine).close()


async def without_secret(site: Site, login: str) -> None:
    """An account of before scram = true."""
    await site.verb("add", login=login, password="right")
    await site.verbs.change(login, lambda found: replace(found, scram=None))


async def test_the_local_directory_has_each_ability(site: Site) -> None:
    assert isinstance(site.directory, ScramDirectory)
    assert isinstance(site.directory, TokenDirectory)
    assert site.directory.offers_tokens
    assert isinstance(site.directory, CertificateDirectory)


def everybody(_: str) -> bool:
    return True


async def test_scram_is_offered_to_those_who_count_and_are_enabled(site: Site) -> None:
    await site.verb("add", login="anna", password="right")
    await without_secret(site, "Printer")
    assert not site.directory.offers_scram(everybody)
    assert site.directory.offers_scram(lambda login: login != "printer")
    await site.verb("disable", login="printer")
    assert site.directory.offers_scram(everybody)
    await site.verb("enable", login="printer")
    assert not site.directory.offers_scram(everybody)


async def test_with_too_many_to_name_scram_is_offered_to_nobody(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pillarbox.directory.rows.MISSING_CEILING", 2)
    for number in range(3):
        assert site.directory.offers_scram(lambda _: False)
        await without_secret(site, f"old{number}")
    assert not site.directory.offers_scram(lambda _: False)


async def test_scram_is_offered_only_while_every_account_has_a_secret(site: Site) -> None:
    assert site.directory.offers_scram(everybody)
    await site.verb("add", login="anna", password="right")
    assert site.directory.offers_scram(everybody)
    await without_secret(site, "old")
    assert not site.directory.offers_scram(everybody)
    await site.verb("password", login="old", password="right")
    assert site.directory.offers_scram(everybody)
    await without_secret(site, "older")
    assert not site.directory.offers_scram(everybody)
    await site.verb("remove", login="older")
    assert site.directory.offers_scram(everybody)


async def test_whoever_has_proven_the_stored_secret_is_let_in_until_the_password_changes(site: Site) -> None:
    await site.verb("add", login="Anna@example.org", password="right")
    secret = await site.directory.scram_secret("anna@EXAMPLE.org")
    account = await site.accounts.find("anna@example.org")
    assert account is not None and account.scram is not None
    assert secret == read_secret(account.scram)
    assert secret.iterations >= 100_000
    proven = ProvenCredentials("anna@example.org", "", secret)
    identity = await site.directory.verify_proof(proven)
    assert isinstance(identity, Identity) and identity.login == "Anna@example.org"
    for authzid, good in (("ANNA@example.org", True), ("bob", False), ("b\x07b", False)):
        found = await site.directory.verify_proof(ProvenCredentials("anna@example.org", authzid, secret))
        assert isinstance(found, Identity) is good
    await site.verb("password", login="anna@example.org", password="other")
    assert await site.directory.verify_proof(proven) == Denied(Reason.WRONG, "Anna@example.org")
    secret = await site.directory.scram_secret("anna@example.org")
    await site.verb("disable", login="anna@example.org")
    found = await site.directory.verify_proof(ProvenCredentials("anna@example.org", "", secret))
    assert found == Denied(Reason.DISABLED, "Anna@example.org")


@pytest.mark.parametrize("name", ["nobody", "NoBody", "b\x07d", "x" * 400, "no-secret"])
async def test_a_name_without_a_secret_looks_like_one_with_and_is_never_let_in(site: Site, name: str) -> None:
    await without_secret(site, "no-secret")
    first, second = await site.directory.scram_secret(name), await site.directory.scram_secret(name)
    assert first == second
    assert (first.iterations, len(first.salt)) == (ITERATIONS, 32)
    assert first.salt != (await site.directory.scram_secret(name + "2")).salt
    answer = await site.directory.verify_proof(ProvenCredentials(name, "", first))
    assert isinstance(answer, Denied)


async def test_the_salt_of_a_name_that_nobody_has_outlives_a_restart(site: Site, tmp_path: Path) -> None:
    before = site.accounts.scram_state
    await site.accounts.close()
    again = await AccountsStore.open(tmp_path / "accounts.db")
    assert before is not None and again.scram_state is not None
    assert before.key == again.scram_state.key
    assert before.key != bytes(32)
    await again.close()


def token(login: str, **changed: Any) -> str:
    claims = {"iss": "https://id.example", "aud": "pillarbox", "sub": login, "exp": time.time() + 60, **changed}
    return jwt.encode(claims, SECRET, algorithm="HS256")


async def test_a_token_lets_its_login_in_and_nobody_else(site: Site) -> None:
    await site.verb("add", login="anna", password="right")
    await site.verb("add", login="bob", password="right", disabled=True)
    verify = partial(site.directory.verify_token, known_place=False)
    for login in ("", "ANNA"):
        identity = await verify(TokenCredentials(login, token("anna")))
        assert isinstance(identity, Identity) and identity.login == "anna"
    assert await verify(TokenCredentials("bob", token("anna"))) == Denied(Reason.WRONG)
    assert await verify(TokenCredentials("a\x07", token("anna"))) == Denied(Reason.WRONG)
    assert await verify(TokenCredentials("", token("nobody"))) == Denied(Reason.UNKNOWN)
    assert await verify(TokenCredentials("", token("bob"))) == Denied(Reason.DISABLED, "bob")
    assert await verify(TokenCredentials("anna", token("anna", exp=1))) == Denied(Reason.EXPIRED)
    assert await verify(TokenCredentials("anna", token("anna") + "x")) == Denied(Reason.WRONG)


async def test_a_certificate_lets_the_account_in_that_names_it(site: Site, tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("Anna", "anna@example.org", client=True)
    der = ssl.PEM_cert_to_DER_cert(issued.certificate.read_text())
    verify = site.directory.verify_certificate
    await site.verb("add", login="anna", password="right")
    await site.verb("add", login="bob", password="right")
    assert await verify(der, "") == Denied(Reason.UNKNOWN)
    changed = await site.verb("certify", login="anna", mark="CN:Anna")
    assert changed["certificates"] == ["cn:Anna"]
    for authzid in ("", "ANNA"):
        identity = await verify(der, authzid)
        assert isinstance(identity, Identity) and identity.login == "anna"
    assert await verify(der, "bob") == Denied(Reason.WRONG, "anna")
    assert await verify(der, "b\x07b") == Denied(Reason.WRONG, "anna")
    assert await verify(b"none", "") == Denied(Reason.WRONG)
    await site.verb("certify", login="bob", mark="email:anna@example.org")  # surer than a common name
    identity = await verify(der, "")
    assert isinstance(identity, Identity) and identity.login == "bob"
    await site.verb("disable", login="bob")
    assert await verify(der, "") == Denied(Reason.DISABLED, "bob")
    await site.verb("remove", login="bob")
    await site.verb("decertify", login="anna", mark="cn:Anna")
    assert await verify(der, "") == Denied(Reason.UNKNOWN)


async def test_a_mark_is_of_one_account_and_one_that_is_none_is_refused(site: Site) -> None:
    await site.verb("add", login="anna", password="right")
    await site.verb("add", login="bob", password="right")
    await site.verb("certify", login="anna", mark="cn:Anna")
    await site.verb("certify", login="anna", mark="cn:Anna")
    for verb, body, kind in (
        ("certify", {"login": "bob", "mark": "cn:Anna"}, "CertificateTaken"),
        ("certify", {"login": "bob", "mark": "Anna"}, "InvalidAccount"),
        ("certify", {"login": "bob"}, "InvalidAccount"),
        ("decertify", {"login": "bob", "mark": "cn:Anna"}, "InvalidAccount"),
        ("certify", {"login": "nobody", "mark": "cn:N"}, "UnknownAccount"),
    ):
        with pytest.raises(RemoteError) as refused:
            await site.verb(verb, **body)
        assert refused.value.kind == kind
    assert (await site.verb("show", login="anna"))["certificates"] == ["cn:Anna"]
    assert (await site.verb("show", login="bob"))["certificates"] == []


async def test_a_directory_without_key_takes_no_tokens_and_one_without_scram_offers_none(site: Site) -> None:
    plain = LocalDirectory(site.accounts, LocalSettings(argon2_memory=64, argon2_time=1))
    assert not plain.offers_tokens and not plain.offers_scram(everybody)
    assert await plain.verify_token(TokenCredentials("", "t"), known_place=True) == Denied(Reason.WRONG)
    plain.close()


class NotHeard:
    """A worker's accounts before the spool process told of them."""

    scram_state = None

    async def find(self, login: str) -> None:
        return None

    async def find_certified(self, marks: object) -> None:
        return None


async def test_before_the_accounts_were_heard_of_scram_is_neither_offered_nor_answered() -> None:
    directory = LocalDirectory(NotHeard(), LocalSettings(scram=True))
    assert not directory.offers_scram(everybody)
    with pytest.raises(Unavailable):
        await directory.scram_secret("anna")
    directory.close()


async def test_a_stored_secret_that_cannot_be_read_is_unavailable_not_wrong(site: Site) -> None:
    await site.verb("add", login="anna", password="right")
    for damaged in ("nothing", "SCRAM-SHA-256$100000:AAA$AAA=:AAA="):
        await site.verbs.change("anna", partial(replace, scram=damaged))
        with pytest.raises(Unavailable):
            await site.directory.scram_secret("anna")
        with pytest.raises(Unavailable):
            await site.directory.verify_proof(ProvenCredentials("anna", "", ScramSecret(1, b"", b"", b"")))
