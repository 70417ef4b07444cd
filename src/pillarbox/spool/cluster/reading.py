"""Every message of a cell, read beside whoever uses it.

    async for stored in CellReader(cell).messages(): ...     # base.Stored

A content that is in chunks is read chunk by chunk, so the message may leave meanwhile: UnknownQueueId.

ERRORS
    As base.Reader.
"""

from collections.abc import AsyncIterator

from pillarbox.spool.base import Filter, QueuedMessage, Stored, UnknownQueueId
from pillarbox.spool.cluster.cell import Cell
from pillarbox.spool.cluster.ledger import ClusterLedger
from pillarbox.spool.cluster.removal import Removal
from pillarbox.spool.cluster.rows import escaped

_PAGE = 200
_CONTENT = "SELECT content, content_id, chunks FROM message WHERE queue_id = %s"
_CHUNK = "SELECT octets FROM content_chunk WHERE content_id = %s AND seq = %s"


class CellReader:
    """Reader over a cell."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._ledger = ClusterLedger(cell, Removal(cell))

    async def messages(self) -> AsyncIterator[Stored]:
        """See Reader.messages."""
        after = ""
        while True:
            page = await self._ledger.list(Filter(), 0.0, _PAGE, after)
            for message in page:
                stored = await self.read(message)
                if stored is not None:
                    yield stored
            if len(page) < _PAGE:
                return
            after = page[-1].envelope.queue_id

    async def read(self, message: QueuedMessage) -> Stored | None:
        """With its content; None when it left. Raises Unavailable."""
        queue_id = message.envelope.queue_id
        (rows,) = await self._cell.read((_CONTENT, (escaped(queue_id),)))
        if not rows or not message.recipients:
            return None
        content, content_id, chunks = rows[0]
        if content_id is None:
            return Stored(message, len(content), _small(bytes(content)))
        return Stored(message, message.envelope.size, self._large(queue_id, content_id, chunks))

    async def _large(self, queue_id: str, content_id: int, chunks: int) -> AsyncIterator[bytes]:
        for seq in range(chunks):
            (rows,) = await self._cell.read((_CHUNK, (content_id, seq)))
            if not rows:
                raise UnknownQueueId(f"the content of {queue_id} has left")
            yield bytes(rows[0][0])


async def _small(content: bytes) -> AsyncIterator[bytes]:
    yield content
