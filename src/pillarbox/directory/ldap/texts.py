"""Logins and names inside filters and distinguished names: as values, whatever they hold.

    fill_filter("(uid={login})", login="*)(uid=*")   -> (uid=\\2a\\29\\28uid\\3d\\2a)
    fill_name("uid={login},ou=people", "a,ou=x")     -> uid=a\\2cou\\3dx,ou=people

Each octet that is no ASCII letter, no digit and none of "@._-" is written by its number, so nothing in a value can
mean anything.

STANDARDS
    RFC 4515 3 (filters), RFC 4514 2.4 (names), RFC 4514 3 (how a name is read again).

ERRORS
    ValueError from parse_name: no distinguished name. A place holder that is not known is config's to refuse.

MUST NOT IMPORT the LDAP library: config checks with it, where the extra is not installed.
"""

import re

from pillarbox.directory.distinguished_name import parse_name as parse_name

_PLACE = re.compile(r"\{([a-z]*)\}")
_PLAIN = frozenset(b"@._-ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")


def escape(value: str) -> str:
    """The value for a filter, and for an attribute value of a distinguished name: both write an octet as \\XX."""
    return "".join(chr(octet) if octet in _PLAIN else f"\\{octet:02x}" for octet in value.encode())


def places(template: str) -> set[str]:
    """The names of a template's place holders."""
    return set(_PLACE.findall(template))


def fill_filter(template: str, **values: str) -> str:
    """The template with each ``{name}`` replaced by that value, escaped."""
    return _PLACE.sub(lambda match: escape(values[match[1]]), template)


def fill_name(template: str, login: str) -> str:
    """What to bind as: escaped where the template is a distinguished name, as it is elsewhere (name@domain)."""
    value = escape(login) if "=" in template else login
    return _PLACE.sub(lambda _: value, template)
