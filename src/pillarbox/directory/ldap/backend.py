"""An LDAP directory: search the person, then bind as that entry; or bind by a template (then it can only say no).

    backend = LdapBackend(settings)
    person = await backend.find("anna@example.org")
    await backend.check(person, "secret")              -> Identity | Denied

More than one entry for a login is nobody. Groups are read one by one: which of those that the settings name has the
person in it. One that is not there stops everybody where it decides who may sign in; elsewhere it has no members.

STANDARDS
    RFC 4513 5.1.2: an empty password never comes here, and the client refuses it once more.

ERRORS
    Unavailable as Servers has it. Unusable: a file cannot be read, the service account has no password.

MUST NOT IMPORT the LDAP library: client.py does.
"""

import ssl
import time
from collections.abc import Callable
from typing import TypeVar

from pillarbox.directory.base import Denied, Identity, Reason, Unusable
from pillarbox.directory.blocking import Threads
from pillarbox.directory.domino_names import hierarchical_name
from pillarbox.directory.ldap import domino
from pillarbox.directory.ldap.answers import Bound, reason_of
from pillarbox.directory.ldap.client import Link, NoSuchEntry, Scope, Server, TooMany
from pillarbox.directory.ldap.entry import STATUS_ATTRIBUTES, Entry, denied
from pillarbox.directory.ldap.settings import LdapSettings, Preset
from pillarbox.directory.ldap.texts import fill_filter, fill_name
from pillarbox.directory.preparation import login_key
from pillarbox.directory.servers import NotJudged, ServerFailed, Servers
from pillarbox.directory.upstream import Narrate, Person, silent
from pillarbox.directory.wire import client_context

Answer = TypeVar("Answer")

PART = 0.8
"""Of a server's share of the time, for each step: so that a connection which is not made is known as that, and no
password is believed to have gone into it."""


class _Member:
    """A server with threads of its own, so that one that hangs takes none of the others'."""

    def __init__(self, uri: str, settings: LdapSettings, context: ssl.SSLContext) -> None:
        self.server = Server(uri, settings, context, PART * settings.timeout / len(settings.servers))
        self._threads = Threads(settings.name, settings.connections)

    def __str__(self) -> str:
        return str(self.server)

    async def run(self, work: Callable[[Server], Answer]) -> Answer:
        return await self._threads.run(work, self.server)

    def close(self) -> None:
        self._threads.close()
        self.server.close()


class LdapBackend:
    """See the module's text; satisfies upstream.Backend."""

    def __init__(self, settings: LdapSettings, narrate: Narrate = silent) -> None:
        self._settings = settings
        self._narrate = narrate
        _check_files(settings)
        context = _context(settings)
        self._members = [_Member(uri, settings, context) for uri in settings.servers]
        self._servers = Servers(self._members, settings.timeout, directory=settings.name)
        self._attributes = _attributes(settings)

    @property
    def opaque(self) -> bool:
        """With a template."""
        return self._settings.bind_as is not None

    @property
    def _by_dn(self) -> bool:
        """Whether the template names the entry itself."""
        return "=" in (self._settings.bind_as or "")

    async def find(self, login: str) -> Person | None:
        if self.opaque:
            if "\\" in login and not self._by_dn:  # of whichever domain: the search would leave that out
                self._narrate("the login has a backslash, which such a bind_as does not allow: nobody here")
                return None
            return Person(self._opaque_key(login), Identity(login, frozenset()))
        return await self._servers.ask(lambda member: member.run(lambda server: self._find(server, login)))

    def _opaque_key(self, login: str) -> str:
        """One key for the spellings that a server takes for one name (RFC 4518 2.6.1: spaces), so that none of them
        makes room for more wrong tries. With Active Directory: its forms, DOMAIN\\anna and anna@domain, too; two
        people of that name in two domains share their tries."""
        key = " ".join(login_key(login).split())
        if self._settings.preset is Preset.ACTIVE_DIRECTORY:
            key = key.rpartition("\\")[2].partition("@")[0]
        return key

    async def check(self, person: Person, password: str) -> Identity | Denied:
        if not password:
            return Denied(Reason.WRONG, person.identity.login)
        work = self._check_directly if self.opaque else self._check
        return await self._servers.ask(
            lambda member: member.run(lambda server: work(server, person, password)), again=False
        )

    def close(self) -> None:
        for member in self._members:
            member.close()

    # -- in a thread

    def _find(self, server: Server, login: str) -> Person | None:
        with server.searching() as link:
            entry = self._search(server, link, login)
            return None if entry is None else self._person(server, link, entry)

    def _search(self, server: Server, link: Link, login: str) -> Entry | None:
        """The one entry that the login means."""
        settings = self._settings
        by_domino = settings.preset is Preset.DOMINO and not settings.filter
        if by_domino:
            filter_, limit = domino.search_filter(login, settings.names_allowed), domino.CANDIDATES
        else:
            account = login.rpartition("\\")[2]
            filter_, limit = fill_filter(settings.filter, login=login, account=account), 1
        try:
            found = link.search(settings.base, Scope.SUBTREE, filter_, self._attributes, limit=limit)
        except TooMany:
            self._narrate(
                f"{server}: search below {settings.base} for {filter_}: more than {limit}, so it is nobody's"
            )
            return None
        except NoSuchEntry as error:
            raise ServerFailed(f"there is no {error.args[0]} to search below, or it may not be read") from error
        self._narrate(f"{server}: search below {settings.base} for {filter_}: {len(found)} found")
        if by_domino:
            found = [entry for entry in found if domino.matches(login, entry, settings.names_allowed)]
            self._narrate(f'{len(found)} of them may sign in as "{login}"')
        return found[0] if len(found) == 1 else None

    def _person(self, server: Server, link: Link, entry: Entry) -> Person:
        settings = self._settings
        identity = self._identity(entry)
        self._narrate(f"{entry.dn} is {identity.login} with {', '.join(sorted(identity.addresses)) or 'no address'}")
        why = denied(entry, settings.preset, time.time())
        if why is not None:
            self._narrate(f"the entry says {why.name}")
        if settings.members_of is not None:
            inside = self._is_member(server, link, settings.members_of, entry, identity, must_be_there=True)
            why = why or (None if inside else Reason.DISABLED)
        domains, may_redirect = identity.domains, identity.may_redirect
        for group in settings.groups:
            if not self._is_member(server, link, group.dn, entry, identity, must_be_there=group.disabled):
                continue
            why = why or (Reason.DISABLED if group.disabled else None)
            domains, may_redirect = domains | group.domains, may_redirect or group.may_redirect
        identity = Identity(identity.login, identity.addresses, domains, may_redirect)
        return Person(entry.dn.casefold(), identity, why, entry.dn)

    def _is_member(
        self, server: Server, link: Link, group: str, entry: Entry, identity: Identity, *, must_be_there: bool
    ) -> bool:
        filter_ = fill_filter(self._settings.group_filter, dn=entry.dn, login=identity.login)
        try:
            found = link.search(group, Scope.BASE, filter_, ("1.1",))
        except NoSuchEntry as error:
            if must_be_there:
                raise ServerFailed(f"there is no group {group}, or it may not be read") from error
            found = []
        self._narrate(f"{server}: {'in' if found else 'not in'} the group {group}")
        return bool(found)

    def _identity(self, entry: Entry) -> Identity:
        settings = self._settings
        login = entry.first(settings.login_attribute) if settings.login_attribute else None
        if login is None and settings.preset is Preset.DOMINO:
            login = hierarchical_name(entry.dn)
        return Identity(login or entry.dn, entry.addresses(settings.address_attributes))

    def _check(self, server: Server, person: Person, password: str) -> Identity | Denied:
        with server.binding() as link:
            reason = self._bind(server, link, str(person.handle), password)
        return person.identity if reason is None else Denied(reason, person.identity.login)

    def _bind(self, server: Server, link: Link, name: str, password: str) -> Reason | None:
        bound = link.bind(name, password)
        self._narrate(f"{server}: bind as {name}: {_said(bound)}")
        return reason_of(bound)

    def _check_directly(self, server: Server, person: Person, password: str) -> Identity | Denied:
        """By the template; what the entry says is read with the person's own rights. A server lets people in by more
        names than the search knows, and by one of them as somebody else than the search finds (another domain's
        account, an explicit principal name): so the password must be right for the entry that is found, too."""
        login = person.identity.login
        name = fill_name(self._settings.bind_as or "", login)
        with server.binding() as link:
            reason = self._bind(server, link, name, password)
            if reason is not None:
                return Denied(Reason.OPAQUE, login, {"cause": reason.name.lower()})
            try:
                return self._check_own_entry(server, link, name, login, password)
            except ServerFailed as error:  # of a search, which does not know that the password has been there
                error.reached = True
                raise

    def _check_own_entry(self, server: Server, link: Link, name: str, login: str, password: str) -> Identity | Denied:
        entry = self._own_entry(server, link, name, login)
        if entry is None:
            raise NotJudged(f"{name} may not read its own entry, so its addresses are not known")
        reason = None if self._by_dn else self._bind(server, link, entry.dn, password)
        if reason is not None:
            return Denied(Reason.OPAQUE, login, {"cause": reason.name.lower()})
        found = self._person(server, link, entry)
        if found.denied is not None:
            return Denied(Reason.OPAQUE, login, {"cause": found.denied.name.lower()})
        return found.identity

    def _own_entry(self, server: Server, link: Link, name: str, login: str) -> Entry | None:
        if not self._by_dn:
            return self._search(server, link, login)
        try:
            found = link.search(name, Scope.BASE, "(objectClass=*)", self._attributes)
        except NoSuchEntry:
            found = []
        self._narrate(f"{server}: its own entry: {len(found)} found")
        return found[0] if found else None


def _said(bound: Bound) -> str:
    return "right" if bound.code == 0 else f"{bound.code} {bound.text}".strip()


def _attributes(settings: LdapSettings) -> tuple[str, ...]:
    wanted = [*settings.address_attributes, *STATUS_ATTRIBUTES[settings.preset]]
    if settings.login_attribute:
        wanted.append(settings.login_attribute)
    if settings.preset is Preset.DOMINO:
        wanted += domino.ATTRIBUTES
    return tuple(dict.fromkeys(wanted))


def _context(settings: LdapSettings) -> ssl.SSLContext:
    """How servers' certificates are checked, and our own shown. Raises Unusable."""
    try:
        context = client_context(settings.ca)
        if settings.certificate is not None:
            context.load_cert_chain(settings.certificate, settings.key)
    except (Unusable, ssl.SSLError) as error:
        why = error if isinstance(error, Unusable) else f"certificate and key: {error}"
        raise Unusable(f'directory "{settings.name}": {why}') from error
    return context


def _check_files(settings: LdapSettings) -> None:
    """Raises Unusable."""
    where = f'directory "{settings.name}"'
    for key in ("ca", "certificate", "key", "password_file"):
        path = getattr(settings, key)
        if path is None:
            continue
        try:
            with path.open("rb") as file:
                octets = file.read(1 << 20)
        except OSError as error:
            raise Unusable(f"{where}: {key} cannot be read: {error}") from error
        if not octets.strip():
            raise Unusable(f"{where}: {key} {path} is empty")
