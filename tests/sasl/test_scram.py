"""SCRAM-SHA-256, both roles: the RFC's example, scramp as an independent judge of our server, and what is refused."""

import base64
import hashlib
import hmac

import pytest
import scramp  # type: ignore[import-untyped]  # it ships no types

from pillarbox.sasl import (
    Challenge,
    Disproved,
    ExchangeError,
    Failure,
    ProvenCredentials,
    ScramSecret,
    SecretWanted,
    Success,
    client_mechanism,
)
from pillarbox.sasl.plain import MAX_NAME
from pillarbox.sasl.scram import MAX_MESSAGE, ScramServer
from pillarbox.sasl.scram_client import ScramClient

NONCE = "0123456789abcdef"


def secret_of(password: str, salt: bytes = b"0123456789abcdef", iterations: int = 4096) -> ScramSecret:
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return ScramSecret(
        iterations, salt, hashlib.sha256(client_key).digest(), hmac.digest(salted, b"Server Key", "sha256")
    )


def begun(server: ScramServer, message: bytes, secret: ScramSecret, nonce: str = "srv") -> bytes:
    step = server.step(message)
    assert isinstance(step, SecretWanted)
    return step.proceed(secret, nonce).octets


def test_the_example_of_rfc_7677_is_spoken_to_the_letter() -> None:
    secret = secret_of("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
    server = ScramServer()
    assert server.step(None) == Challenge(b"")
    first = begun(server, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", secret, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    assert first == b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    final = (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert server.step(final) == Challenge(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    assert server.step(b"") == Success(ProvenCredentials("user", "", secret))
    assert isinstance(server.step(b""), Failure)


@pytest.mark.parametrize("user", ["tim", "tim@example.org", "a,b=c", "jörg"])
def test_scramp_and_our_server_understand_each_other(user: str) -> None:
    client = scramp.ScramClient(["SCRAM-SHA-256"], user, "pencil")
    server, secret = ScramServer(), secret_of("pencil")
    client.set_server_first(begun(server, client.get_client_first().encode(), secret).decode())
    step = server.step(client.get_client_final().encode())
    assert isinstance(step, Challenge)
    client.set_server_final(step.octets.decode())
    assert server.step(b"") == Success(ProvenCredentials(user, "", secret))


def spoken(client: ScramClient, server: ScramServer, secret: ScramSecret) -> Challenge | Disproved | Failure:
    proof = client.step(begun(server, client.initial_response(), secret))
    step = server.step(proof)
    assert isinstance(step, Challenge | Disproved | Failure)
    return step


def test_our_client_believes_a_yes_only_after_the_servers_signature() -> None:
    client, server, secret = ScramClient("tim", "pencil", NONCE), ScramServer(), secret_of("pencil")
    assert client.name == "SCRAM-SHA-256"
    assert client.step(b"") == client.initial_response()
    step = spoken(client, server, secret)
    assert isinstance(step, Challenge)
    assert not client.complete
    assert client.step(step.octets) == b""
    assert client.complete
    with pytest.raises(ExchangeError):
        client.step(b"")


def test_our_client_refuses_a_server_that_does_not_know_the_password() -> None:
    client = ScramClient("tim", "pencil", NONCE)
    assert isinstance(spoken(client, ScramServer(), secret_of("other")), Disproved)
    with pytest.raises(ExchangeError) as raised:
        client.step(b"v=" + base64.b64encode(bytes(32)))
    assert "pencil" not in str(raised.value)
    assert not client.complete


@pytest.mark.parametrize(
    "message",
    [
        b"r=other,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=4096",
        b"r=0123456789abcdefX,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=1",
        b"r=0123456789abcdefX,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=99999999999",
        b"r=0123456789abcdefX,s=!,i=4096",
        b"e=other-error",
        b"\xff",
        b"what",
    ],
)
def test_our_client_refuses_a_first_message_that_is_none(message: bytes) -> None:
    with pytest.raises(ExchangeError):
        ScramClient("tim", "pencil", NONCE).step(message)


@pytest.mark.parametrize(
    ("user", "password", "nonce"),
    [
        ("", "p", NONCE), ("u", "", NONCE), ("u\0", "p", NONCE), ("u", "p\0", NONCE), ("u", "p", "short"),
        ("u\x07", "secret", NONCE), ("u", "secret", "with,comma,inside"),
    ],
)  # fmt: skip
def test_our_client_refuses_what_scram_cannot_carry_and_shows_none_of_it(
    user: str, password: str, nonce: str
) -> None:
    with pytest.raises(ValueError, match=r"^SCRAM") as raised:
        ScramClient(user, password, nonce)
    assert "secret" not in str(raised.value)
    assert "secret" not in repr(raised.value.__cause__)
    with pytest.raises(ValueError, match=r"^SCRAM"):
        client_mechanism("SCRAM-SHA-256", user, password, nonce)


def test_a_wrong_password_is_disproved_and_names_the_login_for_the_guard() -> None:
    assert spoken(ScramClient("tim", "wrong", NONCE), ScramServer(), secret_of("pencil")) == Disproved("tim")


def test_an_authzid_is_read_and_bound_into_the_proof() -> None:
    server, secret = ScramServer(), secret_of("pencil")
    first = begun(server, b"y,a=bob=2C=3D,n=tim,r=abc", secret)
    salted = hashlib.pbkdf2_hmac("sha256", b"pencil", secret.salt, secret.iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    without_proof = b"c=" + base64.b64encode(b"y,a=bob=2C=3D,") + b",r=abcsrv,x=more"
    signature = hmac.digest(secret.stored_key, b",".join((b"n=tim,r=abc", first, without_proof)), "sha256")
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True)))
    assert isinstance(server.step(without_proof + b",p=" + proof), Challenge)
    assert server.step(b"") == Success(ProvenCredentials("tim", "bob,=", secret))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "no client-first-message"),
        (b"n,,n=tim", "no client-first-message"),
        (b"n,,n=tim,r=", "no client-first-message"),
        (b"n,,m=x,n=tim,r=abc", "no client-first-message"),
        (b"n,,n=t\0m,r=abc", "no client-first-message"),
        (b"n,,n=t=2Xm,r=abc", "no client-first-message"),
        (b"n,,n=tim,r=a b", "no client-first-message"),
        (b"x,,n=tim,r=abc", "no client-first-message"),
        (b"p=tls-unique,,n=tim,r=abc", "channel binding"),
        (b"n,,n=,r=abc", "a name is empty"),
        (b"n,a=,n=tim,r=abc", "a name is empty"),
        (b"n,,n=\xff,r=abc", "a name is empty"),
        (b"n,,n=" + b"n" * (MAX_NAME + 1) + b",r=abc", "a name is empty"),
        (b"n" * (MAX_MESSAGE + 1), "too long"),
    ],
)
def test_a_first_message_that_is_none_is_a_failure(message: bytes, reason: str) -> None:
    step = ScramServer().step(message)
    assert isinstance(step, Failure)
    assert reason in step.reason
    assert "tim" not in step.reason


GOOD = base64.b64encode(bytes(32))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "no client-final-message"),
        (b"c=biws,r=abcsrv,p=" + GOOD[:-4], "no client-final-message"),
        (b"c=biws,p=" + GOOD, "no client-final-message"),
        (b"c=biws,r=abcsrv,p=" + GOOD + b",x=1", "no client-final-message"),
        (b"c=eSws,r=abcsrv,p=" + GOOD, "another exchange"),
        (b"c=biws,r=abc,p=" + GOOD, "another exchange"),
    ],
)
def test_a_final_message_that_does_not_fit_is_a_failure_and_ends_it(message: bytes, reason: str) -> None:
    server = ScramServer()
    begun(server, b"n,,n=tim,r=abc", secret_of("pencil"))
    step = server.step(message)
    assert isinstance(step, Failure)
    assert reason in step.reason
    assert isinstance(server.step(message), Failure)


def test_there_is_one_proof_in_an_exchange() -> None:
    client, server, secret = ScramClient("tim", "pencil", NONCE), ScramServer(), secret_of("pencil")
    right = client.step(begun(server, client.initial_response(), secret))
    wrong = right[: -len(GOOD)] + GOOD
    assert server.step(wrong) == Disproved("tim")
    assert isinstance(server.step(right), Failure)


def test_what_is_as_long_as_it_may_be_is_read() -> None:
    name = b"n" * MAX_NAME
    step = ScramServer().step(b"n,,n=" + name + b",r=abc")
    assert isinstance(step, SecretWanted) and step.authcid == name.decode()
    head = b"n,,n=tim,r=abc,x="
    assert isinstance(ScramServer().step(head.ljust(MAX_MESSAGE, b"x")), SecretWanted)
    assert isinstance(ScramServer().step(head.ljust(MAX_MESSAGE + 1, b"x")), Failure)


def test_words_after_the_signature_are_a_failure() -> None:
    client, server = ScramClient("tim", "pencil", NONCE), ScramServer()
    assert isinstance(spoken(client, server, secret_of("pencil")), Challenge)
    assert isinstance(server.step(b"more"), Failure)


def test_before_the_secret_is_there_nothing_more_is_read() -> None:
    server = ScramServer()
    assert isinstance(server.step(b"n,,n=tim,r=abc"), SecretWanted)
    assert isinstance(server.step(b"n,,n=tim,r=abc"), Failure)


def test_no_secret_is_in_what_is_shown() -> None:
    secret = secret_of("pencil")
    server = ScramServer()
    wanted = server.step(b"n,,n=tim,r=abc")
    for shown in (secret, ProvenCredentials("tim", "", secret), wanted, Disproved("tim"), server):
        assert repr(secret.stored_key) not in repr(shown)
        assert "tim" not in repr(shown)
