"""Every kind of directory with a server behind, for the contract's suite: a kind joins by a line in ``KINDS``.

Everywhere there are anna, whose password is ``RIGHT``, and bob, who is disabled.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.databases import DirectoryPostgresql, DirectorySqlite
from tests.support.dovecot import Dovecot
from tests.support.password_files import RIGHT, DirectoryPasswd
from tests.support.slapd import DirectoryLdap

from pillarbox.directory.dovecot.backend import DovecotBackend
from pillarbox.directory.dovecot.settings import DovecotSettings
from pillarbox.directory.mailbox.backend import MailboxBackend
from pillarbox.directory.mailbox.settings import MailboxSettings
from pillarbox.directory.settings import UpstreamSettings
from pillarbox.directory.tries import Tries
from pillarbox.directory.upstream import Upstream
from pillarbox.directory.wire import Place

__all__ = ["KINDS", "PEOPLE", "RIGHT", "Kind"]

ANNA, BOB = "anna@example.org", "bob@example.org"
PEOPLE = {ANNA: RIGHT, BOB: RIGHT}
"""Of Dovecot; BOB is denied."""


class DirectoryMailbox:
    """The login is tried at Dovecot's IMAP or POP3."""

    def __init__(self, protocol: str, port: int) -> None:
        self.settings = MailboxSettings(
            name="box",
            protocol="imap" if protocol == "imap" else "pop3",
            servers=(Place("127.0.0.1", port),),
            tls="none",
            domains=("example.org",),
        )

    async def open(self) -> Upstream:
        """The directory; close() it."""
        return Upstream(MailboxBackend(self.settings), self.settings, Tries())


class DirectoryDovecot:
    """Dovecot's authentication socket."""

    def __init__(self, dovecot: Dovecot) -> None:
        self.settings = DovecotSettings(
            name="auth", servers=(Place(path=str(dovecot.auth_socket)),), domains=("example.org",)
        )

    async def open(self) -> Upstream:
        """The directory; close() it."""
        return Upstream(DovecotBackend(self.settings), self.settings, Tries())


def _at_uri(settings: Any, port: int) -> Any:
    return replace(settings, servers=(f"ldap://127.0.0.1:{port}",), starttls=False, timeout=1.0)


def _at_place(settings: Any, port: int) -> Any:
    return replace(settings, servers=(Place("127.0.0.1", port),), timeout=1.0)


def _at_dsn(settings: Any, port: int) -> Any:
    return replace(settings, postgresql=f"postgresql://u@127.0.0.1:{port}/d", timeout=1.0)


@dataclass(frozen=True)
class Kind:
    """``make``: what has ``open``, and ``close`` where a server must end. ``login``: anna's, in the spelling of the
    Identity; ``opaque``: whether it can only say no; ``tells``: what it says of bob; ``at``: its settings for a
    server at another port."""

    name: str
    make: Callable[[pytest.FixtureRequest, Path], Any]
    login: str = "anna"
    bob: str = "bob"
    addresses: frozenset[str] = frozenset((ANNA, "a.smith@example.org"))
    opaque: bool = False
    tells: str = "disabled"
    at: Callable[[Any, int], UpstreamSettings] | None = None


def _dovecot(request: pytest.FixtureRequest) -> Dovecot:
    dovecot: Dovecot = request.getfixturevalue("dovecot")
    return dovecot


_OPAQUE: dict[str, Any] = {
    "login": ANNA,
    "bob": BOB,
    "addresses": frozenset((ANNA,)),
    "opaque": True,
    "tells": "opaque",
    "at": _at_place,
}

KINDS = (
    Kind("passwd", lambda _, folder: DirectoryPasswd(folder)),
    Kind("sqlite", lambda _, folder: DirectorySqlite(folder)),
    Kind("postgresql", lambda request, _: DirectoryPostgresql(request.getfixturevalue("postgres")), at=_at_dsn),
    Kind("ldap", lambda _, folder: DirectoryLdap(folder), at=_at_uri),
    Kind("imap", lambda request, _: DirectoryMailbox("imap", _dovecot(request).imap), **_OPAQUE),
    Kind("pop3", lambda request, _: DirectoryMailbox("pop3", _dovecot(request).pop3), **_OPAQUE),
    Kind("dovecot", lambda request, _: DirectoryDovecot(_dovecot(request)), **{**_OPAQUE, "tells": "disabled"}),
)
