"""What a stranger may try with SCRAM at Dovecot to find out who exists, or to keep others out."""

import asyncio
import base64
import contextlib
import re
from collections.abc import AsyncIterator

import pytest
from tests.directory.scripted import until
from tests.support.clock import FakeClock
from tests.support.line_server import LineServer, Peer, line_server

from pillarbox.directory.base import Denied, NotReached, Reason, Unavailable
from pillarbox.directory.budget import Try
from pillarbox.directory.chain import Member, make_chain
from pillarbox.directory.dovecot.backend import DovecotBackend
from pillarbox.directory.dovecot.directory import DovecotDirectory
from pillarbox.directory.dovecot.scram import EXCHANGE_TIME, Relays
from pillarbox.directory.dovecot.settings import DovecotSettings
from pillarbox.directory.tries import Tries
from pillarbox.directory.wire import Place
from pillarbox.sasl import PasswordCredentials, ScramFirst, SecretWanted, TokenCredentials
from pillarbox.sasl.scram import ScramServer, read_server_first

HELLO = b"VERSION\t1\t2\nMECH\tPLAIN\nMECH\tSCRAM-SHA-256\nMECH\tXOAUTH2\nDONE\n"
ANNA, NOBODY = "anna@example.org", "nobody@example.org"
PROOF = b"c=biws,r=clientserver,p=" + b"A" * 43 + b"="
SALT = base64.b64encode(b"the salt of anna")


async def play(peer: Peer) -> None:
    """As Dovecot: names have no case, an authzid of another spelling is another person's, and further attributes of a
    message are not liked. Only anna exists, and her salt stays."""
    await peer.say(HELLO)
    while True:
        word, number, *fields = (await peer.line()).split(b"\t")
        if word == b"CONT":
            await peer.say(b"FAIL\t%b\tuser=%b\n" % (number, ANNA.encode()))
        if word != b"AUTH":
            continue
        message = base64.b64decode(fields[-1].removeprefix(b"resp="))
        found = re.fullmatch(rb"[ny],(?:a=([^,]*))?,n=([^,]*),r=([^,]*)", message)
        if found is None or found[1] not in (None, found[2]) or found[2].lower() != ANNA.encode():
            await peer.say(b"FAIL\t%b\n" % number)
        else:
            challenge = base64.b64encode(b"r=%bserver,s=%b,i=4096" % (found[3], SALT))
            await peer.say(b"CONT\t%b\t%b\n" % (number, challenge))


def settings(server: LineServer, **others: object) -> DovecotSettings:
    values: dict[str, object] = {"domains": ("example.org",), "timeout": 5.0, "wrong_tries": 5, **others}
    return DovecotSettings(name="box", servers=(Place("127.0.0.1", server.port),), **values)  # type: ignore[arg-type]  # the fields' types are the caller's to keep


@contextlib.asynccontextmanager
async def made(
    server: LineServer, clock: FakeClock | None = None, **others: object
) -> AsyncIterator[DovecotDirectory]:
    wanted, time = settings(server, **others), clock or FakeClock()
    backend = DovecotBackend(wanted)
    directory = DovecotDirectory(backend, wanted, Tries(), lambda: b"k" * 32, clock=time.monotonic)
    await backend.prepare()
    yield directory
    directory.close()
    for _ in range(3):
        await asyncio.sleep(0)


def first_of(message: str) -> ScramFirst:
    wanted = ScramServer().step(message.encode())
    assert isinstance(wanted, SecretWanted)
    return wanted.first


def auths(server: LineServer) -> int:
    return sum(line.startswith(b"AUTH") for line in server.heard)


def questions(login: str) -> list[str]:
    """About one name, in forms of which Dovecot likes the first two alone."""
    wide = "".join(chr(ord(letter) + 0xFEE0) for letter in login.split("@")[0]) + "@example.org"
    return [
        f"n,,n={login},r=client",
        f"y,a={login},n={login},r=client",
        f"n,,n={login.upper()},r=client",
        f"n,a=bob@example.org,n={login},r=client",
        f"n,a={login.upper()},n={login},r=client",
        f"n,,n={login},r=client,x={'x' * 5_000}",
        f"n,,n={login},r=client,x=y",
        f"n,,n={login},r=client,r=client",
        f"n,,n={login[:2]}\u00ad{login[2:]},r=client",
        f"n,,n={wide},r=client",
        f"n,,n={login.split('@')[0]},r=client",
        f"n,,n={login} ,r=client",
        f"n,,n= {login},r=client",
        f"n,,n={login.replace('@', ' @')},r=client",
    ]


async def test_no_two_questions_about_a_name_tell_by_their_salts_whether_it_is_somebodys() -> None:
    patterns = []
    async with line_server(play) as server, made(server) as directory:
        for login in (ANNA, NOBODY):
            salts = []
            for message in questions(login):
                relay = await directory.open_scram(first_of(message), known_place=False)
                relay.close()
                read = read_server_first(relay.challenge, b"client")
                assert read is not None
                salts.append(read.salt)
            patterns.append([[one == other for other in salts] for one in salts])
            assert (salts[0] == base64.b64decode(SALT)) is (login == ANNA)
    assert patterns[0] == patterns[1]


async def test_a_long_nonce_tells_nobody_either() -> None:
    async with line_server(play) as server, made(server) as directory:
        for login in (ANNA, NOBODY):
            wanted = ScramServer().step(f"n,,n={login},r={'c' * 256}".encode())
            assert isinstance(wanted, SecretWanted)
            relay = await directory.open_scram(wanted.first, known_place=False)
            assert wanted.relay(relay.challenge).octets.startswith(b"r=" + b"c" * 256)
            relay.close()


async def test_strangers_have_half_of_the_connections_whatever_they_sign_in_by() -> None:
    async def silent(peer: Peer) -> None:
        await peer.say(HELLO)
        while True:
            await peer.line()

    async with line_server(silent) as server, made(server, connections=4) as directory:
        strangers = [
            asyncio.create_task(directory.verify_token(TokenCredentials(f"a{n}@example.org", "t"), known_place=False))
            for n in range(4)
        ]
        strangers += [
            asyncio.create_task(directory.verify(PasswordCredentials(ANNA, "wrong"), known_place=False)),
        ]
        relays = [
            await directory.open_scram(first_of(f"n,,n=b{n}@example.org,r=client"), known_place=False)
            for n in range(4)
        ]
        await until(lambda: auths(server) >= 2)
        assert auths(server) == 2
        known = asyncio.create_task(directory.verify(PasswordCredentials(ANNA, "right"), known_place=True))
        relays.append(await directory.open_scram(first_of(f"n,,n={ANNA},r=client"), known_place=True))
        assert auths(server) == 4
        for relay in relays:
            relay.close()
        for task in (*strangers, known):
            task.cancel()
        await asyncio.gather(*strangers, known, return_exceptions=True)


@pytest.mark.parametrize("known_place", [True, False])
async def test_a_late_challenge_is_told_as_such_at_known_places_only(known_place: bool) -> None:
    go_on, late = asyncio.Event(), base64.b64encode(b"r=clientserver,s=" + SALT + b",i=4096")

    async def talk(peer: Peer) -> None:
        await peer.say(HELLO)
        for _ in range(3):
            await peer.line()
        await go_on.wait()
        await peer.say(b"CONT\t1\t" + late + b"\n")
        await peer.hang()

    async with line_server(talk) as server, made(server) as directory:
        relay = await directory.open_scram(first_of(f"n,,n={ANNA},r=client"), known_place=known_place)
        go_on.set()
        if known_place:
            with pytest.raises(Unavailable, match="no challenge within"):
                await relay.prove(PROOF)
        else:
            answer = await relay.prove(PROOF)
            assert isinstance(answer, Denied)
            assert answer.reason is Reason.OPAQUE
        relay.close()
    assert not any(line.startswith(b"CONT") for line in server.heard)


async def test_a_late_challenge_has_the_salt_that_the_person_had_before() -> None:
    async def talk(peer: Peer) -> None:
        await peer.say(HELLO)
        for _ in range(3):
            await peer.line()
        await peer.say(b"CONT\t1\t" + base64.b64encode(b"r=clientserver,s=" + SALT + b",i=4096") + b"\n")
        await peer.hang()

    async with line_server(talk) as server, made(server) as directory:
        salts = []
        for _ in range(2):
            relay = await directory.open_scram(first_of(f"n,,n={ANNA},r=client"), known_place=False)
            read = read_server_first(relay.challenge, b"client")
            assert read is not None
            salts.append(read.salt)
            relay.close()
    assert salts[0] == salts[1] == base64.b64decode(SALT)


async def test_a_proof_that_comes_after_its_time_is_answered_alike_for_all_names() -> None:
    clock = FakeClock()
    async with line_server(play) as server, made(server, clock) as directory:
        for login in (ANNA, NOBODY):
            relay = await directory.open_scram(first_of(f"n,,n={login},r=client"), known_place=False)
            clock.advance(EXCHANGE_TIME + 1)
            with pytest.raises(Unavailable, match="no proof within"):
                await relay.prove(PROOF)
            relay.close()


class Counting(Tries):
    """Counts what is taken."""

    taken = 0

    async def reserve(self, directory: str, person: str, allowed: int, window: float) -> Try | None:
        self.taken += 1
        return await super().reserve(directory, person, allowed, window)


@pytest.mark.parametrize("known_place", [True, False])
async def test_a_proof_without_a_turn_spends_no_try_and_is_told_at_known_places_only(known_place: bool) -> None:
    turns, tries = iter((True, False)), Counting()

    @contextlib.asynccontextmanager
    async def turn(_known_place: bool) -> AsyncIterator[None]:
        if not next(turns):
            raise NotReached("no turn")
        yield

    async with line_server(play) as server:
        wanted = settings(server)
        backend = DovecotBackend(wanted)
        await backend.prepare()
        relays = Relays(backend, wanted, tries, turn)
        relay = await relays.open(first_of(f"n,,n={ANNA},r=client"), b"k", known_place=known_place)
        if known_place:
            with pytest.raises(NotReached):
                await relay.prove(PROOF)
        else:
            answer = await relay.prove(PROOF)
            assert isinstance(answer, Denied)
            assert answer.reason is Reason.OPAQUE
        relay.close()
        backend.close()
        for _ in range(3):
            await asyncio.sleep(0)
    assert tries.taken == 0


async def test_a_name_that_cannot_be_one_gets_a_challenge_where_every_directory_has_patterns() -> None:
    async with line_server(play) as server, made(server) as directory:
        chain = make_chain((Member("box", directory, ("*@example.org",)),))
        relay = await chain.open_scram(first_of("n,,n=\x07a,r=client"), known_place=False)  # type: ignore[attr-defined]  # a chain has it
        read = read_server_first(relay.challenge, b"client")
        relay.close()
    assert read is not None
    assert auths(server) == 0
