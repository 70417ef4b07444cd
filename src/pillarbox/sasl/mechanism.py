"""The shape of a SASL mechanism, server and client, without I/O and without a verdict.

A server mechanism turns the exchange into credentials; whether they are right is for a directory to say. A client
mechanism turns credentials into responses.

    step = mechanism.step(initial_response_or_None)
    Challenge     say it, and step() with the response
    SecretWanted  fetch the secret of that name, then go on with its proceed(secret, nonce); or, where a server behind
                  plays the exchange, with relay(its challenge)
    ProofWanted   ask that server, then go on with conclude(its signature)
    Success       the claim; a directory decides. With ``refusal``: should it say no, the challenge that this makes is
                  said and its response awaited before the 535
    Disproved     the proof does not fit the secret
    Failure       not what the mechanism's exchange looks like

STANDARDS
    RFC 4422 (SASL).

ERRORS
    A server mechanism raises nothing: what is wrong is a Failure. A client mechanism raises ExchangeError.
"""

from collections.abc import Callable
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
"""What a directory's verify takes; each other kind has its own ability (directory/base.py)."""


@dataclass(frozen=True, slots=True, repr=False)
class TokenCredentials:
    """What XOAUTH2 and OAUTHBEARER yield: a bearer token, and the login that it is said to be of ("": the token
    alone says it). Neither is in its repr."""

    login: str
    token: str


@dataclass(frozen=True, slots=True, repr=False)
class ScramSecret:
    """What a server keeps of a password for SCRAM-SHA-256 (RFC 5802 3): no password, but enough to play server."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes


@dataclass(frozen=True, slots=True, repr=False)
class ProvenCredentials:
    """What SCRAM yields: whoever speaks has proven to know the password behind ``secret``."""

    authcid: str
    authzid: str
    secret: ScramSecret


@dataclass(frozen=True, slots=True, repr=False)
class RelayedCredentials:
    """What SCRAM yields where a server behind has played it, and has said who it is."""

    authcid: str
    authzid: str


@dataclass(frozen=True, slots=True, repr=False)
class CertificateClaim:
    """What EXTERNAL yields: who to act as ("": whoever the certificate is). The certificate is the connection's."""

    authzid: str


Claim = PasswordCredentials | TokenCredentials | ProvenCredentials | RelayedCredentials | CertificateClaim
"""What an exchange ends with."""


@dataclass(frozen=True, slots=True, repr=False)
class Challenge:
    """The server's next octets, not yet base64."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class TokenHint:
    """What a client needs to know to get a token that counts: ``scope`` (separated by spaces) and ``configuration``,
    the URL of the provider's OpenID configuration. "": not said."""

    scope: str = ""
    configuration: str = ""


Refusal = Callable[[TokenHint], bytes]
"""Makes a mechanism's error document."""


@dataclass(frozen=True, slots=True)
class Success:
    """The exchange is complete and yields credentials; nobody has checked them yet.

    ``refusal`` makes the challenge that tells the client of a no before the reply does (RFC 7628 3.2.3); None: none.
    """

    credentials: Claim
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True, repr=False)
class ScramFirst:
    """A client-first-message (RFC 5802 7) that was read: ``message`` is all of it, as it came."""

    authcid: str
    authzid: str
    nonce: bytes
    message: bytes


@dataclass(frozen=True, slots=True, repr=False)
class SecretWanted:
    """The exchange goes on once the secret of ``first.authcid`` is there: ``proceed(secret, nonce)``; the nonce is
    fresh, printable ASCII without comma. Or a server behind answers ``first.message``: ``relay(challenge)``, its
    server-first-message, which is known to be one (scram.read_server_first)."""

    first: ScramFirst
    proceed: Callable[[ScramSecret, str], Challenge]
    relay: Callable[[bytes], Challenge]

    @property
    def authcid(self) -> str:
        """Whose secret."""
        return self.first.authcid


@dataclass(frozen=True, slots=True, repr=False)
class ProofWanted:
    """The server behind has to judge ``message``, a client-final-message of this exchange; after its yes the exchange
    goes on with ``conclude(its server-final-message)``."""

    authcid: str
    message: bytes
    conclude: Callable[[bytes], Challenge]


@dataclass(frozen=True, slots=True, repr=False)
class Disproved:
    """A well-formed exchange whose proof is wrong: a wrong password of ``authcid``, or a name that nobody has."""

    authcid: str


@dataclass(frozen=True, slots=True)
class Failure:
    """The exchange itself was wrong (malformed response). ``reason`` is for the log, never holds octets received;
    ``refusal`` as in Success."""

    reason: str
    refusal: Refusal | None = None


Step = Challenge | SecretWanted | ProofWanted | Success | Disproved | Failure
"""What follows a response."""


class ExchangeError(Exception):
    """Client side: the server's challenge has no answer; cancel with ``*`` (RFC 4954 4). Names no octets."""


class ServerMechanism(Protocol):
    """One exchange, server side; a fresh object per AUTH."""

    def step(self, response: bytes | None) -> Step:
        """Takes the client's response (None: AUTH came without an initial response) and says what follows."""
        ...


class ClientMechanism(Protocol):
    """One exchange, client side."""

    @property
    def name(self) -> str:
        """The registered name, upper case."""
        ...

    @property
    def complete(self) -> bool:
        """Whether a 235 can be believed now: False while the server has yet to prove that it knows the password."""
        ...

    def initial_response(self) -> bytes | None:
        """The response to send with AUTH, or None when the server speaks first."""
        ...

    def step(self, challenge: bytes) -> bytes:
        """The response to one challenge. Raises ExchangeError."""
        ...
