"""SCRAM-SHA-256, server role: the client proves to know the password without saying it, and so does the server.

Only the messages are here, read by full expressions; keys come from the directory, the nonce from the caller.
(scramp, which makes the secrets and plays the client, wants its look-up answered at once and knows no authzid.)

Or a server behind plays it (docs/adr/0017): its challenge and its signature are handed to the client, and the
client's messages, unchanged, to it; what belongs to no such exchange, or to another one, never gets there.

Channel binding is not offered (docs/adr/0008): ``p=`` is refused, ``y`` is what an able client rightly says.

STANDARDS
    RFC 5802 (7: the messages), RFC 7677 (SHA-256).

ERRORS
    Failure for what is no such message or does not continue the exchange; Disproved for a wrong proof. Neither names
    an octet received.

Imports nothing but the room's own values.
"""

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import NamedTuple

from pillarbox.sasl.mechanism import (
    Challenge,
    Disproved,
    Failure,
    ProofWanted,
    ProvenCredentials,
    RelayedCredentials,
    ScramFirst,
    ScramSecret,
    SecretWanted,
    Step,
    Success,
)
from pillarbox.sasl.plain import MAX_NAME

_NAME = rb"[^\x00,=]*(?:=(?:2C|3D)[^\x00,=]*)*"
_CLIENT_NONCE = rb"[!-+\--~]{1,256}"
_NONCE = rb"[!-+\--~]{1,1024}"
_MAX_ADDED = 768
"""Octets that a server adds to the client's nonce, at most: whatever the client's, both have room in ``_NONCE``."""
_FURTHER = rb"(?:,[A-Za-z]=[^\x00,]+)*"
_FIRST = re.compile(
    rb"((?:[ny]|(p=[A-Za-z0-9.\-]+)),(?:a=(%s))?,)(n=(%s),r=(%s)%s)" % (_NAME, _NAME, _CLIENT_NONCE, _FURTHER)
)
_FINAL = re.compile(rb"(c=([A-Za-z0-9+/=]+),r=(%s)%s),p=([A-Za-z0-9+/]{43}=)" % (_NONCE, _FURTHER))
_SERVER_FIRST = re.compile(rb"r=(%s),s=([A-Za-z0-9+/]{4,1024}={0,2}),i=([1-9][0-9]{0,8})" % _NONCE)
_SERVER_FINAL = re.compile(rb"v=[A-Za-z0-9+/]{43}=")

MAX_MESSAGE = 8_192
"""Octets of a client's message."""


class ServerFirst(NamedTuple):
    """What a server-first-message says. ``nonce``: only what the server has added to the client's."""

    nonce: bytes
    salt: bytes
    iterations: int


def read_server_first(message: bytes, client_nonce: bytes) -> ServerFirst | None:
    """None: it is none, or belongs to another exchange."""
    found = _SERVER_FIRST.fullmatch(message)
    if found is None or not found[1].startswith(client_nonce):
        return None
    if not 0 < len(found[1]) - len(client_nonce) <= _MAX_ADDED:
        return None
    try:
        salt = b64decode(found[2], validate=True)
    except ValueError:
        return None
    return ServerFirst(found[1][len(client_nonce) :], salt, int(found[3]))


def is_signature(message: bytes) -> bool:
    """Whether it is a server-final-message that says yes."""
    return _SERVER_FINAL.fullmatch(message) is not None


def server_first(nonce: bytes, salt: bytes, iterations: int) -> bytes:
    """A server-first-message. ``nonce``: the client's and the server's."""
    return b"r=%s,s=%s,i=%d" % (nonce, b64encode(salt), iterations)


def saslname(text: bytes) -> str | None:
    """A name with ``=2C`` and ``=3D`` read (RFC 5802 5.1); None when it is empty, too long or not UTF-8."""
    if not text or len(text) > MAX_NAME:
        return None
    try:
        return text.decode().replace("=2C", ",").replace("=3D", "=")
    except UnicodeDecodeError:
        return None


class ScramServer:
    """ServerMechanism SCRAM-SHA-256."""

    __slots__ = ("_authcid", "_authzid", "_first_bare", "_gs2_header", "_nonce", "_read", "_secret", "_server_first")

    def __init__(self) -> None:
        self._read: Callable[[bytes], Step] = self._read_first
        self._authcid = self._authzid = ""
        self._gs2_header = self._first_bare = self._server_first = self._nonce = b""
        self._secret: ScramSecret | None = None

    def step(self, response: bytes | None) -> Step:
        """Reads the client's first, then its final message, then its nod."""
        if response is None:
            return Challenge(b"")
        if len(response) > MAX_MESSAGE:
            return Failure("SCRAM: the message is too long")
        return self._read(response)

    def _read_first(self, message: bytes) -> Step:
        found = _FIRST.fullmatch(message)
        if found is None:
            return Failure("SCRAM: no client-first-message")
        self._gs2_header, binding, authzid, self._first_bare, authcid, self._nonce = found.groups()
        if binding is not None:
            return Failure("SCRAM: channel binding was asked for and is not offered")
        name, acts_as = saslname(authcid), "" if authzid is None else saslname(authzid)
        if name is None or acts_as is None:
            return Failure("SCRAM: a name is empty, too long or not UTF-8")
        self._authcid, self._authzid = name, acts_as
        self._read = self._read_too_early
        return SecretWanted(ScramFirst(name, acts_as, self._nonce, message), self._proceed, self._relay)

    def _relay(self, challenge: bytes) -> Challenge:
        found = read_server_first(challenge, self._nonce)
        assert found is not None  # noqa: S101 -- whoever relays it has read it so
        self._nonce += found.nonce
        self._read = self._read_relayed
        return Challenge(challenge)

    def _read_relayed(self, message: bytes) -> Step:
        self._read = self._read_too_early
        if isinstance(found := self._final_of(message), Failure):
            return found
        return ProofWanted(self._authcid, message, self._conclude)

    def _conclude(self, signature: bytes) -> Challenge:
        self._read = self._read_nod
        return Challenge(signature)

    def _proceed(self, secret: ScramSecret, nonce: str) -> Challenge:
        self._secret = secret
        self._nonce += nonce.encode()
        self._server_first = server_first(self._nonce, secret.salt, secret.iterations)
        self._read = self._read_final
        return Challenge(self._server_first)

    @staticmethod
    def _read_too_early(_message: bytes) -> Step:
        return Failure("SCRAM: the exchange is not there yet")

    def _read_final(self, message: bytes) -> Step:
        secret = self._secret
        assert secret is not None  # noqa: S101 -- _proceed, the only way here, has set it
        self._read = self._read_too_early
        found = self._final_of(message)
        if isinstance(found, Failure):
            return found
        without_proof, proof_text = found
        said = b",".join((self._first_bare, self._server_first, without_proof))
        proof = b64decode(proof_text)  # of 32 octets, by its length
        signature = hmac.digest(secret.stored_key, said, "sha256")
        client_key = bytes(left ^ right for left, right in zip(proof, signature, strict=True))
        if not hmac.compare_digest(hashlib.sha256(client_key).digest(), secret.stored_key):
            return Disproved(self._authcid)
        self._read = self._read_nod
        return Challenge(b"v=" + b64encode(hmac.digest(secret.server_key, said, "sha256")))

    def _final_of(self, message: bytes) -> tuple[bytes, bytes] | Failure:
        """What stands before the proof, and the proof; the header must be the one of the first message."""
        found = _FINAL.fullmatch(message)
        if found is None:
            return Failure("SCRAM: no client-final-message")
        without_proof, binding, nonce, proof_text = found.groups()
        if binding != b64encode(self._gs2_header) or nonce != self._nonce:
            return Failure("SCRAM: the client-final-message belongs to another exchange")
        return without_proof, proof_text

    def _read_nod(self, message: bytes) -> Step:
        self._read = self._read_too_early
        if message:
            return Failure("SCRAM: more than nothing after the server's signature")
        if self._secret is None:
            return Success(RelayedCredentials(self._authcid, self._authzid))
        return Success(ProvenCredentials(self._authcid, self._authzid, self._secret))
