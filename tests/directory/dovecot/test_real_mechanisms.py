"""SCRAM-SHA-256 and bearer tokens at a real Dovecot: passed through, and nobody gets in who should not."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Iterator

import jwt
import pytest
from tests.support.certs import Authority
from tests.support.dovecot import PASSWORD, Dovecot, running_dovecot

from pillarbox.directory.base import Denied, Identity, Proven, Reason, Unavailable
from pillarbox.directory.dovecot.backend import DovecotBackend
from pillarbox.directory.dovecot.directory import DovecotDirectory
from pillarbox.directory.dovecot.settings import DovecotSettings
from pillarbox.directory.tries import Tries
from pillarbox.directory.wire import Place
from pillarbox.sasl import PasswordCredentials, ScramFirst, SecretWanted, TokenCredentials
from pillarbox.sasl.scram import ScramServer, ServerFirst, read_server_first
from pillarbox.sasl.scram_client import ScramClient

KEY = b"a key that the tests and their Dovecot know"
SECRET = b"k" * 32
NONCE = "a-nonce-of-a-client"
ANNA = "anna@example.org"
ODD = "o'neill=comma, and/slash@example.org"
PEOPLE = {ANNA: PASSWORD, "bob@example.org": PASSWORD, "carl@example.org": PASSWORD}

_OAUTH = """\
passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = FOLDER/oauth2.conf
}
"""
_OAUTH_SETTINGS = """\
introspection_mode = local
local_validation_key_dict = fs:posix:prefix=FOLDER/keys/
username_attribute = sub
issuers = https://login.example.org
"""


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    issued = Authority(tmp_path_factory.mktemp("authority")).issue("localhost")
    with running_dovecot(
        issued,
        PEOPLE,
        closed=["bob@example.org"],
        denied=["carl@example.org"],
        mechanisms="plain scram-sha-256 oauthbearer xoauth2",
        more=_OAUTH,
        files={"oauth2.conf": _OAUTH_SETTINGS, "keys/default/HS256/default": base64.b64encode(KEY).decode()},
        clear=True,
    ) as running:
        yield running


@pytest.fixture(params=["unix", "tcp"])
async def directory(dovecot: Dovecot, request: pytest.FixtureRequest) -> AsyncIterator[DovecotDirectory]:
    place = Place(path=str(dovecot.auth_socket)) if request.param == "unix" else Place("127.0.0.1", dovecot.auth)
    settings = DovecotSettings(
        name="dovecot", servers=(place,), domains=("example.org", "broken.example"), timeout=20.0, wrong_tries=3
    )
    backend = DovecotBackend(settings)
    made = DovecotDirectory(backend, settings, Tries(), lambda: SECRET)
    await backend.prepare()
    yield made
    made.close()
    for _ in range(3):
        await asyncio.sleep(0)


def first_of(client: ScramClient, server: ScramServer) -> ScramFirst:
    step = server.step(client.initial_response())
    assert isinstance(step, SecretWanted)
    return step.first


async def challenge_of(directory: DovecotDirectory, login: str) -> ServerFirst:
    first = first_of(ScramClient(login, PASSWORD, NONCE), ScramServer())
    relay = await directory.open_scram(first, known_place=True)
    relay.close()
    said = read_server_first(relay.challenge, first.nonce)
    assert said is not None
    return said


async def sign_in(directory: DovecotDirectory, password: str, login: str = ANNA) -> Proven | Denied:
    """The whole exchange, with our own client, which believes no false signature."""
    client, server = ScramClient(login, password, NONCE), ScramServer()
    wanted = server.step(client.initial_response())
    assert isinstance(wanted, SecretWanted)
    relay = await directory.open_scram(wanted.first, known_place=True)
    try:
        challenge = wanted.relay(relay.challenge)
        answer = await relay.prove(client.step(challenge.octets))
        if isinstance(answer, Proven):
            client.step(answer.signature)
            assert client.complete
        return answer
    finally:
        relay.close()


def token(subject: str = ANNA, **others: object) -> str:
    claims = {"sub": subject, "iss": "https://login.example.org", "exp": int(time.time()) + 600}
    return jwt.encode({**claims, **others}, KEY, "HS256")


async def test_what_it_offers_is_offered(directory: DovecotDirectory) -> None:
    assert directory.offers_tokens
    assert directory.offers_scram(lambda _: True)


async def test_scram_lets_in_whom_dovecot_does(directory: DovecotDirectory) -> None:
    answer = await sign_in(directory, PASSWORD)
    assert isinstance(answer, Proven)
    assert (answer.identity.login, answer.identity.addresses) == (ANNA, frozenset({ANNA}))
    assert answer.identity.source == "dovecot"


@pytest.mark.parametrize(
    ("login", "password", "reason"),
    [
        (ANNA, "wrong", Reason.OPAQUE),
        ("nobody@example.org", PASSWORD, Reason.OPAQUE),
        ("anna@elsewhere.example", PASSWORD, Reason.UNKNOWN),
        ("bob@example.org", PASSWORD, Reason.DISABLED),
        ("carl@example.org", PASSWORD, Reason.DISABLED),
    ],
)
async def test_scram_refuses_whom_dovecot_does(
    directory: DovecotDirectory, login: str, password: str, reason: Reason
) -> None:
    answer = await sign_in(directory, password, login)
    assert isinstance(answer, Denied)
    assert answer.reason is reason


@pytest.mark.parametrize("login", [ODD, "with spaces@example.org", "a\tb@example.org", "\x01t@example.org", "\n"])
async def test_hostile_names_get_a_challenge_and_do_not_get_in(directory: DovecotDirectory, login: str) -> None:
    server, escaped = ScramServer(), login.replace("=", "=3D").replace(",", "=2C")
    wanted = server.step(f"n,,n={escaped},r={NONCE}".encode())
    assert isinstance(wanted, SecretWanted)
    relay = await directory.open_scram(wanted.first, known_place=True)
    nonce = wanted.relay(relay.challenge).octets.split(b",")[0]
    assert isinstance(await relay.prove(b"c=biws," + nonce + b",p=" + b"A" * 43 + b"="), Denied)
    relay.close()
    assert isinstance(await sign_in(directory, PASSWORD), Proven)


async def test_a_name_that_nobody_has_gets_a_challenge_of_the_same_form(
    directory: DovecotDirectory,
) -> None:
    logins = (ANNA, "nobody@example.org", "Nobody@example.org")
    anna, nobody, again = [await challenge_of(directory, login) for login in logins]
    assert (len(nobody.nonce), len(nobody.salt), nobody.iterations) == (
        len(anna.nonce),
        len(anna.salt),
        anna.iterations,
    )
    assert nobody.salt == again.salt != anna.salt
    # this Dovecot has the passwords and draws a salt each time; as soon as that was seen, so do we
    drawn = [await challenge_of(directory, login) for login in (ANNA, "nobody@example.org")]
    assert drawn[0].salt != anna.salt
    assert drawn[1].salt != nobody.salt
    assert nobody.nonce != again.nonce


async def test_wrong_proofs_are_wrong_tries_of_the_person_however_they_were_made(
    directory: DovecotDirectory,
) -> None:
    for _ in range(2):
        assert isinstance(await sign_in(directory, "wrong"), Denied)
    assert isinstance(await sign_in(directory, PASSWORD), Proven)
    wrong = PasswordCredentials(ANNA, "another wrong one")
    assert isinstance(await directory.verify(wrong, known_place=True), Denied)
    answer = await sign_in(directory, PASSWORD, "Anna@example.org")
    assert isinstance(answer, Denied)
    assert answer.reason is Reason.LOCKED


async def test_dovecot_cannot_say(directory: DovecotDirectory) -> None:
    with pytest.raises(Unavailable):
        await sign_in(directory, PASSWORD, "anna@broken.example")


async def test_channel_binding_cannot_be_stripped_from_the_middle(directory: DovecotDirectory) -> None:
    """``y`` in the first message and ``n`` in the last, and the other way: the exchange ends before Dovecot hears."""
    for said, meant in ((b"n", b"y"), (b"y", b"n")):
        client, server = ScramClient(ANNA, PASSWORD, NONCE), ScramServer()
        message = (client.initial_response() or b"").replace(b"n,", said + b",", 1)
        wanted = server.step(message)
        assert isinstance(wanted, SecretWanted)
        relay = await directory.open_scram(wanted.first, known_place=True)
        challenge = wanted.relay(relay.challenge)
        final = client.step(challenge.octets)
        other = base64_of(meant + b",,")
        step = server.step(final.replace(final[2 : final.index(b",")], other, 1))
        relay.close()
        assert type(step).__name__ == "Failure"


def base64_of(octets: bytes) -> bytes:
    return base64.b64encode(octets)


async def test_a_token_lets_in_whose_it_is(directory: DovecotDirectory) -> None:
    answer = await directory.verify_token(TokenCredentials(ANNA, token()), known_place=True)
    assert isinstance(answer, Identity)
    assert (answer.login, answer.addresses, answer.source) == (ANNA, frozenset({ANNA}), "dovecot")


@pytest.mark.parametrize(
    ("login", "shown"),
    [
        (ANNA, "nonsense"),
        ("", token()),
        (ANNA, token("bob@example.org")),
        (ANNA, token(iss="https://evil.example")),
        (ANNA, token(exp=1)),
        ("carl@example.org", token("carl@example.org")),
        ("anna@elsewhere.example", token("anna@elsewhere.example")),
        (ANNA, "x" * 8_000),
    ],
)
async def test_a_token_that_is_not_right_lets_nobody_in(directory: DovecotDirectory, login: str, shown: str) -> None:
    answer = await directory.verify_token(TokenCredentials(login, shown), known_place=True)
    assert isinstance(answer, Denied)
    assert isinstance(await sign_in(directory, PASSWORD), Proven)


async def test_tokens_are_wrong_tries_like_passwords_and_the_same_one_again_is_no_other(
    directory: DovecotDirectory,
) -> None:
    """For Dovecot looks at its passwords, too, when it is shown a token."""
    for shown in ("a", "a", "a", "b", "c"):
        answer = await directory.verify_token(TokenCredentials(ANNA, shown), known_place=True)
        assert isinstance(answer, Denied)
        assert answer.reason is Reason.OPAQUE
    answer = await directory.verify_token(TokenCredentials(ANNA, token()), known_place=True)
    assert isinstance(answer, Denied)
    assert answer.reason is Reason.LOCKED
