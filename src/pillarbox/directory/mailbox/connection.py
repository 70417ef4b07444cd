"""What a connection to a mailbox server can do, whatever its protocol: made ready, it signs in one person, once.

STANDARDS
    RFC 4616 (PLAIN).

ERRORS
    ServerFailed: the server cannot say.
"""

import base64
from typing import Protocol

from pillarbox.directory.base import Denied, Reason
from pillarbox.directory.upstream import Narrate
from pillarbox.directory.wire import Wire

REPLY_LINES = 128
"""The most lines of one reply: honest servers send a few."""


class Connection(Protocol):
    """One connection. Its methods are called in this order, ``start_tls`` of the wire between the first two; each may
    be cancelled."""

    wire: Wire

    async def greet(self, *, secure: bool) -> None:
        """Reads the greeting; ``secure``: TLS is there already. Raises ServerFailed."""
        ...

    async def ask_for_tls(self) -> None:
        """Up to where the handshake begins. Raises ServerFailed."""
        ...

    async def learn(self) -> None:
        """Asks what the server offers. Raises ServerFailed."""
        ...

    async def sign_in(self, login: str, password: str, narrate: Narrate) -> Denied | None:
        """None: let in. Raises ServerFailed, NotJudged."""
        ...

    def leave(self) -> None:
        """Signs out and closes; does not wait."""
        ...


def plain_message(login: str, password: str) -> bytes:
    """PLAIN's one response in base64; neither holds NUL."""
    return base64.b64encode(f"\0{login}\0{password}".encode())


def opaque(cause: str) -> Denied:
    """A no that tells nothing more."""
    return Denied(Reason.OPAQUE, None, {"cause": cause})
