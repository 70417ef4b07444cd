"""XOAUTH2, server role."""

import pytest

from pillarbox.sasl import Challenge, Failure, Success, TokenCredentials, TokenHint
from pillarbox.sasl.plain import MAX_NAME
from pillarbox.sasl.xoauth2 import MAX_TOKEN, Xoauth2Client, Xoauth2Server, refusal


def test_user_and_token_are_read_and_a_refusal_has_its_document() -> None:
    server = Xoauth2Server()
    assert server.step(None) == Challenge(b"")
    assert server.step(Xoauth2Client("jörg@example.org", "a.b-c==").initial_response()) == Success(
        TokenCredentials("jörg@example.org", "a.b-c=="), refusal
    )


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"user=a\x01auth=Bearer t\x01",
        b"user=a\x01auth=Bearer t\x01\x01\x01",
        b"user=\x01auth=Bearer t\x01\x01",
        b"user=a\x01auth=Basic t\x01\x01",
        b"user=a\x01auth=Bearer \x01\x01",
        b"user=a\0b\x01auth=Bearer t\x01\x01",
        b"user=a\nb\x01auth=Bearer t\x01\x01",
        b"user=\xff\x01auth=Bearer t\x01\x01",
        b"user=" + b"u" * (MAX_NAME + 1) + b"\x01auth=Bearer t\x01\x01",
        b"user=u\x01auth=Bearer " + b"t" * (MAX_TOKEN + 1) + b"\x01\x01",
    ],
)
def test_anything_else_is_a_failure(response: bytes) -> None:
    assert isinstance(Xoauth2Server().step(response), Failure)


def test_what_is_as_long_as_it_may_be_is_read() -> None:
    user, token = "u" * MAX_NAME, "t" * MAX_TOKEN
    response = f"user={user}\x01auth=Bearer {token}\x01\x01".encode()
    assert Xoauth2Server().step(response) == Success(TokenCredentials(user, token), refusal)


def test_credentials_show_neither_login_nor_token() -> None:
    assert "topsecret" not in repr(Success(TokenCredentials("tim", "topsecret")))
    assert "tim" not in repr(Success(TokenCredentials("tim", "topsecret")))


def test_the_error_document_names_the_scope() -> None:
    assert refusal(TokenHint()) == b'{"status":"401","schemes":"bearer","scope":""}'
    assert b'"scope":"smtp send"' in refusal(TokenHint("smtp send", "https://id.example.org/"))
