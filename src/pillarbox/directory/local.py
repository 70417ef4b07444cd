"""The local directory: verifies a login and password against the local accounts, in the submission worker.

    directory = LocalDirectory(accounts, settings)       # accounts: RemoteAccounts, or AccountsStore in one process
    identity = await directory.verify(credentials, known_place=True)

The account is looked up each time, and its generation comes with it. A verified login is remembered for
``settings.cache`` seconds under a keyed hash of login, password and generation: a hit skips Argon2, and what is
remembered of a changed account can never be hit, for its generation is another. So is a wrong password, apart (so
that guesses push no right one out): the same typing error again costs no hash. The key is random and lives in this
process's memory only.

The other ways to sign in end at the same accounts: SCRAM-SHA-256 by the secret stored with the password, tokens by
the key in the settings, certificates by the marks that an account has.

A look-up follows the hash too: a password changed while an attempt waited in line is not accepted any more.

A hash that an import brought from another system is verified in its own scheme, and replaced by Argon2id as soon as
it has been right once (rehash.py). The sign-in waits for that a moment, so that its session has the new generation.

STANDARDS
    RFC 4616 2 (authzid: only one's own), RFC 4013 (preparation of both).

ERRORS
    Unavailable: the accounts are out of reach, or too many strangers' hashes are waiting. KeyUnusable, when it is
    made, for a key of tokens that cannot be used.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import replace

from pillarbox.directory import figures
from pillarbox.directory.base import (
    Account,
    AccountLookup,
    Denied,
    Identity,
    Reason,
    RehashesAccounts,
    Unavailable,
)
from pillarbox.directory.certificate import read_certificate
from pillarbox.directory.domino_names import name_key
from pillarbox.directory.memory import EntryKey, Memory
from pillarbox.directory.password import Passwords, is_foreign
from pillarbox.directory.preparation import LOGIN_CEILING, PASSWORD_CEILING, login_key, lower, prepare
from pillarbox.directory.scram import false_secret, read_secret
from pillarbox.directory.settings import LocalSettings, TokenSettings
from pillarbox.directory.token import TokenRefused, TokenVerifier, load_key
from pillarbox.sasl.mechanism import Credentials, ProvenCredentials, ScramSecret, TokenCredentials
from pillarbox.telemetry.events import get_logger

RIGHT_CEILING = 32_768
WRONG_CEILING = 8_192
_TRIES = 3
REHASH_TIME = 1.5
"""Seconds that a sign-in waits for it."""
REHASH_PAUSE = 60.0
"""Seconds without another attempt after one that failed: a cell that is away must not slow everybody's sign-in."""

log = get_logger("directory")


class LocalDirectory:
    """See the module's text; satisfies Directory and the abilities beside it. ``clock`` is monotonic."""

    def __init__(
        self,
        accounts: AccountLookup,
        settings: LocalSettings,
        *,
        passwords: Passwords | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._accounts = accounts
        self._passwords = passwords or Passwords(settings)
        self._clock = clock
        self._name = settings.name
        self._scram = settings.scram
        self._tokens = None if settings.tokens is None else _verifier(settings.tokens)
        self._entry = EntryKey()
        self._right = Memory[bool](settings.cache, RIGHT_CEILING)
        self._wrong = Memory[bool](settings.cache, WRONG_CEILING)
        self._rehash_after = float("-inf")

    def offers_scram(self, counts: Callable[[str], bool]) -> bool:
        """Each enabled account that counts has a secret, and new passwords get one."""
        state = self._accounts.scram_state
        return self._scram and state is not None and state.covers(counts)

    @property
    def offers_tokens(self) -> bool:
        """There is a key."""
        return self._tokens is not None

    async def scram_secret(self, authcid: str) -> ScramSecret:
        try:
            login = login_key(authcid)
        except ValueError:
            login = authcid
        asked = len(login) <= LOGIN_CEILING
        account = await self._accounts.find(login) if asked else None
        state = self._accounts.scram_state
        if state is None:
            raise Unavailable("the accounts have not been heard of yet")
        true = _true_secret(account)
        if true is not None:
            return true
        name = (asked and name_key(login)) or login
        false = false_secret(state.key, name)
        if account is None and name != login:
            # All spellings of an alias have one salt. So must those of a login, though one alone signs in, and those
            # of a name that nobody has: else asking by several would tell which of the three it is.
            true = _true_secret(await self._accounts.find(name))
        return false if true is None else replace(false, iterations=true.iterations, salt=true.salt)

    async def verify_proof(self, credentials: ProvenCredentials) -> Identity | Denied:
        try:
            login = login_key(credentials.authcid)
            foreign = bool(credentials.authzid) and login_key(credentials.authzid) != login
        except ValueError:
            return Denied(Reason.WRONG)
        if foreign:
            return Denied(Reason.WRONG)
        account = await self._accounts.find(login)
        if account is None or account.scram is None:
            return Denied(Reason.UNKNOWN)
        return _answer(account, _secret_of(account, account.scram) == credentials.secret)

    async def verify_token(self, credentials: TokenCredentials, *, known_place: bool) -> Identity | Denied:
        if self._tokens is None:
            return Denied(Reason.WRONG, details={"cause": "no key"})
        try:
            said = self._tokens.login_of(credentials.token)
            login = login_key(said)
            if credentials.login and login_key(credentials.login) != login:
                return Denied(Reason.WRONG, details={"cause": f"the token of {said[:LOGIN_CEILING]}"})
        except TokenRefused as refused:
            return Denied(Reason.EXPIRED if refused.expired else Reason.WRONG, details={"cause": str(refused)})
        except ValueError:
            return Denied(Reason.WRONG, details={"cause": "a login that nobody can have"})
        answer = _answer(await self._accounts.find(login), right=True)
        return _with_details(answer, cause=f"the token of {said[:LOGIN_CEILING]}")

    @property
    def offers_certificates(self) -> bool:
        """Any account may name one."""
        return True

    async def verify_certificate(self, certificate: bytes, authzid: str) -> Identity | Denied:
        try:
            read = read_certificate(certificate)
        except ValueError:
            return Denied(Reason.WRONG, details={"fingerprint": hashlib.sha256(certificate).hexdigest()})
        account = await self._accounts.find_certified(read.marks)
        try:
            foreign = account is not None and bool(authzid) and login_key(authzid) != login_key(account.login)
        except ValueError:
            foreign = True
        return _with_details(_answer(account, not foreign), subject=read.subject, fingerprint=read.fingerprint)

    async def knows(self, login: str) -> bool:
        try:
            account = await self._accounts.find(login_key(login))
            return account is not None and not account.elsewhere
        except ValueError:
            return False

    async def find_person(self, login: str) -> Identity | Denied:
        try:
            return _answer(await self._accounts.find(login_key(login)), right=True)
        except ValueError:
            return Denied(Reason.UNKNOWN)

    def close(self) -> None:
        """Stops the hashing threads."""
        self._passwords.close()

    async def verify(self, credentials: Credentials, *, known_place: bool) -> Identity | Denied:
        try:
            answer = await self._verify(credentials, known_place)
        except Unavailable:
            figures.count_unavailable(self._name)
            raise
        figures.count(self._name, answer)
        return answer

    async def _verify(self, credentials: Credentials, known_place: bool) -> Identity | Denied:
        try:
            login = login_key(credentials.authcid)
            foreign = bool(credentials.authzid) and login_key(credentials.authzid) != login
            password = prepare(credentials.password)
        except ValueError:
            return Denied(Reason.WRONG)  # nobody has such a login or password: the account does not come into it
        if foreign or not password or not login:
            return Denied(Reason.WRONG)
        if len(password.encode()) > PASSWORD_CEILING or len(login.encode()) > 4 * LOGIN_CEILING:
            return Denied(Reason.WRONG)
        account = await self._accounts.find(login)
        for _ in range(_TRIES):
            right = await self._is_right(account, login, password, known_place)
            if right and account is not None and is_foreign(account.password_hash):
                await self._rehash(login, password)
            now = await self._accounts.find(login)
            if _generation(now) == _generation(account):
                return _answer(account, right)
            account = now  # it changed while we hashed: ask again, by the new state
        raise Unavailable(f"the account {login!r} keeps changing")

    async def _rehash(self, login: str, password: str) -> None:
        """Lets an imported hash be replaced. That never keeps anybody out: the next sign-in tries again."""
        if not isinstance(self._accounts, RehashesAccounts) or self._clock() < self._rehash_after:
            return
        try:
            async with asyncio.timeout(REHASH_TIME):
                await self._accounts.rehash(login, password)
        except (Unavailable, TimeoutError) as error:
            self._rehash_after = self._clock() + REHASH_PAUSE
            log.warning("account.rehash_failed", login=login, reason=str(error) or "no answer in time")

    async def _is_right(self, account: Account | None, login: str, password: str, known_place: bool) -> bool:
        entry = self._entry.of(login, password, str(_generation(account)))
        if self._right.get(entry, self._clock()):
            return True
        if self._wrong.get(entry, self._clock()):
            return False
        stored = None if account is None or account.elsewhere else account.password_hash
        right = await self._passwords.verify(stored, password, known_place=known_place)
        (self._right if right else self._wrong).add(entry, True, self._clock())
        return right


def _verifier(settings: TokenSettings) -> TokenVerifier:
    return TokenVerifier(
        load_key(settings.key), issuer=settings.issuer, audience=settings.audience, claim=settings.claim
    )


def _secret_of(account: Account, stored: str) -> ScramSecret:
    try:
        return read_secret(stored)
    except ValueError as error:
        raise Unavailable(f"the SCRAM secret of {account.login!r} is {error}") from None


def _true_secret(account: Account | None) -> ScramSecret | None:
    """None: there is none, or the account is disabled; our signature would confirm the password."""
    if account is None or account.scram is None or account.disabled:
        return None
    return _secret_of(account, account.scram)


def _generation(account: Account | None) -> int:
    return -1 if account is None else account.generation


def _answer(account: Account | None, right: bool) -> Identity | Denied:
    if account is None or account.elsewhere:
        return Denied(Reason.UNKNOWN)
    if not right:
        return Denied(Reason.WRONG, account.login)
    if account.disabled:
        return Denied(Reason.DISABLED, account.login)
    return identity(account)


def _with_details(answer: Identity | Denied, **details: str) -> Identity | Denied:
    return replace(answer, details=details) if isinstance(answer, Denied) else answer


def identity(account: Account) -> Identity:
    """Whose the account is: its addresses, and its login when that is an address."""
    addresses = {lower(address) for address in account.addresses}
    if "@" in account.login:
        addresses.add(lower(account.login))
    return Identity(
        login=account.login,
        addresses=frozenset(addresses),
        domains=frozenset(lower(domain) for domain in account.domains),
        may_redirect=account.may_redirect,
        recipients_per_hour=account.recipients_per_hour,
        generation=account.generation,
        account=account.login,
    )
