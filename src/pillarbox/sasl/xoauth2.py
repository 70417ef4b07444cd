"""XOAUTH2: a user name and an OAuth 2.0 access token in one response. Client role; the server's joins with tokens.

STANDARDS
    Google's and Microsoft's XOAUTH2 (their documentation of IMAP and SMTP); RFC 6750 for the token's alphabet.

ERRORS
    ExchangeError at a second challenge.

Imports nothing but the room's own values.
"""

import re

from pillarbox.sasl.mechanism import ExchangeError

_USER = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]+")
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")


class Xoauth2Client:
    """ClientMechanism XOAUTH2."""

    __slots__ = ("_message", "_said")

    name = "XOAUTH2"

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
