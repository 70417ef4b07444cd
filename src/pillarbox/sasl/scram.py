"""SCRAM-SHA-256, server role: the client proves to know the password without saying it, and so does the server.

Only the messages are here, read by full expressions; keys come from the directory, the nonce from the caller.
(scramp, which makes the secrets and plays the client, wants its look-up answered at once and knows no authzid.)

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

from pillarbox.sasl.mechanism import (
    Challenge,
    Disproved,
    Failure,
    ProvenCredentials,
    ScramSecret,
    SecretWanted,
    Step,
    Success,
)
from pillarbox.sasl.plain import MAX_NAME

_NAME = rb"[^\x00,=]*(?:=(?:2C|3D)[^\x00,=]*)*"
_NONCE = rb"[!-+\--~]{1,512}"
_FURTHER = rb"(?:,[A-Za-z]=[^\x00,]+)*"
_FIRST = re.compile(
    rb"((?:[ny]|(p=[A-Za-z0-9.\-]+)),(?:a=(%s))?,)(n=(%s),r=(%s)%s)" % (_NAME, _NAME, _NONCE, _FURTHER)
)
_FINAL = re.compile(rb"(c=([A-Za-z0-9+/=]+),r=(%s)%s),p=([A-Za-z0-9+/]{43}=)" % (_NONCE, _FURTHER))

MAX_MESSAGE = 8_192
"""Octets of a client's message."""


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
        return SecretWanted(name, self._proceed)

    def _proceed(self, secret: ScramSecret, nonce: str) -> Challenge:
        self._secret = secret
        self._nonce += nonce.encode()
        self._server_first = b"r=%s,s=%s,i=%d" % (self._nonce, b64encode(secret.salt), secret.iterations)
        self._read = self._read_final
        return Challenge(self._server_first)

    @staticmethod
    def _read_too_early(_message: bytes) -> Step:
        return Failure("SCRAM: the exchange is not there yet")

    def _read_final(self, message: bytes) -> Step:
        secret = self._secret
        assert secret is not None  # noqa: S101 -- _proceed, the only way here, has set it
        self._read = self._read_too_early
        found = _FINAL.fullmatch(message)
        if found is None:
            return Failure("SCRAM: no client-final-message")
        without_proof, binding, nonce, proof_text = found.groups()
        if binding != b64encode(self._gs2_header) or nonce != self._nonce:
            return Failure("SCRAM: the client-final-message belongs to another exchange")
        said = b",".join((self._first_bare, self._server_first, without_proof))
        proof = b64decode(proof_text)  # of 32 octets, by its length
        signature = hmac.digest(secret.stored_key, said, "sha256")
        client_key = bytes(left ^ right for left, right in zip(proof, signature, strict=True))
        if not hmac.compare_digest(hashlib.sha256(client_key).digest(), secret.stored_key):
            return Disproved(self._authcid)
        self._read = self._read_nod
        return Challenge(b"v=" + b64encode(hmac.digest(secret.server_key, said, "sha256")))

    def _read_nod(self, message: bytes) -> Step:
        secret = self._secret
        assert secret is not None  # noqa: S101 -- as above
        self._read = self._read_too_early
        if message:
            return Failure("SCRAM: more than nothing after the server's signature")
        return Success(ProvenCredentials(self._authcid, self._authzid, secret))
