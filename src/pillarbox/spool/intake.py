"""The embedded spool as the submission role sees it: commit, adopt, writer, refusal."""

import asyncio
from functools import partial

from pillarbox.message.envelope import Envelope
from pillarbox.spool.base import INLINE_LIMIT, Full, QueueIdTaken, SpoolError, Unavailable
from pillarbox.spool.content import Unfit
from pillarbox.spool.figures import COMMIT_SECONDS, COMMITTED
from pillarbox.spool.owner import Owner, spool_error
from pillarbox.spool.part import Incoming, PartWriter
from pillarbox.spool.rows import insert, load_envelope
from pillarbox.spool.schema import lane_of
from pillarbox.store.sqlite import Database, DiskFull, StoreError, translate_os
from pillarbox.telemetry.events import get_logger

log = get_logger("spool")


class EmbeddedIntake:
    """Intake over the owner."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._incoming = Incoming(owner.files.incoming)
        self._adopting: dict[str, asyncio.Task[bool]] = {}

    def tag(self) -> str:
        """See Intake.tag."""
        return ""

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
        due_at = max(owner.clock(), envelope.hold_until)
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
            owner.due.touch((lane_of(path, envelope.site), envelope.priority), due_at)
        COMMITTED.add()
        COMMIT_SECONDS.observe(owner.loop.time() - began)

    async def commit(self, envelope: Envelope, content: bytes) -> None:
        """See Intake.commit."""
        await self.take(envelope, content)

    async def take(self, envelope: Envelope, content: bytes | None, content_file: str | None = None) -> bool:
        """commit(), also of what is in a file; False when the same message was there already."""
        try:
            return await asyncio.shield(self.commit_soon(envelope, content, content_file))
        except StoreError as error:
            raise spool_error(error) from error

    async def adopt(self, envelope: Envelope) -> bool:
        """The large content that was written to incoming/ and its envelope become a message, as by commit(). Can be
        repeated at any time. Raises ValueError for what is no queue id."""
        queue_id = envelope.queue_id
        while (running := self._adopting.get(queue_id)) is not None:  # asked again over a new channel
            await asyncio.wait((running,))
        task = self._owner.loop.create_task(self._adopt(envelope), name=f"adopt {queue_id}")
        self._adopting[queue_id] = task
        task.add_done_callback(partial(self._adopted, queue_id))
        return await asyncio.shield(task)

    def _adopted(self, queue_id: str, task: "asyncio.Task[bool]") -> None:
        del self._adopting[queue_id]
        if not task.cancelled():
            task.exception()  # heard, even if nobody waits any more

    async def _adopt(self, envelope: Envelope) -> bool:
        files, queue_id = self._owner.files, envelope.queue_id
        if await self._is_there(envelope):
            await files.run(files.discard_part, queue_id)
            return False
        refusal = self.refusal(0)
        if refusal is not None:
            raise refusal
        try:
            await files.run(files.adopt, queue_id, envelope.size)
        except Unfit as error:
            log.warning("content.refused", queue_id=queue_id, reason=str(error))
            raise Unavailable(f"the content of {queue_id} is {error}") from error
        except OSError as error:
            raise self._failure(error) from error
        used = True  # also when we cannot know what became of the row: then the next start looks
        try:
            used = await self.take(envelope, None, queue_id)
        except (Full, QueueIdTaken, ValueError):
            used = False
            raise
        finally:
            if not used:
                files.discard_soon(queue_id)
        return used

    async def _is_there(self, envelope: Envelope) -> bool:
        """Whether the message is here, or was a moment ago. Raises QueueIdTaken."""
        found = await self._owner.read(partial(load_envelope, queue_id=envelope.queue_id))
        if found is None:  # looked up in this order, for a message is remembered before it leaves
            return self._owner.has_left(envelope.queue_id)
        if found != envelope:
            raise QueueIdTaken(f"queue id {envelope.queue_id} names another message")
        return True

    def _failure(self, error: OSError) -> SpoolError:
        failure = translate_os(error, self._owner.files.incoming)
        if isinstance(failure, DiskFull):
            self._owner.space.exhaust()
        return spool_error(failure)

    def writer(self, queue_id: str) -> PartWriter:
        """See Intake.writer."""
        return PartWriter(self._incoming, self, queue_id)

    async def close(self) -> None:
        """Finishes what was begun."""
        while self._adopting:
            await asyncio.wait(tuple(self._adopting.values()))
        await self._incoming.close()
