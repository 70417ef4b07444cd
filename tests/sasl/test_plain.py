"""PLAIN (RFC 4616): exactly three parts, both roles."""

import pytest

from pillarbox.sasl import Challenge, ExchangeError, Failure, PasswordCredentials, Success
from pillarbox.sasl.plain import MAX_NAME, MAX_PASSWORD, PlainClient, PlainServer


def read(response: bytes) -> tuple[str, str, str]:
    step = PlainServer().step(response)
    assert isinstance(step, Success)
    credentials = step.credentials
    assert isinstance(credentials, PasswordCredentials)
    return credentials.authzid, credentials.authcid, credentials.password


def test_the_server_asks_with_an_empty_challenge_when_there_was_no_initial_response() -> None:
    server = PlainServer()
    assert server.step(None) == Challenge(b"")
    assert isinstance(server.step(b"\0tim\0tanstaaftanstaaf"), Success)


@pytest.mark.parametrize(
    ("response", "parts"),
    [
        (b"\0tim\0tanstaaftanstaaf", ("", "tim", "tanstaaftanstaaf")),
        (b"Ursel\0Kurt\0xipj3plmq", ("Ursel", "Kurt", "xipj3plmq")),
        (b"\0tim@example.org\0p w ", ("", "tim@example.org", "p w ")),
        (b"\0CN=Tim Test/O=ORG\0x", ("", "CN=Tim Test/O=ORG", "x")),
        ("\0jörg\0pässwörd\U0001f511".encode(), ("", "jörg", "pässwörd\U0001f511")),
        (b"z" * MAX_NAME + b"\0u\0p", ("z" * MAX_NAME, "u", "p")),
        (b"\0" + b"u" * MAX_NAME + b"\0" + b"p" * MAX_PASSWORD, ("", "u" * MAX_NAME, "p" * MAX_PASSWORD)),
    ],
)
def test_a_well_formed_response_yields_credentials(response: bytes, parts: tuple[str, str, str]) -> None:
    assert read(response) == parts


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (b"", "exactly two NUL"),
        (b"tim", "exactly two NUL"),
        (b"tim\0secret", "exactly two NUL"),
        (b"\0tim\0secret\0", "exactly two NUL"),
        (b"\0tim\0sec\0ret", "exactly two NUL"),
        (b"\0\0secret", "user name is empty"),
        (b"\0tim\0", "password is empty"),
        (b"\0\0", "user name is empty"),
        (b"\0tim\0\xff\xfe", "not UTF-8"),
        (b"\0t\xc3\0secret", "not UTF-8"),
        (b"\xed\xa0\x80\0tim\0secret", "not UTF-8"),
        (b"\0" + b"u" * (MAX_NAME + 1) + b"\0p", "too long"),
        (b"u" * (MAX_NAME + 1) + b"\0u\0p", "too long"),
        (b"\0u\0" + b"p" * (MAX_PASSWORD + 1), "too long"),
    ],
)
def test_anything_else_is_a_failure_that_names_no_octet(response: bytes, reason: str) -> None:
    step = PlainServer().step(response)
    assert isinstance(step, Failure)
    assert reason in step.reason
    assert "secret" not in repr(step)
    assert "tim" not in repr(step)


def test_credentials_challenges_and_clients_show_no_secret() -> None:
    step = PlainServer().step(b"\0tim\0secret")
    for shown in (repr(step), str(step), repr(PlainClient("tim", "secret")), repr(Challenge(b"secret"))):
        assert "secret" not in shown
        assert "tim" not in shown


def test_the_client_says_what_the_server_reads() -> None:
    client = PlainClient("jörg", "pässwörd")
    assert client.name == "PLAIN"
    assert client.complete  # the server has nothing to prove
    assert client.initial_response() == "\0jörg\0pässwörd".encode()
    assert read(client.initial_response()) == ("", "jörg", "pässwörd")


def test_the_client_answers_one_empty_challenge_and_no_other() -> None:
    client = PlainClient("tim", "secret")
    assert client.step(b"") == b"\0tim\0secret"
    with pytest.raises(ExchangeError) as raised:
        client.step(b"")
    assert "secret" not in str(raised.value)
    with pytest.raises(ExchangeError):
        PlainClient("tim", "secret").step(b"Username:")


@pytest.mark.parametrize(
    ("user", "password"), [("", "p"), ("u", ""), ("u\0", "p"), ("u", "p\0x"), ("u", "p\udc80"), ("\ud800", "p")]
)
def test_the_client_refuses_what_plain_cannot_carry_and_shows_none_of_it(user: str, password: str) -> None:
    with pytest.raises(ValueError, match="PLAIN needs") as raised:
        PlainClient(user, password)
    assert type(raised.value) is ValueError
    assert raised.value.args == ("PLAIN needs a user and a password, both UTF-8 without NUL",)
