"""The PROXY protocol's header, version 1 (text) and 2 (binary): who is behind the load balancer. Pure.

    header = parse(octets)      # None: more is needed, and all of ``octets`` belongs to the header
    octets[header.length:]      # what the client said

What counts is the client's address and port. The address it connected to, and the TLVs of version 2 (what the proxy
knows of TLS, names, checksums), are skipped: inside TLS we believe nobody else. A command LOCAL, an UNKNOWN or
unspecified protocol and a UNIX socket name no client: ``source`` is None, and the proxy speaks for itself.

STANDARDS
    The PROXY protocol, versions 1 and 2 (HAProxy, proxy-protocol.txt), sections 2.1 and 2.2.

ERRORS
    ProxyError: no such header, a malformed one, or a longer one than we read. Close.

MUST NOT IMPORT asyncio, socket, anything of ours.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

V1_CEILING: Final = 107
"""Octets of the longest header of version 1, with its CRLF (section 2.1)."""
V2_CEILING: Final = 4096
"""Octets of the longest header of version 2 that is read, TLVs and all."""

_V1_SIGNATURE: Final = b"PROXY "
_V2_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED: Final = 16
_PORT: Final = rb"(0|[1-9][0-9]{0,4})"
_V1: Final = re.compile(
    rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f:.]{2,39}) ([0-9A-Fa-f:.]{2,39}) " + _PORT + rb" " + _PORT + rb"\r\n"
)
_V1_UNKNOWN: Final = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")

_LOCAL, _PROXY = 0x20, 0x21
"""Version 2 and the command, as one octet."""
_UNSPEC, _INET, _INET6, _UNIX = 0, 1, 2, 3
_ADDRESS_OCTETS: Final = {_UNSPEC: 0, _INET: 12, _INET6: 36, _UNIX: 216}
_STREAM: Final = 1


class ProxyError(Exception):
    """Not a header that we take; ``str()`` says why, in our words."""


@dataclass(frozen=True, slots=True)
class Header:
    """A whole header. ``length``: its octets; ``source``: the client's (address, port), None: nobody is named."""

    length: int
    source: tuple[str, int] | None


def parse(octets: bytes) -> Header | None:
    """The header at the beginning of ``octets``; None as long as it is not whole. Raises ProxyError."""
    for signature, read in ((_V2_SIGNATURE, _version_2), (_V1_SIGNATURE, _version_1)):
        if octets[: len(signature)] == signature[: len(octets)]:
            return read(octets) if len(octets) >= len(signature) else None
    raise ProxyError("no PROXY header")


def _version_1(octets: bytes) -> Header | None:
    end = octets.find(b"\r\n", 0, V1_CEILING)
    if end < 0:
        if len(octets) >= V1_CEILING:
            raise ProxyError("a PROXY header of version 1 without an end")
        return None
    line = octets[: end + 2]
    if _V1_UNKNOWN.fullmatch(line):
        return Header(len(line), None)
    found = _V1.fullmatch(line)
    if found is None:
        raise ProxyError("a malformed PROXY header of version 1")
    version = 4 if found[1] == b"TCP4" else 6
    source = _address(found[2], version)
    _address(found[3], version)
    port, _ = _port(found[4]), _port(found[5])
    return Header(len(line), (source, port))


def _address(text: bytes, version: int) -> str:
    try:
        address = ipaddress.ip_address(text.decode("ascii"))
    except ValueError:
        raise ProxyError("a PROXY header with something else where an address belongs") from None
    if address.version != version:
        raise ProxyError("a PROXY header with an address of the other family")
    return str(address)


def _port(text: bytes) -> int:
    port = int(text)
    if port > 65_535:
        raise ProxyError("a PROXY header with a port beyond 65535")
    return port


def _version_2(octets: bytes) -> Header | None:
    if len(octets) < _V2_FIXED:
        return None
    command, family, transport = octets[12], octets[13] >> 4, octets[13] & 0x0F
    length = _V2_FIXED + int.from_bytes(octets[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        raise ProxyError("a PROXY header of another version or with an unknown command")
    if length > V2_CEILING:
        raise ProxyError("a PROXY header that is too long")
    if command == _PROXY:
        _check_family(family, transport, length)
    if len(octets) < length:
        return None
    if command == _LOCAL or family in (_UNSPEC, _UNIX):
        return Header(length, None)  # section 2.2: whatever else it holds is ignored
    return Header(length, _source(octets[_V2_FIXED:length], family))


def _check_family(family: int, transport: int, length: int) -> None:
    """Undefined values must be refused (section 2.2); datagrams do not come over TCP."""
    if family not in _ADDRESS_OCTETS or transport > 2:
        raise ProxyError("a PROXY header with an unknown family or transport")
    if family in (_INET, _INET6) and transport != _STREAM:
        raise ProxyError("a PROXY header that speaks of datagrams")
    if length < _V2_FIXED + _ADDRESS_OCTETS[family]:
        raise ProxyError("a PROXY header too short for its addresses")


def _source(block: bytes, family: int) -> tuple[str, int]:
    size = 4 if family == _INET else 16
    _check_tlvs(block[_ADDRESS_OCTETS[family] :])
    address = str(ipaddress.ip_address(block[:size]))
    return address, int.from_bytes(block[2 * size : 2 * size + 2], "big")


def _check_tlvs(octets: bytes) -> None:
    """They are not read, but whoever cannot write them is not believed in the rest either."""
    place = 0
    while place < len(octets):
        if place + 3 > len(octets):
            raise ProxyError("a PROXY header with half a TLV")
        place += 3 + int.from_bytes(octets[place + 1 : place + 3], "big")
    if place > len(octets):
        raise ProxyError("a PROXY header with a TLV beyond its end")
