"""chain.py: the first that knows the person decides, and what becomes of those that cannot say."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tests.directory.scripted import CUT, Setting

from pillarbox.directory.base import Denied, Directory, Identity, Reason, Unavailable
from pillarbox.directory.chain import Chain, Member, make_chain, matches
from pillarbox.sasl.mechanism import (
    Credentials,
    PasswordCredentials,
    ProvenCredentials,
    ScramSecret,
    TokenCredentials,
)

AWAY = Unavailable("away")


def secret(name: str) -> ScramSecret:
    """One that is told by its salt."""
    return ScramSecret(4096, name.encode(), b"stored", b"server")


@dataclass
class Local:
    """Knows at once who is its own, and hashes for each password; with all other abilities."""

    passwords: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, Identity | Denied] = field(default_factory=dict)
    hashed: list[str] = field(default_factory=list)
    away: bool = False
    scram: bool = True

    async def knows(self, login: str) -> bool:
        if self.away:
            raise AWAY
        return login in self.passwords

    async def verify(self, credentials: Credentials, *, known_place: bool) -> Identity | Denied:
        login = credentials.authcid
        self.hashed.append(login)
        if login not in self.passwords:
            return Denied(Reason.UNKNOWN)
        right = self.passwords[login] == credentials.password
        return Identity(login, frozenset(), source="local") if right else Denied(Reason.WRONG, login)

    async def find_person(self, login: str) -> Identity | Denied:
        return Identity(login, frozenset()) if await self.knows(login) else Denied(Reason.UNKNOWN)

    def offers_scram(self, counts: Callable[[str], bool]) -> bool:
        return self.scram

    async def scram_secret(self, authcid: str) -> ScramSecret:
        return secret("real" if await self.knows(authcid) else "false")

    async def verify_proof(self, credentials: ProvenCredentials) -> Identity | Denied:
        return Identity(credentials.authcid, frozenset()) if await self.knows(credentials.authcid) else self.nobody

    nobody = Denied(Reason.UNKNOWN)

    @property
    def offers_tokens(self) -> bool:
        return True

    async def verify_token(self, credentials: TokenCredentials, *, known_place: bool) -> Identity | Denied:
        if self.away:
            raise AWAY
        return self.tokens.get(credentials.token, Denied(Reason.WRONG, details={"cause": "not ours"}))

    @property
    def offers_certificates(self) -> bool:
        return True

    async def verify_certificate(self, certificate: bytes, authzid: str) -> Identity | Denied:
        return await self.verify_token(TokenCredentials("", certificate.decode()), known_place=True)


async def ask(directory: Directory, password: str = "right", login: str = "anna") -> str:
    """The source or, of a refusal, the reason; "unavailable"."""
    try:
        answer = await directory.verify(PasswordCredentials(login, password), known_place=True)
    except Unavailable:
        return "unavailable"
    return answer.reason.name.lower() if isinstance(answer, Denied) else answer.source


def upstream(name: str, *people: str, opaque: bool = False, password: str = "right") -> Setting:
    """A server behind with these people."""
    setting = Setting(name=name, opaque=opaque)
    setting.backend.people.clear()
    setting.backend.passwords.clear()
    for login in people:
        setting.backend.add(login, password)
    return setting


def chain(*members: tuple[str, Directory] | tuple[str, Directory, tuple[str, ...]]) -> Directory:
    return make_chain([Member(*member) for member in members])


async def test_the_first_that_knows_the_person_decides_even_when_a_later_one_would_let_in() -> None:
    corp, other = upstream("corp", "anna"), upstream("other", "anna", "bob", password="other")
    both = chain(("corp", corp.upstream), ("other", other.upstream))
    assert await ask(both) == "corp"
    assert await ask(both, "other") == "wrong"
    assert other.backend.found == []
    assert await ask(both, "other", "bob") == "other"
    assert await ask(both, "x", "nobody") == "unknown"
    corp.backend.add("bob", "right", denied=Reason.DISABLED)
    assert await ask(both, "a new one", "bob") == "disabled"


async def test_who_is_not_local_costs_no_local_hash_and_who_is_nowhere_costs_one() -> None:
    local, corp = Local({"printer": "right"}), upstream("corp", "anna")
    both = chain(("local", local), ("corp", corp.upstream))
    assert await ask(both) == "corp"
    assert local.hashed == []
    assert await ask(both, login="printer") == "local"
    assert corp.backend.found == ["anna"]
    local.hashed.clear()
    assert await ask(both, login="nobody") == "unknown"
    assert local.hashed == ["nobody"]


@pytest.mark.parametrize(("password", "answer"), [("right", "other"), ("wrong", "wrong")])
async def test_one_that_cannot_say_is_passed_over_when_a_later_one_knows_the_person(
    password: str, answer: str
) -> None:
    corp, other = upstream("corp", "anna"), upstream("other", "anna")
    corp.backend.raises = CUT
    both = chain(("corp", corp.upstream), ("other", other.upstream))
    assert await ask(both, password) == answer
    assert await ask(both, password, "bob") == "unavailable", "who knows whether corp does"


async def test_a_later_one_that_cannot_say_matters_only_to_those_whom_nobody_before_it_knows() -> None:
    corp, other = upstream("corp", "anna"), upstream("other", "bob")
    other.backend.raises = CUT
    both = chain(("corp", corp.upstream), ("other", other.upstream))
    assert [await ask(both), await ask(both, "wrong"), await ask(both, login="bob")] == [
        "corp",
        "wrong",
        "unavailable",
    ]


async def test_local_accounts_that_cannot_be_asked_stop_nobody_whom_another_knows() -> None:
    local, corp = Local(away=True), upstream("corp", "anna")
    both = chain(("local", local), ("corp", corp.upstream))
    assert await ask(both) == "corp"
    assert await ask(both, login="nobody") == "unavailable"


async def test_no_refusal_of_one_that_can_only_say_no_is_sure() -> None:
    corp, mailbox = upstream("corp", "anna"), upstream("mailbox", "bob", opaque=True)
    both = chain(("corp", corp.upstream), ("mailbox", mailbox.upstream))
    assert await ask(both, "wrong", "bob") == "opaque"
    corp.backend.raises = CUT
    assert await ask(both, "wrong", "bob") == "unavailable"
    assert await ask(both, "again", "anna") == "unavailable"
    assert await ask(both, "right", "bob") == "mailbox"
    for number in range(9):
        assert await ask(both, f"guess {number}", "carol") == "unavailable", "nor that of the spent tries"


async def test_one_that_can_only_say_no_decides_for_its_names_and_those_behind_it_for_others() -> None:
    mailbox = upstream("mailbox", "bob@mail.example", opaque=True)
    corp = upstream("corp", "anna", "bob@mail.example")
    both = chain(("mailbox", mailbox.upstream, ("*@MAIL.example",)), ("corp", corp.upstream))
    assert await ask(both, "wrong", "Bob@Mail.Example") == "opaque"
    assert await ask(both) == "corp"
    assert corp.backend.found == ["anna"]
    assert mailbox.backend.found == ["Bob@Mail.Example"]


async def test_a_login_of_nobodys_pattern_is_nobodys_and_costs_a_hash_where_there_is_one() -> None:
    local, corp = Local({"anna": "right"}), upstream("corp", "anna")
    both = chain(("local", local, ("*-printer",)), ("corp", corp.upstream, ("*@example.org",)))
    assert await ask(both) == "unknown"
    assert local.hashed == ["anna"] and corp.backend.found == []


def test_a_directory_alone_is_itself_unless_it_has_patterns() -> None:
    corp = upstream("corp")
    assert chain(("corp", corp.upstream)) is corp.upstream
    assert isinstance(chain(("corp", corp.upstream, ("*@x",))), Chain)


@pytest.mark.parametrize(
    ("login", "patterns", "expected"),
    [
        ("anna", (), True),
        ("Anna@Example.ORG", ("*@example.org",), True),
        ("anna@example.org.evil", ("*@example.org",), False),
        ("anna", ("ann?", "b*"), True),
        ("anna\0@example.org", ("*@example.org",), False),
        ("anna\n@example.org", ("*@example.org",), False),
        ("STRASSE/org", ("stra\u00dfe/*",), True),
        ("jose\u0301", ("jos\u00e9",), True),
    ],
)
def test_patterns_are_those_of_a_shell_without_case(login: str, patterns: tuple[str, ...], expected: bool) -> None:
    assert matches(login, patterns) is expected


async def test_people_are_found_at_whoever_can_say() -> None:
    corp, mailbox = upstream("corp", "anna"), upstream("mailbox", "bob", opaque=True)
    both = Chain([Member("corp", corp.upstream), Member("mailbox", mailbox.upstream)])
    found = await both.find_person("anna")
    assert isinstance(found, Identity) and found.source == "corp"
    found = await both.find_person("bob")
    assert isinstance(found, Identity) and found.source == "mailbox", "who can only say no takes anybody for somebody"
    corp.backend.raises = CUT
    only = Chain([Member("corp", corp.upstream), Member("other", upstream("other", "carol").upstream)])
    with pytest.raises(Unavailable):
        await only.find_person("bob")
    found = await only.find_person("carol")
    assert isinstance(found, Identity) and found.source == "other"


# -- SCRAM, tokens, certificates


async def test_scram_is_offered_when_all_members_have_it_and_asked_of_who_knows_the_person() -> None:
    one, other = Local({"anna": "x"}), Local({"bob": "x"})
    both = Chain([Member("one", one), Member("other", other)])
    assert both.offers_scram(lambda _: True)
    assert [(await both.scram_secret(login)).salt for login in ("anna", "bob", "nobody")] == [
        b"real",
        b"real",
        b"false",
    ]
    answer = await both.verify_proof(ProvenCredentials("bob", "", secret("real")))
    assert isinstance(answer, Identity)
    other.scram = False
    assert not both.offers_scram(lambda _: True)
    assert not Chain([Member("one", one), Member("corp", upstream("corp").upstream)]).offers_scram(lambda _: True)


async def token(directory: Chain, said: str, how: str) -> str:
    """The login, or the reason."""
    try:
        if how == "token":
            answer = await directory.verify_token(TokenCredentials("", said), known_place=True)
        else:
            answer = await directory.verify_certificate(said.encode(), "")
    except Unavailable:
        return "unavailable"
    return answer.reason.name.lower() if isinstance(answer, Denied) else answer.login


@pytest.mark.parametrize("how", ["token", "certificate"])
async def test_a_token_or_certificate_is_good_at_the_first_that_knows_it(how: str) -> None:
    anna, bob = Identity("anna", frozenset()), Identity("bob", frozenset())
    one = Local(tokens={"a": anna, "both": anna, "gone": Denied(Reason.DISABLED, "carol")})
    other = Local(tokens={"b": bob, "both": bob, "gone": Identity("carol", frozenset())})
    both = Chain([Member("one", one), Member("corp", upstream("corp").upstream), Member("other", other)])
    assert both.offers_tokens and both.offers_certificates
    answers = [await token(both, said, how) for said in ("a", "b", "both", "neither", "gone")]
    assert answers == ["anna", "bob", "anna", "wrong", "disabled"]
    one.away = True
    assert [await token(both, said, how) for said in ("a", "b")] == ["unavailable", "bob"]


async def test_a_token_for_a_login_that_is_not_the_directorys_lets_nobody_in() -> None:
    one = Local(tokens={"a": Identity("anna", frozenset())})
    both = Chain([Member("one", one, ("*@example.org",))])
    assert await token(both, "a", "token") == "elsewhere"


async def test_nothing_is_offered_that_no_member_can() -> None:
    plain = Chain([Member("corp", upstream("corp").upstream, ("*",))])
    assert not plain.offers_tokens and not plain.offers_certificates
    assert await token(plain, "a", "token") == "unknown"


def certificate(email: str) -> bytes:
    """One of a person with this address."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(x509.Name([]))
    builder = builder.public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    names = x509.SubjectAlternativeName([x509.RFC822Name(email)])
    return builder.add_extension(names, critical=False).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


@dataclass
class Marks(Local):
    """Local accounts of which one may name the certificate."""

    marked: Identity | Denied = field(default_factory=lambda: Denied(Reason.UNKNOWN))

    async def verify_certificate(self, certificate: bytes, authzid: str) -> Identity | Denied:
        if self.away:
            raise AWAY
        return self.marked


async def shown(members: list[tuple[str, Directory]], email: str = "anna@example.org", authzid: str = "") -> str:
    """The login, the reason or "unavailable"."""
    directory = make_chain([Member(*member) for member in members], "san-email")
    assert isinstance(directory, Chain)
    assert directory.offers_certificates
    try:
        answer = await directory.verify_certificate(certificate(email), authzid)
    except Unavailable:
        return "unavailable"
    return answer.reason.name.lower() if isinstance(answer, Denied) else f"{answer.login} of {answer.source}"


async def test_a_certificate_that_an_account_names_is_that_accounts_whatever_name_is_in_it() -> None:
    corp = upstream("corp", "anna@example.org")
    local = Marks(marked=Identity("carl", frozenset(), source="local"))
    assert await shown([("corp", corp.upstream), ("local", local)]) == "carl of local"
    for reason in (Reason.DISABLED, Reason.WRONG):  # it is somebody's, and that one is not let in
        assert await shown([("local", Marks(marked=Denied(reason, "carl"))), ("corp", corp.upstream)]) != "anna"
        assert corp.backend.found == []


async def test_a_certificate_that_none_names_is_of_whom_the_chain_finds_under_the_name_in_it() -> None:
    corp = upstream("corp", "anna@example.org")
    members: list[tuple[str, Directory]] = [("local", Marks()), ("corp", corp.upstream)]
    assert await shown(members) == "anna@example.org of corp"
    assert await shown(members, authzid="Anna@Example.org") == "anna@example.org of corp"
    assert await shown(members, authzid="bob@example.org") == "wrong"
    assert await shown(members, authzid="a\0b") == "wrong"
    assert await shown(members, "bob@example.org") == "unknown"
    assert corp.backend.checked == []


async def test_a_directory_that_can_only_say_no_finds_nobody_by_certificate() -> None:
    box, corp = upstream("box", opaque=True), upstream("corp", "anna@example.org")
    assert await shown([("box", box.upstream)]) == "opaque"
    assert await shown([("corp", corp.upstream), ("box", box.upstream)]) == "anna@example.org of corp"
    assert await shown([("box", box.upstream), ("corp", corp.upstream)]) == "opaque"


async def test_while_one_that_may_know_the_certificates_holder_is_away_nobody_else_is() -> None:
    corp = upstream("corp", "anna@example.org")
    away = Marks(away=True)
    assert await shown([("local", away), ("corp", corp.upstream)]) == "unavailable"


@dataclass
class Spends:
    """Can only say no, and counts each token as a wrong try of the name beside it: five, and then it is LOCKED."""

    opaque: bool = True
    asked: list[str] = field(default_factory=list)

    async def verify(self, credentials: Credentials, *, known_place: bool) -> Identity | Denied:
        return Denied(Reason.OPAQUE)

    offers_tokens = True

    async def verify_token(self, credentials: TokenCredentials, *, known_place: bool) -> Identity | Denied:
        self.asked.append(credentials.login)
        return Denied(Reason.LOCKED, credentials.login)


async def test_spent_tries_at_one_directory_keep_no_token_from_a_later_one() -> None:
    anna = Identity("anna@example.org", frozenset())
    spends, provider = Spends(), Local(tokens={"good": anna})
    before = Chain([Member("box", spends, ("*@example.org",)), Member("provider", provider)])
    after = Chain([Member("provider", provider), Member("box", spends, ("*@example.org",))])
    alone = Chain([Member("box", spends, ("*@example.org",)), Member("corp", upstream("corp").upstream)])
    for chain in (before, after):
        good = await chain.verify_token(TokenCredentials("anna@example.org", "good"), known_place=False)
        assert good == anna
    for chain in (before, after, alone):
        bad = await chain.verify_token(TokenCredentials("anna@example.org", "bad"), known_place=False)
        assert isinstance(bad, Denied)
        assert (bad.reason is Reason.LOCKED) is (chain is not before)


async def test_a_token_beside_a_name_of_another_directory_is_no_try_of_it() -> None:
    spends = Spends()
    chain = Chain([Member("box", spends, ("*@example.org",))])
    for login in ("anna@other.example", ""):
        answer = await chain.verify_token(TokenCredentials(login, "token"), known_place=True)
        assert isinstance(answer, Denied)
    assert spends.asked == []


async def test_a_locked_account_that_a_directory_knows_decides_as_ever() -> None:
    locked, other = (
        Local(tokens={"t": Denied(Reason.LOCKED, "anna")}),
        Local(tokens={"t": Identity("anna", frozenset())}),
    )
    assert await token(Chain([Member("one", locked), Member("other", other)]), "t", "token") == "locked"
