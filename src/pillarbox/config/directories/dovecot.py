"""[[directory]] with kind = "dovecot": Dovecot's authentication service is asked.

ERRORS
    None raised: broken rules are values.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pillarbox.config.directories.table import Domains, OpaqueTable, Servers, upstream
from pillarbox.config.fields import Field
from pillarbox.config.values import is_loopback, parse_endpoint
from pillarbox.directory.dovecot.settings import DovecotSettings
from pillarbox.directory.wire import Place


class DovecotTable(OpaqueTable):
    """Dovecot's authentication service is asked over its own protocol."""

    kind: Literal["dovecot"] = Field("dovecot", description="dovecot: Dovecot's authentication service is asked.")
    servers: Servers = Field(
        description='Its authentication sockets, the preferred one first: a path such as "/run/dovecot/auth-client", '
        "or a loopback address with a port.",
    )
    domains: Domains = Field(
        description="Domains of these people's addresses. Whom Dovecot knows as anna or anna@example.org has "
        'anna@example.org; who is of another domain is nobody\'s. ["*"]: any, as Dovecot says.',
    )

    def lacks_for_scram(self) -> str:
        """Nothing: it is offered while Dovecot does."""
        return ""

    def lacks_for_tokens(self) -> str:
        """Nothing: they are taken while Dovecot does."""
        return ""


def build(table: DovecotTable, base: Path) -> DovecotSettings:
    """Its settings."""
    return DovecotSettings(
        **upstream(table),
        servers=tuple(_place(server, base) for server in table.servers),
        domains=tuple(table.domains),
    )


def _place(server: str, base: Path) -> Place:
    if "/" in server:
        return Place(path=str(base / server))
    host, port = parse_endpoint(server, 0)
    return Place(host, port)


def check(table: DovecotTable) -> Iterator[tuple[str, str]]:
    """(key, what is broken)."""
    for server in table.servers:
        try:
            place = _place(server, Path())
        except ValueError:
            place = Place()
        if not place.path and not place.port:
            yield (
                "servers",
                f'found "{server}"; expected a path such as "/run/dovecot/auth-client", or a port beside it',
            )
        elif not place.path and not is_loopback(place.host):
            yield (
                "servers",
                f'found "{server}"; expected a path or a loopback address: passwords are sent in the clear',
            )
