"""Listening sockets: bound once by the supervisor, kept for ever, inherited by the submission workers.

One SO_REUSEPORT socket per worker and address: the kernel then spreads connections evenly, and the backlog of a
worker that died waits for its successor, so that a restart refuses nobody. With systemd's socket activation there
is one socket per address, which the workers share.

    sockets = bind(addresses, workers)           # one {Address: socket} per worker
    environment[VARIABLE] = describe(sockets[0]) # "5=127.0.0.1:587,6=[::1]:587", with pass_fds=(5, 6)
    inherit(os.environ)                          # in the worker: {Address: socket}

ERRORS
    OSError, its text naming the address: in use, not ours, not permitted.
"""

import re
import socket
from collections.abc import Collection, Iterable, Mapping

from pillarbox.submission.settings import Address

VARIABLE = "PILLARBOX_SOCKETS"

Sockets = dict[Address, socket.socket]

BACKLOG = 1024

_ENTRY = re.compile(r"(\d+)=(?:\[([^\]]+)\]|([^:]+)):(\d+)")


def bind(addresses: Iterable[Address], workers: int) -> list[Sockets]:
    """One listening socket per worker and address. On an error those already bound are closed again."""
    bound: list[Sockets] = [{} for _ in range(workers)]
    try:
        for address in addresses:
            for sockets in bound:
                sockets[address] = _bind(address, shared=workers > 1)
    except OSError:
        close(bound)
        raise
    return bound


def _bind(address: Address, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((address.host, address.port))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise OSError(error.errno or 0, f"cannot listen on {address}: {error.strerror or error}") from error
    return listening


def adopt(descriptors: Iterable[int], addresses: Collection[Address]) -> Sockets:
    """Sockets of socket activation, by the configured address that each is bound to.

    Raises:
        OSError: a configured address has no socket, or a socket none of the addresses.
    """
    adopted: Sockets = {}
    taken = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    try:
        # a wildcard gets what is left: which socket a legacy site has must not hang on the order of systemd's
        for listening in sorted(taken, key=lambda one: Address(*one.getsockname()[:2]) not in addresses):
            listening.setblocking(False)
            adopted[_address_of(listening, [a for a in addresses if a not in adopted])] = listening
        missing = [str(address) for address in addresses if address not in adopted]
        if missing:
            raise OSError(f"systemd passed no socket for {', '.join(missing)}")
    except OSError:
        for listening in taken:
            listening.close()
        raise
    return adopted


def _address_of(listening: socket.socket, wanted: list[Address]) -> Address:
    """The configured address that fits best: the same, else one on the same port (a wildcard)."""
    host, port = listening.getsockname()[:2]
    for address in sorted(wanted, key=lambda address: address.host != host):
        if address.port == port:
            return address
    raise OSError(f"systemd passed a socket on {Address(host, port)}, which no site has")


def describe(sockets: Mapping[Address, socket.socket]) -> str:
    """The value of VARIABLE."""
    return ",".join(f"{listening.fileno()}={address}" for address, listening in sockets.items())


def inherit(environment: Mapping[str, str]) -> Sockets:
    """The sockets that the supervisor passed; empty when there is none. Raises ValueError on a malformed value."""
    inherited: Sockets = {}
    for entry in filter(None, environment.get(VARIABLE, "").split(",")):
        match = _ENTRY.fullmatch(entry)
        if match is None:
            raise ValueError(f"{VARIABLE}: {entry!r}")
        descriptor, host6, host4, port = match.groups()
        listening = socket.socket(fileno=int(descriptor))
        listening.set_inheritable(False)
        listening.setblocking(False)
        inherited[Address(host6 or host4, int(port))] = listening
    return inherited


def close(bound: Iterable[Sockets]) -> None:
    """Closes them all."""
    for sockets in bound:
        for listening in sockets.values():
            listening.close()
