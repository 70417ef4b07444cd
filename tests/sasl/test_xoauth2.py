"""XOAUTH2, client role."""

import pytest

from pillarbox.sasl import ExchangeError
from pillarbox.sasl.xoauth2 import Xoauth2Client


def test_the_initial_response_has_user_and_token() -> None:
    client = Xoauth2Client("someuser@example.com", "vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg==")
    assert client.name == "XOAUTH2"
    assert client.complete  # the server has nothing to prove
    assert client.initial_response() == (
        b"user=someuser@example.com\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg==\x01\x01"
    )


def test_the_error_document_is_answered_with_nothing_so_that_the_refusal_can_come() -> None:
    client = Xoauth2Client("u", "t")
    assert client.step(b'{"status":"401","schemes":"bearer"}') == b""
    with pytest.raises(ExchangeError):
        client.step(b"{}")


def test_an_empty_challenge_is_answered_with_the_message_once() -> None:
    client = Xoauth2Client("u", "t")
    assert client.step(b"") == client.initial_response()
    with pytest.raises(ExchangeError):
        client.step(b'{"status":"401"}')


@pytest.mark.parametrize(
    ("user", "token"),
    [
        ("", "t"),
        ("u\x01auth=Bearer other", "t"),
        ("u\n", "t"),
        ("u\udc80", "t"),
        ("u", ""),
        ("u", "t\x01"),
        ("u", "t t"),
        ("u", "t\n"),
        ("u", "tökén"),
    ],
)
def test_what_could_add_a_field_or_is_no_token_is_refused_and_not_shown(user: str, token: str) -> None:
    with pytest.raises(ValueError, match=r"^XOAUTH2 needs a user and a bearer token$"):
        Xoauth2Client(user, token)


def test_its_repr_shows_no_token() -> None:
    assert "topsecret" not in repr(Xoauth2Client("u", "topsecret"))
