"""What delivery needs to know; made by config."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class TlsMode(Enum):
    """How the connection to a smarthost is encrypted."""

    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """How we sign in at a smarthost. The secret (password, or token for XOAUTH2 and OAUTHBEARER) comes from a file or
    a command's standard output; ``lifetime`` seconds a command's output is kept (a JSON object with access_token and
    expires_in says its own)."""

    mechanism: str  # one of sasl.CLIENT_MECHANISMS
    user: str
    secret_file: Path | None = None
    secret_command: tuple[str, ...] = ()
    lifetime: float = 3000.0


@dataclass(frozen=True, slots=True)
class SmarthostRoute:
    """``domains``: recipient domains, lower case, "*" for the rest; ``.example.org`` includes subdomains. ``sites``:
    the names of those whose mail it is for, none: of every site."""

    domains: tuple[str, ...]
    host: str
    port: int
    tls: TlsMode = TlsMode.STARTTLS
    ca: Path | None = None
    tls_name: str | None = None
    fingerprint: str | None = None  # sha256 of the certificate, hex
    client_certificate: Path | None = None
    client_key: Path | None = None
    source_address: str | None = None
    auth: AuthSettings | None = None
    assume_8bitmime: bool = False
    concurrency: int = 20
    sites: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MaildirRoute:
    """Writes messages into a maildir, for trying things out."""

    domains: tuple[str, ...]
    path: Path
    sites: tuple[str, ...] = ()


Route = SmarthostRoute | MaildirRoute


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """``retry``: seconds to wait after the 1st, 2nd, ... failure, the last one repeated; ``max_age`` seconds after
    which a recipient fails with 4.4.7; ``delay_warning`` seconds, 0: none. ``host`` is our EHLO name and the
    reporting MTA; bounces come from ``postmaster`` in the From field."""

    host: str
    routes: tuple[Route, ...]
    retry: tuple[float, ...] = (60, 180, 300, 600, 1200, 2400, 3600, 7200, 14400)
    max_age: float = 432_000.0
    delay_warning: float = 14_400.0
    concurrency: int = 100
    postmaster: str = ""
    connect_timeout: float = 30.0
    idle_connection: float = 10.0
    messages_per_connection: int = 1000
