"""What a directory promises: it verifies credentials and says whose they are.

Comparison and preparation of login and password (SASLprep, case) are the directory's. It never slows down a
failure (authentication does, to one fixed time) and never counts one (the guard does).

ERRORS
    Unavailable: the directory cannot say; becomes 454, never 535.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Literal, Protocol, runtime_checkable

from pillarbox.sasl.mechanism import (
    Credentials,
    ProvenCredentials,
    ScramFirst,
    ScramSecret,
    TokenCredentials,
    TokenHint,
)


class Unavailable(Exception):
    """The directory cannot say now; ``str()`` is the cause, for the log."""


class Unusable(ValueError):
    """A directory cannot be made of its settings; ``str()`` says why and what to do."""


class NotReached(Unavailable):
    """Unavailable, and surely no password has reached the server behind: the try counts as none."""


class Reason(Enum):
    """Why somebody was denied; for the log and the guard, never for the peer."""

    UNKNOWN = auto()
    WRONG = auto()
    DISABLED = auto()
    LOCKED = auto()
    EXPIRED = auto()
    ELSEWHERE = auto()  # right, and not at this site: a device's login, or a person's where only devices sign in
    OPAQUE = auto()  # the server behind can only say no


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signed in, and which addresses are theirs.

    Attributes:
        login: the directory's own spelling; what events, quotas and the queue show.
        addresses: mailboxes that may be used as sender, lower case.
        domains: whole domains that may be used (application accounts), lower case.
        may_redirect: may send others' From under an own Resent-From.
        recipients_per_hour: None: the site's default.
        generation: changes with each change of the account; a session of an older one ends.
        source: the name of the directory that said so.
        account: the login of the local account that let it in, whose ``generation`` that is; "": none did.
    """

    login: str
    addresses: frozenset[str]
    domains: frozenset[str] = frozenset()
    may_redirect: bool = False
    recipients_per_hour: int | None = None
    generation: int = 0
    source: str = ""
    account: str = ""


@dataclass(frozen=True, slots=True)
class Denied:
    """Not let in. ``login`` is the account meant when there is one. ``details``: more for the log, never for the
    peer: ``cause`` (of a token), ``subject`` and ``fingerprint`` (of a certificate)."""

    reason: Reason
    login: str | None = None
    details: Mapping[str, str] = field(default_factory=dict, compare=False)


class Directory(Protocol):
    """The seam of R4."""

    async def verify(self, credentials: Credentials, *, known_place: bool) -> Identity | Denied:
        """Who is this. ``known_place``: the peer's address has a good history; costly work for other places
        queues apart, so that strangers never delay known places. Raises Unavailable."""
        ...


@runtime_checkable
class ScramDirectory(Protocol):
    """The ability to be signed in at by SCRAM-SHA-256."""

    def offers_scram(self, counts: Callable[[str], bool]) -> bool:
        """Whether everybody could sign in by it now, of those whose login ``counts`` (in the form of login_key). No
        I/O: asked at each EHLO."""
        ...

    async def scram_secret(self, authcid: str) -> ScramSecret:
        """What the exchange with this name needs. A name that nobody has gets one too, always the same, that cannot
        be proven. Raises Unavailable."""
        ...

    async def verify_proof(self, credentials: ProvenCredentials) -> Identity | Denied:
        """Who has proven to know the password: as long as it is still the password. Raises Unavailable."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class Proven:
    """A proof that the server behind has found right: who it is, and its signature for the client."""

    identity: Identity
    signature: bytes


class ScramRelay(Protocol):
    """One exchange in SCRAM-SHA-256 that a server behind plays."""

    @property
    def challenge(self) -> bytes:
        """Its server-first-message, read by scram.read_server_first. For a name that nobody has it is made up."""
        ...

    async def prove(self, message: bytes) -> Proven | Denied:
        """What it says to the client-final-message; to be asked once. Raises Unavailable."""
        ...

    def close(self) -> None:
        """Gives it up, where it has not come to its end."""
        ...


@runtime_checkable
class RelaysScram(Protocol):
    """The ability to be signed in at by SCRAM-SHA-256 though the secrets are a server's behind, which keeps them."""

    def offers_scram(self, counts: Callable[[str], bool]) -> bool:
        """As a ScramDirectory's."""
        ...

    @property
    def relays_scram(self) -> bool:
        """Whether a server behind may be asked: a challenge then takes its time, for every name. No I/O."""
        ...

    async def open_scram(self, first: ScramFirst, *, known_place: bool) -> ScramRelay | None:
        """Begins an exchange, in a time that does not depend on whether somebody has this name (RELAY_TIME at most);
        None: it is one for ScramDirectory. Raises Unavailable."""
        ...


RELAY_TIME = 0.25
"""Seconds for a server behind to make a challenge; a later one is none."""


@runtime_checkable
class TokenDirectory(Protocol):
    """The ability to check bearer tokens."""

    @property
    def offers_tokens(self) -> bool:
        """Whether there is something to check them with."""
        ...

    async def verify_token(self, credentials: TokenCredentials, *, known_place: bool) -> Identity | Denied:
        """Whose token is this. A login beside it must be the token's. ``known_place``: as for verify. Raises
        Unavailable."""
        ...


@runtime_checkable
class HintsAtTokens(Protocol):
    """The ability to say which tokens would count."""

    @property
    def token_hint(self) -> TokenHint:
        """What a client that was refused may be told. No I/O."""
        ...


@runtime_checkable
class WithoutPasswords(Protocol):
    """The mark of a directory that nobody signs in at with a password: it takes no part where one is checked, and
    SCRAM does not depend on it."""

    @property
    def without_passwords(self) -> Literal[True]: ...


@runtime_checkable
class CertificateDirectory(Protocol):
    """The ability to know somebody by a certificate that TLS has verified."""

    @property
    def offers_certificates(self) -> bool:
        """Whether anybody could be known by one."""
        ...

    async def verify_certificate(self, certificate: bytes, authzid: str) -> Identity | Denied:
        """Whose certificate (DER) is this. ``authzid``: who to act as, only oneself; "": whoever it is. Raises
        Unavailable."""
        ...


@runtime_checkable
class KnowsLogins(Protocol):
    """The ability to say cheaply whether a login is one of its own: nothing is hashed, nobody else is asked."""

    async def knows(self, login: str) -> bool:
        """Raises Unavailable."""
        ...


@runtime_checkable
class PeopleDirectory(Protocol):
    """The ability to say who somebody is, without a password."""

    async def find_person(self, login: str) -> Identity | Denied:
        """Who has this login: with today's addresses and rights. Denied(UNKNOWN) for nobody, another reason for whom
        no password lets in. Raises Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class AppPassword:
    """One more password of somebody, drawn by us (app_passwords.py). ``digest``: of it, hexadecimal SHA-256.
    ``directory``: the one that the person is of, "": the local accounts; it is good only where that one says who the
    person is. ``expires_at``: seconds since the epoch, None: never. ``networks``: from where alone it is good;
    ``addresses``: what alone it may send as, lower case; empty: no such limit."""

    id: str
    label: str
    digest: str
    created_at: float
    expires_at: float | None = None
    networks: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    directory: str = ""

    def __repr__(self) -> str:
        return f"AppPassword({self.id!r}, {self.label!r})"


@dataclass(frozen=True, slots=True)
class Alias:
    """A further login name of an account. ``imported``: by an import, which may take it away again."""

    name: str
    imported: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """One local account as stored and listed. ``password_hash`` is Argon2id in PHC form, or, of
    somebody who was imported and has not signed in yet, of another scheme (schemes/); ``scram`` a stored
    SCRAM-SHA-256 secret in RFC 5803 form or None; neither is in its repr. ``certificates``: marks of the client
    certificates that sign in as this account (certificate.py). ``password_hash`` "": the person is another
    directory's, and only ``app_passwords`` are kept here. ``aliases``: further login names; one that another account
    has as well, or as its login, lets nobody in as this account."""

    login: str
    addresses: tuple[str, ...]
    domains: tuple[str, ...]
    may_redirect: bool
    recipients_per_hour: int | None
    disabled: bool
    generation: int
    created_at: float
    password_changed_at: float
    password_hash: str
    scram: str | None
    certificates: tuple[str, ...] = ()
    app_passwords: tuple[AppPassword, ...] = ()
    aliases: tuple[Alias, ...] = ()

    def __repr__(self) -> str:
        return f"Account({self.login!r})"

    @property
    def elsewhere(self) -> bool:
        """Whether it is no account of its own, but holds the app passwords of another directory's person."""
        return not self.password_hash


class AccountExists(Exception):
    """add: the login is taken."""


class UnknownAccount(Exception):
    """No such login; ``args[0]`` is the login asked for."""


class InvalidAccount(ValueError):
    """Not a login, password or address that could be used; ``str()`` says why, for the operator."""


class CertificateTaken(Exception):
    """The mark is another account's; ``args[0]`` is its login."""


@dataclass(frozen=True, slots=True, repr=False)
class ScramState:
    """What SCRAM needs of all accounts together, so that it can be offered before anyone is named.

    ``missing``: keys of enabled accounts without a secret; ``more``: there are others than these, too many to name.
    ``key``: the one of secrets for names that nobody has; it never changes.
    """

    missing: frozenset[str]
    more: bool
    key: bytes

    def covers(self, counts: Callable[[str], bool]) -> bool:
        """Whether each enabled account that counts has a secret."""
        return not self.more and not any(map(counts, self.missing))


class AccountLookup(Protocol):
    """What verification needs of the local accounts, in any process. Logins compare case-insensitively."""

    @property
    def scram_state(self) -> ScramState | None:
        """As it was last heard of, without asking; None: not heard of yet."""
        ...

    async def find_certified(self, marks: Sequence[str]) -> Account | None:
        """The account that names the first of these marks that any account names. Raises Unavailable."""
        ...

    async def find(self, login: str) -> Account | None:
        """The account as it is now that has this login, or else is the only one to have it as an alias. Raises
        Unavailable."""
        ...


@runtime_checkable
class RehashesAccounts(Protocol):
    """The ability to replace another system's hash (rehash.py)."""

    async def rehash(self, login: str, password: str) -> bool:
        """Whether the account has another hash of this (prepared) password now. Raises Unavailable."""
        ...


class Accounts(AccountLookup, Protocol):
    """The local accounts, for the operator's verbs; owned by the spool process (accounts.py), reached over a
    channel from elsewhere."""

    async def add(self, account: Account) -> None:
        """Stores it with a generation that no account of this login had before. Raises AccountExists,
        CertificateTaken, Unavailable."""
        ...

    async def change(self, login: str, make: Callable[[Account], Account]) -> Account:
        """Stores what ``make`` makes of the account as it is, with the next generation, and returns that; every
        process of this machine that has a session of this login has been told when it returns. ``make`` changes
        nothing else: it may be called again, and in another thread. Raises UnknownAccount, CertificateTaken,
        Unavailable, and what ``make`` raises."""
        ...

    async def remove(self, login: str) -> str:
        """The login as it was spelled. Raises UnknownAccount, Unavailable."""
        ...

    async def list(self) -> list[Account]: ...
