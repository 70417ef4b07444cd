"""Any responses to a server mechanism, any challenges to a client's, and an honest exchange with an octet changed.

INPUT
    One octet that picks what is tried and the mechanism, then the peer's messages with END between them; one that is
    ABSENT is none at all (AUTH without an initial response). With ALTERED the messages are three octets each instead:
    in which message of an honest SCRAM exchange, where (modulo its length), and what is flipped.

INVARIANTS
    A server mechanism returns a Step and raises nothing, up to its last one. Success has no NUL in any text and, but
    for tokens and certificates, a login. A Failure's reason holds nothing of what was received. Nobody proves a
    password to SCRAM who was not told it, and nothing of an honest exchange may be changed.
    What PLAIN reads is what the client of the same name writes for it.
    A client mechanism answers or raises ExchangeError, whose text holds no secret. SCRAM's client is never complete
    with a server that does not know the password.
"""

import base64
import binascii
import dataclasses
import hashlib
import hmac
from typing import Final

from pillarbox.sasl import (
    CLIENT_MECHANISMS,
    SERVER_MECHANISMS,
    Challenge,
    Disproved,
    ExchangeError,
    Failure,
    PasswordCredentials,
    ProvenCredentials,
    ScramSecret,
    SecretWanted,
    Step,
    Success,
    client_mechanism,
)

END: Final = b"\n--\n"
ABSENT: Final = b"\0none"
CLIENT: Final = 0x80
ALTERED: Final = 0x40
_SERVERS: Final = sorted(SERVER_MECHANISMS)
_CLIENTS: Final = sorted(CLIENT_MECHANISMS)
_USER: Final = "tim"
_SECRET: Final = "s3cr3t-of-tim"
_NONCE: Final = "client-nonce-0123456789"
_SALT: Final = b"0123456789abcdef"
_ROUNDS: Final = 4_096


def _scram_secret() -> ScramSecret:
    salted = hashlib.pbkdf2_hmac("sha256", _SECRET.encode(), _SALT, _ROUNDS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return ScramSecret(
        _ROUNDS, _SALT, hashlib.sha256(client_key).digest(), hmac.digest(salted, b"Server Key", "sha256")
    )


_STORED: Final = _scram_secret()


def check(octets: bytes) -> None:
    """Asserts the invariants."""
    if not octets:
        return
    pick, said = octets[0], octets[1:]
    if pick & CLIENT:
        _check_client(_CLIENTS[pick % len(_CLIENTS)], said.split(END)[:8])
    elif pick & ALTERED:
        _check_altered(said)
    else:
        _check_server(_SERVERS[pick % len(_SERVERS)], said.split(END)[:8])


def _check_server(name: str, messages: list[bytes]) -> None:
    mechanism = SERVER_MECHANISMS[name]()
    for message in messages:
        response = None if message == ABSENT else message
        step: Step = mechanism.step(response)
        if isinstance(step, SecretWanted):
            assert step.authcid
            assert "\0" not in step.authcid
            step = step.proceed(_STORED, "server-nonce")
        match step:
            case Challenge():
                continue
            case Failure():
                _check_reason(step.reason, messages)
            case Disproved():
                assert step.authcid
            case Success():
                _check_success(name, step, response)
        return


def _check_success(name: str, step: Success, response: bytes | None) -> None:
    claim = step.credentials
    assert not isinstance(claim, ProvenCredentials), "a proof out of nothing"
    for each in dataclasses.fields(claim):
        assert "\0" not in str(getattr(claim, each.name))
    if isinstance(claim, PasswordCredentials):
        assert claim.authcid
        assert claim.password
        if name == "PLAIN" and not claim.authzid:
            written = client_mechanism(name, claim.authcid, claim.password, _NONCE).initial_response()
            assert written == response


def _check_reason(reason: str, messages: list[bytes]) -> None:
    assert reason
    assert reason.isascii()
    for message in messages:
        for word in message.split(b"\0"):
            # a word of the reason's own may be guessed; what is long was taken from the response
            assert len(word) < 12 or word not in reason.encode()


def _check_client(name: str, messages: list[bytes]) -> None:
    secret = base64.b64encode(_SECRET.encode()).decode()  # letters that a bearer token may have
    mechanism = client_mechanism(name, _USER, secret, _NONCE)
    try:
        mechanism.initial_response()
        for message in messages:
            assert isinstance(mechanism.step(message), bytes)
            assert name != "SCRAM-SHA-256" or not mechanism.complete, "a server proved a password it does not know"
    except ExchangeError as error:
        assert secret not in str(error)


def _check_altered(said: bytes) -> None:
    """An honest exchange in which one octet of one message, of either side, is flipped on its way."""
    if len(said) < 3:
        return
    where, at, flip = said[:3]
    client, server = client_mechanism("SCRAM-SHA-256", _USER, _SECRET, _NONCE), SERVER_MECHANISMS["SCRAM-SHA-256"]()
    first = client.initial_response()
    assert first is not None
    turn = 0
    altered = False

    def carried(message: bytes) -> bytes:
        nonlocal turn, altered
        turn += 1
        if turn - 1 != where % 4 or not message:
            return message
        position = at % len(message)
        other = message[:position] + bytes([message[position] ^ flip]) + message[position + 1 :]
        altered = _meaning(other) != _meaning(message)
        return other

    step = server.step(carried(first))
    try:
        for _ in range(3):
            if isinstance(step, SecretWanted):
                step = step.proceed(_STORED, "server-nonce")
            if not isinstance(step, Challenge):
                break
            step = server.step(carried(client.step(carried(step.octets))))
    except ExchangeError:
        assert flip
        return
    assert isinstance(step, Success) is client.complete
    assert client.complete or flip
    assert not (client.complete and altered), "an altered exchange was believed"


def _meaning(message: bytes) -> bytes:
    """A final message with its base64 read: the last letter has two bits that mean nothing."""
    head, mark, tail = message.rpartition(b"v=" if message.startswith(b"v=") else b",p=")
    try:
        return head + mark + binascii.a2b_base64(tail)
    except binascii.Error:
        return message
