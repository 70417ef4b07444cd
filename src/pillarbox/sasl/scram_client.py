"""SCRAM-SHA-256, client role. The only importer of scramp in this room.

The server's signature is verified: until then ``complete`` is False, and a 235 is to be believed by nobody. Channel
binding is not used (docs/adr/0008).

STANDARDS
    RFC 5802, RFC 7677, RFC 4013 (SASLprep of user and password, by scramp).

ERRORS
    ValueError for a user or password that cannot be prepared; ExchangeError for a server's message that is none, asks
    for absurdly few or many iterations, or proves nothing. Blocks for the time of the iterations (30 ms per 100,000).
"""

import scramp  # type: ignore[import-untyped]  # it ships no types

from pillarbox.sasl.mechanism import ExchangeError
from pillarbox.sasl.plain import is_carried


class ScramClient:
    """ClientMechanism SCRAM-SHA-256. ``nonce``: fresh, printable ASCII without comma, at least 16 characters."""

    __slots__ = ("_client", "_first", "_steps", "complete")

    name = "SCRAM-SHA-256"

    def __init__(self, user: str, password: str, nonce: str) -> None:
        """Raises ValueError; no secret is in it."""
        if not is_carried(user) or not is_carried(password):
            raise ValueError("SCRAM needs a user and a password, both UTF-8 without NUL")
        if len(nonce) < 16:
            raise ValueError("SCRAM needs a nonce of at least 16 characters")
        try:
            self._client = scramp.ScramClient(["SCRAM-SHA-256"], user, password, c_nonce=nonce)
            self._first: str = self._client.get_client_first()
        except scramp.ScramException:
            raise ValueError("SCRAM: the user or the password holds what SASLprep forbids") from None
        self._steps = [self._verify, self._prove]
        self.complete = False

    def initial_response(self) -> bytes:
        """The client-first-message."""
        return self._first.encode()

    def step(self, challenge: bytes) -> bytes:
        """The proof for the server's salt and iterations; then nothing, once its signature is verified."""
        if not challenge and len(self._steps) == 2:
            return self.initial_response()  # it asked because no initial response was sent
        if not self._steps:
            raise ExchangeError("SCRAM: the server goes on after its signature")
        try:
            return self._steps.pop()(challenge.decode())
        except (scramp.ScramException, UnicodeDecodeError):
            raise ExchangeError("SCRAM: the server's message is none, or it does not know the password") from None

    def _prove(self, message: str) -> bytes:
        self._client.set_server_first(message)
        final: str = self._client.get_client_final()
        return final.encode()

    def _verify(self, message: str) -> bytes:
        self._client.set_server_final(message)
        self.complete = True
        return b""
