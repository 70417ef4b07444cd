"""What the LDAP kind needs to know; made by config, which puts a preset's values in."""

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from urllib.parse import urlsplit

from pillarbox.directory.domino_names import Names as Names
from pillarbox.directory.settings import UpstreamSettings


class Preset(Enum):
    """Whose habits the server has: what it says of an account, and which names count."""

    OPENLDAP = auto()
    ACTIVE_DIRECTORY = auto()
    DOMINO = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class LdapGroup:
    """What membership in the group ``dn`` means. ``disabled``: nobody of it signs in. ``domains``: whole domains
    that its members may use, ``may_redirect``: others' From under an own Resent-From."""

    dn: str
    disabled: bool = False
    domains: frozenset[str] = frozenset()
    may_redirect: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LdapSettings(UpstreamSettings):
    """An LDAP directory.

    Attributes:
        servers: URIs (ldap, ldaps, ldapi), in order of preference.
        starttls: secure ldap:// connections by StartTLS (RFC 4511 4.14) before anything is asked.
        ca: what a server's certificate must come from; None: what libldap trusts.
        certificate, key: of our own, for servers that want one; without bind_dn it is also who we are (EXTERNAL).
        bind_dn, password_file: the account that searches; None: anonymous.
        base: where people are.
        filter: finds a person; ``{login}`` stands for the login, ``{account}`` for what comes behind a backslash.
        bind_as: bind by this name instead of searching; ``{login}`` likewise.
        login_attribute: its first value is the Identity's login.
        address_attributes: their values are the person's addresses.
        group_filter: finds a group with the person in it; ``{dn}`` and ``{login}`` are the person's.
    """

    preset: Preset
    servers: tuple[str, ...]
    base: str
    filter: str
    login_attribute: str
    address_attributes: tuple[str, ...]
    group_filter: str
    starttls: bool = True
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    bind_dn: str | None = None
    password_file: Path | None = None
    bind_as: str | None = None
    names_allowed: Names = Names.FEWER
    groups: tuple[LdapGroup, ...] = ()
    members_of: str | None = None

    @property
    def counted_at(self) -> str:
        """Two directories at one server are two ways to the same people."""
        hosts = sorted({urlsplit(uri).hostname or uri for uri in self.servers})
        return f"LDAP of {' '.join(hosts)} within {self.wrong_window:g} s"
