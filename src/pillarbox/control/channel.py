"""One channel: requests with replies, and notes without, in both directions over a UNIX stream socket.

    server = await serve(path_or_socket, lambda peer: handlers, mode=0o660, errors=(Full, Unavailable))
    channel = await connect(path, handlers)
    value = await channel.request("verb", body)      # body and value: anything frames.py can carry
    channel.note("verb", body)

Handlers are a dict verb -> function(channel, body): a plain value, or an awaitable of one, is the reply. A plain
value and a Future cost no task. Which handlers a channel has is decided by the socket it came in by: an ability
that is not in the dict does not exist there. Writes of one loop turn leave as one write. A peer that does not read
pauses this side's requests; a peer with ``max_outstanding`` unanswered requests is not read from until some are
answered. A handler is never cancelled because its channel ended: what was begun is finished.

A frame: 4 octets length, then msgpack of [kind, number, verb, body]. Frames over ``MAX_FRAME`` close the channel.

ERRORS
    RemoteError(kind, message): the handler raised. Of an exception class listed in the ``errors`` of serve or
    connect the kind is the name of the listed class and the message its text; of any other the kind is "internal",
    the message says nothing, and the traceback is in the log of the process that raised it. A RemoteError that a
    handler lets through keeps its kind: that is how requests are forwarded. "unknown_verb": there is no such handler.
    ChannelClosed: the channel ended before the reply; whether the request was carried out is unknown.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from pillarbox.control.binding import bind
from pillarbox.control.frames import HEADER, MAX_FRAME, Kind, append_frame, read_frame
from pillarbox.telemetry.events import get_logger

__all__ = [
    "MAX_FRAME",
    "Channel",
    "ChannelClosed",
    "ChannelServer",
    "Handler",
    "Handlers",
    "Peer",
    "RemoteError",
    "UnixChannel",
    "connect",
    "serve",
]

Handler = Callable[[Any, Any], Any | Awaitable[Any]]
"""function(channel, body) -> value or awaitable. The channel is a Channel."""

Handlers = Mapping[str, Handler]
Errors = Collection[type[Exception]]

MAX_OUTSTANDING = 1024
"""Requests of one peer that may wait for their reply here before we stop reading from it."""

MAX_CHANNELS = 256
"""Channels of one listening socket: each has a buffer, and our processes need one each."""

_READ_BUFFER = 256 * 1024
_FLUSH_AT = 128 * 1024  # octets gathered in one loop turn that leave without waiting for its end
_WRITE_CEILING = 64 * 1024 * 1024  # octets a peer may leave unread before the channel is ended

log = get_logger("control")


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


class UnixChannel(asyncio.BufferedProtocol):
    """See the module's text. Made by serve() and connect() only."""

    peer = Peer(0, 0, 0)

    def __init__(
        self,
        choose: Callable[[Peer], Handlers | None],
        *,
        errors: Errors = (),
        max_outstanding: int = MAX_OUTSTANDING,
        on_open: Callable[["UnixChannel"], None] | None = None,
    ) -> None:
        self._choose = choose
        self._handlers: Handlers = {}
        self._errors = frozenset(errors)
        self._max_outstanding = max_outstanding
        self._on_open = on_open
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._input = bytearray(_READ_BUFFER)
        self._start = self._end = 0  # the octets of input not yet parsed
        self._output = bytearray()
        self._flush_due = False
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._outstanding = 0
        self._reading_paused = False
        self._writable: asyncio.Future[None] | None = None  # set while the peer does not read
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._closing_calls: list[Callable[[], None]] = []

    # -- what holders of a channel use

    @property
    def closed(self) -> bool:
        """Whether the channel has ended or is about to."""
        return self._closed

    async def request(self, verb: str, body: Any = None) -> Any:
        if self._writable is not None:
            await self.drain()
        if self._closed:
            raise ChannelClosed(verb)
        self._number = number = self._number + 1
        future = self._loop.create_future()
        self._write(Kind.REQUEST, number, verb, body)
        self._waiting[number] = future
        try:
            return await future
        except asyncio.CancelledError:
            self._waiting.pop(number, None)
            raise

    def note(self, verb: str, body: Any = None) -> None:
        if not self._closed:
            self._write(Kind.NOTE, 0, verb, body)

    async def drain(self) -> None:
        self._flush()
        while self._writable is not None and not self._closed:
            await asyncio.shield(self._writable)

    def close(self) -> None:
        """Ends the channel; what was written still leaves when the peer reads."""
        if not self._closed:
            self._flush()
            self._end_channel()
        if self._transport is not None:
            self._transport.close()

    def on_close(self, call: Callable[[], None]) -> None:
        if self._closed:
            self._loop.call_soon(call)
        else:
            self._closing_calls.append(call)

    # -- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        credentials = transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        self.peer = Peer(*struct.unpack("3i", credentials))
        handlers = self._choose(self.peer)
        if handlers is None:
            log.warning("channel.refused", pid=self.peer.pid, uid=self.peer.uid, gid=self.peer.gid)
            self.close()
            return
        self._handlers = handlers
        if self._on_open is not None:
            self._on_open(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        if not self._closed:
            self._end_channel()

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._start == self._end:
            self._start = self._end = 0
            if len(self._input) > _READ_BUFFER:
                self._input = bytearray(_READ_BUFFER)
        elif len(self._input) - self._end < _READ_BUFFER // 4:
            self._make_room()
        return memoryview(self._input)[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        self._end += nbytes
        self._parse()

    # -- reading

    def _make_room(self) -> None:
        """Moves the unfinished frame to the front of a buffer that holds it whole: each octet moves once or twice."""
        have = self._end - self._start
        need = _READ_BUFFER
        if have >= HEADER:
            need = max(need, HEADER + int.from_bytes(self._input[self._start : self._start + HEADER], "big"))
        if need > len(self._input):
            moved = bytearray(need + _READ_BUFFER)
            moved[:have] = memoryview(self._input)[self._start : self._end]
            self._input = moved
        else:
            self._input[:have] = self._input[self._start : self._end]
        self._start, self._end = 0, have

    def _parse(self) -> None:
        octets = memoryview(self._input)
        while not self._closed and not self._reading_paused and self._end - self._start >= HEADER:
            body = self._start + HEADER
            size = int.from_bytes(octets[self._start : body], "big")
            if size > MAX_FRAME:
                self._break_off(f"a frame of {size} octets")
                return
            if self._end - body < size:
                return
            self._start = body + size
            try:
                frame = read_frame(octets[body : body + size])
            except ValueError as error:
                self._break_off(str(error))
                return
            self._take(*frame)

    def _take(self, kind: int, number: int, verb: str, body: Any) -> None:
        if kind == Kind.REQUEST:
            self._answer(number, verb, body)
        elif kind == Kind.NOTE:
            self._hear(verb, body)
        else:
            future = self._waiting.pop(number, None)
            if future is None or future.done():
                return
            if kind == Kind.REPLY:
                future.set_result(body)
            else:
                future.set_exception(RemoteError(verb, str(body)))

    def _break_off(self, reason: str) -> None:
        log.error("channel.broken", pid=self.peer.pid, reason=reason)
        self._end_channel()
        if self._transport is not None:
            self._transport.abort()

    # -- answering

    def _answer(self, number: int, verb: str, body: Any) -> None:
        handler = self._handlers.get(verb)
        if handler is None:
            self._write(Kind.ERROR, number, "unknown_verb", verb)
            return
        try:
            result = handler(self, body)
            if not isinstance(result, Awaitable):
                self._reply(number, verb, result)
                return
        except Exception as error:
            self._reply_error(number, verb, error)
            return
        future = self._as_future(result)
        self._outstanding += 1
        if self._outstanding >= self._max_outstanding and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()
        future.add_done_callback(lambda done: self._answered(number, verb, done))

    def _as_future(self, result: Awaitable[Any]) -> "asyncio.Future[Any]":
        if asyncio.isfuture(result):
            return result
        task = self._loop.create_task(_wait(result))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _answered(self, number: int, verb: str, done: "asyncio.Future[Any]") -> None:
        self._outstanding -= 1
        if done.cancelled():
            self._write_unless_closed(Kind.ERROR, number, "cancelled", verb)
        elif (error := done.exception()) is not None:
            self._reply_error(number, verb, error)
        else:
            self._reply(number, verb, done.result())
        if self._reading_paused and self._outstanding <= self._max_outstanding // 2:
            self._reading_paused = False
            self._parse()
            if not self._reading_paused and not self._closed and self._transport is not None:
                self._transport.resume_reading()

    def _reply(self, number: int, verb: str, value: Any) -> None:
        if self._closed:
            return
        try:
            self._write(Kind.REPLY, number, "", value)
        except ValueError as error:
            self._reply_error(number, verb, error)

    def _reply_error(self, number: int, verb: str, error: BaseException) -> None:
        if isinstance(error, RemoteError):  # a handler that forwards: the kind stays what it was
            self._write_unless_closed(Kind.ERROR, number, error.kind, str(error))
            return
        for kind in type(error).__mro__:
            if kind in self._errors:
                self._write_unless_closed(Kind.ERROR, number, kind.__name__, str(error))
                return
        log.error("request.failed", verb=verb, exc_info=error)
        self._write_unless_closed(Kind.ERROR, number, "internal", "internal error; see the log")

    def _hear(self, verb: str, body: Any) -> None:
        handler = self._handlers.get(verb)
        if handler is None:
            log.debug("note.ignored", verb=verb)
            return
        try:
            result = handler(self, body)
            if isinstance(result, Awaitable):
                self._as_future(result).add_done_callback(lambda done: self._heard(verb, done))
        except Exception:
            log.exception("note.failed", verb=verb)

    @staticmethod
    def _heard(verb: str, done: "asyncio.Future[Any]") -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            log.error("note.failed", verb=verb, exc_info=error)

    # -- writing

    def _write_unless_closed(self, kind: Kind, number: int, verb: str, body: Any) -> None:
        if not self._closed:
            self._write(kind, number, verb, body)

    def _write(self, kind: Kind, number: int, verb: str, body: Any) -> None:
        append_frame(self._output, kind, number, verb, body)
        if len(self._output) >= _FLUSH_AT:
            self._flush()
        elif not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if not self._output or self._transport is None or self._transport.is_closing():
            return
        output, self._output = self._output, bytearray()  # given away: the transport may keep it
        self._transport.write(output)
        if self._writable is not None and self._transport.get_write_buffer_size() > _WRITE_CEILING:
            self._break_off("the other side does not read")

    def _end_channel(self) -> None:
        self._closed = True
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(ChannelClosed("the channel ended before the reply"))
        self.resume_writing()
        calls, self._closing_calls = self._closing_calls, []
        for call in calls:
            self._loop.call_soon(call)


async def _wait(result: Awaitable[Any]) -> Any:
    return await result


class ChannelServer:
    """A listening socket and its channels."""

    def __init__(self, path: Path | None) -> None:
        self.channels: set[UnixChannel] = set()
        self._path = path
        self._inode = os.stat(path).st_ino if path is not None else 0
        self._server: asyncio.AbstractServer | None = None

    async def close(self) -> None:
        """Stops listening, ends every channel and removes the socket's path."""
        if self._server is not None:
            self._server.close()
        for channel in tuple(self.channels):
            channel.close()
        if self._path is not None:
            with contextlib.suppress(FileNotFoundError):
                if os.stat(self._path).st_ino == self._inode:
                    os.unlink(self._path)
        await asyncio.sleep(0)  # let the transports end


async def serve(
    where: Path | socket.socket,
    choose: Callable[[Peer], Handlers | None],
    *,
    mode: int = 0o660,
    group: int = -1,
    errors: Errors = (),
    on_open: Callable[[UnixChannel], None] | None = None,
    max_outstanding: int = MAX_OUTSTANDING,
) -> ChannelServer:
    """Listens. ``choose`` says by the peer's credentials which handlers a channel has (None: it is refused).

    Args:
        where: a path, made with ``mode`` and ``group`` before anyone can connect, or a socket that is bound. At most
            MAX_CHANNELS are open at a time; more are refused.
        errors: exception classes that cross the channel by name.
        on_open: called with each new channel, for those who push notes.

    Raises:
        OSError: the path cannot be made, or a living server has it.
    """

    def choose_with_room(peer: Peer) -> Handlers | None:
        return choose(peer) if len(server.channels) < MAX_CHANNELS else None

    path = None if isinstance(where, socket.socket) else Path(where)
    listening = where if isinstance(where, socket.socket) else bind(Path(where), mode, group)
    server = ChannelServer(path)

    def opened(channel: UnixChannel) -> None:
        server.channels.add(channel)
        channel.on_close(lambda: server.channels.discard(channel))
        if on_open is not None:
            on_open(channel)

    loop = asyncio.get_running_loop()
    server._server = await loop.create_unix_server(
        lambda: UnixChannel(choose_with_room, errors=errors, on_open=opened, max_outstanding=max_outstanding),
        sock=listening,
        backlog=1024,
    )
    return server


async def connect(
    where: Path | socket.socket,
    handlers: Handlers | None = None,
    *,
    errors: Errors = (),
    max_outstanding: int = MAX_OUTSTANDING,
) -> UnixChannel:
    """Connects to a path, or takes a connected socket. Raises OSError."""
    loop = asyncio.get_running_loop()

    def make() -> UnixChannel:
        return UnixChannel(lambda _: handlers or {}, errors=errors, max_outstanding=max_outstanding)

    if isinstance(where, socket.socket):
        _, channel = await loop.create_unix_connection(make, sock=where)
    else:
        _, channel = await loop.create_unix_connection(make, str(where))
    return channel
