"""Connections to one LDAP server, for threads: the only importer of python-ldap in this room.

    server = Server("ldaps://ldap.example.org", settings, context, seconds=5.0)
    with server.searching() as link:                    # bound as the service account
        link.search(base, Scope.SUBTREE, "(uid=anna)", ("mail",), limit=2)
    with server.binding() as link:                      # for people's passwords, never for a search of our own
        link.bind(dn, password)

Connections are kept and used again, each by one thread at a time, those of the service account apart from those that
people's passwords go through. One that the server has closed meanwhile is noticed before a password goes into it.
Each step has its time limit, so no thread waits for ever; TLS is tunnel.py's. Referrals are not followed.

STANDARDS
    RFC 4511 4.2 (bind), 4.5 (search); RFC 4513 5.1.2 (a bind without a password is no proof: refused here).

ERRORS
    ServerFailed: the server cannot say; ``reached`` only when a person's password went to it. NotJudged: it answers,
    and minds this question.
"""

import contextlib
import re
import select
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Any
from urllib.parse import urlsplit

import ldap

from pillarbox.directory.ldap.answers import SUCCESS, Bound
from pillarbox.directory.ldap.entry import Entry
from pillarbox.directory.ldap.settings import LdapSettings
from pillarbox.directory.ldap.tunnel import Target, open_tunnel
from pillarbox.directory.servers import NotJudged, ServerFailed

IDLE_TIME = 60.0
"""Seconds after which an unused connection is closed rather than used: firewalls forget it silently."""
TEXT_CEILING = 200
_UNAVAILABLE = (51, 52)
"""Busy, unavailable: the server's own word that it cannot say."""
_ABOUT_THE_QUESTION = (-3, -7, -9)
"""libldap's own for what it cannot encode, a filter, a parameter: the server is well."""


class Scope(IntEnum):
    """Where a search looks."""

    BASE = ldap.SCOPE_BASE
    SUBTREE = ldap.SCOPE_SUBTREE


class TooMany(Exception):
    """More entries than asked for."""


class NoSuchEntry(Exception):
    """What a search was to start at is not there; ``args[0]`` is its name."""


class Link:
    """One connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.used_at = time.monotonic()
        self.broken = False

    def search(
        self, base: str, scope: Scope, filter_: str, attributes: Sequence[str], *, limit: int = 0
    ) -> list[Entry]:
        """What is found; references to other servers are left out. Raises TooMany beyond ``limit`` (0: none),
        NoSuchEntry, ServerFailed."""
        try:
            found = self._connection.search_ext_s(
                base, int(scope), filter_, list(attributes) or None, sizelimit=limit
            )
        except ldap.SIZELIMIT_EXCEEDED as error:
            raise TooMany from error
        except ldap.NO_SUCH_OBJECT as error:
            raise NoSuchEntry(base) from error
        except ldap.LDAPError as error:
            self.broken = True
            failure = ServerFailed if _server_failed(_code(error)) else NotJudged
            raise failure(f"search: {cause_of(error)}") from error
        entries = [Entry(dn, attributes) for dn, attributes in found if dn is not None]
        if limit and len(entries) > limit:
            raise TooMany
        return entries

    def bind(self, name: str, password: str) -> Bound:
        """The answer to a person's password. Raises ServerFailed with ``reached``."""
        if not name or not password:
            raise ServerFailed("a bind without a name or a password proves nothing")
        try:
            self._connection.simple_bind_s(name, password)
        except ldap.LDAPError as error:
            code = _code(error)
            if _server_failed(code):
                self.broken = True
                raise ServerFailed(f"bind: {cause_of(error)}", reached=True) from error
            return Bound(code, _printable(_details(error).get("info")))
        return Bound(SUCCESS)

    def alive(self) -> bool:
        """Whether nothing has come from the server unasked: its close, or its notice of it."""
        if self.broken or time.monotonic() - self.used_at > IDLE_TIME:
            return False
        try:
            poll = select.poll()
            poll.register(self._connection.fileno(), select.POLLIN)
            return not poll.poll(0)
        except (ldap.LDAPError, OSError, ValueError):
            return False

    def close(self) -> None:
        """Ends it, whatever its state."""
        with contextlib.suppress(ldap.LDAPError):
            self._connection.unbind_ext_s()


class Server:
    """See the module's text. ``seconds``: the most that each step may take. Safe for several threads."""

    def __init__(self, uri: str, settings: LdapSettings, context: ssl.SSLContext, seconds: float) -> None:
        self._uri = uri
        self._parts = urlsplit(uri)
        self._context = context
        self._settings = settings
        self._seconds = seconds
        self._lock = threading.Lock()
        self._searching: deque[Link] = deque()
        self._binding: deque[Link] = deque()
        self._closed = False

    def __str__(self) -> str:
        return self._uri

    def searching(self) -> contextlib.AbstractContextManager[Link]:
        """A connection of the service account. Raises ServerFailed."""
        return self._taken(self._searching, introduce=self._introduce)

    def binding(self) -> contextlib.AbstractContextManager[Link]:
        """A connection that the server has answered on, for a person's password. Raises ServerFailed."""
        return self._taken(self._binding, introduce=self._say_nothing)

    def close(self) -> None:
        """Ends the connections that nobody uses; those in use end after it."""
        with self._lock:
            self._closed = True
            links = [*self._searching, *self._binding]
            self._searching.clear()
            self._binding.clear()
        for link in links:
            link.close()

    @contextlib.contextmanager
    def _taken(self, idle: deque[Link], introduce: Any) -> Iterator[Link]:
        link = self._kept(idle)
        if link is None:
            link = self._open(introduce)
        try:
            yield link
        except BaseException as error:
            link.broken = link.broken or not isinstance(error, TooMany | NoSuchEntry)
            raise
        finally:
            link.used_at = time.monotonic()
            with self._lock:
                keep = not link.broken and not self._closed
                if keep:
                    idle.append(link)
            if not keep:
                link.close()

    def _kept(self, idle: deque[Link]) -> Link | None:
        while True:
            with self._lock:
                if not idle:
                    return None
                link = idle.pop()
            if link.alive():
                return link
            link.close()

    def _open(self, introduce: Any) -> Link:
        connection = self._connect()
        try:
            connection.timeout = self._seconds
            connection.set_option(ldap.OPT_NETWORK_TIMEOUT, self._seconds)
            connection.set_option(ldap.OPT_TIMEOUT, self._seconds)
            connection.set_option(ldap.OPT_REFERRALS, 0)
            introduce(connection)
        except BaseException as error:
            with contextlib.suppress(ldap.LDAPError):
                connection.unbind_ext_s()
            if isinstance(error, ldap.LDAPError):
                raise ServerFailed(cause_of(error)) from error
            raise
        return Link(connection)

    def _connect(self) -> Any:
        """In clear text libldap connects by itself, at the first question."""
        secured = self._settings.starttls or self._parts.scheme == "ldaps"
        if self._parts.scheme == "ldapi" or not secured:
            return ldap.initialize(self._uri)
        ldaps = self._parts.scheme == "ldaps"
        target = Target(self._parts.hostname or "localhost", self._parts.port or (636 if ldaps else 389))
        near = open_tunnel(target, self._context, starttls=not ldaps, seconds=self._seconds)
        return ldap.initialize("ldap://tunnel", fileno=near.detach())

    def _introduce(self, connection: Any) -> None:
        """As the service account; its password is read each time, so that a new one needs no reload."""
        settings = self._settings
        if settings.bind_dn is not None and settings.password_file is not None:
            try:
                password = settings.password_file.read_text().rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise ServerFailed(f"password_file cannot be read: {error}") from error
            if not password:
                raise ServerFailed("password_file is empty")
            try:
                connection.simple_bind_s(settings.bind_dn, password)
            except (ldap.INVALID_CREDENTIALS, ldap.INAPPROPRIATE_AUTH, ldap.INVALID_DN_SYNTAX) as error:
                raise ServerFailed(f"the service account {settings.bind_dn} is refused: {cause_of(error)}") from error
        elif settings.certificate is not None:
            connection.sasl_bind_s("", "EXTERNAL", "")

    def _say_nothing(self, connection: Any) -> None:
        """An anonymous bind: only whether there is an answer counts, so that a password never meets a dead server."""
        try:
            connection.simple_bind_s("", "")
        except ldap.LDAPError as error:
            if _server_failed(_code(error)):
                raise


def _details(error: ldap.LDAPError) -> dict[str, Any]:
    return error.args[0] if error.args and isinstance(error.args[0], dict) else {}


def _code(error: ldap.LDAPError) -> int:
    """As RFC 4511 numbers it; negative: the library's own."""
    found = _details(error).get("result", getattr(error, "errnum", -1))
    return found if isinstance(found, int) else -1


def _server_failed(code: int) -> bool:
    """Whether the server is away, or says that it cannot; not: it minds what was asked."""
    return code in _UNAVAILABLE or (code < 0 and code not in _ABOUT_THE_QUESTION)


def cause_of(error: ldap.LDAPError) -> str:
    """In words, for the log."""
    details = _details(error)
    text = "; ".join(_printable(details[key]) for key in ("desc", "info") if details.get(key))
    return text or type(error).__name__


def _printable(text: object) -> str:
    return re.sub(r"[^\x20-\x7e]+", " ", str(text or ""))[:TEXT_CEILING]
