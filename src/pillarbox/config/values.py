"""Sizes, times and addresses as people write them: "50MiB", "4h", "[::]:587".

STANDARDS
    IEC 80000-13 (KiB, MiB, GiB), RFC 5952 and RFC 3986 3.2.2 (an IPv6 address with a port is in brackets).

ERRORS
    ValueError whose text says what was expected; the one who calls adds what was found and where.
"""

import ipaddress
import re

from pillarbox.directory.preparation import LOGIN_CEILING, login_key
from pillarbox.smtp.syntax import parse_mailbox
from pillarbox.submission.settings import Address, Network

_SIZE = re.compile(r"([0-9]{1,15})[ ]?(B|KiB|MiB|GiB|TiB)?")
_FACTORS = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_TIME = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)[ ]?(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_ENDPOINT = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\[\]:]+)):([0-9]{1,5})")
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
)

TRANSFER_PORT = 25
WHY_NOT_25 = (
    "port 25 is for mail transfer between servers and is refused here: a submission server takes mail only from "
    "people who sign in, on 587 (submission) or 465 (submissions), and is never a transfer server"
)


def parse_size(text: object) -> int:
    """Octets. "50MiB", "64 KiB", "1000B", or a whole number of octets."""
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return text
    found = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError('expected a size such as "50MiB" (B, KiB, MiB, GiB, TiB)')
    return int(found.group(1)) * _FACTORS[found.group(2)]


def parse_path(text: str) -> str:
    """The path of a file or folder, as written."""
    if "\0" in text:
        raise ValueError("expected a path without U+0000")
    return text


def parse_time(text: object) -> float:
    """Seconds. "500ms", "30s", "5m", "4h", "5d", or 0. A bare number has no unit and is refused."""
    if text == 0 and not isinstance(text, bool):
        return 0.0
    found = _TIME.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError('expected a time with its unit such as "30s", "5m", "4h" or "5d"')
    return float(found.group(1)) * _SECONDS[found.group(2)]


def parse_address(text: object) -> Address:
    """An IP address to listen on, with its port: "0.0.0.0:587", "[::]:587"."""
    found = _ENDPOINT.fullmatch(text) if isinstance(text, str) else None
    host, port = (found.group(1) or found.group(2), int(found.group(3))) if found else ("", 0)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError('expected an IP address with a port such as "0.0.0.0:587" or "[::]:587"') from None
    if (address.version == 6) != (found is not None and found.group(1) is not None):
        raise ValueError('expected brackets around an IPv6 address and none around IPv4, such as "[::]:587"')
    _check_port(port)
    return Address(str(address), port)


def parse_listener(text: object) -> Address:
    """As parse_address, and never port 25 (R2)."""
    address = parse_address(text)
    if address.port == TRANSFER_PORT:
        raise ValueError(WHY_NOT_25)
    return address


def parse_loopback(text: object) -> Address:
    """As parse_address, on this machine only."""
    address = parse_address(text)
    if not is_loopback(address.host):
        raise ValueError('expected a loopback address such as "127.0.0.1:9587": metrics are for this machine only')
    return address


def parse_endpoint(text: str, default_port: int) -> tuple[str, int]:
    """A next hop as typed on a command line: "mx.example.org", "mx.example.org:587", "[::1]:25", "192.0.2.1"."""
    try:
        return str(ipaddress.ip_address(text.strip("[]"))), default_port
    except ValueError:
        pass
    found = _ENDPOINT.fullmatch(text)
    host, port = (found.group(1) or found.group(2), int(found.group(3))) if found else (text, default_port)
    _check_port(port)
    return parse_next_hop(host), port


def parse_next_hop(text: object) -> str:
    """A host name, or an IP address without brackets."""
    if isinstance(text, str):
        try:
            return str(ipaddress.ip_address(text))
        except ValueError:
            if _HOST_NAME.fullmatch(text.lower()) and not text.replace(".", "").isdigit():
                return text.lower()
        found = _ENDPOINT.fullmatch(text)
        if found is not None:
            raise ValueError(f"expected the name or address alone; the port goes in port = {found.group(3)}")
    raise ValueError('expected a host name or an IP address such as "mx.example.org" or "192.0.2.25"')


def parse_host_name(text: object) -> str:
    """A DNS name, lower case; an internationalised one in its A-label form (xn--)."""
    if isinstance(text, str) and _HOST_NAME.fullmatch(text.lower()):
        return text.lower()
    raise ValueError('expected a host name such as "mail.example.org"')


def parse_ip(text: object) -> str:
    """An IP address without a port."""
    try:
        return str(ipaddress.ip_address(text)) if isinstance(text, str) else _refuse_ip()
    except ValueError:
        return _refuse_ip()


def parse_network(text: object) -> Network:
    """An IP address, or a network by its prefix length: "10.0.0.5", "192.0.2.0/28", "2001:db8::/64"."""
    try:
        return ipaddress.ip_network(text) if isinstance(text, str) else _refuse_network()
    except ValueError:
        return _refuse_network()


def parse_login(text: object) -> str:
    """The key of a login, by which logins are compared."""
    try:
        key = login_key(text) if isinstance(text, str) else ""
    except ValueError as error:
        raise ValueError(f"expected the login of an account; this one {error}") from None
    if key == "*":
        raise ValueError("expected the login of an account; there is no wildcard: name each")
    if not 0 < len(key) <= LOGIN_CEILING:
        raise ValueError('expected the login of an account such as "printer-2nd-floor"')
    return key


def parse_mailbox_or_domain(text: object) -> str:
    """A mail address, or "@" and a domain for all of its addresses; ASCII in lower case, otherwise as written."""
    if isinstance(text, str) and text.startswith("*@"):
        raise ValueError(f'expected "{text[1:]}" for all of a domain')
    try:
        mailbox = parse_mailbox(f"any{text}" if text.startswith("@") else text) if isinstance(text, str) else None
    except ValueError:
        mailbox = None
    if not isinstance(text, str) or mailbox is None or not mailbox.domain:
        raise ValueError('expected a mail address such as "scan@example.org", or "@example.org" for all of a domain')
    found = f"@{mailbox.domain}" if text.startswith("@") else str(mailbox)
    return found.encode().lower().decode()  # as octets: only ASCII has a case here


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine by its very form; a name other than localhost is not resolved."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refuse_ip() -> str:
    raise ValueError('expected an IP address such as "192.0.2.1"')


def _refuse_network() -> Network:
    raise ValueError('expected an IP address or network such as "10.0.0.5" or "192.0.2.0/28" (no bits set after it)')


def format_network(network: Network) -> str:
    """As people write it: a single address without its prefix length."""
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def _check_port(port: int) -> None:
    if not 1 <= port <= 65535:
        raise ValueError("expected a port from 1 to 65535")


def format_size(octets: int) -> str:
    """The shortest exact way to write a size."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if octets and octets % _FACTORS[unit] == 0:
            return f"{octets // _FACTORS[unit]}{unit}"
    return f"{octets}B"


def format_time(seconds: float) -> str:
    """The shortest exact way to write a time."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.0f}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def upper(value: object) -> object:
    """Text in capitals; anything else as it is."""
    return value.upper() if isinstance(value, str) else value


_NEVER = {
    "CRAM-MD5": "it wants every password in clear on the server, and whoever overhears it can guess at leisure",
    "DIGEST-MD5": "it is historic (RFC 6331)",
    "SCRAM-SHA-256-PLUS": "Python cannot bind to the channel safely (docs/adr/0008-channel-binding.md)",
}


def parse_mechanism(value: object) -> object:
    """A mechanism's name in capitals, unless it is one that is never offered."""
    name = upper(value)
    if isinstance(name, str) and name in _NEVER:
        raise ValueError(f"expected another mechanism, for {name} is never offered: {_NEVER[name]}")
    return name


def parse_route_domain(value: object) -> str:
    """ "example.org", ".example.org" (with its subdomains) or "*", in lower case."""
    if value == "*":
        return "*"
    if isinstance(value, str):
        try:
            host = parse_host_name(value.removeprefix("."))
        except ValueError:
            pass
        else:
            return f".{host}" if value.startswith(".") else host
    raise ValueError(
        'expected a domain such as "example.org", ".example.org" (with its subdomains) or "*" (the rest)'
    )


_CELL_NAME = re.compile(r"[a-z0-9]{1,8}")


def parse_cell_name(text: object) -> str:
    """A short tag."""
    if isinstance(text, str) and _CELL_NAME.fullmatch(text):
        return text
    raise ValueError('expected a short name such as "a" or "fra1": at most 8 letters a-z and digits')
