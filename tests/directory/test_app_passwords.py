"""app_passwords.py: what one looks like, who it is good for, from where, until when, and as whom."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.directory.test_local import Lookup

from pillarbox.directory.app_passwords import AppPasswords, Made, is_one, make
from pillarbox.directory.base import Account, Denied, Identity, Reason, Unavailable
from pillarbox.directory.local import identity
from pillarbox.sasl.mechanism import Credentials, PasswordCredentials

NOW = 1_800_000_000.0
BOB = Account("bob", ("bob@example.org", "b@example.org"), ("example.net",), True, None, False, 7, 0, 0, "hash", None)
ANNA = replace(BOB, login="anna", addresses=(), domains=(), password_hash="", generation=9)
AT_HOME = Identity("Anna Smith/ORG", frozenset({"anna@example.org", "info@example.org"}), source="corp")


class People:
    """A directory that says who somebody is; never asked for a password here."""

    def __init__(self, *answers: Identity | Denied | Exception) -> None:
        self.answers = list(answers)
        self.bob: Identity | Denied = identity(BOB)
        self.asked: list[str] = []

    async def verify(self, credentials: Credentials, *, known_place: bool) -> Identity | Denied:
        raise AssertionError("an app password is not handed on")

    async def find_person(self, login: str) -> Identity | Denied:
        if login == "bob":
            return self.bob
        self.asked.append(login)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Setting:
    """Bob, who has an account, and Anna, who is another directory's."""

    def __init__(self, made: Made, *answers: Identity | Denied | Exception) -> None:
        self.password = made.password
        self.directory = People(*answers)
        self.now = NOW
        self.uses: list[tuple[str, str, str]] = []
        self.lookup = Lookup(*(replace(account, app_passwords=(made.stored,)) for account in (BOB, ANNA)))
        self.app_passwords = AppPasswords(self.lookup, used=self._note, now=lambda: self.now)

    def _note(self, login: str, id_: str, address: str) -> None:
        self.uses.append((login, id_, address))

    async def sign_in(
        self,
        login: str = "bob",
        password: str | None = None,
        address: str = "192.0.2.7",
        authzid: str = "",
        site: str = "mail.example.org",
    ) -> Identity | Denied:
        credentials = PasswordCredentials(login, self.password if password is None else password, authzid)
        return await self.app_passwords.verify(credentials, address, site, self.directory)


def made(expires_at: float | None = None, networks: tuple[str, ...] = (), addresses: tuple[str, ...] = ()) -> Made:
    return make(
        "scanner, 2nd floor",
        now=NOW,
        expires_at=expires_at,
        networks=networks,
        addresses=addresses,
        directory="corp",
    )


def refused(answer: Identity | Denied) -> Reason:
    assert isinstance(answer, Denied)
    return answer.reason


def test_each_is_drawn_anew_and_has_its_form() -> None:
    drawn = [made() for _ in range(50)]
    assert len({each.password for each in drawn}) == len({each.stored.id for each in drawn}) == 50
    assert all(is_one(each.password) and len(each.password) == 29 for each in drawn)
    assert all(
        each.password not in repr(each.stored) and each.stored.digest not in repr(each.stored) for each in drawn
    )


@pytest.mark.parametrize(
    "password", ["", "pbap", "pbap-", "secret", "pbap-aaaa-aaaa-aaaa-aaaa", "pbap" + "a" * 21, "xbap" + "a" * 20]
)
def test_peoples_own_passwords_have_another_form(password: str) -> None:
    assert not is_one(password)


def close_together(text: str) -> str:
    return text.replace("-", "")


def spaced(text: str) -> str:
    return text.replace("-", " ")


@pytest.mark.parametrize("typed", [str, str.upper, close_together, spaced])
async def test_it_may_be_typed_as_people_type(typed: Callable[[str], str]) -> None:
    one = made()
    assert is_one(typed(one.password))
    answer = await Setting(one).sign_in(password=typed(one.password))
    assert isinstance(answer, Identity)
    assert (answer.login, answer.account, answer.generation) == ("bob", "bob", 7)
    assert answer.addresses == {"bob@example.org", "b@example.org"}


async def test_each_use_is_told_and_no_failure() -> None:
    setting = Setting(one := made())
    await setting.sign_in()
    await setting.sign_in(password=made().password)
    assert setting.uses == [("bob", one.stored.id, "192.0.2.7")]


async def test_another_one_an_unknown_person_and_another_authzid_get_nothing() -> None:
    setting = Setting(made())
    assert refused(await setting.sign_in(password=made().password)) is Reason.WRONG
    assert refused(await setting.sign_in("nobody")) is Reason.UNKNOWN
    assert refused(await setting.sign_in(authzid="anna")) is Reason.WRONG
    assert refused(await setting.sign_in("")) is Reason.WRONG
    assert refused(await setting.sign_in("b\0b")) is Reason.WRONG
    assert refused(await setting.sign_in("b" * 10_000)) is Reason.WRONG
    assert isinstance(await setting.sign_in(authzid="BOB"), Identity)


async def test_a_disabled_account_has_no_app_passwords_either() -> None:
    setting = Setting(made())
    setting.directory.bob = Denied(Reason.DISABLED, "bob")
    assert refused(await setting.sign_in()) is Reason.DISABLED


async def test_it_ends_when_it_was_said_to() -> None:
    setting = Setting(made(expires_at=NOW + 60))
    assert isinstance(await setting.sign_in(), Identity)
    setting.now += 60
    assert refused(await setting.sign_in()) is Reason.EXPIRED


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("10.20.3.4", True),
        ("::ffff:10.20.3.4", True),
        ("2001:db8::5", True),
        ("10.21.0.1", False),
        ("2001:db9::", False),
        ("unix", False),
    ],
)
async def test_from_elsewhere_it_is_not_good(address: str, good: bool) -> None:
    answer = await Setting(made(networks=("10.20.0.1/16", "2001:db8::/32"))).sign_in(address=address)
    assert isinstance(answer, Identity) == good
    if isinstance(answer, Denied):
        assert answer.reason is Reason.ELSEWHERE
        assert "10.20.0.0/16" in answer.details["cause"]


async def test_it_may_send_as_less_than_the_person_and_never_as_more() -> None:
    answer = await Setting(made(addresses=("b@example.org", "any@example.net", "ceo@example.com"))).sign_in()
    assert isinstance(answer, Identity)
    assert answer.addresses == {"b@example.org", "any@example.net"}
    assert not answer.domains
    assert not answer.may_redirect


async def test_who_another_directorys_person_is_that_one_says() -> None:
    setting = Setting(made(), AT_HOME, Denied(Reason.DISABLED, "Anna Smith/ORG"))
    answer = await setting.sign_in("anna")
    assert answer == replace(AT_HOME, account="anna", generation=9)
    assert await setting.sign_in("Anna") == answer
    assert setting.directory.asked == ["anna"], "asked again only after a while"


async def test_who_is_disabled_in_their_directory_is_so_here_and_its_silence_is_no_refusal() -> None:
    setting = Setting(made(), Denied(Reason.DISABLED, "Anna Smith/ORG"), Unavailable("gone"), AT_HOME)
    assert refused(await setting.sign_in("anna")) is Reason.DISABLED
    with pytest.raises(Unavailable):
        await setting.sign_in("anna")
    assert isinstance(await setting.sign_in("anna"), Identity)


async def test_at_another_site_another_person_of_that_name_is_not_let_in() -> None:
    stranger = Identity("anna", frozenset({"ceo@example.com"}), source="partner")
    setting = Setting(made(), AT_HOME, stranger, Denied(Reason.UNKNOWN))
    assert isinstance(await setting.sign_in("anna"), Identity)
    assert refused(await setting.sign_in("anna", site="mail.example.com")) is Reason.ELSEWHERE
    assert refused(await setting.sign_in("anna", site="mail.example.net")) is Reason.UNKNOWN


async def test_an_account_is_good_only_where_the_local_directory_says_so() -> None:
    setting = Setting(made())
    setting.directory.bob = Identity("bob", frozenset({"bob@example.com"}), source="partner")
    assert refused(await setting.sign_in()) is Reason.ELSEWHERE
    setting.directory.bob = Denied(Reason.UNKNOWN)
    assert refused(await setting.sign_in()) is Reason.UNKNOWN


@pytest.mark.parametrize(
    "wrong",
    [{"label": " "}, {"label": "x" * 101}, {"label": "a\nb"}, {"expires_at": NOW}, {"networks": ("10.0.0.0/33",)}],
)
def test_what_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"label|expired|network"):
        make(**{"label": "scanner", "now": NOW, **wrong})  # type: ignore[arg-type]  # that is what it is about
