"""What a site and its listeners need to know; made by config, never read from a file here."""

import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path


class ClientCertificates(Enum):
    """Whether a listener asks clients for a certificate, and whether one without may go on."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


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


Network = IPv4Network | IPv6Network


def in_networks(address: str, networks: Iterable[Network]) -> bool:
    """Whether an address is in one of the networks; IPv4 inside IPv6 (RFC 4291 2.5.5.2) is IPv4, a zone is dropped.
    What is no address is in none."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)


@dataclass(frozen=True, slots=True)
class Mailboxes:
    """Addresses, and domains that stand for all of theirs; lower case."""

    addresses: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class LegacySettings:
    """What makes a site one for old devices.

    ``networks``: where they are, judged by the address behind a load balancer. ``logins``: whose credentials are good
    here, and nowhere else (``directory.preparation.login_key`` of each). ``senders``: what they may send as beside
    their own addresses. ``recipients``: whom they may write to; None: anybody. ``plaintext``: they may sign in
    without TLS.
    """

    networks: tuple[Network, ...]
    logins: frozenset[str]
    senders: Mailboxes = Mailboxes()
    recipients: Mailboxes | None = None
    plaintext: bool = False


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """One site. Sizes in octets, times in seconds.

    ``max_text_line`` is the longest line of content accepted, with CRLF (RFC 5321 says 1000; web programs send more).
    ``submission_mechanisms`` and ``submissions_mechanisms`` stand for ``mechanisms`` on these listeners (None: not).
    ``certificate_signs_in``: a client whose certificate an account names is signed in without AUTH.
    ``certificate_login``: which name in a certificate is its holder's login (certificate.py); "": none, marks alone.
    ``proxy_from``: peers that must begin with a PROXY header; sites that share an address agree.
    ``disabled_extensions`` are EHLO keywords that are not offered; ``max_hold`` is how long a sender may have a
    message held (FUTURERELEASE). ``legacy``: it is for devices; ``foreign_logins``: keys of the logins that are good
    at legacy sites only, so not here. ``data_timeout`` is between two pieces of content, ``data_total_timeout`` for
    all. ``acme``: ``certificate`` and ``key`` are one file that an authority fills: there may be none yet.
    ``domains``: who has no address in one of them is nobody here, and their addresses elsewhere are not used here;
    empty: any.
    """

    name: str
    submission: tuple[Address, ...]
    submissions: tuple[Address, ...]
    certificate: Path
    key: Path
    tls: TlsSettings = field(default_factory=TlsSettings)
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
    submission_mechanisms: tuple[str, ...] | None = None
    submissions_mechanisms: tuple[str, ...] | None = None
    certificate_signs_in: bool = False
    certificate_login: str = ""
    directories: tuple[str, ...] = ("local",)
    app_passwords: str = "allowed"  # or "off", "required"
    max_message_size: int = 52_428_800
    max_recipients: int = 100
    recipients_per_hour: int = 500
    max_text_line: int = 65_536
    hide_client_address: bool = False
    failed_sign_in_time: float = 1.0
    max_sessions: int = 20_000
    max_sessions_per_address: int = 200
    max_unauthenticated_sessions: int = 2_000
    max_unauthenticated_sessions_per_address: int = 50
    max_handshakes: int = 500
    max_handshakes_per_address: int = 20
    max_delayed_sessions: int = 500
    max_delayed_sessions_per_address: int = 10
    idle_timeout: float = 300.0
    unauthenticated_timeout: float = 60.0
    handshake_timeout: float = 15.0
    data_timeout: float = 180.0
    proxy_from: tuple[Network, ...] = ()
    data_total_timeout: float = 3600.0
    disabled_extensions: tuple[str, ...] = ()
    max_hold: float = 2_592_000.0
    legacy: LegacySettings | None = None
    acme: bool = False
    domains: frozenset[str] = frozenset()
    foreign_logins: frozenset[str] = frozenset()

    def mechanisms_of(self, *, implicit_tls: bool) -> tuple[str, ...]:
        """Those of a listener: submissions with implicit TLS, else submission."""
        own = self.submissions_mechanisms if implicit_tls else self.submission_mechanisms
        return self.mechanisms if own is None else own
