"""What an LDAP server may do to us: be down, hang, hang up, refuse the service account. No password is wrong then."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.support import slapd_tree
from tests.support.certs import Authority
from tests.support.ldap_front import Front
from tests.support.ports import steady_ports
from tests.support.slapd import Slapd

from pillarbox.directory.base import Denied, Identity, NotReached, Reason, Unavailable
from pillarbox.directory.ldap.backend import LdapBackend
from pillarbox.directory.tries import Tries
from pillarbox.directory.upstream import Upstream
from pillarbox.sasl.mechanism import Credentials

PASSWORD = slapd_tree.PASSWORD
Make = Callable[..., LdapBackend]


@pytest.fixture
async def front(slapd: Slapd) -> AsyncIterator[Front]:
    """A relay before the server, in clear text."""
    found = await Front(slapd.port).start()
    yield found
    await found.stop()


@pytest.fixture
async def make(slapd: Slapd) -> AsyncIterator[Make]:
    """A backend at these servers; its steps take at most a second."""
    async with AsyncExitStack() as stack:

        def made(*servers: str, **keys: Any) -> LdapBackend:
            keys = {"starttls": False, "timeout": "1s"} | keys
            backend = LdapBackend(slapd.settings("openldap", servers=list(servers), **keys))
            stack.callback(backend.close)
            return backend

        yield made


def nobody() -> str:
    """Where nobody listens."""
    return f"ldap://127.0.0.1:{steady_ports(1)[0]}"


@contextlib.asynccontextmanager
async def silent() -> AsyncIterator[int]:
    """A port that takes connections and says nothing on them."""
    open_: list[asyncio.StreamWriter] = []

    async def take(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_.append(writer)

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        for writer in open_:
            writer.close()
        server.close()


# ---- down


async def test_a_server_that_is_down_is_unavailable(make: Make) -> None:
    with pytest.raises(NotReached, match="Can't contact LDAP server"):
        await make(nobody()).find("anna")


async def test_the_next_server_answers_for_one_that_is_down(make: Make, slapd: Slapd) -> None:
    backend = make(nobody(), slapd.uri)
    person = await backend.find("anna")
    assert person is not None
    assert await backend.check(person, PASSWORD) == person.identity
    assert await backend.check(person, "x") == Denied(Reason.WRONG, "anna")


async def test_a_server_that_comes_back_is_asked_again(tmp_path: Path, make: Make) -> None:
    own = Slapd(tmp_path, Authority(tmp_path))
    own.load()
    own.start()
    try:
        backend = make(own.uri)
        person = await backend.find("anna")
        assert person is not None
        assert isinstance(await backend.check(person, PASSWORD), Identity)
        own.stop()
        with pytest.raises(NotReached):
            await backend.find("anna")
        with pytest.raises(NotReached):  # no password went into the connection that had been good before
            await backend.check(person, PASSWORD)
        own.start()
        assert isinstance(await backend.check(person, PASSWORD), Identity)
    finally:
        own.stop()


# ---- hanging


@pytest.mark.parametrize("keys", [{"starttls": False}, {"starttls": True}])
async def test_a_server_that_says_nothing_is_unavailable_in_time(make: Make, keys: dict[str, Any]) -> None:
    async with silent() as port, asyncio.timeout(30):
        with pytest.raises(NotReached):
            await make(f"ldap://127.0.0.1:{port}", **keys).find("anna")


async def test_a_server_that_hangs_in_its_handshake_is_unavailable_in_time(make: Make) -> None:
    async with silent() as port, asyncio.timeout(30):
        with pytest.raises(NotReached):
            await make(f"ldaps://127.0.0.1:{port}").find("anna")


async def test_the_thread_of_a_server_that_hangs_comes_back(make: Make, front: Front) -> None:
    # there is one, and it is free again only when the library has given up by itself
    async with asyncio.timeout(60):
        backend = make(front.uri, timeout="500ms", connections=1)
        front.hang()
        for _ in range(2):
            with pytest.raises(Unavailable):
                await backend.find("anna")
        front.resume()
        assert await backend.find("anna") is not None


async def test_the_next_server_answers_for_one_that_hangs(make: Make, slapd: Slapd) -> None:
    async with silent() as port, asyncio.timeout(60):
        backend = make(f"ldap://127.0.0.1:{port}", slapd.uri)
        person = await backend.find("anna")
        assert person is not None
        assert await backend.check(person, PASSWORD) == person.identity


async def test_a_server_that_hangs_holds_up_nobody_of_the_next(make: Make, slapd: Slapd) -> None:
    async with silent() as port, asyncio.timeout(60):
        backend = make(f"ldap://127.0.0.1:{port}", slapd.uri, connections=1, timeout="4s")
        people = await asyncio.gather(*(backend.find("anna") for _ in range(4)))
        assert all(people)


async def test_a_password_that_met_silence_counts_and_goes_nowhere_else(
    make: Make, slapd: Slapd, front: Front
) -> None:
    other = await Front(slapd.port).start()
    try:
        backend = make(front.uri, other.uri, timeout="2s")
        person = await backend.find("anna")
        assert person is not None
        await backend.check(person, "x")
        front.hang()
        with pytest.raises(Unavailable) as caught:
            await backend.check(person, PASSWORD)
        assert not isinstance(caught.value, NotReached)
        assert front.hung.is_set()
        assert other.asked == []
    finally:
        front.resume()
        await other.stop()


# ---- hanging up


async def test_connections_that_the_server_closed_are_not_used(make: Make, front: Front) -> None:
    backend = make(front.uri)
    person = await backend.find("anna")
    assert person is not None
    await backend.check(person, PASSWORD)
    before = front.connections
    front.drop()
    await front.quiet()
    assert await backend.find("anna") is not None
    assert await backend.check(person, PASSWORD) == person.identity
    assert front.connections == before + 2


async def test_connections_are_kept(make: Make, front: Front) -> None:
    backend = make(front.uri)
    for _ in range(5):
        person = await backend.find("anna")
        assert person is not None
        await backend.check(person, PASSWORD)
        await backend.check(person, "x")
    assert front.connections == 2  # one that searches, one for passwords
    assert front.count(f"bind {slapd_tree.SERVICE[slapd_tree.OPENLDAP]}") == 1


async def test_closing_ends_the_connections(make: Make, front: Front) -> None:
    backend = make(front.uri)
    assert await backend.find("anna") is not None
    backend.close()
    await front.quiet()


# ---- the service account


async def test_a_wrong_service_password_is_unavailable_and_says_why(make: Make, slapd: Slapd, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not this one\n")
    backend = make(slapd.uri, password_file=str(wrong))
    with pytest.raises(NotReached, match="the service account cn=pillarbox,dc=example,dc=org is refused") as caught:
        await backend.find("anna")
    assert "not this one" not in str(caught.value)


async def test_a_wrong_service_password_is_not_tried_again_and_again(
    make: Make, front: Front, tmp_path: Path
) -> None:
    # the service account could be locked out, too
    wrong = tmp_path / "wrong"
    wrong.write_text("not this one\n")
    backend = make(front.uri, password_file=str(wrong))
    for _ in range(20):
        with pytest.raises(NotReached):
            await backend.find("anna")
    assert front.count("bind") == 3


async def test_a_new_service_password_counts_without_a_reload(make: Make, slapd: Slapd, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("old\n")
    backend = make(slapd.uri, password_file=str(file))
    with pytest.raises(NotReached):
        await backend.find("anna")
    file.write_text(slapd_tree.SERVICE_PASSWORD)
    assert await backend.find("anna") is not None


async def test_an_empty_service_password_is_none(make: Make, slapd: Slapd, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("x\n")
    backend = make(slapd.uri, password_file=str(file))
    file.write_text("\n")
    with pytest.raises(NotReached, match="password_file is empty"):
        await backend.find("anna")


# ---- with what stands in front


async def test_the_same_wrong_password_goes_to_the_server_once(make: Make, slapd: Slapd, front: Front) -> None:
    backend = make(front.uri)
    directory = Upstream(backend, slapd.settings("openldap", wrong_tries=5), Tries())
    for login in ("anna", "ANNA", "anna@example.org", "anna"):
        answer = await directory.verify(Credentials(login, "wrong"), known_place=True)
        assert isinstance(answer, Denied)
        assert answer.reason is Reason.WRONG
    assert front.count(f"bind uid=anna,ou=people,{slapd_tree.OPENLDAP}") == 2  # by login, and by address


async def test_no_more_wrong_passwords_of_one_person_than_allowed(make: Make, slapd: Slapd, front: Front) -> None:
    backend = make(front.uri)
    directory = Upstream(backend, slapd.settings("openldap", wrong_tries=5), Tries())
    reasons = []
    for number in range(20):
        login = ("anna", "anna@example.org")[number % 2]
        answer = await directory.verify(Credentials(login, f"wrong {number}"), known_place=True)
        assert isinstance(answer, Denied)
        reasons.append(answer.reason)
    assert reasons == [Reason.WRONG] * 5 + [Reason.LOCKED] * 15
    assert front.count(f"bind uid=anna,ou=people,{slapd_tree.OPENLDAP}") == 5


@pytest.mark.parametrize("code", [1, 8, 13, 50, 80])
async def test_what_a_server_minds_about_one_person_keeps_nobody_else_from_it(
    make: Make, front: Front, code: int
) -> None:
    front.codes[f"uid=crm,ou=people,{slapd_tree.OPENLDAP}"] = code
    backend = make(front.uri)
    crm, anna = await backend.find("crm"), await backend.find("anna")
    assert crm is not None
    assert anna is not None
    for _ in range(5):
        with pytest.raises(Unavailable, match="not today") as caught:
            await backend.check(crm, PASSWORD)
        assert not isinstance(caught.value, NotReached)  # the password was there
    assert await backend.check(anna, PASSWORD) == anna.identity


@pytest.mark.parametrize(
    ("code", "reason"), [(19, Reason.LOCKED), (32, Reason.WRONG), (48, Reason.WRONG), (53, Reason.DISABLED)]
)
async def test_result_codes_of_other_servers_have_their_reason(
    make: Make, front: Front, code: int, reason: Reason
) -> None:
    front.codes[f"uid=anna,ou=people,{slapd_tree.OPENLDAP}"] = code
    backend = make(front.uri)
    person = await backend.find("anna")
    assert person is not None
    assert await backend.check(person, PASSWORD) == Denied(reason, "anna")


@pytest.mark.parametrize("code", [51, 52])
async def test_a_server_that_says_it_is_busy_is_left_alone_for_a_while(make: Make, front: Front, code: int) -> None:
    front.codes[slapd_tree.SERVICE[slapd_tree.OPENLDAP].lower()] = code
    backend = make(front.uri)
    for _ in range(10):
        with pytest.raises(NotReached):
            await backend.find("anna")
    assert front.count("bind") == 3


async def test_a_filter_that_the_library_minds_is_not_the_servers_failure(make: Make, slapd: Slapd) -> None:
    backend = make(slapd.uri, filter="(uid=\\zz{login})")
    for _ in range(5):
        with pytest.raises(NotReached, match="Bad search filter"):
            await backend.find("anna")


async def test_a_search_that_fails_after_a_bind_by_template_does_not_give_the_try_back(
    make: Make, front: Front, slapd: Slapd
) -> None:
    template = {"bind_as": f"uid={{login}},ou=people,{slapd_tree.OPENLDAP}", "bind_dn": None, "password_file": None}
    backend = make(front.uri, slapd.uri, members_of=f"cn=gone,ou=groups,{slapd_tree.OPENLDAP}", **template)
    person = await backend.find("anna")
    assert person is not None
    with pytest.raises(Unavailable, match="there is no group") as caught:
        await backend.check(person, PASSWORD)
    assert not isinstance(caught.value, NotReached)
    assert slapd.uri not in str(caught.value)  # the password went to one server only
