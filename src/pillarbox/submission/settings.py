"""What a site and its listeners need to know; made by config, never read from a file here."""

import ssl
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path


class ClientCertificates(Enum):
    """Client-certificate mode of a listener; EXTERNAL joins with its own issue."""

    NONE = "none"
    OPTIONAL = "optional"


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """What belongs to a listener, since SNI can only switch the certificate; sites that share an address agree."""

    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    ciphers: str | None = None
    client_certificates: ClientCertificates = ClientCertificates.NONE
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: an IPv4 or IPv6 address without brackets, and a port that is never 25 (R2)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """One site. Sizes in octets, times in seconds.

    ``max_text_line`` is the longest line of content accepted, with CRLF (RFC 5321 says 1000; web programs send more).
    """

    name: str
    submission: tuple[Address, ...]
    submissions: tuple[Address, ...]
    certificate: Path
    key: Path
    tls: TlsSettings = field(default_factory=TlsSettings)
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
    directory: str = "local"
    max_message_size: int = 52_428_800
    max_recipients: int = 100
    recipients_per_hour: int = 500
    max_text_line: int = 65_536
    hide_client_address: bool = False
    failed_sign_in_time: float = 1.0
    max_sessions: int = 20_000
    max_sessions_per_address: int = 200
    max_delayed_sessions: int = 500
    max_delayed_sessions_per_address: int = 10
    idle_timeout: float = 300.0
    unauthenticated_timeout: float = 60.0
    data_timeout: float = 180.0
