"""The embedded spool as the submission role sees it: commit, writer, refusal."""

import asyncio
from functools import partial

from pillarbox.message.envelope import Envelope
from pillarbox.spool.base import INLINE_LIMIT, Full, QueueIdTaken, SpoolError, Unavailable
from pillarbox.spool.content import CHUNK
from pillarbox.spool.owner import Owner, spool_error
from pillarbox.spool.rows import insert
from pillarbox.spool.schema import domain_of
from pillarbox.store.sqlite import Database, DiskFull, StoreError, translate_os
from pillarbox.telemetry.counters import counter, histogram

_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
COMMIT_SECONDS = histogram("commit_seconds", "From the end of content to durable, in the spool", _BUCKETS)
COMMITTED = counter("messages_committed_total", "Messages made durable")


class EmbeddedIntake:
    """Intake over the owner."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def refusal(self, size: int) -> SpoolError | None:
        """See Intake.refusal."""
        owner = self._owner
        if owner.broken is not None or owner.trouble is not None:
            return Unavailable(owner.broken or owner.trouble or "")
        if owner.space.exhausted or not owner.space.has_room(size):
            return Full(owner.space.reason() or f"no room for {size} octets above the reserve")
        return None

    def status(self) -> tuple[str, str, int, int]:
        """What another process needs for its refusal(): (error's name or "", text, octets that a message may have
        as a row, as a file)."""
        refusal = self.refusal(0)
        if refusal is not None:
            return type(refusal).__name__, str(refusal), 0, 0
        space = self._owner.space
        large = max(space.free - space.min_free, 0)
        return "", "", INLINE_LIMIT if space.has_room(INLINE_LIMIT) else large, large

    def commit_soon(
        self, envelope: Envelope, content: bytes | None, content_file: str | None = None
    ) -> "asyncio.Future[bool]":
        """commit() as a future of the store: done when durable (False: it was there already), or StoreError,
        QueueIdTaken. Raises Full or Unavailable at once."""
        owner = self._owner
        refusal = self.refusal(0 if content is None else len(content))
        if refusal is not None:
            raise refusal
        began = owner.loop.time()
        due_at = owner.clock()
        number = owner.next_number()

        def work(db: Database) -> bool:
            if owner.has_left(envelope.queue_id):
                return False
            return insert(db, number, envelope, content, content_file, due_at)

        future = owner.store.write(work)
        future.add_done_callback(partial(self._committed, envelope, due_at, began))
        return future

    def _committed(self, envelope: Envelope, due_at: float, began: float, future: "asyncio.Future[bool]") -> None:
        owner = self._owner
        owner.note(future)
        if future.cancelled() or future.exception() is not None or not future.result():
            return
        for path in envelope.forward_paths:
            owner.due.touch(domain_of(path), due_at)
        COMMITTED.add()
        COMMIT_SECONDS.observe(owner.loop.time() - began)

    async def commit(self, envelope: Envelope, content: bytes | None, content_file: str | None = None) -> bool:
        """See Intake.commit; False when the same message was there already."""
        try:
            return await asyncio.shield(self.commit_soon(envelope, content, content_file))
        except StoreError as error:
            raise spool_error(error) from error

    def writer(self, queue_id: str) -> "EmbeddedWriter":
        """See Intake.writer."""
        return EmbeddedWriter(self._owner, self, queue_id)


class EmbeddedWriter:
    """ContentWriter over the owner. Up to INLINE_LIMIT stays in memory and becomes a row; the rest goes to a file."""

    def __init__(self, owner: Owner, intake: EmbeddedIntake, queue_id: str) -> None:
        self._owner, self._intake, self._queue_id = owner, intake, queue_id
        self._held = bytearray()
        self._name: str | None = None
        self._descriptor: int | None = None
        self._ended = False

    async def write(self, octets: bytes) -> None:
        """See ContentWriter.write."""
        if self._ended:
            raise Unavailable(f"the content of {self._queue_id} was ended before")
        self._held += octets
        if len(self._held) > (INLINE_LIMIT if self._descriptor is None else CHUNK):
            await self._spill()

    async def _spill(self) -> None:
        refusal = self._intake.refusal(max(len(self._held), INLINE_LIMIT + 1))
        if refusal is not None:
            await self.abandon()
            raise refusal
        files = self._owner.files
        held, self._held = bytes(self._held), bytearray()
        try:
            if self._descriptor is None:
                self._name, self._descriptor = await files.run(files.create, self._queue_id)
            await files.run(files.write, self._descriptor, held)
        except OSError as error:
            await self.abandon()
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> SpoolError:
        failure = translate_os(error, self._owner.files.directory)
        if isinstance(failure, DiskFull):
            self._owner.space.exhaust()
        return spool_error(failure)

    async def commit(self, envelope: Envelope) -> None:
        """See ContentWriter.commit."""
        if envelope.queue_id != self._queue_id:
            raise ValueError(f"content of {self._queue_id} with an envelope of {envelope.queue_id}")
        if self._ended:
            raise Unavailable(f"the content of {self._queue_id} was ended before")
        if self._name is None or self._descriptor is None:
            self._ended = True
            await self._intake.commit(envelope, bytes(self._held))
            return
        files = self._owner.files
        name, descriptor = self._name, self._descriptor
        self._ended, self._descriptor = True, None
        try:
            await files.run(files.finish, name, descriptor, bytes(self._held))
        except OSError as error:
            files.discard_soon(name)
            raise self._failure(error) from error
        used = True  # also when we cannot know what became of the row: then the next start looks
        try:
            used = await self._intake.commit(envelope, None, name)
        except (Full, QueueIdTaken):
            used = False
            raise
        finally:
            if not used:
                files.discard_soon(name)

    async def abandon(self) -> None:
        """See ContentWriter.abandon."""
        self._ended = True
        self._held.clear()
        descriptor, self._descriptor = self._descriptor, None
        if self._name is not None and descriptor is not None:
            await self._owner.files.run(self._owner.files.discard, self._name, descriptor)
