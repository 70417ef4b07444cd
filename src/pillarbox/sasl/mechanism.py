"""The shape of a SASL mechanism, server and client, without I/O and without a verdict.

A server mechanism turns the exchange into credentials; whether they are right is for a directory to say. A client
mechanism turns credentials into responses.

STANDARDS
    RFC 4422 (SASL), RFC 4616 (PLAIN), draft-murchison-sasl-login (LOGIN).

ERRORS
    A server mechanism raises nothing: what is wrong is a Failure. A client mechanism raises ExchangeError.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, repr=False)
class PasswordCredentials:
    """What PLAIN and LOGIN yield. Its repr shows neither login nor password.

    ``authcid`` signs in, ``authzid`` is who to act as ("" = the same); both as received (UTF-8 checked, no NUL);
    preparation (SASLprep) is the directory's.
    """

    authcid: str
    password: str
    authzid: str = ""


Credentials = PasswordCredentials
"""Every kind of credentials; tokens and SCRAM proofs join with their mechanisms."""


@dataclass(frozen=True, slots=True, repr=False)
class Challenge:
    """The server's next octets, not yet base64."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Success:
    """The exchange is complete and yields credentials; nobody has checked them yet."""

    credentials: Credentials


@dataclass(frozen=True, slots=True)
class Failure:
    """The exchange itself was wrong (malformed response). ``reason`` is for the log, never holds octets received."""

    reason: str


class ExchangeError(Exception):
    """Client side: the server's challenge has no answer; cancel with ``*`` (RFC 4954 4). Names no octets."""


class ServerMechanism(Protocol):
    """One exchange, server side; a fresh object per AUTH."""

    def step(self, response: bytes | None) -> Challenge | Success | Failure:
        """Takes the client's response (None: AUTH came without an initial response) and says what follows."""
        ...


class ClientMechanism(Protocol):
    """One exchange, client side."""

    @property
    def name(self) -> str:
        """The registered name, upper case."""
        ...

    def initial_response(self) -> bytes | None:
        """The response to send with AUTH, or None when the server speaks first."""
        ...

    def step(self, challenge: bytes) -> bytes:
        """The response to one challenge. Raises ExchangeError."""
        ...
