"""The PROXY protocol's header: what is taken, what is refused, and that no octet more is eaten."""

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.net.proxy import V1_CEILING, V2_CEILING, Header, ProxyError, parse

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v2(command: int = 0x21, family: int = 0x11, block: bytes = b"", length: int | None = None) -> bytes:
    size = len(block) if length is None else length
    return SIGNATURE + bytes((command, family)) + size.to_bytes(2, "big") + block


IPV4 = bytes((192, 0, 2, 1, 10, 0, 0, 5)) + (40_000).to_bytes(2, "big") + (465).to_bytes(2, "big")
IPV6 = ipaddress.IPv6Address("2001:db8::7").packed + ipaddress.IPv6Address("::1").packed + b"\x9c\x40\x01\xd1"

TAKEN = [
    (b"PROXY TCP4 192.0.2.1 10.0.0.5 40000 465\r\n", ("192.0.2.1", 40_000)),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", ("255.255.255.255", 65_535)),
    (b"PROXY TCP6 2001:db8::7 ::1 40000 465\r\n", ("2001:db8::7", 40_000)),
    (
        b"PROXY TCP6 " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n",
        (":".join(["ffff"] * 8), 65535),
    ),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", ("::ffff:c000:201", 1)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
    (v2(block=IPV4), ("192.0.2.1", 40_000)),
    (v2(block=IPV4 + b"\x02\x00\x03abc" + b"\x04\x00\x00"), ("192.0.2.1", 40_000)),
    (v2(family=0x21, block=IPV6), ("2001:db8::7", 40_000)),
    (v2(command=0x20, family=0x00), None),
    (v2(command=0x20, family=0x11, block=IPV4), None),
    (v2(command=0x20, family=0xFF, block=b"\x01"), None),  # LOCAL: whatever else it holds is ignored
    (v2(family=0x00, block=b"anything"), None),
    (v2(family=0x31, block=bytes(216)), None),
    (v2(block=IPV4 + b"\x04" + (V2_CEILING - 31).to_bytes(2, "big") + bytes(V2_CEILING - 31)), ("192.0.2.1", 40_000)),
]


@pytest.mark.parametrize(("header", "source"), TAKEN)
def test_a_header_names_the_client_and_ends_where_it_ends(header: bytes, source: tuple[str, int] | None) -> None:
    for rest in (b"", b"\r\n", b"EHLO client.example\r\n", header):
        found = parse(header + rest)
        assert found is not None
        assert found.length == len(header)
        if source is None:
            assert found.source is None
        else:
            assert found.source is not None
            assert ipaddress.ip_address(found.source[0]) == ipaddress.ip_address(source[0])
            assert found.source[1] == source[1]


@pytest.mark.parametrize(("header", "source"), TAKEN)
def test_part_of_a_header_is_asked_for_more(header: bytes, source: tuple[str, int] | None) -> None:
    assert all(parse(header[:length]) is None for length in range(len(header)))


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO client.example\r\n",
        b"\x16\x03\x01",
        b"P\n",
        b"proxy TCP4 192.0.2.1 10.0.0.5 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"PROXY TCP4 192.0.2.1 10.0.0.5 1\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.5 1 2 \r\n",
        b"PROXY TCP4  192.0.2.1 10.0.0.5 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.5 1 65536\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.5 70000 2\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.5 01 2\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.5 +1 2\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.5 1 2\n\r\n",
        b"PROXY TCP4 192.0.2.01 10.0.0.5 1 2\r\n",
        b"PROXY TCP4 192.0.2 10.0.0.5 1 2\r\n",
        b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 10.0.0.5 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        b"PROXY UDP4 192.0.2.1 10.0.0.5 1 2\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY UNKNOWN a\nb\r\n",
        b"PROXY UNKNOWN " + b"x" * V1_CEILING,
        b"PROXY UNKNOWN " + b"x" * (V1_CEILING - 15) + b"\r\n",
        b"PROXY TCP4 \xd9\xa1.0.0.1 10.0.0.5 1 2\r\n",
        v2(command=0x11, block=IPV4),
        v2(command=0x22, block=IPV4),
        v2(family=0x41, block=IPV4),
        v2(family=0x13, block=IPV4),
        v2(family=0x12, block=IPV4),
        v2(family=0x10, block=IPV4),
        v2(family=0x11, block=IPV4[:-1]),
        v2(family=0x21, block=IPV4),
        v2(family=0x31, block=bytes(215)),
        v2(block=IPV4, length=V2_CEILING - 15),
        v2(block=IPV4, length=65_535),
        v2(block=IPV4 + b"\x04"),
        v2(block=IPV4 + b"\x04\x00"),
        v2(block=IPV4 + b"\x04\x00\x02a"),
    ],
)
def test_what_is_no_header_is_refused(octets: bytes) -> None:
    with pytest.raises(ProxyError):
        parse(octets)


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda rest: b"PROXY " + rest)))
def test_any_octets_are_a_header_or_half_of_one_or_refused(octets: bytes) -> None:
    try:
        found = parse(octets)
    except ProxyError:
        return
    if found is None:
        assert len(octets) < V1_CEILING or octets.startswith(SIGNATURE)
    else:
        assert re.match(rb"PROXY |\r\n\r\n", octets)
        assert found.length <= len(octets)


@given(source=st.ip_addresses(), port=st.integers(0, 65_535), tlvs=st.lists(st.binary(max_size=40)), rest=st.binary())
def test_what_a_proxy_writes_is_read_back(
    source: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, tlvs: list[bytes], rest: bytes
) -> None:
    """Whole, in any part, and whatever comes after."""
    ports = port.to_bytes(2, "big") + b"\0\x19"
    block = source.packed * 2 + ports + b"".join(b"\x04" + len(tlv).to_bytes(2, "big") + tlv for tlv in tlvs)
    text = f"PROXY TCP{source.version} {source} {source} {port} 25\r\n".encode()
    for header in (v2(family=0x11 if source.version == 4 else 0x21, block=block), text):
        assert parse(header + rest) == Header(len(header), (str(source), port))


@given(octets=st.binary(max_size=120), cut=st.integers(0, 120))
def test_more_octets_never_change_a_verdict(octets: bytes, cut: int) -> None:
    """Whoever reads in pieces decides as whoever reads at once."""
    stream = v2(block=IPV4)[:14] + octets

    def verdict(part: bytes) -> object:
        try:
            return parse(part)
        except ProxyError as error:
            return str(error)

    early = verdict(stream[:cut])
    assert early is None or early == verdict(stream)
