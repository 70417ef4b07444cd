"""TLS between libldap and the server: libldap speaks clear LDAP to one end of a socket pair, a thread carries it.

    near = open_tunnel(Target("ldap.example.org", 636), context, starttls=False, seconds=5.0)
    connection = ldap.initialize(uri, fileno=near.detach())

libldap's own TLS waits for ever for a server that does not finish the handshake, whatever time limit it was given,
and burns a core meanwhile where it was built with GnuTLS, as Debian's is (ADR 0013). Here Python's ssl makes the
handshake, with a time limit, checks the certificate as elsewhere in this house, and says what was wrong with it.

The tunnel ends when either side closes; then libldap sees its server gone.

STANDARDS
    RFC 4511 4.14 (StartTLS), RFC 4513 3.1.3 (the certificate is the host's).

ERRORS
    ServerFailed: cannot connect, no TLS, a certificate that does not fit.
"""

import contextlib
import select
import socket
import ssl
import threading
import time
from dataclasses import dataclass

from pillarbox.directory.servers import ServerFailed

OCTETS = 65_536
ANSWER_CEILING = 4_096
START_TLS = b"1.3.6.1.4.1.1466.20037"
# LDAPMessage: messageID 1, ExtendedRequest with requestName
_REQUEST = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16" + START_TLS


@dataclass(frozen=True, slots=True)
class Target:
    """Where a server listens."""

    host: str
    port: int


def open_tunnel(target: Target, context: ssl.SSLContext, *, starttls: bool, seconds: float) -> socket.socket:
    """The near end, for libldap. Each of connecting, StartTLS and the handshake takes at most ``seconds``. Raises
    ServerFailed."""
    try:
        plain = socket.create_connection((target.host, target.port), timeout=seconds)
    except OSError as error:
        raise ServerFailed(f"cannot connect: {error}") from error
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if starttls:
            _start_tls(plain, seconds)
        far = context.wrap_socket(plain, server_hostname=target.host)
    except OSError as error:  # ssl.SSLError is one
        plain.close()
        raise ServerFailed(f"no TLS: {_why(error)}") from error
    except BaseException:
        plain.close()
        raise
    near, inner = socket.socketpair()
    threading.Thread(target=_carry, args=(far, inner, seconds), name="ldap-tunnel", daemon=True).start()
    return near


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "it does not answer"
    return str(error) or type(error).__name__


def _start_tls(plain: socket.socket, seconds: float) -> None:
    """Asks for TLS. What comes after the answer would be from outside of it: then there is none. Raises OSError,
    ServerFailed."""
    plain.sendall(_REQUEST)
    until, answer = time.monotonic() + seconds, b""
    while len(answer) < 2 or len(answer) < 2 + answer[1]:
        plain.settimeout(max(0.001, until - time.monotonic()))
        octets = plain.recv(ANSWER_CEILING)
        answer += octets
        if not octets or len(answer) > ANSWER_CEILING or answer[:1] != b"\x30" or (answer[1:2] or b"\0") > b"\x7f":
            raise ServerFailed("StartTLS: no answer that could be understood")
    plain.settimeout(seconds)
    # messageID 1, ExtendedResponse (any length below 128), resultCode success
    if len(answer) > 2 + answer[1] or not (answer[2:6] == b"\x02\x01\x01\x78" and answer[7:10] == b"\x0a\x01\x00"):
        raise ServerFailed("StartTLS is refused")


def _carry(far: ssl.SSLSocket, near: socket.socket, seconds: float) -> None:
    """Until either side closes. ``far`` never blocks: a record of TLS may hold nothing for libldap."""
    with contextlib.suppress(OSError), far, near:
        far.setblocking(False)
        waiting = select.poll()
        waiting.register(far, select.POLLIN)
        waiting.register(near, select.POLLIN)
        far_number = far.fileno()
        while True:
            ready = {number for number, _ in waiting.poll()}
            if far_number in ready and not _to_near(far, near):
                return
            if ready != {far_number} and not _to_far(near, far, seconds):
                return


def _to_near(far: ssl.SSLSocket, near: socket.socket) -> bool:
    """All that has come; False at the end."""
    while True:
        try:
            octets = far.recv(OCTETS)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return True
        if not octets:
            return False
        near.sendall(octets)


def _to_far(near: socket.socket, far: ssl.SSLSocket, seconds: float) -> bool:
    """What libldap said; False at the end, or when the server takes nothing for ``seconds``."""
    octets = memoryview(near.recv(OCTETS))
    if not octets:
        return False
    while octets:
        try:
            octets = octets[far.send(octets) :]
        except ssl.SSLWantWriteError:
            if not _ready(far, select.POLLOUT, seconds):
                return False
        except ssl.SSLWantReadError:
            if not _ready(far, select.POLLIN, seconds):
                return False
    return True


def _ready(far: ssl.SSLSocket, event: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(far, event)
    return bool(poll.poll(int(seconds * 1000)))
