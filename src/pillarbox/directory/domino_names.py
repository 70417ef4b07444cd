"""Which names of a person count as logins at Domino, and when two of them are one.

    names_of("CN=Jada Correr,O=ACME", user_names=["Jada Correr"], addresses=[...], more=[], names=Names.FEWER)
    name_key("CN=Jada Correr/O=ACME") == name_key("jada  correr/acme")

As its server document's "Internet authentication" has it. *Fewer name variations with higher security*: the
hierarchical name (Jada Correr/Sales/ACME, with or without CN=, OU=, O=, also with commas), the common name with or
without CN=, any further entry of User name, the Internet address. The short name only when User name lists it. *More
name variations with lower security*: also first name, last name and short name. Without case; blanks that follow each
other are one. Whether a name means one person only is the caller's to see.

Both the LDAP kind with its preset ``domino`` and people who were imported (aliases of their accounts) go by it.

ERRORS
    None: a name that cannot be read is nobody's.
"""

import re
from collections.abc import Iterable
from enum import Enum, auto

from pillarbox.directory.distinguished_name import parse_name
from pillarbox.directory.preparation import login_key

_TYPE = re.compile(r"\s*(?:cn|ou|o|c)\s*=\s*", re.IGNORECASE)


class Names(Enum):
    """Which login names count at Domino: its "Internet authentication"."""

    FEWER = auto()
    MORE = auto()


def names_of(
    dn: str, *, user_names: Iterable[str], addresses: Iterable[str], more: Iterable[str], names: Names
) -> list[str]:
    """The names that count, abbreviated, without repeats, in this order: the hierarchical and common name of ``dn``,
    the entries of User name, Internet addresses, and with Names.MORE first, last and short names (``more``)."""
    hierarchical = hierarchical_name(dn)
    found = [hierarchical, hierarchical.split("/")[0], *map(abbreviated, user_names), *addresses]
    if names is Names.MORE:
        found += more
    by_key: dict[str, str] = {}
    for name in found:
        by_key.setdefault(name_key(name), " ".join(name.split()))
    by_key.pop("", None)
    return list(by_key.values())


def abbreviated(name: str) -> str:
    """Without CN=, OU=, O=, C=, and with slashes: CN=Jada Correr,O=ACME is Jada Correr/ACME."""
    parts = name.split("/")
    if len(parts) == 1 and _TYPE.match(name) and "," in name:
        parts = name.split(",")
    return "/".join(_TYPE.sub("", part, count=1).strip() if _TYPE.match(part) else part for part in parts)


def hierarchical_name(dn: str) -> str:
    """A distinguished name as Domino writes it, abbreviated; "" for what is none."""
    try:
        return "/".join(value for _, value in parse_name(dn))
    except ValueError:
        return ""


def name_key(name: str) -> str:
    """Two names are one when their keys are equal. "": nobody's."""
    try:
        return " ".join(login_key(abbreviated(name)).split())
    except ValueError:
        return ""
