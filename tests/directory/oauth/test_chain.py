"""A directory of tokens in a chain with others: it takes no part where a password or a secret is asked for."""

from typing import Literal

from pillarbox.directory.base import Denied, Identity, Reason
from pillarbox.directory.chain import Chain, Member, make_chain
from pillarbox.directory.oauth.directory import OauthDirectory
from pillarbox.directory.oauth.settings import OauthSettings
from pillarbox.sasl.mechanism import (
    Credentials,
    PasswordCredentials,
    ProvenCredentials,
    ScramSecret,
    TokenCredentials,
    TokenHint,
)

ANNA = Identity("anna", frozenset())


class Tokens:
    """Takes the token "good", and must be asked nothing else."""

    without_passwords: Literal[True] = True
    offers_tokens = True
    token_hint = TokenHint("smtp", "https://id.example.org/.well-known/openid-configuration")

    async def verify(self, credentials: Credentials, *, known_place: bool) -> Identity | Denied:
        raise AssertionError("asked about a password")

    async def verify_token(self, credentials: TokenCredentials, *, known_place: bool) -> Identity | Denied:
        return ANNA if credentials.token == "good" else Denied(Reason.WRONG)


class Accounts:
    """Knows anna, and has a secret for everybody."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def knows(self, login: str) -> bool:
        return login == "anna"

    async def verify(self, credentials: Credentials, *, known_place: bool) -> Identity | Denied:
        self.asked.append(credentials.authcid)
        return ANNA if credentials.authcid == "anna" else Denied(Reason.UNKNOWN)

    def offers_scram(self, counts: object) -> bool:
        return True

    async def scram_secret(self, authcid: str) -> ScramSecret:
        return ScramSecret(4096, b"salt", b"stored", b"server")

    async def verify_proof(self, credentials: ProvenCredentials) -> Identity | Denied:
        return ANNA


async def test_passwords_and_scram_go_past_it_wherever_it_stands() -> None:
    for order in ((0, 1), (1, 0)):
        accounts = Accounts()
        members = (Member("corp", Tokens()), Member("local", accounts))
        chain = Chain([members[number] for number in order])
        assert chain.offers_scram(lambda _: True)
        assert (await chain.scram_secret("nobody")).salt == b"salt"
        assert await chain.verify(PasswordCredentials("anna", "x"), known_place=True) == ANNA
        assert await chain.verify(PasswordCredentials("bob", "x"), known_place=True) == Denied(Reason.UNKNOWN)
        assert accounts.asked == ["anna", "bob"]  # unknown people cost what known ones do
        assert await chain.verify_token(TokenCredentials("", "good"), known_place=True) == ANNA
        assert await chain.verify_token(TokenCredentials("", "bad"), known_place=True) == Denied(Reason.WRONG)


async def test_alone_there_is_no_scram_and_no_password() -> None:
    chain = Chain([Member("corp", Tokens(), ("*",))])
    assert chain.offers_tokens and not chain.offers_scram(lambda _: True)
    assert await chain.verify(PasswordCredentials("anna", "x"), known_place=True) == Denied(Reason.UNKNOWN)


def test_the_chain_hints_at_tokens_as_its_first_member_that_can() -> None:
    settings = OauthSettings(name="b", issuer="https://id.example.net/", scopes=("mail", "send"))
    real = OauthDirectory(settings)
    assert real.token_hint == TokenHint("mail send", "https://id.example.net/.well-known/openid-configuration")
    chain = make_chain([Member("local", Accounts()), Member("a", Tokens()), Member("b", real)])
    assert isinstance(chain, Chain) and chain.token_hint == Tokens.token_hint
    assert Chain([Member("local", Accounts())]).token_hint == TokenHint()
