"""The name server of the tests, asked by a real resolver."""

import socket

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.resolver
import pytest
from tests.support.nameserver import NameServer


def resolver_of(server: NameServer, lifetime: float = 5.0) -> dns.resolver.Resolver:
    """A resolver that asks only ``server``."""
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [server.host]
    resolver.port = server.port
    resolver.lifetime = lifetime
    return resolver


def test_answers_by_type_and_counts_the_questions(nameserver: NameServer) -> None:
    nameserver.add("Example.org", "MX", "10 mail.example.org.", "20 other.example.org.")
    nameserver.add("example.org", "TXT", '"v=spf1 -all"')
    nameserver.add("1.0.0.127.in-addr.arpa", "PTR", "mail.example.org.")
    resolver = resolver_of(nameserver)
    answer = resolver.resolve("EXAMPLE.org", "MX")
    assert sorted(record.to_text().lower() for record in answer) == ["10 mail.example.org.", "20 other.example.org."]
    assert resolver.resolve_address("127.0.0.1")[0].to_text() == "mail.example.org."
    assert nameserver.asked("example.org", "MX") == 1
    assert nameserver.asked("example.org", "TXT") == 0


def test_a_name_without_that_type_is_not_a_name_that_does_not_exist(nameserver: NameServer) -> None:
    nameserver.add("a.example.org", "A", "192.0.2.1")
    resolver = resolver_of(nameserver)
    with pytest.raises(dns.resolver.NoAnswer):
        resolver.resolve("a.example.org", "AAAA")
    with pytest.raises(dns.resolver.NoAnswer):
        resolver.resolve("example.org", "A")
    with pytest.raises(dns.resolver.NXDOMAIN):
        resolver.resolve("b.example.org", "A")


def test_aliases_are_followed_and_a_loop_of_them_ends(nameserver: NameServer) -> None:
    nameserver.add("www.example.org", "CNAME", "host.example.org.")
    nameserver.add("host.example.org", "A", "192.0.2.1")
    nameserver.add("round.example.org", "CNAME", "round.example.org.")
    resolver = resolver_of(nameserver)
    assert resolver.resolve("www.example.org", "A")[0].to_text() == "192.0.2.1"
    with pytest.raises(dns.exception.DNSException):
        resolver.resolve("round.example.org", "A")


def test_what_is_too_long_for_a_datagram_comes_over_tcp(nameserver: NameServer) -> None:
    nameserver.add("long.example.org", "TXT", *(f'"{number:03}{"x" * 200}"' for number in range(20)))
    query = dns.message.make_query("long.example.org", "TXT")
    short = dns.query.udp(query, nameserver.host, port=nameserver.port, timeout=5)
    assert short.flags & dns.flags.TC and not short.answer
    assert len(dns.query.tcp(query, nameserver.host, port=nameserver.port, timeout=5).answer[0]) == 20


def test_misbehaves_on_demand(nameserver: NameServer) -> None:
    nameserver.add("example.org", "A", "192.0.2.1")
    nameserver.failing.add("example.org")
    with pytest.raises(dns.resolver.NoNameservers):
        resolver_of(nameserver).resolve("example.org", "A")
    nameserver.failing.clear()
    nameserver.silent.add("example.org")
    with pytest.raises(dns.resolver.LifetimeTimeout):
        resolver_of(nameserver, lifetime=0.2).resolve("example.org", "A")
    nameserver.silent.clear()
    nameserver.authenticated = True
    answer = resolver_of(nameserver).resolve("example.org", "A")
    assert answer.response.flags & dns.flags.AD
    nameserver.remove("example.org", "A")
    with pytest.raises(dns.resolver.NXDOMAIN):
        resolver_of(nameserver).resolve("example.org", "A")


def test_garbage_does_not_end_it(nameserver: NameServer) -> None:
    nameserver.add("example.org", "A", "192.0.2.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(b"\x00", (nameserver.host, nameserver.port))
        udp.sendto(b"GET / HTTP/1.0\r\n\r\n", (nameserver.host, nameserver.port))
    with socket.create_connection((nameserver.host, nameserver.port)) as tcp:
        tcp.sendall(b"\xff")
    assert resolver_of(nameserver).resolve("example.org", "A")[0].to_text() == "192.0.2.1"
