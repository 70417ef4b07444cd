"""Lines over one connection to a server behind, plain or in TLS: for protocols that are lines of text.

    wire = await connect(Place("imap.example.org", 143))
    await wire.start_tls(context, "imap.example.org")
    wire.write(b"a1 CAPABILITY\\r\\n")
    line = await wire.read_line()            # without its end

The server is somebody else's, and may be broken or hostile: a line has a ceiling, what was not asked for is not read
without end, NUL is no text, and octets that came in the clear before TLS end the connection.

Whoever sends a password says so by ``reached``: from then on each failure says that it may have come there. Whoever
sends a login says so by ``told``.

STANDARDS
    RFC 6125 (the certificate is the host's), RFC 8446; response injection at STARTTLS, RFC 8314 4.

ERRORS
    ServerFailed: the server cannot be reached, is gone, or does not speak the protocol.
    Unusable from client_context: the file of CA certificates.
"""

import asyncio
import os
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pillarbox.directory.base import Unusable
from pillarbox.directory.servers import ServerFailed
from pillarbox.net import transport as transports

LINE_CEILING = 8_192
BUFFER_CEILING = 32_768

_STRANGE = re.compile(rb"[^ -~]+")
_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server listens: a host and its port, or the path of a UNIX socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def client_context(ca: Path | None) -> ssl.SSLContext:
    """What checks a server's certificate and its host name: by ``ca`` (PEM) alone, or by the system's CA
    certificates. TLS 1.2 or newer. Raises Unusable."""
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        why = "not PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise Unusable(f"ca {ca}: {why}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def shown(line: bytes) -> str:
    """What a server said, for the log: one short line of ASCII."""
    return _STRANGE.sub(b"?", line[:_SHOWN]).decode("ascii")


async def connect(place: Place) -> "Wire":
    """Connects in the clear; cancelled when it takes too long. Raises ServerFailed."""
    wire = Wire()
    connecting = asyncio.create_task(_connect(wire, place))
    try:
        await asyncio.shield(connecting)
    except OSError as error:
        raise ServerFailed(f"cannot connect: {why(error)}") from None
    except asyncio.CancelledError:
        # cancelled itself at the wrong moment, it would lose its socket; so it ends by the system's time limit
        connecting.add_done_callback(wire.forget)
        raise
    return wire


async def _connect(wire: "Wire", place: Place) -> None:
    if place.path:
        await asyncio.get_running_loop().create_unix_connection(lambda: wire, place.path)
    else:
        await transports.open_connection(lambda: wire, place.host, place.port, None)


def why(error: OSError) -> str:
    """The cause in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or 'handshake failed'}"
    if error.errno and error.errno > 0:
        return os.strerror(error.errno)  # the loop's own strerror says only which call failed
    return error.strerror or str(error) or type(error).__name__


class Wire(asyncio.Protocol):
    """One connection. One reader at a time. ``gone`` is set when it has come to its end."""

    def __init__(self) -> None:
        self.reached = False
        self.told = False
        self.gone = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._ended = False
        self._paused = False
        self._came: asyncio.Future[None] | None = None

    # -- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > BUFFER_CEILING and self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._ended = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self.gone.set()
        self._wake()

    def _wake(self) -> None:
        if self._came is not None and not self._came.done():
            self._came.set_result(None)

    # -- what a client calls

    @property
    def quiet(self) -> bool:
        """Whether it is open and the server has said nothing that was not read."""
        return not self._ended and not self._buffer

    def failed(self, cause: str) -> ServerFailed:
        """The error to raise, which knows whether a password may have come there."""
        return ServerFailed(cause, reached=self.reached)

    def write(self, octets: bytes) -> None:
        """Sends them. Raises ServerFailed."""
        if self._ended or self._transport is None:
            raise self.failed("closed the connection")
        self._transport.write(octets)

    async def read_line(self) -> bytes:
        """The next line without CRLF or LF. Raises ServerFailed."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched, LINE_CEILING)) < 0:
            searched = len(self._buffer)
            if searched >= LINE_CEILING:
                raise self.failed(f"sent a line of more than {LINE_CEILING} octets")
            if self._ended:
                raise self.failed("closed the connection" + (" within a reply" if self._buffer else ""))
            await self._more()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._resume()
        if b"\0" in line:
            raise self.failed("sent NUL")
        return line.removesuffix(b"\r")

    async def _more(self) -> None:
        self._came = asyncio.get_running_loop().create_future()
        try:
            await self._came
        finally:
            self._came = None

    def _resume(self) -> None:
        if self._paused and len(self._buffer) <= BUFFER_CEILING // 2 and self._transport is not None:
            self._paused = False
            if not self._ended:
                self._transport.resume_reading()

    async def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        """Shakes hands; the certificate must be ``name``'s. Cancelled when it takes too long. Raises ServerFailed."""
        if not self.quiet or self._transport is None:
            raise self.failed(
                "sent octets in the clear that belong to TLS" if self._buffer else "closed the connection"
            )
        try:
            self._transport = await transports.start_tls(
                self._transport, self, context, server_side=False, server_hostname=name, timeout=60.0
            )
        except OSError as error:
            self._ended = True
            raise self.failed(why(error)) from None
        except BaseException:
            self.abort()
            raise

    @property
    def connected(self) -> bool:
        """Whether it has been, be it gone or not."""
        return self._transport is not None

    @property
    def version(self) -> str:
        """Of TLS, for people to read; "" without."""
        tls = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        return str(tls.version()) if tls is not None else ""

    def close(self, farewell: bytes = b"") -> None:
        """Says goodbye and ends it, without waiting for the answer; at once when the server does not read."""
        if self._transport is None:
            return
        if farewell and not self._ended:
            self._transport.write(farewell)
        self._ended = True
        if self._transport.get_write_buffer_size() > BUFFER_CEILING:
            self._transport.abort()
        else:
            self._transport.close()

    def forget(self, connecting: asyncio.Task[None]) -> None:
        """Ends it when it is there: nobody waits for it any more."""
        if not connecting.cancelled():
            connecting.exception()  # nobody's business either
        self.abort()

    def abort(self) -> None:
        """Ends it at once."""
        self._ended = True
        if self._transport is not None:
            self._transport.abort()
