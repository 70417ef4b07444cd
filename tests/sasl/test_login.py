"""LOGIN: two prompts, both roles."""

import pytest

from pillarbox.sasl import Challenge, ExchangeError, Failure, PasswordCredentials, Success
from pillarbox.sasl.login import LoginClient, LoginServer
from pillarbox.sasl.plain import MAX_NAME, MAX_PASSWORD

USERNAME = Challenge(b"Username:")
PASSWORD = Challenge(b"Password:")


def yielded(step: Challenge | Success | Failure) -> tuple[str, str, str]:
    assert isinstance(step, Success)
    credentials = step.credentials
    assert isinstance(credentials, PasswordCredentials)
    return credentials.authzid, credentials.authcid, credentials.password


def test_the_prompts_are_exactly_these() -> None:
    server = LoginServer()
    assert server.step(None) == USERNAME
    assert server.step(b"tim@example.org") == PASSWORD
    assert yielded(server.step("gehé!m".encode())) == ("", "tim@example.org", "gehé!m")


def test_an_initial_response_is_the_user_name() -> None:
    server = LoginServer()
    assert server.step(b"tim") == PASSWORD
    assert yielded(server.step(b"secret")) == ("", "tim", "secret")


def test_an_empty_initial_response_is_no_name_yet() -> None:
    server = LoginServer()
    assert server.step(b"") == USERNAME
    assert server.step(b"tim") == PASSWORD
    assert yielded(server.step(b"secret"))[1] == "tim"


def test_an_empty_answer_to_the_prompt_is_a_failure_and_not_asked_again() -> None:
    server = LoginServer()
    assert server.step(None) == USERNAME
    assert isinstance(server.step(b""), Failure)
    server = LoginServer()
    assert server.step(b"") == USERNAME
    assert isinstance(server.step(b""), Failure)


@pytest.mark.parametrize("name", [b"ti\0m", b"\xff", b"t" * (MAX_NAME + 1)])
def test_a_malformed_user_name_is_a_failure_that_names_no_octet(name: bytes) -> None:
    step = LoginServer().step(name)
    assert step == Failure("LOGIN: the user name is empty, too long, or not UTF-8 without NUL")


@pytest.mark.parametrize("password", [b"", None, b"sec\0ret", b"secret\xff", b"p" * (MAX_PASSWORD + 1)])
def test_a_malformed_password_is_a_failure_that_names_no_octet(password: bytes | None) -> None:
    server = LoginServer()
    assert server.step(b"tim") == PASSWORD
    step = server.step(password)
    assert step == Failure("LOGIN: the password is empty, too long, or not UTF-8 without NUL")


def test_what_is_as_long_as_it_may_be_is_read() -> None:
    server = LoginServer()
    assert server.step(b"u" * MAX_NAME) == PASSWORD
    assert yielded(server.step(b"p" * MAX_PASSWORD)) == ("", "u" * MAX_NAME, "p" * MAX_PASSWORD)


def test_client_and_server_understand_each_other() -> None:
    client, server = LoginClient("jörg", "secret"), LoginServer()
    assert client.name == "LOGIN"
    assert client.complete  # the server has nothing to prove
    assert client.initial_response() is None  # type: ignore[func-returns-value]  # that it is None is the test
    step = server.step(None)
    while isinstance(step, Challenge):
        step = server.step(client.step(step.octets))
    assert yielded(step) == ("", "jörg", "secret")


def test_the_client_goes_by_order_whatever_the_prompts_say() -> None:
    client = LoginClient("tim", "secret")
    assert client.step(b"User Name\0") == b"tim"
    assert client.step(b"") == b"secret"
    with pytest.raises(ExchangeError) as raised:
        client.step(b"Again:")
    assert "secret" not in str(raised.value)
    assert "secret" not in repr(client)


@pytest.mark.parametrize(("user", "password"), [("", "p"), ("u", ""), ("u\0", "p"), ("u", "p\0"), ("u", "\udfff")])
def test_the_client_refuses_what_login_cannot_carry(user: str, password: str) -> None:
    with pytest.raises(ValueError, match=r"^LOGIN needs a user and a password, both UTF-8 without NUL$"):
        LoginClient(user, password)
