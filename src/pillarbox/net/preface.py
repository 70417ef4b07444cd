"""What a load balancer says before the client does: the PROXY header, read off an accepted socket.

It is read before any transport is made of the socket, octet for octet, so that what follows (a greeting's answer, a
ClientHello) is whole for whoever comes next: uvloop, aiofastnet or OpenSSL. Peeking tells how much of it is the
header's, and no more is taken.

STANDARDS
    The PROXY protocol, versions 1 and 2; its syntax is in proxy.py. Section 2: only from listed peers, who must send
    it, and never guessed.

ERRORS
    None raised: a connection that is refused is closed, and ``on_refused`` hears why.

MUST NOT IMPORT sessions or policies; who is listed is asked.
"""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from pillarbox.net.proxy import V2_CEILING, ProxyError, parse

HEADER_TIME: Final = 5.0
"""Seconds for the whole header: a proxy has it ready before it connects."""
WAITING_CEILING: Final = 1_024
"""Connections of one listener whose header is awaited, at most."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a connection comes from by the word of a listed proxy. ``named``: it named a client; else it speaks for
    itself (a health check), and ``peer`` is its own address, whether it said so or nothing."""

    peer: tuple[str, int]
    proxy: str
    named: bool


@dataclass(frozen=True, slots=True)
class Proxies:
    """``listed``: whether a peer (its address) must send a header; ``on_refused``: (address, why) of one that did
    not as it must."""

    listed: Callable[[str], bool]
    on_refused: Callable[[str, str], None]
    header_time: float = HEADER_TIME


class Porter:
    """Reads the headers of one listener's connections. ``arrive`` gets each socket when its header is read, or at
    once when its peer is not listed (no origin then)."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        proxies: Proxies,
        arrive: Callable[[socket.socket, str, Origin | None], None],
    ) -> None:
        self._loop = loop
        self._proxies = proxies
        self._arrive = arrive
        self._waiting = 0

    def take(self, sock: socket.socket, peer: tuple[str, int]) -> None:
        """A connection that was just accepted, non-blocking; ours from now on."""
        if not self._proxies.listed(peer[0]):
            self._arrive(sock, peer[0], None)
        elif self._waiting >= WAITING_CEILING:
            sock.close()
            self._proxies.on_refused(peer[0], "too many connections without a PROXY header")
        else:
            self._waiting += 1
            _Reading(self, sock, peer)

    def done(self, sock: socket.socket, proxy: tuple[str, int], source: tuple[str, int] | None) -> None:
        """A header was read."""
        self._waiting -= 1
        named = source is not None and _plain(source[0]) != _plain(proxy[0])
        origin = Origin(source or proxy, proxy[0], named)
        self._arrive(sock, origin.peer[0], origin)

    def failed(self, proxy: str, reason: str) -> None:
        """A connection is closed; an empty ``reason``: it left without a word, as health checks do."""
        self._waiting -= 1
        if reason:
            self._proxies.on_refused(proxy, reason)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The listener's."""
        return self._loop

    @property
    def header_time(self) -> float:
        """Seconds for a header."""
        return self._proxies.header_time


def _plain(address: str) -> IPv4Address | IPv6Address:
    """IPv4 inside IPv6, as a listener for both hears it, is IPv4; a zone is dropped."""
    parsed = ip_address(address.partition("%")[0])
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, IPv6Address) else parsed


class _Reading:
    """One connection's header, until it is whole, wrong or late."""

    def __init__(self, porter: Porter, sock: socket.socket, proxy: tuple[str, int]) -> None:
        self._porter = porter
        self._sock = sock
        self._proxy = proxy
        self._octets = b""
        self._timer = porter.loop.call_later(porter.header_time, self._refuse, "the PROXY header took too long")
        porter.loop.add_reader(sock, self._read)

    def _read(self) -> None:
        try:
            seen = self._sock.recv(V2_CEILING, socket.MSG_PEEK)
            header = parse(self._octets + seen) if seen else None
            # All of an unfinished header is the header's; of a finished one the rest stays where it is.
            self._sock.recv(header.length - len(self._octets) if header is not None else len(seen))
        except (BlockingIOError, InterruptedError):
            return
        except (ProxyError, OSError) as error:
            self._refuse(str(error) if isinstance(error, ProxyError) else "")
            return
        if not seen:
            self._refuse("closed inside the PROXY header" if self._octets else "")
        elif header is None:
            self._octets += seen
        else:
            self._stop()
            self._porter.done(self._sock, self._proxy, header.source)

    def _refuse(self, reason: str) -> None:
        self._stop()
        self._sock.close()
        self._porter.failed(self._proxy[0], reason)

    def _stop(self) -> None:
        self._timer.cancel()
        self._porter.loop.remove_reader(self._sock)
