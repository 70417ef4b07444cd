"""From the LDIF export of a Domino Directory to the people that get a local account each.

    people = read_people(stream)
    people.found        # Imported, one for each person that can be imported
    people.skipped      # (who, why)

The login is the Internet address (InternetAddress, in LDAP ``mail``), in lower case: the one name that each person
has alone. The password is HTTPPassword (in LDAP ``userPassword``) in any of its three forms, as it stands there; its
hash is never shown. Two people with one Internet address are skipped both: a name means one person.

The other names that count at Domino (domino_names.py) become aliases of the account. One that two people of the file
have is ``shared``; it is nobody's, for it is an alias of both, or of neither where one of them cannot be imported.

ERRORS
    ldif.LdifBroken.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from pillarbox.directory.aliases import ALIAS_CEILING, is_usable
from pillarbox.directory.base import InvalidAccount
from pillarbox.directory.domino_names import Names, name_key, names_of
from pillarbox.directory.ldif import Entry, read_entries
from pillarbox.directory.schemes.stored import BadStored, read_stored
from pillarbox.directory.validity import check_addresses, check_login

_ADDRESS = ("internetaddress", "mail")
_ALIASES = ("mailalternateaddress",)
"""Not MailAddress: that is where mail is forwarded to, which people may set to anybody's."""
_PASSWORD = ("httppassword", "userpassword")
_NAME = ("fullname", "cn")
_MORE = ("givenname", "firstname", "sn", "lastname", "shortname", "uid")
_KIND = ("objectclass", "type", "form")
WANTED = frozenset((*_ADDRESS, *_ALIASES, *_PASSWORD, *_NAME, *_KIND, *_MORE))
_PEOPLE = frozenset(("person", "inetorgperson", "organizationalperson", "dominoperson"))


@dataclass(frozen=True, slots=True, repr=False)
class Imported:
    """A person to import. ``who``: what the directory calls them; ``scheme``: of the hash; ``names``: further logins;
    ``shared``: those that somebody else in the file has, too, some of them in ``names``."""

    who: str
    login: str
    addresses: tuple[str, ...]
    password_hash: str
    scheme: str
    names: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class People:
    """What an export holds. ``others``: how many entries are no people."""

    found: Sequence[Imported]
    skipped: Sequence[tuple[str, str]]
    others: int


def read_people(stream: BinaryIO, charset: str = "utf-8", names: Names = Names.FEWER) -> People:
    """``charset``: of values that are not ASCII; ``names``: which count as logins. Raises LdifBroken, OSError."""
    found: list[tuple[Imported, list[str]]] = []
    skipped: list[tuple[str, str]] = []
    lost: list[list[str]] = []
    others = 0
    for entry in read_entries(stream, WANTED):
        if not _is_person(entry):
            others += 1
            continue
        who, logins = _who(entry, charset), _logins(entry, charset, names)
        try:
            found.append((_person(entry, who, charset), logins))
        except (InvalidAccount, BadStored, UnicodeDecodeError) as error:
            skipped.append((who, "not text in this charset" if isinstance(error, UnicodeDecodeError) else str(error)))
            lost.append(logins)
    owners = Counter(address for person, _ in found for address in {person.login, *person.addresses})
    alone: list[tuple[Imported, list[str]]] = []
    for person, logins in found:
        taken = sorted(address for address in {person.login, *person.addresses} if owners[address] > 1)
        if taken:
            skipped.append((person.who, f"{taken[0]} is somebody else's in this file, too"))
            lost.append(logins)
        else:
            alone.append((person, logins))
    return People(_named(alone, lost), skipped, others)


def _named(found: Sequence[tuple[Imported, Sequence[str]]], lost: Iterable[Sequence[str]]) -> list[Imported]:
    """Each with the names that it has further. ``lost``: the names of people who get no account."""
    owners = Counter(key for person, logins in found for key in set(map(name_key, (*logins, person.login))))
    elsewhere = {name_key(login) for logins in lost for login in logins}
    named: list[Imported] = []
    for person, logins in found:
        further = [login for login in logins if name_key(login) != name_key(person.login)]
        shared = [login for login in further if owners[name_key(login)] > 1 or name_key(login) in elsewhere]
        names = [login for login in further if name_key(login) not in elsewhere]
        named.append(replace(person, names=tuple(names[:ALIAS_CEILING]), shared=tuple(shared)))
    return named


def _logins(entry: Entry, charset: str, names: Names) -> list[str]:
    """The names that count for a login, without those that none can be."""

    def texts(some: tuple[str, ...]) -> list[str]:
        return [value.decode(charset, "replace").strip() for name in some for value in entry.values(name)]

    found = names_of(
        entry.dn.decode(charset, "replace"),
        user_names=texts(_NAME),
        addresses=texts(_ADDRESS),
        more=texts(_MORE),
        names=names,
    )
    return list(filter(is_usable, found))


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
