"""XOAUTH2: a user name and an OAuth 2.0 access token in one response. Both roles.

STANDARDS
    Google's and Microsoft's XOAUTH2 (their documentation of IMAP and SMTP); RFC 6750 for the token's alphabet.

ERRORS
    The server's step returns Failure, which names no octet received. The client raises ExchangeError at a second
    challenge.

Imports nothing but the room's own values.
"""

import json
import re

from pillarbox.sasl.mechanism import Challenge, ExchangeError, Failure, Success, TokenCredentials, TokenHint
from pillarbox.sasl.plain import MAX_NAME

TOKEN = r"[A-Za-z0-9\-._~+/]+=*"  # noqa: S105  an alphabet (RFC 6750 2.1), no secret
MAX_TOKEN = 8_192
"""Octets of a token; RFC 7628 names no ceiling, ours fit a line of AUTH."""

_USER = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]+")
_TOKEN = re.compile(TOKEN)
_RESPONSE = re.compile(rb"user=([^\x00-\x1f\x7f]+)\x01auth=[Bb]earer (%s)\x01\x01" % TOKEN.encode())


def refusal(hint: TokenHint) -> bytes:
    """The error document, as Google and Microsoft have it: the same for every cause."""
    document = {"status": "401", "schemes": "bearer", "scope": hint.scope}
    return json.dumps(document, separators=(",", ":")).encode()


class Xoauth2Server:
    """ServerMechanism XOAUTH2."""

    __slots__ = ()

    def step(self, response: bytes | None) -> Challenge | Success | Failure:
        """Reads ``user=NAME ^A auth=Bearer TOKEN ^A ^A``."""
        if response is None:
            return Challenge(b"")
        found = _RESPONSE.fullmatch(response)
        if found is None or len(found[1]) > MAX_NAME or len(found[2]) > MAX_TOKEN:
            return Failure("XOAUTH2: not a user and a bearer token")
        try:
            return Success(TokenCredentials(found[1].decode(), found[2].decode()), refusal)
        except UnicodeDecodeError:
            return Failure("XOAUTH2: the user name is not UTF-8")


class Xoauth2Client:
    """ClientMechanism XOAUTH2."""

    __slots__ = ("_message", "_said")

    name = "XOAUTH2"
    complete = True

    def __init__(self, user: str, token: str) -> None:
        """Raises ValueError for an empty user, one with controls, and what is no bearer token (RFC 6750 2.1)."""
        if not _USER.fullmatch(user) or not _TOKEN.fullmatch(token):
            raise ValueError("XOAUTH2 needs a user and a bearer token")
        self._message = f"user={user}\x01auth=Bearer {token}\x01\x01".encode()
        self._said = False

    def initial_response(self) -> bytes:
        """The whole message: XOAUTH2 is client-first."""
        return self._message

    def step(self, challenge: bytes) -> bytes:
        """b"" for the error document that precedes the server's refusal; the message for an empty challenge."""
        if self._said:
            raise ExchangeError("XOAUTH2: the server goes on after its refusal")
        self._said = True
        return b"" if challenge else self._message
