"""Any octets to a mechanism: Challenge, Success or Failure, no exception; what is read is what was said."""

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.sasl import SERVER_MECHANISMS, Challenge, ExchangeError, Failure, Success, client_mechanism

EXAMPLES = settings(max_examples=int(os.environ.get("PILLARBOX_FUZZ_EXAMPLES", "200")))

pieces = st.lists(st.sampled_from([b"\0", b"a", b"\xc3\xa4", b"\xff", b"=", b"\r\n"]) | st.binary(max_size=8)).map(
    b"".join
)


@EXAMPLES
@given(st.sampled_from(sorted(SERVER_MECHANISMS)), st.lists(st.none() | pieces, max_size=4))
def test_a_server_mechanism_never_raises(name: str, responses: list[bytes | None]) -> None:
    mechanism = SERVER_MECHANISMS[name]()
    for response in responses:
        step = mechanism.step(response)
        assert isinstance(step, Challenge | Success | Failure)
        if isinstance(step, Success):
            credentials = step.credentials
            assert credentials.authcid
            assert credentials.password
            assert "\0" not in credentials.authcid + credentials.password + credentials.authzid


@EXAMPLES
@given(st.sampled_from(["PLAIN", "LOGIN", "XOAUTH2"]), st.lists(st.binary(max_size=20), max_size=4))
def test_a_client_mechanism_answers_or_raises_its_one_error(name: str, challenges: list[bytes]) -> None:
    mechanism = client_mechanism(name, "tim", "secret")
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
    assert (step.credentials.authcid, step.credentials.password, step.credentials.authzid) == (user, password, "")
