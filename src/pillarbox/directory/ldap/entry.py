"""What a search found of a person, and what it says: login, addresses, whether a password lets in.

    entry.values("mail"), entry.addresses(("mail", "proxyAddresses"))
    denied(entry, Preset.ACTIVE_DIRECTORY, now)      -> Reason | None

STANDARDS
    RFC 4512 2.5 (attribute names have no case), [MS-ADTS] 2.2.16 (userAccountControl and its computed sibling).

ERRORS
    None: what cannot be read says nothing.

MUST NOT IMPORT the LDAP library.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from pillarbox.directory.base import Reason
from pillarbox.directory.ldap.settings import Preset
from pillarbox.directory.preparation import lower

_ADDRESS = re.compile(r"[^\s@:<>\x00-\x1f\x7f]+@[^\s@:<>\x00-\x1f\x7f]+")

ACCOUNT_DISABLED = 0x0000_0002
LOCKED_OUT = 0x0000_0010
PASSWORD_EXPIRED = 0x0080_0000
NEVER = frozenset((0, 0x7FFF_FFFF_FFFF_FFFF))
EPOCH_1601 = 11_644_473_600
"""Seconds from 1601, where Windows begins to count, to 1970."""
DAY = 86_400
LOCKED_FOR_GOOD = "000001010000Z"

STATUS_ATTRIBUTES: Mapping[Preset, tuple[str, ...]] = {
    Preset.OPENLDAP: ("pwdAccountLockedTime", "nsAccountLock", "shadowExpire"),
    Preset.ACTIVE_DIRECTORY: (
        "userAccountControl",
        "msDS-User-Account-Control-Computed",
        "lockoutTime",
        "accountExpires",
    ),
    Preset.DOMINO: (),
}
"""What to ask for, so that ``denied`` can tell."""


class Entry:
    """One entry. ``attributes``: octets by name, as the library gives them; a value that is not UTF-8 is left out."""

    __slots__ = ("_values", "dn")

    def __init__(self, dn: str, attributes: Mapping[str, Iterable[bytes]]) -> None:
        self.dn = dn
        self._values: dict[str, tuple[str, ...]] = {}
        for name, values in attributes.items():
            self._values[name.lower()] = tuple(text for value in values if (text := _text(value)) is not None)

    def values(self, name: str) -> tuple[str, ...]:
        """All, in the server's order."""
        return self._values.get(name.lower(), ())

    def first(self, name: str) -> str | None:
        """The first one that is not empty."""
        return next((value for value in self.values(name) if value), None)

    def number(self, name: str) -> int | None:
        """The first one, when it is a decimal number of at most 20 digits."""
        text = self.first(name)
        return int(text) if text is not None and re.fullmatch(r"-?[0-9]{1,20}", text) else None

    def addresses(self, names: Sequence[str]) -> frozenset[str]:
        """The mail addresses among the values, ASCII letters in lower case. ``smtp:`` before one is taken away; with
        another word there (X500:, SIP:) it is none."""
        found: set[str] = set()
        for name in names:
            for value in self.values(name):
                kind, colon, rest = value.partition(":")
                address = rest if colon and kind.lower() == "smtp" else value
                if _ADDRESS.fullmatch(address):
                    found.add(lower(address))
        return frozenset(found)


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def denied(entry: Entry, preset: Preset, now: float) -> Reason | None:
    """Why no password lets this person in, as far as the entry says. ``now``: seconds since 1970."""
    match preset:
        case Preset.OPENLDAP:
            return _denied_by_openldap(entry, now)
        case Preset.ACTIVE_DIRECTORY:
            return _denied_by_active_directory(entry, now)
        case Preset.DOMINO:
            return None  # its deny lists are groups


def _denied_by_openldap(entry: Entry, now: float) -> Reason | None:
    """What OpenLDAP's password policy, 389 Directory Server and shadow accounts say. A lock that ends by itself is
    the server's own business: its answer to the password tells."""
    if (entry.first("nsAccountLock") or "").lower() == "true":
        return Reason.DISABLED
    if entry.first("pwdAccountLockedTime") == LOCKED_FOR_GOOD:
        return Reason.LOCKED
    last_day = entry.number("shadowExpire")
    if last_day is not None and 0 <= last_day * DAY <= now:
        return Reason.EXPIRED
    return None


def _denied_by_active_directory(entry: Entry, now: float) -> Reason | None:
    """``lockoutTime`` stays after a lock has ended by itself; only together with the computed control it says that
    somebody is locked out now."""
    control = entry.number("userAccountControl") or 0
    computed = entry.number("msDS-User-Account-Control-Computed") or 0
    if control & ACCOUNT_DISABLED:
        return Reason.DISABLED
    ends = entry.number("accountExpires")
    if ends is not None and ends not in NEVER and ends / 10_000_000 - EPOCH_1601 <= now:
        return Reason.EXPIRED
    if computed & LOCKED_OUT and entry.number("lockoutTime") != 0:
        return Reason.LOCKED
    if computed & PASSWORD_EXPIRED:
        return Reason.EXPIRED
    return None
