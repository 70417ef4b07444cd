"""[[directory]] with kind = "imap" or "pop3": the login is tried at the mailbox server.

ERRORS
    None raised: broken rules are values.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pillarbox.config.directories.table import Domains, OpaqueTable, Servers, upstream
from pillarbox.config.fields import Field, FilePath, HostName, Text
from pillarbox.config.values import is_loopback, parse_endpoint
from pillarbox.directory.mailbox.settings import MailboxSettings, Protocol, Tls
from pillarbox.directory.naming import mistake_in
from pillarbox.directory.wire import Place

_PORTS: dict[tuple[Protocol, bool], int] = {
    ("imap", True): 993,
    ("imap", False): 143,
    ("pop3", True): 995,
    ("pop3", False): 110,
}


class MailboxTable(OpaqueTable):
    """What both have."""

    tls: Tls = Field("tls", description='How the connection is encrypted; "none" is for loopback only.')
    ca: FilePath | None = Field(
        None, description="PEM file of the CA certificates that count. Default: those of the system."
    )
    tls_name: HostName | None = Field(None, description="The name in their certificates, when not the host.")
    login: Text = Field(
        "{login}",
        description='What the server is told as login: "{login}" as typed, "{local}" what stands before its @, '
        '"{domain}" what stands behind it (else the first of domains), such as "{local}@example.org".',
    )
    domains: Domains = Field(
        description="Domains of these people's addresses. Who signs in as anna or anna@example.org has "
        'anna@example.org; a login of another domain is nobody\'s. ["*"]: any, as typed; only where the server checks'
        " the domain of the login, too.",
    )


class ImapTable(MailboxTable):
    """The login is tried at an IMAP server."""

    kind: Literal["imap"] = Field("imap", description="imap: the login is tried at an IMAP server.")
    servers: Servers = Field(
        description='Host names or IP addresses, the preferred one first, with ":" and a port when it is not 993 '
        '(with tls = "tls") or 143.',
    )


class Pop3Table(MailboxTable):
    """The login is tried at a POP3 server."""

    kind: Literal["pop3"] = Field("pop3", description="pop3: the login is tried at a POP3 server.")
    servers: Servers = Field(
        description='Host names or IP addresses, the preferred one first, with ":" and a port when it is not 995 '
        '(with tls = "tls") or 110.',
    )


AnyMailboxTable = ImapTable | Pop3Table


def build(table: AnyMailboxTable, base: Path) -> MailboxSettings:
    """Its settings."""
    return MailboxSettings(
        **upstream(table),
        protocol=table.kind,
        servers=tuple(_place(server, table) for server in table.servers),
        tls=table.tls,
        tls_name=table.tls_name,
        ca=base / table.ca if table.ca is not None else None,
        login=table.login,
        domains=tuple(table.domains),
    )


def _place(server: str, table: AnyMailboxTable) -> Place:
    host, port = parse_endpoint(server, _PORTS[table.kind, table.tls == "tls"])
    return Place(host, port)


def check(table: AnyMailboxTable) -> Iterator[tuple[str, str]]:
    """(key, what is broken)."""
    for server in table.servers:
        try:
            place = _place(server, table)
        except ValueError as error:
            yield "servers", f'found "{server}"; {error}'
            continue
        if table.tls == "none" and not is_loopback(place.host):
            yield "tls", f'found "none" with the server "{server}"; expected "tls" or "starttls": passwords are sent'
    if table.tls == "none" and table.ca is not None:
        yield "ca", 'found with tls = "none"; expected without'
    mistake = mistake_in(table.login, table.domains)
    if mistake:
        yield "login", f'found "{table.login}"; {mistake}'
