"""prefix.py: what an address counts as."""

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.guard.prefix import prefix


@pytest.mark.parametrize(
    ("address", "counts_as"),
    [
        ("192.0.2.1", "192.0.2.1/32"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("::FFFF:c000:0201", "192.0.2.1/32"),
        ("64:ff9b::192.0.2.1", "192.0.2.1/32"),
        ("fe80::1%eth0", "fe80::/64"),
        ("192.0.2.1/32", "192.0.2.1/32"),
        ("2001:db8::/64", "2001:db8::/64"),
        ("", ""),
        ("192.0.2.1/24", "192.0.2.1/24"),
        ("x" * 1000, "x" * 64),
    ],
)
def test_prefix(address: str, counts_as: str) -> None:
    assert prefix(address) == counts_as


@settings(derandomize=True, deadline=None)
@given(st.ip_addresses())
def test_a_prefix_is_its_own_prefix_and_holds_its_address(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    found = prefix(str(address))
    assert prefix(found) == found
    network = ipaddress.ip_network(found)
    if network.version == address.version:
        assert address in network


@settings(derandomize=True, deadline=None)
@given(st.ip_addresses(v=4))
def test_mapped_addresses_count_as_their_ipv4(address: ipaddress.IPv4Address) -> None:
    assert prefix(f"::ffff:{address}") == prefix(str(address))
