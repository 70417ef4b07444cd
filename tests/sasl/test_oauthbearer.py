"""OAUTHBEARER (RFC 7628): both roles."""

import json

import pytest

from pillarbox.sasl import Challenge, ExchangeError, Failure, Success, TokenCredentials, TokenHint
from pillarbox.sasl.oauthbearer import OauthbearerClient, OauthbearerServer, refusal
from pillarbox.sasl.plain import MAX_NAME
from pillarbox.sasl.xoauth2 import MAX_TOKEN

EXAMPLE = (  # RFC 7628 4.1
    b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01"
    b"auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
)


def test_the_example_of_the_rfc_is_read() -> None:
    server = OauthbearerServer()
    assert server.step(None) == Challenge(b"")
    assert server.step(EXAMPLE) == Success(
        TokenCredentials("user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="), refusal
    )


@pytest.mark.parametrize(
    ("message", "login"),
    [
        (b"n,,\x01auth=Bearer t\x01\x01", ""),
        (b"y,,\x01auth=bearer t\x01\x01", ""),
        (b"n,a=a=2Cb=3Dc,\x01auth=Bearer t\x01\x01", "a,b=c"),
        ("n,a=jörg,\x01auth=Bearer t\x01\x01".encode(), "jörg"),
    ],
)
def test_the_name_is_optional_and_unescaped(message: bytes, login: str) -> None:
    assert OauthbearerServer().step(message) == Success(TokenCredentials(login, "t"), refusal)


def test_a_token_as_long_as_it_may_be_is_read() -> None:
    step = OauthbearerServer().step(b"n,,\x01auth=Bearer " + b"t" * MAX_TOKEN + b"\x01\x01")
    assert isinstance(step, Success)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x01",
        b"auth=Bearer t\x01\x01",
        b"n,,auth=Bearer t\x01\x01",
        b"n,,\x01auth=Bearer t\x01",
        b"p=tls-unique,,\x01auth=Bearer t\x01\x01",
        b"n,a=,\x01auth=Bearer t\x01\x01",
        b"n,a=a=2X,\x01auth=Bearer t\x01\x01",
        b"n,a=\xff,\x01auth=Bearer t\x01\x01",
        b"n,a=a\0b,\x01auth=Bearer t\x01\x01",
        b"n,a=" + b"u" * (MAX_NAME + 1) + b",\x01auth=Bearer t\x01\x01",
    ],
)
def test_anything_else_is_a_failure(message: bytes) -> None:
    step = OauthbearerServer().step(message)
    assert isinstance(step, Failure) and step.refusal is None


@pytest.mark.parametrize(
    "message",
    [
        b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=\x01\x01",  # RFC 7628 4.3
        b"n,,\x01\x01",
        b"n,,\x01auth=Basic dDp0\x01\x01",
        b"n,,\x01auth=Bearer t\x01auth=Bearer u\x01\x01",
        b"n,,\x01host=h\x01\x01",
        b"n,,\x01auth=Bearer " + b"t" * (MAX_TOKEN + 1) + b"\x01\x01",
    ],
)
def test_a_message_without_a_token_is_a_failure_that_has_its_error_document(message: bytes) -> None:
    step = OauthbearerServer().step(message)
    assert isinstance(step, Failure) and step.refusal == refusal


def test_the_client_says_what_the_server_reads() -> None:
    client = OauthbearerClient("a,b=c@example.org", "to.ken")
    assert client.name == "OAUTHBEARER"
    assert client.complete  # the server has nothing to prove
    assert OauthbearerServer().step(client.initial_response()) == Success(
        TokenCredentials("a,b=c@example.org", "to.ken"), refusal
    )
    assert "to.ken" not in repr(client)


def test_the_error_document_gets_the_dummy_response_and_then_nothing_may_follow() -> None:
    client = OauthbearerClient("u", "t")
    assert client.step(refusal(TokenHint())) == b"\x01"
    with pytest.raises(ExchangeError):
        client.step(refusal(TokenHint()))


def test_an_empty_challenge_is_answered_with_the_message_once() -> None:
    client = OauthbearerClient("u", "t")
    assert client.step(b"") == client.initial_response()
    with pytest.raises(ExchangeError):
        client.step(b"")


@pytest.mark.parametrize(("user", "token"), [("", "t"), ("u\x01", "t"), ("u\udc80", "t"), ("u", ""), ("u", "t\x01")])
def test_the_client_refuses_what_could_add_a_pair(user: str, token: str) -> None:
    with pytest.raises(ValueError, match=r"^OAUTHBEARER needs a user and a bearer token$"):
        OauthbearerClient(user, token)


def test_the_error_document_tells_the_client_where_to_authorise_and_for_what() -> None:
    hint = TokenHint("smtp offline_access", "https://id.example.org/.well-known/openid-configuration")
    assert refusal(TokenHint()) == b'{"status":"invalid_token"}'
    assert json.loads(refusal(hint)) == {
        "status": "invalid_token",
        "scope": hint.scope,
        "openid-configuration": hint.configuration,
    }
    assert refusal(TokenHint('"\r\n\x01é')).isascii()
