"""Which login names count at Domino, as its server document's "Internet authentication" has it.

    search_filter("Jada Correr/ACME", Names.FEWER)       a few candidates
    matches("Jada Correr/ACME", entry, Names.FEWER)      whether the login means this one

Which names count says domino_names.py. Whether a login means one person only is the caller's to see.

In Domino's LDAP schema the entries of User name are ``cn``, the short name is ``uid``, the Internet address ``mail``.

ERRORS
    None: a name that cannot be read is nobody's.

MUST NOT IMPORT the LDAP library.
"""

from pillarbox.directory.domino_names import Names, abbreviated, name_key, names_of
from pillarbox.directory.ldap.entry import Entry
from pillarbox.directory.ldap.texts import escape

ATTRIBUTES = ("cn", "uid", "mail", "givenName", "sn")
CANDIDATES = 64
"""How many entries are looked at; more make the name ambiguous."""

_FEWER, _MORE = ("cn", "mail"), ("givenName", "sn", "uid")


def search_filter(login: str, names: Names) -> str:
    """Finds everybody whom the login could mean: a hierarchical name by its common name."""
    values = dict.fromkeys((login, _common_name(login), abbreviated(login)))
    asked = _FEWER if names is Names.FEWER else (*_FEWER, *_MORE)
    alternatives = [f"({name}={escape(value)})" for name in asked for value in values if value]
    return f"(&(objectClass=person)(|{''.join(alternatives)}))"


def matches(login: str, entry: Entry, names: Names) -> bool:
    """Whether the login is one of the person's."""
    counting = names_of(
        entry.dn,
        user_names=entry.values("cn"),
        addresses=entry.values("mail"),
        more=[value for name in _MORE for value in entry.values(name)],
        names=names,
    )
    wanted = name_key(login)
    return bool(wanted) and wanted in map(name_key, counting)


def _common_name(login: str) -> str:
    return abbreviated(login).split("/")[0]
