"""Prefixes: what an address counts as. IPv4 counts alone (/32), IPv6 by network (/64).

A home or a phone gets a whole /64 and changes within it at will, so single IPv6 addresses would let anyone start
afresh. IPv4 that comes in an IPv6 coat (mapped, RFC 4291 2.5.5.2; translated, RFC 6052 2.1) is IPv4: else one
translator's /64 would be the whole IPv4 internet.

STANDARDS
    RFC 4291 (IPv6 addresses), RFC 6052 (64:ff9b::/96).

ERRORS
    None: what is no address counts as its own text, cut to 64 characters.
"""

import ipaddress
from functools import lru_cache

_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")


@lru_cache(maxsize=4096)
def prefix(address: str) -> str:
    """The prefix of an address as text: "192.0.2.1/32" or "2001:db8::/64". A prefix is its own prefix.

    ``address`` is IPv4 or IPv6 without brackets; a zone ("%eth0") is dropped.
    """
    text = address.partition("%")[0]
    bare, slash, length = text.partition("/")
    if slash and length in ("32", "64"):
        text = bare
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = _inner(parsed)
        if inner is None:
            return f"{ipaddress.IPv6Address(int(parsed) >> 64 << 64)}/64"
        parsed = inner
    return f"{parsed}/32"


def _inner(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address inside a mapped or translated IPv6 address."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return None
