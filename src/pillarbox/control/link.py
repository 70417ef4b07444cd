"""A channel that outlives the other side: it reconnects, and says for how long a request may wait for that.

    link = Link(path, handlers); await link.start()
    value = await link.request("spool.commit", body, patience=5.0, repeat=True)

``repeat`` is for requests that may be carried out twice without harm: when the channel ends before the reply, the
request is sent again on the next one. Without it ChannelClosed is raised: the outcome is unknown.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol


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
