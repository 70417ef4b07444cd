"""A channel that outlives the other side: it reconnects, and says for how long a request may wait for that.

    link = Link(path, handlers); await link.start()
    value = await link.request("spool.commit", body, patience=5.0, repeat=True)

``repeat`` is for requests that may be carried out twice without harm: when the channel ends before the reply, the
request is sent again on the next one. Without it ChannelClosed is raised: the outcome is unknown.

ERRORS
    ChannelClosed: also when there was no connection within the patience. RemoteError as in channel.py.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from pillarbox.control.channel import ChannelClosed, Errors, Handlers, UnixChannel, connect
from pillarbox.telemetry.events import get_logger

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.2  # a connection to a socket that is not there costs next to nothing
_SENDINGS = 5  # of a repeatable request, so that one which kills the other side does not do so for ever

log = get_logger("control")


class LinkLike(Protocol):
    """What the rooms' remote implementations hold; Link in this module implements it."""

    @property
    def connected(self) -> bool: ...

    async def request(self, verb: str, body: Any = None, *, patience: float = 0.0, repeat: bool = False) -> Any:
        """``patience``: seconds to wait for a connection. Raises RemoteError, ChannelClosed."""
        ...

    def note(self, verb: str, body: Any = None) -> None:
        """Dropped while not connected."""
        ...

    def on_connect(self, call: Callable[[], Awaitable[None]]) -> None:
        """Awaited after each (re)connection, before other requests go out; may use request(patience=0)."""
        ...

    async def close(self) -> None: ...


class Link:
    """See the module's text. ``name`` is for the log."""

    def __init__(self, path: Path, handlers: Handlers | None = None, *, errors: Errors = (), name: str = "") -> None:
        self._path = path
        self._handlers = handlers
        self._errors = errors
        self._name = name or path.stem
        self._channel: UnixChannel | None = None
        self._ready = False
        self._changed = asyncio.Event()  # set while ready
        self._calls: list[Callable[[], Awaitable[None]]] = []
        self._keeper: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return self._ready

    async def start(self, patience: float = 0.0) -> None:
        """Begins to connect and goes on doing so; waits up to ``patience`` seconds for the first connection."""
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name=f"link {self._name}")
        if patience > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), patience)

    async def request(self, verb: str, body: Any = None, *, patience: float = 0.0, repeat: bool = False) -> Any:
        for sending in range(_SENDINGS):
            channel = self._channel if self._ready else await self._wait(verb, patience)
            if channel is None:
                raise ChannelClosed(verb)
            try:
                return await channel.request(verb, body)
            except ChannelClosed:
                if not repeat or sending + 1 == _SENDINGS or asyncio.current_task() is self._keeper:
                    raise
                if self._channel is channel:  # the keeper has not yet seen the end
                    self._lose()
        raise ChannelClosed(verb)

    async def _wait(self, verb: str, patience: float) -> UnixChannel | None:
        if asyncio.current_task() is self._keeper:  # an on_connect call: it goes before the others
            return self._channel
        if self._keeper is None or patience <= 0:
            return None
        try:
            await asyncio.wait_for(self._changed.wait(), patience)
        except TimeoutError:
            raise ChannelClosed(f"{verb}: no connection to {self._name} within {patience:g} s") from None
        return self._channel

    def note(self, verb: str, body: Any = None) -> None:
        if self._channel is not None and self._ready:
            self._channel.note(verb, body)

    async def drain(self) -> None:
        """Waits until the other side has taken what was written."""
        if self._channel is not None:
            await self._channel.drain()

    def on_connect(self, call: Callable[[], Awaitable[None]]) -> None:
        self._calls.append(call)

    async def close(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
        if self._channel is not None:
            self._channel.close()
            await asyncio.sleep(0)
        self._lose()

    def _lose(self) -> None:
        self._channel = None
        self._ready = False
        self._changed.clear()

    async def _keep(self) -> None:
        pause = _FIRST_PAUSE
        missing = False
        while True:
            try:
                channel = await connect(self._path, self._handlers, errors=self._errors)
            except OSError as error:
                if not missing:
                    log.debug("link.waiting", link=self._name, reason=str(error))
                missing = True
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            missing = False
            ended = asyncio.Event()
            channel.on_close(ended.set)
            self._channel = channel
            if await self._greet(channel):
                pause = _FIRST_PAUSE
                self._ready = True
                self._changed.set()
                await ended.wait()
                log.info("link.lost", link=self._name)
            if self._channel is channel:
                self._lose()
            channel.close()
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _greet(self, channel: UnixChannel) -> bool:
        for call in self._calls:
            try:
                await call()
            except Exception as error:
                log.warning("link.failed", link=self._name, reason=f"{type(error).__name__}: {error}")
                return False
        return not channel.closed
