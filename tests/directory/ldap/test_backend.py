"""People of a real LDAP server (OpenLDAP's slapd): found, and let in by their password alone."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from tests.support import slapd_tree
from tests.support.slapd import Slapd

from pillarbox.directory.base import Denied, Identity, NotReached, Reason, Unavailable
from pillarbox.directory.ldap.backend import LdapBackend
from pillarbox.directory.upstream import Person

PEOPLE = f"ou=people,{slapd_tree.OPENLDAP}"
GROUPS = f"ou=groups,{slapd_tree.OPENLDAP}"
PASSWORD = slapd_tree.PASSWORD

Make = Callable[..., LdapBackend]


@pytest.fixture
async def make(slapd: Slapd) -> AsyncIterator[Make]:
    """A backend with these keys; closed at the end."""
    async with AsyncExitStack() as stack:

        def made(preset: str = "openldap", **keys: Any) -> LdapBackend:
            backend = LdapBackend(slapd.settings(preset, **keys))
            stack.callback(backend.close)
            return backend

        yield made


async def found(backend: LdapBackend, login: str) -> Person:
    person = await backend.find(login)
    assert person is not None, f"{login} was not found"
    return person


# ---- who is found


@pytest.mark.parametrize("login", ["anna", "ANNA", "anna@example.org", "Anna@EXAMPLE.org"])
async def test_a_person_is_found_by_login_and_address(make: Make, login: str) -> None:
    person = await found(make(), login)
    assert person.identity == Identity("anna", frozenset({"anna@example.org", "a.smith@example.org"}))
    assert person.denied is None


async def test_every_spelling_is_one_person(make: Make) -> None:
    backend = make()
    keys = {(await found(backend, login)).key for login in ("anna", "ANNA", "anna@example.org")}
    assert len(keys) == 1


@pytest.mark.parametrize("login", ["nobody", "twin@example.org", "a.smith@example.org", "pillarbox"])
async def test_nobody_and_more_than_one_are_nobody(make: Make, login: str) -> None:
    # the service account has no uid; mailAlternateAddress is none of the preset's login attributes
    assert await make().find(login) is None


@pytest.mark.parametrize(
    "login",
    [
        "*",
        "ann*",
        "*)(uid=*",
        "anna)(objectClass=*",
        "anna)(|(uid=*",
        "(",
        ")",
        "\\",
        "\\2a",
        "anna\0",
        "anna\r\nuid: bob",
        "anna,ou=people",
        "&",
        "anna' OR '1'='1",
        "x" * 10_000,
        "ä" * 200,
        "\U0001f600",
        "‮anna",
    ],
)
@pytest.mark.parametrize("preset", ["openldap", "active-directory", "domino"])
async def test_hostile_logins_are_nobodys(make: Make, preset: str, login: str) -> None:
    assert await make(preset).find(login) is None


async def test_a_login_made_of_special_characters_works(make: Make) -> None:
    backend = make()
    person = await found(backend, "o,dd (name)*")
    assert person.identity.addresses == {"odd@example.org"}
    assert isinstance(await backend.check(person, PASSWORD), Identity)


async def test_a_filter_of_ones_own(make: Make) -> None:
    backend = make(filter="(&(objectClass=inetOrgPerson)(mailAlternateAddress={login}))")
    assert (await found(backend, "a.smith@example.org")).identity.login == "anna"
    assert await backend.find("anna") is None


async def test_attributes_of_ones_own(make: Make) -> None:
    backend = make(login_attribute="mail", address_attributes=["mailAlternateAddress"])
    assert (await found(backend, "anna")).identity == Identity("Anna@Example.org", frozenset({"a.smith@example.org"}))


# ---- passwords


async def test_the_right_password_lets_in_and_no_other(make: Make) -> None:
    backend = make()
    person = await found(backend, "anna")
    assert await backend.check(person, PASSWORD) == person.identity
    for wrong in (PASSWORD + " ", PASSWORD.upper(), "x", "x" * 10_000, "*", "\0", "a\r\nb"):
        assert await backend.check(person, wrong) == Denied(Reason.WRONG, "anna")
    assert await backend.check(person, PASSWORD) == person.identity


async def test_an_empty_password_never_binds(make: Make, slapd: Slapd) -> None:
    # RFC 4513 5.1.2: this server says yes to it, as to anybody
    backend = make()
    person = await found(backend, "anna")
    assert await backend.check(person, "") == Denied(Reason.WRONG, "anna")
    assert "allow bind_anon_cred" in (slapd.folder / "slapd.conf").read_text()


async def test_an_entry_without_a_password_lets_nobody_in(make: Make) -> None:
    backend = make()
    person = await found(backend, "nopassword")
    assert await backend.check(person, "x") == Denied(Reason.WRONG, "nopassword")


async def test_many_at_once_each_get_their_own_answer(make: Make) -> None:
    backend = make()
    person = await found(backend, "anna")
    odd = await found(backend, "o,dd (name)*")
    answers = await asyncio.gather(
        *(backend.check(who, PASSWORD if right else "x") for who in (person, odd) for right in (True, False) * 20)
    )
    assert [isinstance(answer, Identity) for answer in answers] == [True, False] * 40


# ---- groups and accounts


async def test_groups_give_domains_and_take_the_sign_in(make: Make) -> None:
    groups = [
        {"dn": f"cn=disabled,{GROUPS}", "disabled": True},
        {"dn": f"cn=applications,{GROUPS}", "domains": ["example.org"], "may_redirect": True},
    ]
    backend = make(group=groups)
    anna, bob, crm = [await found(backend, login) for login in ("anna", "bob", "crm")]
    assert (anna.denied, anna.identity.domains, anna.identity.may_redirect) == (None, frozenset(), False)
    assert bob.denied is Reason.DISABLED
    assert (crm.denied, crm.identity.domains, crm.identity.may_redirect) == (None, frozenset({"example.org"}), True)


async def test_only_members_sign_in_when_the_site_says_so(make: Make) -> None:
    backend = make(members_of=f"cn=mail users,{GROUPS}")
    assert (await found(backend, "anna")).denied is None
    assert (await found(backend, "crm")).denied is Reason.DISABLED


@pytest.mark.parametrize(
    "keys", [{"members_of": f"cn=gone,{GROUPS}"}, {"group": [{"dn": f"cn=gone,{GROUPS}", "disabled": True}]}]
)
async def test_a_group_that_decides_and_is_not_there_stops_everybody(make: Make, keys: dict[str, Any]) -> None:
    with pytest.raises(Unavailable, match="there is no group cn=gone"):
        await make(**keys).find("anna")


async def test_a_group_that_gives_something_and_is_not_there_gives_nothing(make: Make) -> None:
    backend = make(group=[{"dn": f"cn=gone,{GROUPS}", "domains": ["example.org"]}])
    assert (await found(backend, "anna")).identity.domains == frozenset()


async def test_who_the_entry_says_is_disabled_is(make: Make) -> None:
    assert (await found(make(), "carol")).denied is Reason.DISABLED


# ---- the way there


async def test_ldaps_and_starttls_are_checked_with_the_authority(make: Make, slapd: Slapd) -> None:
    for uri in (slapd.uri, slapd.tls_uri):
        assert await make(servers=[uri]).find("anna") is not None


@pytest.mark.parametrize("tls", [True, False])
async def test_a_certificate_of_another_authority_is_refused(make: Make, slapd: Slapd, tls: bool) -> None:
    other = slapd.client.certificate  # no authority at all
    with pytest.raises(NotReached):
        await make(servers=[slapd.tls_uri if tls else slapd.uri], ca=str(other)).find("anna")


@pytest.mark.parametrize("tls", [True, False])
async def test_a_certificate_for_another_name_is_refused(make: Make, slapd: Slapd, tls: bool) -> None:
    uri = f"ldaps://127.0.0.2:{slapd.tls_port}" if tls else f"ldap://127.0.0.2:{slapd.port}"
    with pytest.raises(NotReached):
        await make(servers=[uri]).find("anna")


async def test_a_client_certificate_is_who_searches(make: Make, slapd: Slapd) -> None:
    keys: dict[str, Any] = {"bind_dn": None, "password_file": None}
    with pytest.raises(NotReached, match="or it may not be read"):  # nobody sees anything here
        await make(**keys).find("anna")
    certified = make(certificate=str(slapd.client.certificate), key=str(slapd.client.key), **keys)
    assert await certified.find("anna") is not None


async def test_clear_text_on_loopback(make: Make) -> None:
    assert await make(starttls=False).find("anna") is not None


# ---- bind by a template


async def test_by_a_template_the_server_can_only_say_no(make: Make) -> None:
    backend = make(bind_as=f"uid={{login}},{PEOPLE}", bind_dn=None, password_file=None)
    assert backend.opaque
    anna = await found(backend, "anna")
    assert anna.identity.addresses == frozenset()
    identity = await backend.check(anna, PASSWORD)
    assert identity == Identity("anna", frozenset({"anna@example.org", "a.smith@example.org"}))
    for login, password in (("anna", "x"), ("nobody", PASSWORD), ("anna,ou=people", PASSWORD), ("*", PASSWORD)):
        answer = await backend.check(await found(backend, login), password)
        assert isinstance(answer, Denied), login
        assert answer.reason is Reason.OPAQUE


async def test_a_template_is_filled_with_a_value_not_with_text(make: Make) -> None:
    backend = make(bind_as=f"uid={{login}},{PEOPLE}", bind_dn=None, password_file=None)
    answer = await backend.check(await found(backend, "o,dd (name)*"), PASSWORD)
    assert isinstance(answer, Identity)
    assert answer.addresses == {"odd@example.org"}


async def test_groups_count_with_a_template_as_well(make: Make) -> None:
    # people may not read groups here: then nobody can be known to be outside of the one that disables
    groups = [{"dn": f"cn=disabled,{GROUPS}", "disabled": True}]
    backend = make(bind_as=f"uid={{login}},{PEOPLE}", bind_dn=None, password_file=None, group=groups)
    with pytest.raises(Unavailable, match="there is no group"):
        await backend.check(await found(backend, "anna"), PASSWORD)


# ---- what is said of it


async def test_each_step_is_told_without_the_password(slapd: Slapd) -> None:
    told: list[str] = []
    backend = LdapBackend(slapd.settings("openldap"), told.append)
    try:
        person = await found(backend, "anna")
        await backend.check(person, PASSWORD)
        await backend.check(person, "wrong one")
    finally:
        backend.close()
    text = "\n".join(told)
    assert "(|(uid=anna)(mail=anna))): 1 found" in text
    assert f"bind as uid=anna,{PEOPLE}: right" in text
    assert f"bind as uid=anna,{PEOPLE}: 49" in text
    assert PASSWORD not in text
    assert "wrong one" not in text
    assert slapd_tree.SERVICE_PASSWORD not in text
