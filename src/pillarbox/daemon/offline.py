"""The operator's channel: to the running daemon, or, when none runs, to its files in this process.

    async with operator_channel(settings) as channel:
        users = await channel.request("user.list")

So `pillarbox init` and `pillarbox user add` work before the first start. Without a daemon the lock of the data
directory is held as long as the channel is open, and the verbs are the spool process's own; values cross as they
would cross a socket.

ERRORS
    PermissionError: this user may not reach the daemon or its files. InUse: a daemon has the files but does not
    answer. NotAllowed: server.user does not exist. Another OSError: the files cannot be opened. From request:
    RemoteError, ChannelClosed, as of any channel; RemoteError("NotRunning") for a verb that needs the daemon.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

from pillarbox.config import Settings
from pillarbox.control.channel import Peer, RemoteError, connect
from pillarbox.control.frames import HEADER, Kind, append_frame, read_frame
from pillarbox.daemon import paths, privileges
from pillarbox.daemon.audit import audit
from pillarbox.daemon.lock import InUse
from pillarbox.daemon.storehouse import ERRORS, Storehouse
from pillarbox.telemetry.events import get_logger

log = get_logger("daemon")


class OperatorChannel(Protocol):
    """What the operator's verbs are asked of."""

    async def request(self, verb: str, body: Any = None) -> Any:
        """Asks and waits for the reply. Raises RemoteError, ChannelClosed."""
        ...


@asynccontextmanager
async def operator_channel(settings: Settings) -> AsyncIterator[OperatorChannel]:
    """The operator's verbs, whether the daemon runs or not."""
    path = paths.control_socket(settings.server.run_directory)
    try:
        channel = await connect(path)
    except PermissionError as error:
        raise PermissionError(error.errno, "permission denied", str(path)) from None
    except OSError:  # nobody listens there
        async with open_operator(settings) as offline:
            yield offline
        return
    try:
        yield channel
    finally:
        channel.close()
        await asyncio.sleep(0)


@asynccontextmanager
async def open_operator(settings: Settings) -> AsyncIterator[OperatorChannel]:
    """The operator's verbs on the files themselves; refuses while a daemon has them. Missing directories are made."""
    server = settings.server
    user = privileges.find_user(server)
    if os.geteuid() == 0:
        privileges.make_directory(server.data_directory, 0o700, user)
    with privileges.acting_for(server.data_directory, user):
        privileges.make_directory(server.data_directory, 0o700, None)
        try:
            storehouse = await Storehouse.open(settings)
        except InUse as error:
            here = paths.control_socket(server.run_directory)
            raise InUse(f"{error} and none answers at {here}: is run_directory still the running server's?") from None
        try:
            channel = OfflineChannel(storehouse.for_operator())
            yield channel
            await channel.finish()
        finally:
            await storehouse.close()


class OfflineChannel:
    """Handlers in this process behind the shape of a channel."""

    def __init__(self, handlers: Mapping[str, Any]) -> None:
        self.peer = Peer(os.getpid(), os.geteuid(), os.getegid())
        self._handlers = handlers

    async def request(self, verb: str, body: Any = None) -> Any:
        handler = self._handlers.get(verb)
        if handler is None:
            raise RemoteError("NotRunning", f"pillarbox is not running, and {verb} needs it")
        try:
            value = handler(self, _cross(body))
            if hasattr(value, "__await__"):
                value = await value
            answer = _cross(value)
            audit(verb, self.peer, _cross(body), answer)
            return answer
        except Exception as error:
            listed = next((kind for kind in type(error).__mro__ if kind in ERRORS), None)
            if listed is not None:
                raise RemoteError(listed.__name__, str(error)) from error
            log.error("request.failed", verb=verb, exc_info=error)
            raise RemoteError("internal", "internal error; see the log") from error

    def note(self, verb: str, body: Any = None) -> None:
        """Nobody is there to hear it."""

    async def drain(self) -> None:
        """Nothing is ever under way."""

    def close(self) -> None:
        """The context manager closes."""

    def on_close(self, call: Any) -> None:
        """Ends with the process: there is nobody to tell."""

    async def finish(self) -> None:
        """Lets what handlers began in the background begin before the files are closed."""
        await asyncio.sleep(0)


def _cross(value: Any) -> Any:
    """The value as it would arrive."""
    buffer = bytearray()
    append_frame(buffer, Kind.REPLY, 0, "", value)
    return read_frame(memoryview(buffer)[HEADER:])[3]
