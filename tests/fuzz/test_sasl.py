"""Any octets to a mechanism: Challenge, Success or Failure, no exception; what is read is what was said."""

import dataclasses
import os

from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.sasl import (
    CLIENT_MECHANISMS,
    SERVER_MECHANISMS,
    Challenge,
    Disproved,
    ExchangeError,
    Failure,
    PasswordCredentials,
    ScramSecret,
    SecretWanted,
    Success,
    client_mechanism,
)

EXAMPLES = settings(max_examples=int(os.environ.get("PILLARBOX_FUZZ_EXAMPLES", "200")))

SECRET = ScramSecret(4096, b"0123456789abcdef", bytes(32), bytes(32))

pieces = st.lists(st.sampled_from([b"\0", b"a", b"\xc3\xa4", b"\xff", b"=", b"\r\n"]) | st.binary(max_size=8)).map(
    b"".join
)


@EXAMPLES
@given(st.sampled_from(sorted(SERVER_MECHANISMS)), st.lists(st.none() | pieces, max_size=4))
def test_a_server_mechanism_never_raises(name: str, responses: list[bytes | None]) -> None:
    mechanism = SERVER_MECHANISMS[name]()
    for response in responses:
        step = mechanism.step(response)
        assert isinstance(step, Challenge | SecretWanted | Success | Disproved | Failure)
        if isinstance(step, SecretWanted):
            assert isinstance(step.proceed(SECRET, "nonce"), Challenge)
        if isinstance(step, Success):
            for field in dataclasses.fields(step.credentials):
                assert "\0" not in str(getattr(step.credentials, field.name))
        if isinstance(step, Success) and isinstance(step.credentials, PasswordCredentials):
            assert step.credentials.authcid and step.credentials.password


@EXAMPLES
@given(st.sampled_from(sorted(CLIENT_MECHANISMS)), st.lists(st.binary(max_size=20), max_size=4))
def test_a_client_mechanism_answers_or_raises_its_one_error(name: str, challenges: list[bytes]) -> None:
    mechanism = client_mechanism(name, "tim", "secret", "0123456789abcdef")
    for challenge in challenges:
        try:
            assert isinstance(mechanism.step(challenge), bytes)
        except ExchangeError as error:
            assert "secret" not in str(error)


text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=100)


@EXAMPLES
@given(st.sampled_from(["PLAIN", "LOGIN"]), text, text)
def test_both_roles_agree_on_every_name_and_password(name: str, user: str, password: str) -> None:
    client, server = client_mechanism(name, user, password), SERVER_MECHANISMS[name]()
    step = server.step(client.initial_response())
    while isinstance(step, Challenge):
        step = server.step(client.step(step.octets))
    assert isinstance(step, Success)
    assert isinstance(step.credentials, PasswordCredentials)
    assert (step.credentials.authcid, step.credentials.password, step.credentials.authzid) == (user, password, "")
