"""PLAIN: one response with authzid, authcid and password, apart by NUL. Both roles.

STANDARDS
    RFC 4616; RFC 4422 for the exchange.

ERRORS
    The server's step returns Failure for whatever is not exactly that; its reason names no octet received. The
    client raises ExchangeError when the server asks for more than there is to say.

Imports nothing but the room's own values.
"""

import re

from pillarbox.sasl.mechanism import Challenge, ExchangeError, Failure, PasswordCredentials, Success

MAX_NAME = 1024
"""Octets of an authcid or authzid; RFC 4616 2 wants at least 255."""

MAX_PASSWORD = 4096
"""Octets of a password; RFC 4616 2 wants at least 255."""


_CARRIED = re.compile("[^\0\ud800-\udfff]+")


def is_carried(text: str) -> bool:
    """Whether PLAIN and LOGIN can carry it: not empty, no NUL, and nothing that UTF-8 has no octets for.

    Asked before encoding, since a UnicodeEncodeError shows the whole text in its repr.
    """
    return _CARRIED.fullmatch(text) is not None


class PlainServer:
    """ServerMechanism PLAIN: asks with an empty challenge when AUTH came without an initial response."""

    __slots__ = ()

    def step(self, response: bytes | None) -> Challenge | Success | Failure:
        """Reads ``[authzid] NUL authcid NUL password`` (RFC 4616 2)."""
        if response is None:
            return Challenge(b"")
        parts = response.split(b"\0")
        if len(parts) != 3:
            return Failure("PLAIN: the response does not have exactly two NUL")
        authzid, authcid, password = parts
        if not authcid:
            return Failure("PLAIN: the user name is empty")
        if not password:
            return Failure("PLAIN: the password is empty")
        if len(authcid) > MAX_NAME or len(authzid) > MAX_NAME or len(password) > MAX_PASSWORD:
            return Failure("PLAIN: the response is too long")
        try:
            return Success(PasswordCredentials(authcid.decode(), password.decode(), authzid.decode()))
        except UnicodeDecodeError:
            return Failure("PLAIN: the response is not UTF-8")


class PlainClient:
    """ClientMechanism PLAIN for one user; acts as nobody else (no authzid)."""

    __slots__ = ("_message", "_said")

    name = "PLAIN"
    complete = True

    def __init__(self, user: str, password: str) -> None:
        """Raises ValueError for what PLAIN cannot carry: an empty user or password, a NUL."""
        if not is_carried(user) or not is_carried(password):
            raise ValueError("PLAIN needs a user and a password, both UTF-8 without NUL")
        self._message = f"\0{user}\0{password}".encode()
        self._said = False

    def initial_response(self) -> bytes:
        """The whole message: PLAIN is client-first."""
        return self._message

    def step(self, challenge: bytes) -> bytes:
        """The message, once, for a server that asked because no initial response was sent (RFC 4954 4)."""
        if self._said or challenge:
            raise ExchangeError("PLAIN: the server asks for more than a user and a password")
        self._said = True
        return self._message
