"""An Active Directory and a Domino, as slapd can play them: who is found by which name, and why one is not let in."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from tests.support import slapd_tree
from tests.support.ldap_front import Front
from tests.support.slapd import Slapd

from pillarbox.directory.base import Denied, Identity, Reason, Unavailable
from pillarbox.directory.ldap.backend import LdapBackend

CORP = slapd_tree.ACTIVE_DIRECTORY
PASSWORD = slapd_tree.PASSWORD
NUMBERS = ("52e", "530", "532", "533", "701", "773", "775")
Make = Callable[..., LdapBackend]


@pytest.fixture
async def front(slapd: Slapd) -> AsyncIterator[Front]:
    """A relay that answers as a domain controller."""
    front = await Front(
        slapd.port,
        windows=True,
        numbers={f"cn=data {number},ou=staff,{CORP}": number for number in NUMBERS},
        groups=slapd_tree.GROUPS_IN_GROUPS,
    ).start()
    yield front
    await front.stop()


@pytest.fixture
async def make(slapd: Slapd, front: Front) -> AsyncIterator[Make]:
    """A backend with this preset; Active Directory's has the relay before it."""
    async with AsyncExitStack() as stack:

        def made(preset: str, **keys: Any) -> LdapBackend:
            if preset == "active-directory":
                keys = {"servers": [front.uri], "starttls": False} | keys
            backend = LdapBackend(slapd.settings(preset, **keys))
            stack.callback(backend.close)
            return backend

        yield made


# ---- Active Directory


@pytest.mark.parametrize(
    "login", ["anna", "CORP\\anna", "Anna@corp.example", "anna@example.org", "A.Smith@example.org"]
)
async def test_active_directory_finds_each_name_of_somebody(make: Make, login: str) -> None:
    person = await make("active-directory").find(login)
    assert person is not None
    assert person.identity == Identity("anna", frozenset({"anna@example.org", "a.smith@example.org"}))


async def test_a_computer_is_nobody(make: Make) -> None:
    assert await make("active-directory").find("pc1$") is None


@pytest.mark.parametrize(
    ("login", "reason"),
    [
        ("bob", Reason.DISABLED),
        ("late", Reason.EXPIRED),
        ("never", None),
        ("locked", Reason.LOCKED),
        ("waslocked", None),
        ("oldpassword", Reason.EXPIRED),
    ],
)
async def test_active_directory_says_who_may_not(make: Make, login: str, reason: Reason | None) -> None:
    person = await make("active-directory").find(login)
    assert person is not None
    assert person.denied is reason


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        ("52e", Reason.WRONG),
        ("530", Reason.DISABLED),
        ("532", Reason.EXPIRED),
        ("533", Reason.DISABLED),
        ("701", Reason.EXPIRED),
        ("773", Reason.EXPIRED),
        ("775", Reason.LOCKED),
    ],
)
async def test_the_number_in_a_refused_bind_is_the_reason(make: Make, number: str, reason: Reason) -> None:
    backend = make("active-directory")
    person = await backend.find(f"data{number}")
    assert person is not None
    assert await backend.check(person, PASSWORD) == Denied(reason, f"data{number}")


async def test_groups_in_groups_count(make: Make) -> None:
    group = {"dn": f"cn=applications,ou=groups,{CORP}", "domains": ["example.org"]}
    backend = make("active-directory", group=[group])
    crm, anna = await backend.find("crm"), await backend.find("anna")
    assert crm is not None
    assert anna is not None
    assert (crm.identity.domains, anna.identity.domains) == (frozenset({"example.org"}), frozenset())


async def test_a_login_as_a_user_principal_name_binds_directly(make: Make) -> None:
    # slapd takes only distinguished names: what it says to another is a no to everybody
    backend = make("active-directory", bind_as="{login}@corp.example", bind_dn=None, password_file=None)
    person = await backend.find("anna")
    assert person is not None
    answer = await backend.check(person, PASSWORD)
    assert isinstance(answer, Denied)
    assert answer.reason is Reason.OPAQUE


ANNA = f"cn=Anna Smith,ou=staff,{CORP}"
AS_PRINCIPAL: dict[str, Any] = {"bind_as": "{login}@corp.example", "bind_dn": None, "password_file": None}


async def test_the_entry_that_is_found_is_the_one_that_the_password_is_of(make: Make, front: Front) -> None:
    front.accounts["anna@corp.example"] = ANNA
    backend = make("active-directory", base=ANNA, **AS_PRINCIPAL)  # as slapd lets her read only her own
    person = await backend.find("anna")
    assert person is not None
    assert await backend.check(person, PASSWORD) == Identity(
        "anna", frozenset({"anna@example.org", "a.smith@example.org"})
    )
    binds = [asked for asked in front.asked if asked.startswith("bind ") and asked != "bind "]
    assert [bind.lower() for bind in binds] == ["bind anna@corp.example", f"bind {ANNA}".lower()]
    refused = await backend.check(person, "wrong")
    assert isinstance(refused, Denied)
    assert refused.reason is Reason.OPAQUE


@pytest.mark.parametrize("number", ["52e", "533", "775"])
async def test_another_s_password_does_not_open_the_entry_of_that_name(make: Make, front: Front, number: str) -> None:
    # whose explicit principal name that is may read all entries, and is not anna
    front.accounts["anna@corp.example"] = slapd_tree.SERVICE[CORP]
    front.numbers = {ANNA.lower(): number}
    backend = make("active-directory", **AS_PRINCIPAL)
    person = await backend.find("anna")
    assert person is not None
    answer = await backend.check(person, slapd_tree.SERVICE_PASSWORD)
    assert isinstance(answer, Denied)
    assert (answer.reason, answer.login) == (Reason.OPAQUE, "anna")
    assert front.asked[-1].lower() == f"bind {ANNA}".lower()


async def test_a_login_with_its_domain_in_front_is_nobody_s_in_a_name_that_is_no_dn(make: Make) -> None:
    keys = AS_PRINCIPAL | {"bind_as": "{login}"}
    for preset in ("active-directory", "openldap"):
        assert await make(preset, **keys).find("TRUSTED\\anna") is None
        assert await make(preset, **keys).find("anna") is not None
    assert await make("openldap", **keys | {"bind_as": "uid={login},o=x"}).find("CORP\\anna") is not None


# ---- Domino


@pytest.mark.parametrize(
    "login",
    [
        "Jada Correr/Sales/ACME",
        "jada correr/sales/acme",
        "CN=Jada Correr/OU=Sales/O=ACME",
        "CN=Jada Correr,OU=Sales,O=ACME",
        "jada_correr@EXAMPLE.org",
    ],
)
async def test_domino_finds_the_one_that_a_name_means(make: Make, login: str) -> None:
    backend = make("domino")
    person = await backend.find(login)
    assert person is not None
    assert person.identity.login == "Jada Correr/Sales/ACME"
    assert person.identity.addresses == {"jada_correr@example.org", "jada.correr@example.org"}
    assert await backend.check(person, PASSWORD) == person.identity


@pytest.mark.parametrize("login", ["Jada Correr", "CN=Jada Correr"])
async def test_a_common_name_of_two_people_is_nobodys(make: Make, login: str) -> None:
    assert await make("domino").find(login) is None


@pytest.mark.parametrize(
    ("login", "fewer", "more"),
    [
        ("Anna Smith", "Anna Smith/ACME", "Anna Smith/ACME"),
        ("anna", "Anna Smith/ACME", "Anna Smith/ACME"),  # listed in User name
        ("a.smith@example.org", "Anna Smith/ACME", "Anna Smith/ACME"),
        ("asmith", None, "Anna Smith/ACME"),  # the short name
        ("Smith", None, "Anna Smith/ACME"),
        ("Jada", None, "Jada Correr/Sales/ACME"),
        ("Correr", None, None),  # two people's
        ("Robert/Sales/ACME", "Bob/ACME", "Bob/ACME"),
        ("ünal öz/acme", "Ünal Öz/ACME", "Ünal Öz/ACME"),
        ("ünal", None, "Ünal Öz/ACME"),
    ],
)
async def test_fewer_and_more_name_variations(make: Make, login: str, fewer: str | None, more: str | None) -> None:
    for names, expected in (("fewer", fewer), ("more", more)):
        person = await make("domino", internet_authentication=names).find(login)
        assert (person and person.identity.login) == expected, names


async def test_a_deny_list_of_domino_is_a_group(make: Make) -> None:
    group = {"dn": "CN=Terminations,O=ACME", "disabled": True}
    backend = make("domino", group=[group])
    bob, anna = await backend.find("Bob"), await backend.find("anna")
    assert bob is not None
    assert anna is not None
    assert (bob.denied, anna.denied) == (Reason.DISABLED, None)


async def test_more_candidates_than_are_looked_at_are_nobody(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pillarbox.directory.ldap.domino.CANDIDATES", 1)
    assert await make("domino").find("Jada Correr/Sales/ACME") is None


async def test_a_base_that_is_not_there_is_unavailable(make: Make) -> None:
    with pytest.raises(Unavailable, match="there is no o=Elsewhere"):
        await make("domino", base="o=Elsewhere").find("anna")
