"""SCRAM and tokens towards servers that answer garbage, too much, too late or twice."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from tests.support.line_server import Peer, line_server

from pillarbox.directory.base import (
    Denied,
    Identity,
    NotReached,
    Proven,
    Reason,
    RelaysScram,
    ScramDirectory,
    Unavailable,
)
from pillarbox.directory.budget import Try
from pillarbox.directory.chain import Member, make_chain
from pillarbox.directory.dovecot.backend import DovecotBackend
from pillarbox.directory.dovecot.directory import DovecotDirectory
from pillarbox.directory.dovecot.settings import DovecotSettings
from pillarbox.directory.tries import Tries
from pillarbox.directory.wire import Place
from pillarbox.sasl import ScramSecret, SecretWanted, TokenCredentials
from pillarbox.sasl.scram import ScramServer, read_server_first

HELLO = b"VERSION\t1\t2\nMECH\tPLAIN\nMECH\tSCRAM-SHA-256\nMECH\tXOAUTH2\nDONE\n"
ANNA = "anna@example.org"
PROOF = b"A" * 43 + b"="
SIGNATURE = base64.b64encode(b"v=" + PROOF)
RIGHT = b"OK\tID\tuser=anna@example.org\tresp=" + SIGNATURE
Talk = Callable[[Peer], Awaitable[None]]


def challenge(
    nonce: bytes, more: bytes = b"server", salt: bytes = b"c2FsdHNhbHRzYWx0c2E=", count: bytes = b"4096"
) -> bytes:
    return b"CONT\tID\t" + base64.b64encode(b"r=%b%b,s=%b,i=%b" % (nonce, more, salt, count))


def playing(first: bytes, last: bytes = RIGHT) -> Talk:
    """``first`` to each AUTH, ``last`` to each CONT, with their number for ID; b"" ends the connection."""

    async def talk(peer: Peer) -> None:
        await peer.say(HELLO)
        while True:
            word, number, *_ = (await peer.line()).split(b"\t")
            reply = {b"AUTH": first, b"CONT": last}.get(word, b"\n")
            if not reply:
                return
            await peer.say(reply.replace(b"ID", number) + b"\n")

    return talk


class Counted(Tries):
    """Counts what is taken and not given back."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []

    async def reserve(self, directory: str, person: str, allowed: int, window: float) -> Try | None:
        taken = await super().reserve(directory, person, allowed, window)
        if taken is not None:
            self.wrong.append(person)
        return taken

    def give_back(self, try_: Try) -> None:
        super().give_back(try_)
        self.wrong.remove(try_.person)


@pytest.fixture(autouse=True)
async def settled() -> AsyncIterator[None]:
    """The ends of connections are heard before the loop closes."""
    yield
    for _ in range(3):
        await asyncio.sleep(0)


def make(port: int, tries: Tries, **others: object) -> DovecotDirectory:
    values: dict[str, object] = {"domains": ("example.org",), "timeout": 2.0, "wrong_tries": 5, **others}
    settings = DovecotSettings(name="dovecot", servers=(Place("127.0.0.1", port),), **values)  # type: ignore[arg-type]  # the fields' types are the caller's to keep
    return DovecotDirectory(DovecotBackend(settings), settings, tries, lambda: b"k" * 32)


async def scram(directory: DovecotDirectory, login: str = ANNA) -> Proven | Denied | Unavailable:
    """An exchange with some proof."""
    wanted = ScramServer().step(f"n,,n={login},r=client".encode())
    assert isinstance(wanted, SecretWanted)
    try:
        relay = await directory.open_scram(wanted.first, known_place=True)
    except Unavailable as error:
        return error
    try:
        read = read_server_first(relay.challenge, b"client")
        assert read is not None
        return await relay.prove(b"c=biws,r=client" + read.nonce + b",p=" + PROOF)
    except Unavailable as error:
        return error
    finally:
        relay.close()


async def test_the_messages_go_there_as_they_came_and_the_signature_comes_back() -> None:
    async with line_server(playing(challenge(b"client"))) as server:
        directory = make(server.port, Counted())
        answer = await scram(directory)
        directory.close()
    assert isinstance(answer, Proven)
    assert answer.signature == b"v=" + PROOF
    head, first = server.heard[2].split(b"\tresp=")
    assert head == b"AUTH\t1\tSCRAM-SHA-256\tservice=smtp\tnologin\tno-penalty\tsecured\tfinal-resp-ok"
    assert base64.b64decode(first) == b"n,,n=anna@example.org,r=client"
    word, number, last = server.heard[3].split(b"\t")
    assert (word, number, base64.b64decode(last)) == (b"CONT", b"1", b"c=biws,r=clientserver,p=" + PROOF)


@pytest.mark.parametrize(
    "first",
    [
        b"CONT\tID",
        b"CONT\tID\t!!!",
        b"CONT\tID\t" + base64.b64encode(b"r=other,s=c2FsdA==,i=4096"),
        b"CONT\tID\t" + base64.b64encode(b"r=client,s=c2FsdA==,i=4096"),
        b"CONT\tID\t" + base64.b64encode(b"m=new,r=clientserver,s=c2FsdA==,i=4096"),
        b"CONT\tID\t" + base64.b64encode(b"r=clientserver,s=c2FsdA==,i=9999999999"),
        b"CONT\tID\t" + base64.b64encode(b"r=client\r\n250 ok,s=c2FsdA==,i=4096"),
        b"CONT\tID\t" + b"A" * 1_000_000,
        b"OK\tID\tuser=anna@example.org",
        b"OK\tID\tuser=anna@example.org\tresp=" + SIGNATURE,
        b"\0",
        b"",
    ],
)
async def test_a_challenge_that_is_none_is_told_to_nobody_and_is_no_try(first: bytes) -> None:
    tries = Counted()
    async with line_server(playing(first)) as server:
        directory = make(server.port, tries)
        assert isinstance(await scram(directory), Unavailable)
        directory.close()
    assert tries.wrong == []


@pytest.mark.parametrize(
    "last",
    [
        b"OK\tID\tuser=anna@example.org",
        b"OK\tID\tuser=anna@example.org\tresp=!!",
        b"OK\tID\tuser=anna@example.org\tresp=" + base64.b64encode(b"e=other-error"),
        b"OK\tID\tuser=anna@example.org\tresp=" + base64.b64encode(b"v=" + b"A" * 60_000),
        b"CONT\tID\t" + SIGNATURE,
        b"CONT\tID\t" + SIGNATURE + b"\n" + RIGHT,
        b"\0",
        b"",
    ],
)
async def test_a_verdict_that_is_none_lets_nobody_in_and_counts(last: bytes) -> None:
    tries = Counted()
    async with line_server(playing(challenge(b"client"), last)) as server:
        directory = make(server.port, tries)
        assert isinstance(await scram(directory), Unavailable)
        directory.close()
    assert tries.wrong == [ANNA]


async def test_two_challenges_are_one_and_nobody_gets_in_by_the_second() -> None:
    twice = challenge(b"client") + b"\n" + challenge(b"client", b"other")
    async with line_server(playing(twice, b"FAIL\tID\tuser=anna@example.org")) as server:
        directory = make(server.port, Counted())
        answer = await scram(directory)
        directory.close()
    assert isinstance(answer, Denied)
    assert answer.reason is Reason.OPAQUE


@pytest.mark.parametrize(
    ("last", "reason", "wrong"),
    [
        (b"FAIL\tID\tuser=anna@example.org", Reason.OPAQUE, [ANNA]),
        (b"FAIL\tID\tcode=user_disabled", Reason.DISABLED, [ANNA]),
        (b"OK\tID\tuser=anna@example.org\tnologin\tresp=" + SIGNATURE, Reason.DISABLED, [ANNA]),
        (b"OK\tID\tuser=anna@elsewhere.example\tresp=" + SIGNATURE, Reason.ELSEWHERE, [ANNA]),
        (b"FAIL\tID\tcode=temp_fail", None, []),
    ],
)
async def test_who_is_refused_gets_no_signature(last: bytes, reason: Reason | None, wrong: list[str]) -> None:
    tries = Counted()
    async with line_server(playing(challenge(b"client"), last)) as server:
        directory = make(server.port, tries)
        answer = await scram(directory)
        directory.close()
    assert (
        isinstance(answer, NotReached) if reason is None else isinstance(answer, Denied) and answer.reason is reason
    )
    assert tries.wrong == wrong


async def test_a_name_that_nobody_has_is_not_told_by_its_challenge_and_costs_no_try() -> None:
    tries = Counted()
    async with line_server(playing(b"FAIL\tID\tuser=nobody")) as server:
        directory = make(server.port, tries)
        answer = await scram(directory, "nobody@example.org")
        directory.close()
    assert isinstance(answer, Denied)
    assert answer.reason is Reason.OPAQUE
    assert tries.wrong == []
    assert not any(line.startswith(b"CONT") for line in server.heard)


async def test_a_late_challenge_becomes_cannot_say_never_wrong() -> None:
    go_on = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.say(HELLO)
        await peer.line()
        await peer.line()
        await peer.line()
        await go_on.wait()
        await peer.say(challenge(b"client").replace(b"ID", b"1") + b"\n")
        await peer.hang()

    async with line_server(talk) as server:
        directory = make(server.port, Counted())
        wanted = ScramServer().step(b"n,,n=anna@example.org,r=client")
        assert isinstance(wanted, SecretWanted)
        relay = await directory.open_scram(wanted.first, known_place=True)
        go_on.set()
        with pytest.raises(Unavailable, match="no challenge within"):
            await relay.prove(b"c=biws,r=client,p=" + PROOF)
        relay.close()
        directory.close()


async def test_whoever_leaves_takes_the_exchange_back() -> None:
    async with line_server(playing(challenge(b"client"))) as server:
        directory = make(server.port, Counted())
        wanted = ScramServer().step(b"n,,n=anna@example.org,r=client")
        assert isinstance(wanted, SecretWanted)
        (await directory.open_scram(wanted.first, known_place=True)).close()
        assert isinstance(await scram(directory), Proven)
        directory.close()
    assert b"CANCEL\t1" in server.heard


async def test_spent_tries_are_refused_and_dovecot_does_not_hear_the_proof() -> None:
    async with line_server(playing(challenge(b"client"), b"FAIL\tID")) as server:
        directory = make(server.port, Counted(), wrong_tries=1)
        assert isinstance(await scram(directory), Denied)
        answer = await scram(directory)
        directory.close()
    assert isinstance(answer, Denied)
    assert answer.reason is Reason.LOCKED
    assert sum(line.startswith(b"CONT") for line in server.heard) == 1


async def test_a_name_of_another_directory_in_the_chain_is_not_told_to_dovecot() -> None:
    async with line_server(playing(challenge(b"client"))) as server:
        directory = make(server.port, Counted())
        chain = make_chain((Member("dovecot", directory, ("*@example.org",)),))
        assert isinstance(chain, RelaysScram)
        for login, asked in (("anna@other.example", 0), (ANNA, 1)):
            wanted = ScramServer().step(f"n,,n={login},r=client".encode())
            assert isinstance(wanted, SecretWanted)
            relay = await chain.open_scram(wanted.first, known_place=True)
            assert relay is not None
            relay.close()
            assert sum(line.startswith(b"AUTH") for line in server.heard) == asked
        directory.close()


async def test_whom_an_earlier_directory_knows_dovecot_does_not_play_for() -> None:
    class Local:
        """Has one person, by a secret."""

        async def verify(self, credentials: object, *, known_place: bool) -> Denied:
            return Denied(Reason.UNKNOWN)

        async def knows(self, login: str) -> bool:
            return login == "local"

        def offers_scram(self, counts: object) -> bool:
            return True

        async def scram_secret(self, authcid: str) -> ScramSecret:
            return ScramSecret(4_096, b"salt", b"stored", b"server")

        async def verify_proof(self, credentials: object) -> Denied:
            return Denied(Reason.WRONG)

    async with line_server(playing(challenge(b"client"))) as server:
        directory = make(server.port, Counted())
        chain = make_chain((Member("local", Local()), Member("dovecot", directory)))
        assert isinstance(chain, RelaysScram)
        assert isinstance(chain, ScramDirectory)
        assert chain.relays_scram
        assert not chain.offers_scram(lambda _: True)  # Dovecot has not been heard yet
        for login, relayed in (("local", False), (ANNA, True)):
            wanted = ScramServer().step(f"n,,n={login},r=client".encode())
            assert isinstance(wanted, SecretWanted)
            relay = await chain.open_scram(wanted.first, known_place=True)
            assert (relay is not None) is relayed
            if relay is not None:
                relay.close()
        assert chain.offers_scram(lambda _: True)
        assert (await chain.scram_secret("local")).salt == b"salt"
        directory.close()
    assert sum(line.startswith(b"AUTH") for line in server.heard) == 1


async def test_nothing_is_offered_before_dovecot_was_heard_and_then_what_it_has() -> None:
    async with line_server(playing(challenge(b"client"))) as server:
        directory = make(server.port, Counted())
        assert not directory.offers_tokens
        assert not directory.offers_scram(lambda _: True)
        assert isinstance(await scram(directory), Proven)
        assert directory.offers_tokens
        assert directory.offers_scram(lambda _: True)
        directory.close()


@pytest.mark.parametrize("last", [b"FAIL\tID", b"OK\tID\tuser=anna@example.org"])
async def test_the_error_document_of_a_token_is_answered_and_nobody_gets_in_after_it(last: bytes) -> None:
    document = b"CONT\tID\t" + base64.b64encode(b'{"status":"401","scope":"evil"}')
    async with line_server(playing(document, last)) as server:
        directory = make(server.port, Counted())
        try:
            answer: Identity | Denied | None = await directory.verify_token(
                TokenCredentials(ANNA, "token"), known_place=True
            )
        except Unavailable:
            answer = None
        directory.close()
    assert (
        answer is None if last.startswith(b"OK") else isinstance(answer, Denied) and "evil" not in str(answer.details)
    )
    assert server.heard[-1].startswith(b"CONT\t1")


async def test_directory_test_tells_which_mechanisms_were_found_and_which_are_passed_on() -> None:
    lines: list[str] = []
    async with line_server(playing(b"")) as server:
        place = Place("127.0.0.1", server.port)
        settings = DovecotSettings(name="dovecot", servers=(place,), domains=("example.org",))
        backend = DovecotBackend(settings, lines.append)
        await backend.prepare()
        backend.close()
    assert lines == [
        f"{place}: connected; offers PLAIN, SCRAM-SHA-256, XOAUTH2",
        f"{place}: passed on to it here: PLAIN, SCRAM-SHA-256, XOAUTH2",
    ]
