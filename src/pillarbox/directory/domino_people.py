"""From the LDIF export of a Domino Directory to the people that get a local account each.

    people = read_people(stream)
    people.found        # Imported, one for each person that can be imported
    people.skipped      # (who, why)

The login is the Internet address (InternetAddress, in LDAP ``mail``), in lower case: the one name that each person
has alone. The password is HTTPPassword (in LDAP ``userPassword``) in any of its three forms, as it stands there; its
hash is never shown. Two people with one Internet address are skipped both: a name means one person.

ERRORS
    ldif.LdifBroken.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from pillarbox.directory.base import InvalidAccount
from pillarbox.directory.ldif import Entry, read_entries
from pillarbox.directory.schemes.stored import BadStored, read_stored
from pillarbox.directory.validity import check_addresses, check_login

_ADDRESS = ("internetaddress", "mail")
_ALIASES = ("mailalternateaddress",)
"""Not MailAddress: that is where mail is forwarded to, which people may set to anybody's."""
_PASSWORD = ("httppassword", "userpassword")
_NAME = ("fullname", "cn")
_KIND = ("objectclass", "type", "form")
WANTED = frozenset((*_ADDRESS, *_ALIASES, *_PASSWORD, *_NAME, *_KIND, "shortname", "uid"))
_PEOPLE = frozenset(("person", "inetorgperson", "organizationalperson", "dominoperson"))


@dataclass(frozen=True, slots=True, repr=False)
class Imported:
    """A person to import. ``who``: what the directory calls them; ``scheme``: of the hash."""

    who: str
    login: str
    addresses: tuple[str, ...]
    password_hash: str
    scheme: str


@dataclass(frozen=True, slots=True)
class People:
    """What an export holds. ``others``: how many entries are no people."""

    found: Sequence[Imported]
    skipped: Sequence[tuple[str, str]]
    others: int


def read_people(stream: BinaryIO, charset: str = "utf-8") -> People:
    """``charset``: of values that are not ASCII. Raises LdifBroken, OSError."""
    found: list[Imported] = []
    skipped: list[tuple[str, str]] = []
    others = 0
    for entry in read_entries(stream, WANTED):
        if not _is_person(entry):
            others += 1
            continue
        who = _who(entry, charset)
        try:
            found.append(_person(entry, who, charset))
        except (InvalidAccount, BadStored, UnicodeDecodeError) as error:
            skipped.append((who, "not text in this charset" if isinstance(error, UnicodeDecodeError) else str(error)))
    owners = Counter(address for person in found for address in {person.login, *person.addresses})
    alone: list[Imported] = []
    for person in found:
        shared = sorted(address for address in {person.login, *person.addresses} if owners[address] > 1)
        if shared:
            skipped.append((person.who, f"{shared[0]} is somebody else's in this file, too"))
        else:
            alone.append(person)
    return People(alone, skipped, others)


def _is_person(entry: Entry) -> bool:
    kinds = {value.strip().lower().decode("ascii", "replace") for name in _KIND for value in entry.values(name)}
    return not kinds or bool(kinds & _PEOPLE)


def _who(entry: Entry, charset: str) -> str:
    named = [value for name in _NAME for value in entry.values(name)] or [entry.dn]
    text = named[0].decode(charset, "replace")
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:200] or f"line {entry.line}"


def _person(entry: Entry, who: str, charset: str) -> Imported:
    hashes = _texts(entry, _PASSWORD, "ascii")
    if not hashes:
        raise InvalidAccount("no Internet password")
    stored = read_stored(hashes[0])
    if not stored.scheme.startswith("Domino"):
        raise InvalidAccount(f"a password of the scheme {stored.scheme}, which is none of Domino's")
    addresses = check_addresses(tuple(_texts(entry, _ADDRESS, charset)[:1]))
    if not addresses:
        raise InvalidAccount("no Internet address")
    more = [each for each in _texts(entry, _ALIASES, charset) if "@" in each and "/" not in each]
    login = check_login(addresses[0])
    return Imported(who, login, check_addresses((*addresses, *more)), hashes[0], stored.scheme)


def _texts(entry: Entry, names: tuple[str, ...], charset: str) -> list[str]:
    return [text for name in names for value in entry.values(name) if (text := value.decode(charset).strip())]
