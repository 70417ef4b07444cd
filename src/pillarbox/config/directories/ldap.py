"""[[directory]] with kind = "ldap": OpenLDAP and its kin, Active Directory, Domino.

A preset fills the keys that the file does not name. The LDAP library is not needed here.

ERRORS
    None raised: broken rules are values.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pillarbox.config.directories.table import Servers, UpstreamTable, upstream
from pillarbox.config.fields import Field, FilePath, HostName, Table, Text
from pillarbox.config.values import is_loopback
from pillarbox.directory.ldap.settings import LdapGroup, LdapSettings, Names, Preset
from pillarbox.directory.ldap.texts import parse_name, places

IN_CHAIN = "1.2.840.113556.1.4.1941"
"""Active Directory's matching rule that follows groups in groups."""


@dataclass(frozen=True, slots=True)
class _Defaults:
    preset: Preset
    filter: str
    login_attribute: str
    address_attributes: tuple[str, ...]
    group_filter: str


PRESETS = {
    "openldap": _Defaults(
        Preset.OPENLDAP,
        "(&(objectClass=person)(|(uid={login})(mail={login})))",
        "uid",
        ("mail", "mailAlternateAddress", "mailLocalAddress"),
        "(|(member={dn})(uniqueMember={dn})(memberUid={login}))",
    ),
    "active-directory": _Defaults(
        Preset.ACTIVE_DIRECTORY,
        "(&(objectClass=user)(!(objectClass=computer))(|(sAMAccountName={account})(userPrincipalName={login})"
        "(mail={login})(proxyAddresses=smtp:{login})))",
        "sAMAccountName",
        ("mail", "proxyAddresses"),
        f"(member:{IN_CHAIN}:={{dn}})",
    ),
    "domino": _Defaults(Preset.DOMINO, "", "", ("mail", "cn", "uid"), "(member={dn})"),
}


class LdapGroupTable(Table):
    """What the members of an LDAP group may do, or may not."""

    dn: Text = Field(description="The group's distinguished name.")
    disabled: bool = Field(False, description="Nobody of it signs in.")
    domains: list[HostName] = Field([], description="Whole domains that its members may send as.")
    may_redirect: bool = Field(
        False, description="Its members may send others' mail on: From is whoever wrote it, Resent-From is their own."
    )


class LdapTable(UpstreamTable):
    """People of an LDAP server, looked up and then bound as. It needs `pip install "pillarbox[ldap]"` with
    the pip of the environment that Pillarbox runs in."""

    kind: Literal["ldap"] = Field(description="ldap: people of an LDAP server.")
    preset: Literal["openldap", "active-directory", "domino"] = Field(
        description="Whose habits the server has; fills filter, login_attribute, address_attributes, group_filter."
    )
    servers: Servers = Field(
        description='URIs, the preferred one first: "ldaps://ldap.example.org", "ldap://..." or "ldapi://...".',
    )
    starttls: bool = Field(
        True, description="Secure ldap:// by StartTLS before anything is asked. false is for loopback only."
    )
    ca: FilePath | None = Field(
        None, description="PEM file of the CA certificates that count. Default: those of the system."
    )
    certificate: FilePath | None = Field(
        None, description="A client certificate (PEM); without bind_dn it is also who asks (SASL EXTERNAL)."
    )
    key: FilePath | None = Field(None, description="Its private key.")
    bind_dn: Text | None = Field(None, description="Who searches. Default: nobody (anonymous).")
    password_file: FilePath | None = Field(None, description="A file with the password of bind_dn.")
    base: Text = Field(description="Below which entry people are.")
    filter: Text | None = Field(
        None,
        description='Finds the one person that a login means: "{login}" is the login, "{account}" what comes behind '
        "its backslash, if there is one. Default: the preset's.",
    )
    bind_as: Text | None = Field(
        None,
        description='Bind at once, as for example "uid={login},ou=people,dc=example,dc=org", instead of a search. '
        "Then the server can only say no: it stands last, or has names.",
    )
    login_attribute: Text | None = Field(
        None, description="The attribute that names somebody in log and queue. Default: the preset's."
    )
    address_attributes: list[Text] | None = Field(
        None, description="The attributes whose values are somebody's addresses. Default: the preset's."
    )
    internet_authentication: Literal["fewer", "more"] = Field(
        "fewer", description="For domino: fewer or more name variations, as in its server document."
    )
    members_of: Text | None = Field(None, description="The DN of a group; only its members sign in.")
    group_filter: Text | None = Field(
        None,
        description='Whether a group has somebody: "{dn}" is the person\'s entry, "{login}" the login_attribute. '
        "Default: the preset's.",
    )
    group: list[LdapGroupTable] = Field([], max_length=32)

    @property
    def opaque(self) -> bool:
        """With bind_as."""
        return self.bind_as is not None


def build(table: LdapTable, base: Path) -> LdapSettings:
    """Its settings."""
    preset = PRESETS[table.preset]
    return LdapSettings(
        **upstream(table),
        preset=preset.preset,
        servers=tuple(table.servers),
        base=table.base,
        filter=preset.filter if table.filter is None else table.filter,
        login_attribute=table.login_attribute or preset.login_attribute,
        address_attributes=(
            preset.address_attributes if table.address_attributes is None else tuple(table.address_attributes)
        ),
        group_filter=table.group_filter or preset.group_filter,
        starttls=table.starttls,
        ca=_maybe(base, table.ca),
        certificate=_maybe(base, table.certificate),
        key=_maybe(base, table.key),
        bind_dn=table.bind_dn,
        password_file=_maybe(base, table.password_file),
        bind_as=table.bind_as,
        names_allowed=Names[table.internet_authentication.upper()],
        groups=tuple(
            LdapGroup(
                dn=group.dn,
                disabled=group.disabled,
                domains=frozenset(group.domains),
                may_redirect=group.may_redirect,
            )
            for group in table.group
        ),
        members_of=table.members_of,
    )


def _maybe(base: Path, path: str | None) -> Path | None:
    return None if path is None else base / path


def check(table: LdapTable) -> Iterator[tuple[str, str]]:
    """(key, what is broken)."""
    for server in table.servers:
        mistake = _mistake_in_server(server, starttls=table.starttls)
        if mistake:
            yield "servers", f'found "{server}"; {mistake}'
    if (table.bind_dn is None) != (table.password_file is None):
        there, missing = ("bind_dn", "password_file") if table.password_file is None else ("password_file", "bind_dn")
        yield there, f"found without {missing}; expected both or none"
    if table.key is not None and table.certificate is None:
        yield "key", "found without certificate; expected both or none"
    if table.internet_authentication == "more" and (table.preset != "domino" or table.filter is not None):
        yield "internet_authentication", 'found "more"; expected it with preset = "domino" and without filter only'
    if table.bind_as is not None and table.bind_dn is not None:
        yield "bind_as", "found with bind_dn; expected one of them: whoever signs in asks"
    yield from _check_templates(table)
    yield from _check_names(table)


def _mistake_in_server(server: str, *, starttls: bool) -> str:
    try:
        parts = urlsplit(server)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "expected a URI such as ldaps://ldap.example.org"
    if parts.scheme == "ldapi":
        return "" if re.fullmatch(r"ldapi://[A-Za-z0-9%._~-]*/?", server) else "expected a path with %2F for each /"
    if parts.scheme not in ("ldap", "ldaps"):
        return 'expected "ldap://", "ldaps://" or "ldapi://" and a host'
    if not host or port == 0 or parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        return "expected a host and maybe a port, and nothing behind"
    if parts.scheme == "ldap" and not starttls and not is_loopback(host):
        return "expected ldaps://, or starttls = true: passwords would be read on the way"
    return ""


def _check_templates(table: LdapTable) -> Iterator[tuple[str, str]]:
    allowed = {"filter": {"login", "account"}, "bind_as": {"login"}, "group_filter": {"dn", "login"}}
    for key, names in allowed.items():
        text = getattr(table, key)
        if text is None:
            continue
        found = places(text)
        if not found or not found <= names:
            expected = " or ".join(f'"{{{name}}}"' for name in sorted(names))
            yield key, f'found "{text}"; expected {expected} in it, and no other place holder'
        elif key != "bind_as" and not _is_filter(text):
            yield key, f'found "{text}"; expected a filter such as "(uid={{login}})" (RFC 4515)'


def _is_filter(text: str) -> bool:
    """Whether its parentheses pair, from the first character to the last."""
    depth = 0
    for position, character in enumerate(text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth <= 0 and position + 1 < len(text):
            return False
    return depth == 0 and len(text) > 2


def _check_names(table: LdapTable) -> Iterator[tuple[str, str]]:
    names = [("bind_dn", table.bind_dn), ("base", table.base), ("members_of", table.members_of)]
    names += [("group", group.dn) for group in table.group]
    for key, name in names:
        if name is None or (key == "bind_dn" and "=" not in name):  # Active Directory takes name@domain
            continue
        try:
            parse_name(name)
        except ValueError:
            yield key, f'found "{name}"; expected a distinguished name such as "dc=example,dc=org"'
