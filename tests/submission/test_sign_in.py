"""Every mechanism over real sessions, with the real local directory: what is offered, who gets in, and what broken or
hostile exchanges are answered."""

import base64
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jwt
import pytest
import scramp  # type: ignore[import-untyped]  # it ships no types
from tests.support.certs import Authority
from tests.support.submission import Server, Talker, submission, talker

from pillarbox.directory.accounts import AccountsStore
from pillarbox.directory.base import Account, Unavailable
from pillarbox.directory.chain import Member
from pillarbox.directory.local import LocalDirectory
from pillarbox.directory.password import Passwords
from pillarbox.directory.scram import create_secret
from pillarbox.directory.settings import LocalSettings, TokenSettings
from pillarbox.guard.base import Blocked, Verdict
from pillarbox.submission.session import MAX_SIGN_IN_FAILURES
from pillarbox.submission.settings import ClientCertificates, TlsSettings
from pillarbox.submission.site import make_plans

LOGIN = "anna@example.org"
PASSWORD = "correct horse battery"
SECRET = "a secret of at least thirty-two octets"
ALL = ("SCRAM-SHA-256", "PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2", "EXTERNAL")
FAILED = ["5.7.8 Authentication credentials invalid"]


@dataclass
class House:
    """A site with one account and every mechanism."""

    server: Server
    accounts: AccountsStore
    directory: LocalDirectory
    clients: Authority

    async def change(self, **fields: object) -> None:
        account = await self.accounts.find(LOGIN)
        assert account is not None
        await self.accounts.replace(replace(account, **fields))  # type: ignore[arg-type]  # the caller keeps the types

    def context(self, *names: str) -> ssl.SSLContext:
        """Trusts the server; with names it shows a certificate of the client authority for them."""
        context = self.server.trust()
        if names:
            issued = self.clients.issue(*names, client=True)
            context.load_cert_chain(issued.certificate, issued.key)
        return context


@asynccontextmanager
async def house(folder: Path, **settings: object) -> AsyncIterator[House]:
    for name in ("clients", "site"):
        (folder / name).mkdir()
    clients = Authority(folder / "clients", "Clients")
    (folder / "token.key").write_text(SECRET)
    tokens = TokenSettings(folder / "token.key", "https://id.example", "pillarbox")
    local = LocalSettings(argon2_memory=64, argon2_time=1, scram=True, tokens=tokens)
    accounts = await AccountsStore.open(folder / "accounts.db")
    passwords = Passwords(local)
    scram = create_secret(PASSWORD, iterations=4096)
    hashed = await passwords.hash(PASSWORD)
    await accounts.add(Account(LOGIN, (), (), False, None, False, 0, 0.0, 0.0, hashed, scram, ("cn:Anna",)))
    directory = LocalDirectory(accounts, local, passwords=passwords)
    tls = TlsSettings(client_certificates=ClientCertificates.OPTIONAL, client_ca=clients.ca)
    wanted: dict[str, Any] = {"mechanisms": ALL, "tls": tls, **settings}
    async with submission(folder / "site", people=directory, **wanted) as server:
        yield House(server, accounts, directory, clients)
    directory.close()
    await accounts.close()


@asynccontextmanager
async def session(site: House, *names: str) -> AsyncIterator[Talker]:
    async with await talker(site.server.submissions, tls=site.context(*names)) as client:
        await client.expect(220)
        await client.command("EHLO client.example", 250)
        yield client


async def offered(client: Talker) -> list[str]:
    lines = await client.command("EHLO client.example", 250)
    return next((line.split()[1:] for line in lines if line.startswith("AUTH ")), [])


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def token(login: str = LOGIN, **changed: object) -> str:
    claims = {"iss": "https://id.example", "aud": "pillarbox", "sub": login, "exp": time.time() + 60, **changed}
    return jwt.encode(claims, SECRET, algorithm="HS256")


async def scram(client: Talker, password: str = PASSWORD, login: str = LOGIN, code: int = 334) -> str:
    """The exchange up to the answer to the proof."""
    peer = scramp.ScramClient(["SCRAM-SHA-256"], login, password)
    (first,) = await client.command(f"AUTH SCRAM-SHA-256 {b64(peer.get_client_first())}", 334)
    peer.set_server_first(base64.b64decode(first).decode())
    (answer,) = await client.command(b64(peer.get_client_final()), code)
    if code == 334:
        peer.set_server_final(base64.b64decode(answer).decode())
    return answer


async def sent(client: Talker) -> None:
    await client.command(f"MAIL FROM:<{LOGIN}>", 250)
    await client.command("RSET", 250)


# --- what is offered


async def test_mechanisms_are_offered_by_what_can_work_now(tmp_path: Path) -> None:
    async with house(tmp_path) as site, session(site) as client:
        assert await offered(client) == [name for name in ALL if name != "EXTERNAL"]
        await site.change(scram=None)  # an account without a secret: SCRAM would be refused to its owner
        assert await offered(client) == ["PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"]
        await client.command(f"AUTH SCRAM-SHA-256 {b64('n,,n=anna,r=abc')}", 504)
        await site.change(scram=create_secret(PASSWORD, iterations=4096))
        assert "SCRAM-SHA-256" in await offered(client)
        async with session(site, "Anna") as with_certificate:
            assert await offered(with_certificate) == list(ALL)


async def test_listeners_may_offer_different_mechanisms(tmp_path: Path) -> None:
    async with house(tmp_path, submission_mechanisms=("PLAIN",), submissions_mechanisms=("LOGIN",)) as site:
        async with session(site) as client:
            assert await offered(client) == ["LOGIN"]
            await client.command("AUTH PLAIN", 504)
        async with await talker(site.server.submission) as client:
            await client.expect(220)
            await client.command("EHLO x", 250)
            await client.start_tls(site.context())
            assert await offered(client) == ["PLAIN"]


# --- who gets in


async def test_scram_signs_in_and_the_server_proves_itself(tmp_path: Path) -> None:
    async with house(tmp_path) as site, session(site) as client:
        await scram(client)
        await client.command("", 235)
        await sent(client)
        (success,) = site.server.guard.successes
        assert success.login == LOGIN


async def test_every_failure_of_scram_is_the_one_reply_and_is_counted(tmp_path: Path) -> None:
    async with house(tmp_path) as site, session(site) as client:
        for login, password in ((LOGIN, "wrong"), ("nobody@example.org", PASSWORD), (LOGIN, "wrong")):
            assert [await scram(client, password, login, code=535)] == FAILED
        failures = site.server.guard.failures
        assert [failure.login for failure in failures] == [LOGIN, "nobody@example.org", LOGIN]
        await scram(client)
        await client.command("", 235)


async def test_a_name_that_nobody_has_gets_the_same_salt_each_time(tmp_path: Path) -> None:
    salts = []
    async with house(tmp_path) as site, session(site) as client:
        for name in ("nobody", "nobody", "another"):
            (first,) = await client.command(f"AUTH SCRAM-SHA-256 {b64(f'n,,n={name},r=abc')}", 334)
            salts.append(base64.b64decode(first).decode().split(",")[1:])
            await client.command("*", 501)
    assert salts[0] == salts[1] != salts[2]
    assert not site.server.guard.failures


async def test_a_disabled_account_and_a_password_changed_meanwhile_are_not_let_in(tmp_path: Path) -> None:
    async with house(tmp_path) as site, session(site) as client:
        await scram(client)
        await site.change(scram=create_secret("another", iterations=4096))
        assert await client.command("", 535) == FAILED
        await site.change(disabled=True, scram=create_secret(PASSWORD, iterations=4096))
        # no signature of ours, which would tell that the password was right
        assert [await scram(client, code=535)] == FAILED == [await scram(client, "wrong", code=535)]


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
async def test_an_exchange_that_is_cancelled_counts_as_one_that_failed(tmp_path: Path, mechanism: str) -> None:
    """Else who guesses cancels at the error's challenge, and has as many guesses in a session as commands."""
    async with house(tmp_path) as site, session(site) as client:
        for _ in range(MAX_SIGN_IN_FAILURES - 1):
            await client.command(f"AUTH {mechanism} {oauth(mechanism, 'no.token.atall')}", 334)
            await client.command("*", 501)
        await client.command(f"AUTH {mechanism} {oauth(mechanism, 'no.token.atall')}", 334)
        await client.command("*", 421)
        assert await client.ended()


async def test_a_blocked_address_gets_no_salt(tmp_path: Path) -> None:
    async with house(tmp_path) as site, session(site) as client:
        site.server.guard.verdict = Verdict(False, 0.0, Blocked(until=2e9, failures=12))
        await client.command(f"AUTH SCRAM-SHA-256 {b64('n,,n=anna,r=abc')}", 421)
        assert await client.ended()


def oauth(mechanism: str, bearer: str, login: str = LOGIN) -> str:
    if mechanism == "XOAUTH2":
        return b64(f"user={login}\x01auth=Bearer {bearer}\x01\x01")
    return b64(f"n,a={login},\x01host=localhost\x01port=465\x01auth=Bearer {bearer}\x01\x01")


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
async def test_a_token_signs_its_login_in(tmp_path: Path, mechanism: str) -> None:
    async with house(tmp_path) as site:
        async with session(site) as client:
            await client.command(f"AUTH {mechanism} {oauth(mechanism, token())}", 235)
            await sent(client)
        async with session(site) as client:
            assert await client.command(f"AUTH {mechanism}", 334) == [""]
            await client.command(oauth(mechanism, token()), 235)


@pytest.mark.parametrize(
    ("mechanism", "dummy", "status"), [("XOAUTH2", "", "401"), ("OAUTHBEARER", "AQ==", "invalid_token")]
)
async def test_a_refused_token_has_its_error_document_then_the_one_reply(
    tmp_path: Path, mechanism: str, dummy: str, status: str
) -> None:
    refused = {
        "expired": token(exp=1),
        "of another audience": token(aud="another"),
        "of another issuer": token(iss="https://evil.example"),
        "of another": token("bob@example.org"),
    }
    async with house(tmp_path) as site, session(site) as client:
        for bearer in refused.values():
            (document,) = await client.command(f"AUTH {mechanism} {oauth(mechanism, bearer)}", 334)
            assert json.loads(base64.b64decode(document))["status"] == status
            assert await client.command(dummy, 535) == FAILED
        assert [failure.login for failure in site.server.guard.failures] == [LOGIN] * 4
        await client.command(f"AUTH {mechanism} {oauth(mechanism, token())}", 235)


@pytest.mark.usefixtures("json_log")
async def test_the_log_says_what_is_wrong_with_a_token_and_the_client_hears_nothing_of_it(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    wrong = {
        "audience": token(aud="another"),
        "issuer": token(iss="https://evil.example"),
        "no expiry": token(exp=None),
        "signature": token()[:-8] + "AAAAAAAA",
    }
    async with house(tmp_path) as site, session(site) as client:
        documents = set()
        for bearer in wrong.values():
            documents |= set(await client.command(f"AUTH XOAUTH2 {oauth('XOAUTH2', bearer)}", 334))
            assert await client.command("", 535) == FAILED
    assert len(documents) == 1
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [one["cause"] for one in lines if one["event"] == "signin.failed"] == list(wrong)


@pytest.mark.usefixtures("json_log")
async def test_the_log_says_which_certificate_signed_nobody_in(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    async with house(tmp_path, certificate_signs_in=True) as site, session(site, "Bob") as client:
        assert await client.command("AUTH EXTERNAL =", 535) == FAILED
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    told = [one for one in lines if one["event"] in ("signin.certificate_unknown", "signin.failed")]
    assert [one["event"] for one in told] == ["signin.certificate_unknown", "signin.failed"]
    for one in told:
        assert one["reason"] == "unknown"
        assert "CN=Bob" in one["subject"]
        assert len(bytes.fromhex(one["fingerprint"])) == 32


async def test_a_client_that_says_no_token_has_the_error_document_too(tmp_path: Path) -> None:
    async with house(tmp_path) as site, session(site) as client:
        asks = b64("n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=\x01\x01")
        (document,) = await client.command(f"AUTH OAUTHBEARER {asks}", 334)
        assert json.loads(base64.b64decode(document))["status"] == "invalid_token"
        assert await client.command("AQ==", 535) == FAILED


async def test_a_client_may_cancel_in_the_error_dialogue_and_goes_on(tmp_path: Path) -> None:
    async with house(tmp_path) as site, session(site) as client:
        await client.command(f"AUTH OAUTHBEARER {oauth('OAUTHBEARER', token(exp=1))}", 334)
        await client.command("*", 501)
        await client.command("NOOP", 250)
        assert len(site.server.guard.failures) == 1


async def test_a_certificate_signs_in_by_external(tmp_path: Path) -> None:
    async with house(tmp_path) as site:
        for response in ("=", b64(LOGIN)):
            async with session(site, "Anna") as client:
                await client.command(f"AUTH EXTERNAL {response}", 235)
                await sent(client)
        async with session(site, "Anna") as client:
            assert await client.command("AUTH EXTERNAL", 334) == [""]
            await client.command("", 235)


async def test_a_certificate_is_nobody_elses(tmp_path: Path) -> None:
    async with house(tmp_path) as site:
        async with session(site, "Anna") as client:
            assert await client.command(f"AUTH EXTERNAL {b64('bob@example.org')}", 535) == FAILED
        async with session(site, "Bob") as client:
            assert await client.command("AUTH EXTERNAL =", 535) == FAILED
            await client.sign_in(LOGIN, PASSWORD)
        async with session(site) as client:
            await client.command("AUTH EXTERNAL =", 504)


async def test_a_certificate_of_a_foreign_authority_gets_no_session(tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    async with house(tmp_path) as site:
        issued = Authority(tmp_path / "foreign", "Foreign").issue("Anna", client=True)
        context = site.context()
        context.load_cert_chain(issued.certificate, issued.key)
        with pytest.raises((ssl.SSLError, EOFError, ConnectionError)):
            async with await talker(site.server.submissions, tls=context) as client:
                await client.expect(220)


async def test_where_a_certificate_is_required_nobody_without_gets_a_session(tmp_path: Path) -> None:
    async with house(tmp_path) as site:
        tls = TlsSettings(client_certificates=ClientCertificates.REQUIRED, client_ca=site.clients.ca)
        settings = replace(site.server.site, tls=tls)
        site.server.role.apply(make_plans([settings], {"local": Member("local", site.directory)}))
        async with session(site, "Anna") as client:
            await client.command("AUTH EXTERNAL =", 235)
        with pytest.raises((ssl.SSLError, EOFError, ConnectionError)):
            async with await talker(site.server.submissions, tls=site.context()) as client:
                await client.expect(220)


@pytest.mark.parametrize("implicit", [True, False])
async def test_a_certificate_may_sign_in_without_auth_where_the_site_says_so(tmp_path: Path, implicit: bool) -> None:
    async with house(tmp_path, certificate_signs_in=True) as site:
        if implicit:
            client = await talker(site.server.submissions, tls=site.context("Anna"))
            await client.expect(220)
        else:
            client = await talker(site.server.submission)
            await client.expect(220)
            await client.command("EHLO x", 250)
            await client.start_tls(site.context("Anna"))
        async with client:
            assert await offered(client) == []
            await client.command("AUTH EXTERNAL =", 503)
            await sent(client)
            assert site.server.role.sessions()[0]["login"] == LOGIN
        async with session(site, "Bob") as stranger:
            await stranger.command(f"MAIL FROM:<{LOGIN}>", 530)
            await stranger.sign_in(LOGIN, PASSWORD)


async def test_without_the_option_a_certificate_alone_signs_nobody_in(tmp_path: Path) -> None:
    async with house(tmp_path) as site, session(site, "Anna") as client:
        await client.command(f"MAIL FROM:<{LOGIN}>", 530)


# --- broken and hostile exchanges, the same for each mechanism

GOOD = {
    "PLAIN": b64(f"\0{LOGIN}\0{PASSWORD}"),
    "LOGIN": b64(LOGIN),
    "SCRAM-SHA-256": b64(f"n,,n={LOGIN},r=abcdef"),
    "XOAUTH2": oauth("XOAUTH2", token(exp=time.time() + 3600)),
    "OAUTHBEARER": oauth("OAUTHBEARER", token(exp=time.time() + 3600)),
    "EXTERNAL": "=",
}
EVERY = pytest.mark.parametrize("mechanism", ALL)


@EVERY
async def test_an_exchange_may_be_cancelled_and_the_session_goes_on(tmp_path: Path, mechanism: str) -> None:
    async with house(tmp_path) as site, session(site, "Anna") as client:
        await client.command(f"AUTH {mechanism}", 334)
        assert await client.command("*", 501) == ["5.7.0 Authentication cancelled"]
        await client.sign_in(LOGIN, PASSWORD)
        assert not site.server.guard.failures


@EVERY
async def test_what_is_not_base64_is_501_at_both_places(tmp_path: Path, mechanism: str) -> None:
    async with house(tmp_path) as site, session(site, "Anna") as client:
        await client.command(f"AUTH {mechanism} not*base64", 501)
        await client.command(f"AUTH {mechanism}", 334)
        await client.command("not*base64", 501)
        await client.sign_in(LOGIN, PASSWORD)
        assert not site.server.guard.failures


@EVERY
@pytest.mark.parametrize("octets", [b"a\0b\0c\0d", b"\xff\xfe", b"n,,n=a\0b,r=c"])
async def test_nul_and_what_is_no_text_fail_with_the_one_reply(tmp_path: Path, mechanism: str, octets: bytes) -> None:
    async with house(tmp_path) as site, session(site, "Anna") as client:
        assert await client.command(f"AUTH {mechanism} {b64(octets)}", 535) == FAILED
        await client.sign_in(LOGIN, PASSWORD)


@EVERY
async def test_an_empty_initial_response_is_what_the_mechanism_says(tmp_path: Path, mechanism: str) -> None:
    expected = {"LOGIN": 334, "EXTERNAL": 235}.get(mechanism, 535)
    async with house(tmp_path) as site, session(site, "Anna") as client:
        await client.command(f"AUTH {mechanism} =", expected)


@EVERY
async def test_a_line_over_the_ceiling_is_refused_and_the_next_one_served(tmp_path: Path, mechanism: str) -> None:
    async with house(tmp_path) as site, session(site, "Anna") as client:
        await client.command(f"AUTH {mechanism} {'A' * 20_000}", 500)
        await client.command(f"AUTH {mechanism}", 334)
        await client.command("A" * 20_000, 500)
        await client.command("NOOP", 250)
        await client.sign_in(LOGIN, PASSWORD)


@EVERY
async def test_auth_twice_and_auth_inside_a_transaction_are_503(tmp_path: Path, mechanism: str) -> None:
    async with house(tmp_path) as site, session(site, "Anna") as client:
        await client.sign_in(LOGIN, PASSWORD)
        await client.command(f"AUTH {mechanism} {GOOD[mechanism]}", 503)
        await client.command(f"MAIL FROM:<{LOGIN}>", 250)
        await client.command(f"AUTH {mechanism} {GOOD[mechanism]}", 503)
        await client.command("RCPT TO:<bob@example.net>", 250)


@EVERY
async def test_a_client_that_leaves_inside_the_exchange_leaves_nothing_behind(tmp_path: Path, mechanism: str) -> None:
    async with house(tmp_path) as site:
        async with session(site, "Anna") as client:
            await client.command(f"AUTH {mechanism}", 334)
        await site.server.role.drain(5.0)
        assert not site.server.role.sessions()
        assert not site.server.guard.failures


@pytest.mark.parametrize(
    ("mechanism", "response"),
    [
        ("PLAIN", b64(f"bob@example.org\0{LOGIN}\0{PASSWORD}")),
        ("EXTERNAL", b64("bob@example.org")),
    ],
)
async def test_an_authzid_other_than_oneself_fails_with_the_one_reply(
    tmp_path: Path, mechanism: str, response: str
) -> None:
    async with house(tmp_path) as site, session(site, "Anna") as client:
        assert await client.command(f"AUTH {mechanism} {response}", 535) == FAILED
        assert len(site.server.guard.failures) == 1


async def test_a_token_of_one_does_not_act_as_another(tmp_path: Path) -> None:
    async with house(tmp_path) as site, session(site) as client:
        response = oauth("OAUTHBEARER", token(), "bob@example.org")
        await client.command(f"AUTH OAUTHBEARER {response}", 334)
        assert await client.command("AQ==", 535) == FAILED


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "XOAUTH2", "OAUTHBEARER", "EXTERNAL"])
async def test_a_directory_out_of_reach_is_454_never_535(
    tmp_path: Path, mechanism: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(*_: object) -> None:
        raise Unavailable("out of reach")

    async with house(tmp_path) as site, session(site, "Anna") as client:
        monkeypatch.setattr(site.accounts, "find", unreachable)
        monkeypatch.setattr(site.accounts, "find_certified", unreachable)
        await client.command(f"AUTH {mechanism} {GOOD[mechanism]}", 454)
        assert not site.server.guard.failures


async def test_a_certificate_is_not_recognised_while_the_directory_is_out_of_reach(tmp_path: Path) -> None:
    async with house(tmp_path, certificate_signs_in=True) as site:
        await site.accounts.close()
        async with session(site, "Anna") as client:
            await client.command(f"MAIL FROM:<{LOGIN}>", 530)
