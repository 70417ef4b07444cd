"""Large content on its way into a cell: in chunks, as it arrives; the envelope's row comes last.

    writer = ChunkWriter(cell, commit, queue_id)         # a base.ContentWriter

Up to INLINE_LIMIT stays in memory and goes with the commit. Above it each chunk is a transaction of its own that
waits for nobody: the commit of the envelope is later in the log of the same server, so what confirms that confirms
the chunks. A fail-over may take chunks that were not confirmed; so the envelope is added only if all of them are
there. What is abandoned is removed, at once or, if that is not possible, when it is old (removal.py).
"""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable

from pillarbox.message.envelope import Envelope
from pillarbox.spool.base import INLINE_LIMIT, Full, QueueIdTaken, SpoolError, Unavailable
from pillarbox.spool.cluster.cell import ATTEMPT, Cell, spool_error
from pillarbox.spool.cluster.rows import Chunked
from pillarbox.store.errors import StoreError, Transient
from pillarbox.store.postgresql import Transaction

CHUNK = 262_144
"""Octets of a chunk; the last one has fewer."""
_ATTEMPTS = 5
_PAUSE = 0.2


class ChunkWriter:
    """ContentWriter over a cell."""

    def __init__(
        self, cell: Cell, commit: Callable[[Envelope, bytes | Chunked], Awaitable[bool]], queue_id: str
    ) -> None:
        self._cell, self._commit, self._queue_id = cell, commit, queue_id
        self._content_id = secrets.randbits(63)
        self._gathered = bytearray()
        self._chunks = self._size = 0
        self._writing: asyncio.Task[None] | None = None
        self._ended = False

    async def write(self, octets: bytes) -> None:
        """See ContentWriter.write. What a chunk met is said by the call after it."""
        if self._ended:
            raise self._ended_before()
        self._gathered += octets
        if not self._chunks and len(self._gathered) <= INLINE_LIMIT:
            return
        while len(self._gathered) >= CHUNK:
            await self._send(bytes(self._gathered[:CHUNK]))
            del self._gathered[:CHUNK]

    async def commit(self, envelope: Envelope) -> None:
        """See ContentWriter.commit."""
        if envelope.queue_id != self._queue_id:
            raise ValueError(f"content of {self._queue_id} with an envelope of {envelope.queue_id}")
        if self._ended:
            raise self._ended_before()
        self._ended = True
        if not self._chunks:
            await self._commit(envelope, bytes(self._gathered))
            return
        try:
            if self._gathered:
                await self._send(bytes(self._gathered))
            await self._sent()
            if envelope.size != self._size:
                raise Unavailable(f"the content of {self._queue_id} has {self._size} octets, not {envelope.size}")
        except BaseException:
            await self._forget()
            raise
        used = True  # also when nobody can know: what is not is swept
        try:
            used = await self._commit(envelope, Chunked(self._content_id, self._chunks, self._size))
        except (Full, QueueIdTaken, ValueError):
            used = False
            raise
        finally:
            if not used:
                await self._forget()

    async def abandon(self) -> None:
        """See ContentWriter.abandon."""
        if not self._ended:
            self._ended = True
            await self._forget()

    def _ended_before(self) -> Unavailable:
        return Unavailable(f"the content of {self._queue_id} was ended before")

    # -- chunks

    async def _send(self, octets: bytes) -> None:
        """One is on its way while the next is gathered."""
        await self._sent()
        seq = self._chunks
        self._chunks += 1
        self._size += len(octets)
        self._writing = asyncio.create_task(self._store(seq, octets))

    async def _sent(self) -> None:
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            await asyncio.shield(writing)
        except SpoolError:
            self._ended = True
            await self._forget()
            raise

    async def _store(self, seq: int, octets: bytes) -> None:
        async def work(transaction: Transaction) -> None:
            transaction.add("SET LOCAL synchronous_commit = local")
            transaction.add(
                "INSERT INTO content_chunk (content_id, seq, length, octets) VALUES (%s, %s, %s, %b) "
                "ON CONFLICT DO NOTHING",  # a repetition after an outcome that was not known
                (self._content_id, seq, len(octets), octets),
            )

        for attempt in range(_ATTEMPTS):
            try:
                await self._cell.store.write(work, deadline=ATTEMPT)
                return
            except StoreError as error:
                if attempt == _ATTEMPTS - 1 or not isinstance(error, Transient):
                    self._cell.note(error)
                    raise spool_error(error) from error
                await asyncio.sleep(_PAUSE * 2**attempt)

    async def _forget(self) -> None:
        """Never raises."""
        self._gathered.clear()
        writing, self._writing = self._writing, None
        if not self._chunks:
            return

        async def work(transaction: Transaction) -> None:
            transaction.add("SET LOCAL synchronous_commit = local")
            transaction.add("SELECT forget_content(%s)", (self._content_id,))

        async def forget() -> None:
            if writing is not None:
                with contextlib.suppress(SpoolError):
                    await writing
            with contextlib.suppress(StoreError):
                await self._cell.store.write(work)

        await asyncio.shield(asyncio.create_task(forget()))
