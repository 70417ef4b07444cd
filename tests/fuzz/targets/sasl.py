"""Any responses to a server mechanism, any challenges to a client's.

INPUT
    One octet that picks role and mechanism, then the peer's messages with END between them; one that is ABSENT is
    none at all (AUTH without an initial response).

INVARIANTS
    A server mechanism returns a Step, and raises nothing. Success has credentials: of a password, a login that is
    not empty, and no NUL in any text. A Failure's reason holds nothing of what was received.
    What PLAIN reads is what the client of the same name writes for it.
    A client mechanism answers or raises ExchangeError, and its text holds no secret.
"""

import dataclasses
from typing import Final

from pillarbox.sasl import (
    SERVER_MECHANISMS,
    Challenge,
    Disproved,
    ExchangeError,
    Failure,
    PasswordCredentials,
    ScramSecret,
    SecretWanted,
    client_mechanism,
)

END: Final = b"\n--\n"
ABSENT: Final = b"\0none"
CLIENT: Final = 0x80
_SERVERS: Final = sorted(SERVER_MECHANISMS)
_CLIENTS: Final = ("PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER", "SCRAM-SHA-256")
_STORED: Final = ScramSecret(4096, b"0123456789abcdef", bytes(32), bytes(32))
_SECRET: Final = "s3cr3t-of-tim"


def check(octets: bytes) -> None:
    """Asserts the invariants."""
    if not octets:
        return
    pick, messages = octets[0], octets[1:].split(END)[:8]
    if pick & CLIENT:
        _check_client(_CLIENTS[pick % len(_CLIENTS)], messages)
    else:
        _check_server(_SERVERS[pick % len(_SERVERS)], messages)


def _check_server(name: str, messages: list[bytes]) -> None:
    mechanism = SERVER_MECHANISMS[name]()
    for message in messages:
        response = None if message == ABSENT else message
        step = mechanism.step(response)
        if isinstance(step, SecretWanted):
            step = step.proceed(_STORED, "nonce")
        if isinstance(step, Challenge):
            continue
        if isinstance(step, Disproved):
            return
        if isinstance(step, Failure):
            _check_reason(step.reason, messages)
            return
        credentials = step.credentials
        for each in dataclasses.fields(credentials):
            assert "\0" not in str(getattr(credentials, each.name))
        if isinstance(credentials, PasswordCredentials):
            assert credentials.authcid
        if name == "PLAIN" and isinstance(credentials, PasswordCredentials) and not credentials.authzid:
            assert client_mechanism(name, credentials.authcid, credentials.password).initial_response() == response
        return


def _check_reason(reason: str, messages: list[bytes]) -> None:
    assert reason
    assert reason.isascii()
    for message in messages:
        for word in message.split(b"\0"):
            # a word of the reason's own may be guessed; what is long was taken from the response
            assert len(word) < 12 or word not in reason.encode()


def _check_client(name: str, messages: list[bytes]) -> None:
    mechanism = client_mechanism(name, "tim", _SECRET, "0123456789abcdef")
    try:
        mechanism.initial_response()
        for message in messages:
            assert isinstance(mechanism.step(message), bytes)
    except ExchangeError as error:
        assert _SECRET not in str(error)
