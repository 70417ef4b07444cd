"""One channel: requests with replies, and notes without, in both directions over a UNIX stream socket.

    server = await serve(path_or_socket, lambda peer: handlers, mode=0o660)
    channel = await connect(path, handlers)
    value = await channel.request("verb", body)      # body and value: anything frames.py can carry
    channel.note("verb", body)

Handlers are a dict verb -> function(channel, body): a plain value, or an awaitable of one, is the reply. Which
handlers a channel has is decided by the socket it came in by: an ability that is not in the dict does not exist
there. Writes of one loop turn leave as one write; a reader that falls behind pauses the writer's requests.

A frame: 4 octets length, then msgpack of [kind, number, verb, body]. Frames over ``MAX_FRAME`` close the channel.

ERRORS
    RemoteError(kind, message): the handler raised an exception listed in ``frames.ERRORS`` or any other (kind
    "internal"). ChannelClosed: the channel ended before the reply; whether the request was carried out is unknown.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol

Handler = Callable[["Channel", Any], Any | Awaitable[Any]]
Handlers = Mapping[str, Handler]

MAX_FRAME = 8 * 1024 * 1024


class ChannelClosed(Exception):
    """The channel ended; the outcome of requests in flight is unknown."""


class RemoteError(Exception):
    """The other side answered with an error."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Peer(NamedTuple):
    """Who is at the other end (SO_PEERCRED)."""

    pid: int
    uid: int
    gid: int


class Channel(Protocol):
    """One end of a channel; both ends are alike. The implementation is UnixChannel in this module."""

    peer: Peer

    async def request(self, verb: str, body: Any = None) -> Any:
        """Asks and waits for the reply. Raises RemoteError, ChannelClosed."""
        ...

    def note(self, verb: str, body: Any = None) -> None:
        """Says something that has no reply; silently nothing when the channel is closed."""
        ...

    async def drain(self) -> None:
        """Waits until the other side has taken what was written (back-pressure for bulk)."""
        ...

    def close(self) -> None: ...

    def on_close(self, call: Callable[[], None]) -> None:
        """Calls once when the channel has ended."""
        ...
