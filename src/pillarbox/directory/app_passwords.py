"""App passwords: one more password of a person, for one device or program, whichever directory the person is in.

    made, password = make(label="scanner, 2nd floor", ...)     # password: shown once
    app_passwords = AppPasswords(accounts, used=..., now=time.time)
    answer = await app_passwords.verify(credentials, address, directory)

They are drawn by us and look like nobody's own password: ``pbap-`` and 20 letters and digits in groups of four, 99
random bits. So they need no slow hash (a SHA-256 cannot be guessed back), nothing that has their form is ever handed
to a server behind, and whoever does not use them pays for one comparison of five characters.

They are kept with the local account of their login. A person of another directory has an account here that holds
nothing else (``Account.elsewhere``). Who it is, with which addresses, the directories of the site say at each
sign-in, and it must be the one that the app password was made for: another site's person of the same name is somebody
else, and somebody who is disabled there does not get in here. A directory that can only say no cannot tell that.

ERRORS
    Unavailable: the accounts or the directory cannot be asked. ValueError from make: for the operator.
"""

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from pillarbox.directory.base import (
    Account,
    AccountLookup,
    AppPassword,
    Denied,
    Directory,
    Identity,
    PeopleDirectory,
    Reason,
)
from pillarbox.directory.memory import EntryKey, Memory
from pillarbox.directory.preparation import LOGIN_CEILING, login_key
from pillarbox.sasl.mechanism import PasswordCredentials

PREFIX = "pbap"
_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # without those that are taken for others
_LENGTH = 20
_GROUP = 4
LABEL_CEILING = 100
"""Characters."""
CEILING = 50
"""App passwords of one login."""
SHORT_MEMORY = 60.0
"""Seconds for which what a directory said of a person is not asked again."""
PEOPLE = 4_096


class Made(NamedTuple):
    """A new one, and the password in clear, which nobody can show again."""

    stored: AppPassword
    password: str


def is_one(password: str) -> bool:
    """Whether it has the form of one, as people type them: with or without dashes and spaces, in any case."""
    return password[: len(PREFIX)].lower() == PREFIX and len(_plain(password)) == len(PREFIX) + _LENGTH


def _plain(password: str) -> str:
    return password.replace("-", "").replace(" ", "").lower()


def make(
    label: str,
    *,
    now: float,
    expires_at: float | None = None,
    networks: tuple[str, ...] = (),
    addresses: tuple[str, ...] = (),
    directory: str = "",
) -> Made:
    """A new app password. Raises ValueError."""
    if not label.strip() or not label.isprintable() or len(label) > LABEL_CEILING:
        raise ValueError(f"the label: expected 1 to {LABEL_CEILING} characters that say what it is for")
    if expires_at is not None and expires_at <= now:
        raise ValueError("it would have expired already")
    drawn = "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
    groups = [drawn[at : at + _GROUP] for at in range(0, _LENGTH, _GROUP)]
    stored = AppPassword(
        id=secrets.token_hex(4),
        label=label.strip(),
        digest=_digest(PREFIX + drawn),
        created_at=now,
        expires_at=expires_at,
        networks=tuple(dict.fromkeys(map(_network, networks))),
        addresses=addresses,
        directory=directory,
    )
    return Made(stored, "-".join((PREFIX, *groups)))


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError:
        raise ValueError(f"found {text!r}; expected an address or network such as 192.0.2.0/24") from None


def _digest(plain: str) -> str:
    return hashlib.sha256(plain.encode()).hexdigest()


class AppPasswords:
    """See the module's text. ``used`` hears of each use: (login, id, address); ``now``: seconds since the epoch."""

    def __init__(
        self,
        accounts: AccountLookup,
        *,
        used: Callable[[str, str, str], None],
        now: Callable[[], float],
    ) -> None:
        self._accounts = accounts
        self._used = used
        self._now = now
        self._entry = EntryKey()
        self._people = Memory[Identity](SHORT_MEMORY, PEOPLE)

    async def verify(
        self, credentials: PasswordCredentials, address: str, site: str, directory: Directory
    ) -> Identity | Denied:
        """Who signs in with this app password, from this address, at this site, whose ``directory`` says who the
        person is. Raises Unavailable."""
        try:
            login = login_key(credentials.authcid)
            foreign = bool(credentials.authzid) and login_key(credentials.authzid) != login
        except ValueError:
            return Denied(Reason.WRONG)
        if foreign or not login or len(login.encode()) > LOGIN_CEILING:
            return Denied(Reason.WRONG)
        account = await self._accounts.find(login)
        if account is None:
            return Denied(Reason.UNKNOWN)
        digest = _digest(_plain(credentials.password))
        found = next((each for each in account.app_passwords if hmac.compare_digest(each.digest, digest)), None)
        if found is None:
            return Denied(Reason.WRONG, account.login, {"cause": "no app password of this login"})
        said = {"app_password": f"{found.id} ({found.label})"}
        if found.expires_at is not None and self._now() >= found.expires_at:
            return Denied(Reason.EXPIRED, account.login, said)
        if found.networks and not _is_in(address, found.networks):
            return Denied(Reason.ELSEWHERE, account.login, said | {"cause": f"not from {', '.join(found.networks)}"})
        answer = await self._who(account, found, site, directory)
        if isinstance(answer, Denied):
            return replace(answer, details={**answer.details, **said})
        self._used(account.login, found.id, address)
        return _narrowed(answer, account, found)

    async def _who(self, account: Account, found: AppPassword, site: str, directory: Directory) -> Identity | Denied:
        if not isinstance(directory, PeopleDirectory):
            return Denied(Reason.ELSEWHERE, account.login, {"cause": "no directory of this site knows people"})
        entry = self._entry.of(login_key(account.login), site, str(account.generation))
        answer: Identity | Denied | None = self._people.get(entry, self._now()) if account.elsewhere else None
        if answer is None:
            answer = await directory.find_person(account.login)
            if isinstance(answer, Identity):
                self._people.add(entry, answer, self._now())
        if isinstance(answer, Identity) and not _is_meant(answer, account, found):
            return Denied(Reason.ELSEWHERE, account.login, {"cause": "at this site the login is another person's"})
        return answer


def _is_meant(who: Identity, account: Account, found: AppPassword) -> bool:
    """Whether it is the person that the app password was made for."""
    if account.elsewhere:
        return bool(found.directory) and who.source == found.directory
    return who.account == account.login


def _narrowed(who: Identity, account: Account, found: AppPassword) -> Identity:
    """As this app password lets it act."""
    who = replace(who, account=account.login, generation=account.generation)
    if not found.addresses:
        return who
    own = {each for each in found.addresses if each in who.addresses or each.rpartition("@")[2] in who.domains}
    return replace(who, addresses=frozenset(own), domains=frozenset(), may_redirect=False)


def _is_in(address: str, networks: tuple[str, ...]) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return any(ip in ipaddress.ip_network(network) for network in networks)
