"""Which login names count at Domino, as its server document's "Internet authentication" has it.

    search_filter("Jada Correr/ACME", Names.FEWER)       a few candidates
    matches("Jada Correr/ACME", entry, Names.FEWER)      whether the login means this one

*Fewer name variations with higher security*: the hierarchical name (Jada Correr/Sales/ACME, with or without CN=, OU=,
O=, also with commas), the common name with or without CN=, any further entry of User name, the Internet address. The
short name only when User name lists it. *More name variations with lower security*: also first name, last name and
short name. Without case; blanks that follow each other are one. Whether it means one person only is the caller's to
see.

In Domino's LDAP schema the entries of User name are ``cn``, the short name is ``uid``, the Internet address ``mail``.

ERRORS
    None: a name that cannot be read is nobody's.

MUST NOT IMPORT the LDAP library.
"""

import re

from pillarbox.directory.ldap.entry import Entry
from pillarbox.directory.ldap.settings import Names
from pillarbox.directory.ldap.texts import escape, parse_name
from pillarbox.directory.preparation import login_key

ATTRIBUTES = ("cn", "uid", "mail", "givenName", "sn")
CANDIDATES = 64
"""How many entries are looked at; more make the name ambiguous."""

_TYPE = re.compile(r"\s*(?:cn|ou|o|c)\s*=\s*", re.IGNORECASE)
_FEWER, _MORE = ("cn", "mail"), ("givenName", "sn", "uid")


def search_filter(login: str, names: Names) -> str:
    """Finds everybody whom the login could mean: a hierarchical name by its common name."""
    values = dict.fromkeys((login, _common_name(login), abbreviated(login)))
    asked = _FEWER if names is Names.FEWER else (*_FEWER, *_MORE)
    alternatives = [f"({name}={escape(value)})" for name in asked for value in values if value]
    return f"(&(objectClass=person)(|{''.join(alternatives)}))"


def matches(login: str, entry: Entry, names: Names) -> bool:
    """Whether the login is one of the person's."""
    wanted = _key(abbreviated(login))
    counts = {_key(abbreviated(value)) for value in (hierarchical_name(entry.dn), *entry.values("cn"))}
    counts |= {_key(value) for value in entry.values("mail")}
    if names is Names.MORE:
        counts |= {_key(value) for name in _MORE for value in entry.values(name)}
    first = hierarchical_name(entry.dn).split("/")[0]
    return bool(wanted) and wanted in counts | {_key(first)} - {""}


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


def _common_name(login: str) -> str:
    return abbreviated(login).split("/")[0]


def _key(name: str) -> str:
    """What is compared. "" means nobody."""
    try:
        return " ".join(login_key(name).split())
    except ValueError:
        return ""
