"""A small, real name server (RFC 1035) on loopback, over UDP and TCP: it answers, counts, misbehaves on demand.

It runs in a thread of its own, so that tests with and without an event loop, and other people's programs, can ask it.
"""

import contextlib
import selectors
import socket
import threading
from collections import Counter
from types import TracebackType
from typing import Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

Key = tuple[dns.name.Name, dns.rdatatype.RdataType]

_NEGATIVE_SOA = "ns.invalid. postmaster.ns.invalid. 1 3600 600 86400 1"


class NameServer:
    """``with NameServer() as server: server.add("example.org", "MX", "10 mail.example.org.")``.

    ``queries`` counts questions by (name without the last dot, lower case; type). ``silent`` names, or all with
    ``silence_all``, get no answer; ``failing`` ones SERVFAIL. ``delay`` seconds pass before each answer.
    ``authenticated`` sets AD in each answer, as a validating resolver would.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.port = port
        self.queries: Counter[tuple[str, str]] = Counter()
        self.silent: set[str] = set()
        self.failing: set[str] = set()
        self.silence_all = False
        self.authenticated = False
        self.delay = 0.0
        self.ttl = 60
        self._records: dict[Key, list[dns.rdata.Rdata]] = {}
        self._lock = threading.Lock()
        self._udp: socket.socket | None = None
        self._tcp: socket.socket | None = None
        self._stop_reader: socket.socket | None = None
        self._stop_writer: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def add(self, name: str, rdtype: str, *values: str) -> None:
        """Add records: ``add("7.2.0.192.list.example", "A", "127.0.0.2")``; names in values end with a dot."""
        kind = dns.rdatatype.from_text(rdtype)
        data = [dns.rdata.from_text(dns.rdataclass.IN, kind, value) for value in values]
        with self._lock:
            self._records.setdefault((_absolute(name), kind), []).extend(data)

    def remove(self, name: str, rdtype: str) -> None:
        """Forget all records of that name and type; ``KeyError`` if there are none."""
        with self._lock:
            del self._records[_absolute(name), dns.rdatatype.from_text(rdtype)]

    def asked(self, name: str, rdtype: str) -> int:
        """How often that question came."""
        with self._lock:
            return self.queries[name.rstrip(".").lower(), rdtype]

    def start(self) -> None:
        """Bind both sockets to one port and answer."""
        self._udp, self._tcp = _bind(self.host, self.port)
        self.port = self._udp.getsockname()[1]
        self._stop_reader, self._stop_writer = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="nameserver", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering; the port is free when this returns."""
        self._closing.set()
        if self._stop_writer is not None:
            self._stop_writer.send(b"x")
        if self._thread is not None:
            self._thread.join(10)
        for sock in (self._udp, self._tcp, self._stop_reader, self._stop_writer):
            if sock is not None:
                sock.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self) -> None:
        assert self._udp is not None and self._tcp is not None and self._stop_reader is not None
        with selectors.DefaultSelector() as selector:
            for sock in (self._udp, self._tcp, self._stop_reader):
                selector.register(sock, selectors.EVENT_READ)
            while not self._closing.is_set():
                ready = {key.fileobj for key, _ in selector.select()}
                if self._udp in ready:
                    self._serve_datagram(self._udp)
                if self._tcp in ready:
                    self._serve_connection(self._tcp)

    def _serve_datagram(self, udp: socket.socket) -> None:
        query, peer = udp.recvfrom(65535)
        answer = self._answer(query, datagram=True)
        if answer is not None and not self._closing.wait(self.delay):
            # a peer that has gone is its own affair
            with contextlib.suppress(OSError):
                udp.sendto(answer, peer)

    def _serve_connection(self, tcp: socket.socket) -> None:
        connection, _ = tcp.accept()
        with connection, contextlib.suppress(OSError):
            connection.settimeout(2)
            while (size := connection.recv(2, socket.MSG_WAITALL)) and len(size) == 2:
                query = connection.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
                answer = self._answer(query, datagram=False)
                if answer is None or self._closing.wait(self.delay):
                    return
                connection.sendall(len(answer).to_bytes(2, "big") + answer)

    def _answer(self, query_octets: bytes, *, datagram: bool) -> bytes | None:
        try:
            query = dns.message.from_wire(query_octets)
        except dns.exception.DNSException:
            return None
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        with self._lock:
            self.queries[name, dns.rdatatype.to_text(question.rdtype)] += 1
            if self.silence_all or name in self.silent:
                return None
            response = self._response(query, question, name)
        room = max(512, query.payload) if datagram else 65535
        try:
            return response.to_wire(max_size=room)
        except dns.exception.TooBig:
            short = dns.message.make_response(query, recursion_available=True)
            short.flags |= dns.flags.TC
            return short.to_wire()

    def _response(self, query: dns.message.Message, question: dns.rrset.RRset, name: str) -> dns.message.Message:
        response = dns.message.make_response(query, recursion_available=True)
        if self.authenticated:
            response.flags |= dns.flags.AD
        if name in self.failing:
            response.set_rcode(dns.rcode.SERVFAIL)
            return response
        target = question.name.canonicalize()
        for _ in range(8):  # a chain of aliases, or a loop of them
            found = self._records.get((target, question.rdtype))
            alias = self._records.get((target, dns.rdatatype.CNAME))
            if found:
                response.answer.append(dns.rrset.from_rdata_list(target, self.ttl, found))
                return response
            if not alias:
                break
            response.answer.append(dns.rrset.from_rdata_list(target, self.ttl, alias))
            target = dns.name.from_text(alias[0].to_text()).canonicalize()
        if not any(known.is_subdomain(target) for known, _ in self._records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        response.authority.append(dns.rrset.from_text(dns.name.root, 1, "IN", "SOA", _NEGATIVE_SOA))
        return response


def _absolute(name: str) -> dns.name.Name:
    return dns.name.from_text(name).canonicalize()


def _bind(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on the same port; with port 0, on one that is free for both."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for attempt in range(20):
        udp = socket.socket(family, socket.SOCK_DGRAM)
        tcp = socket.socket(family, socket.SOCK_STREAM)
        try:
            udp.bind((host, port))
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind(udp.getsockname())
            tcp.listen()
        except OSError:
            udp.close()
            tcp.close()
            if port or attempt == 19:
                raise
            continue
        return udp, tcp
    raise AssertionError("unreachable: the last attempt returns or raises")
