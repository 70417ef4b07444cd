"""The table of verbs keeps the rules that are about all of them."""

import pytest

from pillarbox.smtp import hints
from pillarbox.smtp.limits import Limits
from pillarbox.smtp.reader import Facts
from pillarbox.smtp.state import VERBS, State, refusal

MAIL_VERBS = {b"MAIL", b"RCPT", b"DATA", b"VRFY", b"EXPN", b"BDAT", b"BURL"}


def facts(*, tls: bool, authenticated: bool) -> Facts:
    return Facts(Limits(), ("PLAIN",), offer_starttls=True, tls=tls, authenticated=authenticated, esmtp=True)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("state", list(State))
def test_no_verb_of_mail_is_allowed_before_sign_in_in_any_state(tls: bool, state: State) -> None:
    stranger = facts(tls=tls, authenticated=False)
    for name in MAIL_VERBS:
        assert refusal(VERBS[name], state, stranger) == hints.SIGN_IN_FIRST


@pytest.mark.parametrize("state", list(State))
def test_auth_is_refused_outside_tls_in_any_state(state: State) -> None:
    assert refusal(VERBS[b"AUTH"], state, facts(tls=False, authenticated=False)) == hints.STARTTLS_FIRST


@pytest.mark.parametrize("state", list(State))
def test_where_sign_in_without_tls_is_taken_there_is_still_no_mail_before_it(state: State) -> None:
    stranger = facts(tls=False, authenticated=False)
    stranger.limits = Limits(plaintext_sign_in=True)
    allowed = refusal(VERBS[b"AUTH"], state, stranger) is None
    assert allowed is (state is State.READY)
    for name in MAIL_VERBS:
        assert refusal(VERBS[name], state, stranger) == hints.SIGN_IN_FIRST


def test_what_a_stranger_may_say() -> None:
    stranger = facts(tls=True, authenticated=False)
    allowed = {name for name, verb in VERBS.items() if refusal(verb, State.READY, stranger) is None}
    assert allowed == {b"EHLO", b"HELO", b"AUTH", b"RSET", b"NOOP", b"QUIT", b"HELP"}


def test_verbs_that_must_end_a_pipelined_group() -> None:
    last = {name for name, verb in VERBS.items() if verb.last}
    assert last == {b"EHLO", b"HELO", b"STARTTLS", b"AUTH", b"DATA", b"NOOP", b"QUIT", b"VRFY"}


def test_no_command_is_allowed_outside_the_command_states() -> None:
    everyone = facts(tls=True, authenticated=True)
    for state in (State.GREETING, State.CONTENT, State.EXCHANGE, State.TLS, State.CLOSED):
        for verb in VERBS.values():
            assert refusal(verb, state, everyone) is not None
