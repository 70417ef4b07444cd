"""A provider's keys, fetched when they are needed and kept while it is away.

    keys = Keys("corp", provider.fetch_keys)
    for key in await keys.fitting(header, known_place=True): ...

They are fetched again after ``AGE``, in the background, and at once for a token whose key is not among them: the
provider may have a new one. That at most once in ``AGAIN``, so that tokens with made-up key ids cost it nothing; and
once more for known places, so that strangers' ones do not keep their people waiting for a new key. When
the provider is away, what it last said holds for ``LONGEST``: longer than any outage should last, and not so long
that a key that was withdrawn for a reason lives on.

STANDARDS
    OpenID Connect Core 10.1.1 (rotation of keys), RFC 7515 4.1.4 (kid).

ERRORS
    Unavailable: there are no keys, or the key that is missing may be one of those that could not be fetched.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from pillarbox.directory.base import Unavailable
from pillarbox.directory.token import PublicKey, TokenHeader
from pillarbox.telemetry.events import get_logger

log = get_logger("directory")

AGE = 3_600.0
AGAIN = 30.0
LONGEST = 86_400.0

TRIED_CEILING = 8
"""How many keys are tried for a token that names none."""


class Keys:
    """See the module's text. ``clock`` is monotonic."""

    def __init__(
        self,
        directory: str,
        fetch: Callable[[], Awaitable[tuple[PublicKey, ...]]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._fetch = fetch
        self._clock = clock
        self._keys: tuple[PublicKey, ...] = ()
        self._fetched_at = float("-inf")
        self._failure = ""
        self._failed_at = float("-inf")
        self._told_at = float("-inf")
        self._looked_again_at = {True: float("-inf"), False: float("-inf")}
        self._fetching: asyncio.Task[None] | None = None

    async def fitting(self, header: TokenHeader, *, known_place: bool) -> list[PublicKey]:
        """The keys that may have signed such a token; none: nobody has. Raises Unavailable."""
        now = self._clock()
        if now - self._fetched_at >= LONGEST:
            await self.fetch()
        elif now - self._fetched_at >= AGE and now - self._failed_at >= AGAIN:
            self._begin()
        found = self._among(header)
        if found or not header.kid:
            return found
        if self._fetching is None:
            if now - self._looked_again_at[known_place] < AGAIN:
                if self._failure:
                    raise Unavailable(self._failure)
                return []
            self._looked_again_at[known_place] = now
        await self._fetched()
        found = self._among(header)
        if not found and self._failure:
            raise Unavailable(self._failure)
        return found

    async def fetch(self) -> None:
        """Fetches them now. Raises Unavailable."""
        await self._fetched()
        if self._failure:
            raise Unavailable(self._failure)

    def close(self) -> None:
        """Fetches no more; whoever waits is told that it cannot be said."""
        if self._fetching is not None:
            self._fetching.cancel()

    async def _fetched(self) -> None:
        """A fetch has ended. Whoever leaves ends it for nobody else."""
        task = self._begin()
        await asyncio.wait((task,))
        if task.cancelled():
            raise Unavailable("closed")

    def _begin(self) -> asyncio.Task[None]:
        """However many want it, it is one fetch."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._run())
            self._fetching.add_done_callback(self._done)
        return self._fetching

    def _done(self, _: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _run(self) -> None:
        try:
            keys = await self._fetch()
        except Unavailable as error:
            now = self._clock()
            if now - self._told_at >= AGAIN:  # without any keys it is tried for each token
                log.warning("directory.keys_failed", directory=self._directory, reason=str(error))
                self._told_at = now
            self._failure, self._failed_at = str(error), now
            return
        if {key.kid for key in keys} != {key.kid for key in self._keys}:
            log.info("directory.keys_changed", directory=self._directory, keys=len(keys))
        self._keys, self._fetched_at, self._failure = keys, self._clock(), ""

    def _among(self, header: TokenHeader) -> list[PublicKey]:
        fitting = [
            key
            for key in self._keys
            if header.algorithm in key.algorithms and (not header.kid or key.kid in ("", header.kid))
        ]
        return fitting[:TRIED_CEILING]
