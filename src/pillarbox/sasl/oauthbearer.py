"""OAUTHBEARER: an OAuth 2.0 access token, and maybe who it is of. Both roles.

STANDARDS
    RFC 7628 (3.1 the client's message, 3.2.2 the error document, 3.2.3 the client's dummy response), RFC 6750 2.1
    (the token's alphabet), RFC 5801 4 (the GS2 header).

ERRORS
    The server's step returns Failure, which names no octet received. The client raises ExchangeError when the server
    goes on after its error document.

Imports nothing but the room's own values.
"""

import json
import re

from pillarbox.sasl.mechanism import Challenge, ExchangeError, Failure, Success, TokenCredentials, TokenHint
from pillarbox.sasl.scram import saslname
from pillarbox.sasl.xoauth2 import MAX_TOKEN, TOKEN

_USER = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]+")
_TOKEN = re.compile(TOKEN)
_VALUE = rb"[\t\n\r -\x7e\x80-\xff]*"
_MESSAGE = re.compile(
    rb"[ny],(?:a=([^\x00-\x1f,=]*(?:=(?:2C|3D)[^\x00-\x1f,=]*)*))?,\x01((?:[A-Za-z]+=%s\x01)*)\x01" % _VALUE
)
_AUTH = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +(%s)" % TOKEN.encode())


def refusal(hint: TokenHint) -> bytes:
    """The error document (RFC 7628 3.2.2): the same for every cause."""
    document = {"status": "invalid_token", "scope": hint.scope, "openid-configuration": hint.configuration}
    return json.dumps({key: value for key, value in document.items() if value}, separators=(",", ":")).encode()


class OauthbearerServer:
    """ServerMechanism OAUTHBEARER. Host and port, which a client may add, are not looked at."""

    __slots__ = ()

    def step(self, response: bytes | None) -> Challenge | Success | Failure:
        """Reads ``n,a=NAME, ^A auth=Bearer TOKEN ^A ^A`` with whatever other pairs."""
        if response is None:
            return Challenge(b"")
        found = _MESSAGE.fullmatch(response)
        if found is None:
            return Failure("OAUTHBEARER: not a message of RFC 7628")
        said = [pair[5:] for pair in found[2].split(b"\x01") if pair.startswith(b"auth=")]
        auth = _AUTH.fullmatch(said[0]) if len(said) == 1 else None
        if auth is None or len(auth[1]) > MAX_TOKEN:
            # without a token a client asks what there is to know (RFC 7628 4.3)
            return Failure("OAUTHBEARER: not exactly one bearer token", refusal)
        login = "" if found[1] is None else saslname(found[1])
        if login is None:
            return Failure("OAUTHBEARER: the name is empty, too long or not UTF-8")
        return Success(TokenCredentials(login, auth[1].decode()), refusal)


class OauthbearerClient:
    """ClientMechanism OAUTHBEARER."""

    __slots__ = ("_message", "_said")

    name = "OAUTHBEARER"
    complete = True

    def __init__(self, user: str, token: str) -> None:
        """Raises ValueError for an empty user, one with controls, and what is no bearer token."""
        if not _USER.fullmatch(user) or not _TOKEN.fullmatch(token):
            raise ValueError("OAUTHBEARER needs a user and a bearer token")
        escaped = user.replace("=", "=3D").replace(",", "=2C")
        self._message = f"n,a={escaped},\x01auth=Bearer {token}\x01\x01".encode()
        self._said = False

    def initial_response(self) -> bytes:
        """The whole message: OAUTHBEARER is client-first."""
        return self._message

    def step(self, challenge: bytes) -> bytes:
        """``^A`` for the error document that precedes the refusal; the message for an empty challenge."""
        if self._said:
            raise ExchangeError("OAUTHBEARER: the server goes on after its refusal")
        self._said = True
        return b"\x01" if challenge else self._message
