"""From what people type as login to what a server behind is told, and to the addresses that are theirs.

    naming = Naming("{local}", ("example.org",))
    meant = naming.meant("Anna@Example.org")      # sent "Anna", name "anna@example.org", {"anna@example.org"}
    naming.owner("anna")                          # the same, of a name that the server itself has for her

For servers that say yes or no and nothing about addresses. Some of them ignore the domain of a login; so whoever
signs in gets addresses in ``domains`` only, and a login of another domain is nobody's. ``("*",)``: the server checks
the whole login, and its domain, whatever it is, is the person's.

Blanks at either end, and how many there are between two words, tell nobody apart: servers trim and fold them, and
each spelling would make room for more wrong tries.

A login with a ``*`` in it is nobody's. Dovecot may be told that behind it stands a master user, whose password it
then takes: each name before it would make room for more guesses at that one password.

Where the server is told no domain, or its own name for the person has none, it has one set of names for all domains:
each person has the same local part in all of them.

STANDARDS
    RFC 5321 4.1.2 (what is an address at all).

ERRORS
    None raised: nobody is None.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pillarbox.directory.preparation import login_key
from pillarbox.smtp.syntax import parse_mailbox

_PLACEHOLDER = re.compile(r"\{(login|local|domain)\}")
ANY = "*"
MASTER = "*"
"""What Dovecot's documentation puts between a login and that of a master user (auth_master_user_separator)."""


@dataclass(frozen=True, slots=True)
class Meant:
    """Whom a login means. ``sent``: what the server is told; ``name``: one for all spellings; ``addresses`` in lower
    case, none when the name cannot be an address."""

    sent: str
    name: str
    addresses: frozenset[str]


def mistake_in(template: str, domains: Sequence[str]) -> str:
    """What is wrong with the two together, in words; "" for nothing."""
    if not {"login", "local"} & set(_PLACEHOLDER.findall(template)):
        return 'expected "{login}" or "{local}" in it, such as "{local}@example.org"'
    rest = _PLACEHOLDER.sub("", template)
    if "{" in rest or "}" in rest:
        return 'expected no braces but those of "{login}", "{local}" and "{domain}"'
    if ANY in domains and _drops_domain(template):
        return 'without the domain in it the server cannot check that; expected domains by name instead of "*"'
    return ""


def _drops_domain(template: str) -> bool:
    return not {"login", "domain"} & set(_PLACEHOLDER.findall(template))


class Naming:
    """See the module's text. ``template`` and ``domains`` go together by mistake_in."""

    def __init__(self, template: str, domains: Sequence[str]) -> None:
        self._template = template
        self._domains = tuple(domain.lower() for domain in domains)
        self._one_set = _drops_domain(template)

    def meant(self, login: str) -> Meant | None:
        """Of a prepared login; None: nobody here can have it."""
        split = self._split(login)
        if split is None:
            return None
        local, domain = split
        values = {"login": login, "local": local, "domain": domain}
        if not domain and "{domain}" in self._template:
            return None
        sent = _PLACEHOLDER.sub(lambda found: values[found[1]], self._template)
        return self._whose(sent, local, domain, login)

    def owner(self, canonical: str) -> Meant | None:
        """Of the name that the server has for whoever signed in; None: of a domain that is not ours."""
        split = self._split(canonical)
        return None if split is None else self._whose(canonical, *split, canonical, bare="@" not in canonical)

    def _split(self, login: str) -> tuple[str, str] | None:
        """Local part and domain, the first of ours when none is said ("" when any is ours). A local part with an "@"
        is nobody's: told without its domain, it would be a login of another one. For "*" see the module's text."""
        local, at, domain = login.rpartition("@")
        if not at:
            local, domain = login, "" if ANY in self._domains else self._domains[0]
        ours = ANY in self._domains or domain.lower() in self._domains
        named = local.strip() and (domain.strip() or not at)
        return (local, domain) if named and "@" not in local and MASTER not in login and ours else None

    def _whose(self, sent: str, local: str, domain: str, login: str, *, bare: bool = False) -> Meant | None:
        """``bare``: the server's own name for the person has no domain."""
        domains = self._domains if (self._one_set or bare) and ANY not in self._domains else (domain,)
        addresses = [_lower(f"{local}@{each}") for each in domains if each]
        try:
            name = _folded(login_key(addresses[0] if addresses else login))
        except ValueError:
            return None
        return Meant(sent, name, frozenset(filter(_is_address, addresses)))


def _folded(key: str) -> str:
    """See the module's text."""
    return "@".join(" ".join(part.split()) for part in key.split("@"))


def _lower(text: str) -> str:
    return text.encode().lower().decode()  # as octets: only ASCII has a case in an address


def _is_address(text: str) -> bool:
    try:
        return str(parse_mailbox(text)) == text
    except ValueError:
        return False
