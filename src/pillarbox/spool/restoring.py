"""Whole messages brought back into the embedded spool, with their recipients' states.

    writer = EmbeddedRestorer(spool.owner).writer(queue_id)     # a base.RestoringWriter
    await writer.write(octets)
    restored = await writer.restore(message)                    # False: it is here already, or was

What was brought back is remembered in the same transaction, for RESTORED_FOR: a repeat after its delivery is void.

ERRORS
    As base.RestoringWriter.
"""

import asyncio

from pillarbox.message.envelope import Envelope
from pillarbox.spool.base import Full, QueuedMessage, QueueIdTaken, SpoolError, State, Unavailable
from pillarbox.spool.content import Unfit
from pillarbox.spool.owner import Owner
from pillarbox.spool.part import Incoming, PartWriter
from pillarbox.spool.rows import insert
from pillarbox.spool.schema import GONE, RESTORED_FOR, lane_of
from pillarbox.store.sqlite import Database

_STATE = (
    "UPDATE recipient SET state = ?, due_at = ?, attempts = ?, last_reply = ?, last_attempt_at = ?, delay_warned = ? "
    "WHERE number = ? AND key = ?"
)


class EmbeddedRestorer:
    """Restorer over the owner. ``again``: also what was brought back before and has left since."""

    def __init__(self, owner: Owner, *, again: bool = False) -> None:
        self._owner, self._again = owner, again
        self._incoming = Incoming(owner.files.incoming)

    def writer(self, queue_id: str) -> "EmbeddedRestoring":
        """See Restorer.writer."""
        return EmbeddedRestoring(self._owner, self._incoming, queue_id, again=self._again)

    async def restored(self, queue_id: str) -> bool:
        """See Restorer.restored."""
        query = "SELECT 1 FROM restored WHERE queue_id = ?"
        return await self._owner.read(lambda db: db.execute(query, (queue_id,)).get is not None)

    async def identity(self) -> str:
        """See Restorer.identity."""
        return await self._owner.read(lambda db: str(db.execute("SELECT token FROM identity").get))

    async def close(self) -> None:
        """Finishes what was begun."""
        await self._incoming.close()


class EmbeddedRestoring:
    """RestoringWriter; it is its own part's adopter."""

    def __init__(self, owner: Owner, incoming: Incoming, queue_id: str, *, again: bool) -> None:
        self._owner, self._again = owner, again
        self._part = PartWriter(incoming, self, queue_id)
        self._message: QueuedMessage | None = None
        self._restored = False

    async def write(self, octets: bytes) -> None:
        """See RestoringWriter.write."""
        await self._part.write(octets)

    async def restore(self, message: QueuedMessage) -> bool:
        """See RestoringWriter.restore."""
        self._message = message
        await self._part.commit(message.envelope)
        return self._restored

    async def abandon(self) -> None:
        """See RestoringWriter.abandon."""
        await self._part.abandon()

    # -- part.Adopter

    def refusal(self, size: int) -> SpoolError | None:
        """As EmbeddedIntake.refusal."""
        owner = self._owner
        if owner.broken is not None or owner.trouble is not None:
            return Unavailable(owner.broken or owner.trouble or "")
        if owner.space.exhausted or not owner.space.has_room(size):
            return Full(owner.space.reason() or f"no room for {size} octets above the reserve")
        return None

    async def commit(self, envelope: Envelope, content: bytes) -> None:
        """A small content."""
        refusal = self.refusal(len(content))
        if refusal is not None:
            raise refusal
        if len(content) != envelope.size:
            raise Unavailable(f"the content of {envelope.queue_id} has {len(content)} octets, not {envelope.size}")
        await self._insert(content, None)

    async def adopt(self, envelope: Envelope) -> None:
        """A large one, which lies in incoming/."""
        files, queue_id = self._owner.files, envelope.queue_id
        refusal = self.refusal(0)
        if refusal is not None:
            raise refusal
        if await self._owner.read(lambda db: _is_there(db, queue_id) or self._was_here(db, queue_id)):
            await files.run(files.discard_part, queue_id)
            await self._insert(b"", None)  # the same, or QueueIdTaken: nothing is inserted
            return
        try:
            await files.run(files.adopt, queue_id, envelope.size)
        except Unfit as error:
            raise Unavailable(f"the content of {queue_id} is {error}") from error
        except OSError as error:
            raise Unavailable(f"the content of {queue_id}: {error.strerror or error}") from error
        used = True  # also when we cannot know what became of the row: then the next start looks
        try:
            await self._insert(None, queue_id)
            used = self._restored
        except (Full, QueueIdTaken, ValueError):
            used = False
            raise
        finally:
            if not used:
                files.discard_soon(queue_id)

    async def _insert(self, content: bytes | None, content_file: str | None) -> None:
        owner, message = self._owner, self._message
        assert message is not None  # noqa: S101  (restore() set it; tells the type checker)
        number, queue_id, now = owner.next_number(), message.envelope.queue_id, owner.clock()

        def work(db: Database) -> bool:
            if self._was_here(db, queue_id) and not _is_there(db, queue_id):
                return False
            if not insert_stored(db, number, message, content, content_file):
                return False
            db.execute("DELETE FROM restored WHERE at < ?", (now - RESTORED_FOR,))
            db.execute("INSERT OR REPLACE INTO restored (queue_id, at) VALUES (?, ?)", (queue_id, now))
            return True

        self._restored = await asyncio.shield(asyncio.ensure_future(owner.write(work)))
        if self._restored:
            for each in message.recipients:
                if each.state is State.DUE:
                    lane = lane_of(each.forward_path, message.envelope.site)
                    owner.due.touch((lane, message.envelope.priority), each.due_at)

    def _was_here(self, db: Database, queue_id: str) -> bool:
        return (
            not self._again and db.execute("SELECT 1 FROM restored WHERE queue_id = ?", (queue_id,)).get is not None
        )


def _is_there(db: Database, queue_id: str) -> bool:
    return db.execute("SELECT 1 FROM message WHERE queue_id = ?", (queue_id,)).get is not None


def insert_stored(
    db: Database, number: int, message: QueuedMessage, octets: bytes | None, content_file: str | None
) -> bool:
    """rows.insert() with the recipients' states; who is not among them is gone. Raises QueueIdTaken, ValueError."""
    if not message.recipients:
        raise ValueError(f"{message.envelope.queue_id}: nobody waits for it")
    if not insert(db, number, message.envelope, octets, content_file, 0.0):
        return False
    db.execute("UPDATE recipient SET state = ? WHERE number = ?", (GONE, number))
    for each in message.recipients:
        values = (each.state.value, each.due_at, each.attempts, each.last_reply, each.last_attempt_at)
        db.execute(_STATE, (*values, each.delay_warned, number, each.key))
    return True
