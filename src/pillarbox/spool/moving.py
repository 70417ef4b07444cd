"""Messages that leave the embedded spool for another one; nobody serves from it meanwhile.

    source = EmbeddedSource(spool.owner)                        # a base.Source
    ids = await source.take(destination, 200)

What is taken has only recipients that are gone, and a row of ``taken`` that knows what they were: a server that is
started on it neither delivers nor shows it.

ERRORS
    As base.Source.
"""

import json
import os
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from pillarbox.spool.base import QueuedMessage, Stored, Unavailable, UnknownQueueId
from pillarbox.spool.owner import Owner
from pillarbox.spool.rows import remove
from pillarbox.spool.schema import (
    GONE,
    MESSAGE_COLUMNS,
    RECIPIENT_COLUMNS,
    envelope_from_row,
    recipient_from_row,
)
from pillarbox.store.sqlite import Database

_MORE = (
    "SELECT m.number, m.queue_id FROM message m WHERE m.number NOT IN (SELECT number FROM taken) "
    "AND EXISTS (SELECT 1 FROM recipient r WHERE r.number = m.number AND r.state != 'gone') "
    "ORDER BY m.number LIMIT ?"
)
_LOAD = (
    f"SELECT {MESSAGE_COLUMNS}, m.content_file, c.octets, t.states, m.number FROM taken t "  # noqa: S608  # our own columns
    "JOIN message m USING (number) LEFT JOIN content c USING (number) WHERE t.queue_id = ?"
)
_RECIPIENTS = f"SELECT {RECIPIENT_COLUMNS} FROM recipient r WHERE r.number = ? ORDER BY r.key"  # noqa: S608  # our own columns


class EmbeddedSource:
    """Source over the owner."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    async def identity(self) -> str:
        """See Source.identity."""
        return await self._owner.read(lambda db: str(db.execute("SELECT token FROM identity").get))

    async def taken(self) -> dict[str, str]:
        """See Source.taken."""
        query = "SELECT queue_id, destination FROM taken ORDER BY queue_id"
        return await self._owner.read(lambda db: {str(name): str(where) for name, where in db.execute(query)})

    async def take(self, destination: str, limit: int) -> Sequence[str]:
        """See Source.take."""

        def work(db: Database) -> list[str]:
            rows: list[Any] = db.execute(_MORE, (limit,)).fetchall()
            for number, queue_id in rows:
                query = "SELECT key, state FROM recipient WHERE number = ? AND state != ?"
                states = {key: state for key, state in db.execute(query, (number, GONE))}
                db.execute(
                    "INSERT INTO taken (number, queue_id, destination, states) VALUES (?, ?, ?, ?)",
                    (number, queue_id, destination, json.dumps(states)),
                )
                db.execute("UPDATE recipient SET state = ? WHERE number = ?", (GONE, number))
            return [queue_id for _, queue_id in rows]

        return await self._owner.write(work)

    async def load(self, queue_ids: Sequence[str]) -> AsyncIterator[Stored]:
        """See Source.load."""
        for queue_id in queue_ids:
            found = await self._owner.read(partial(_load, queue_id=queue_id))
            if found is not None:
                message, name, octets = found
                size = message.envelope.size if octets is None else len(octets)
                yield Stored(message, size, self._content(queue_id, name, octets))

    async def _content(self, queue_id: str, name: str | None, octets: bytes | None) -> AsyncIterator[bytes]:
        if name is None:
            yield octets or b""
            return
        files, offset = self._owner.files, 0
        try:
            while chunk := await files.run(files.read, name, offset):
                yield chunk
                offset += len(chunk)
        except FileNotFoundError:
            raise UnknownQueueId(f"the content of {queue_id} is not there") from None
        except OSError as error:
            raise Unavailable(f"the content of {queue_id}: {os.strerror(error.errno or 0)}") from error

    async def remove(self, queue_ids: Sequence[str], destination: str) -> None:
        """See Source.remove."""

        def work(db: Database) -> list[str]:
            files = []
            for queue_id in queue_ids:
                query = "SELECT number FROM taken WHERE queue_id = ? AND destination = ?"
                number = db.execute(query, (queue_id, destination)).get
                if number is None:
                    continue
                name = db.execute("SELECT content_file FROM message WHERE number = ?", (number,)).get
                if name is not None:
                    files.append(str(name))
                remove(db, number)
                db.execute("DELETE FROM taken WHERE number = ?", (number,))
                db.execute("DELETE FROM restored WHERE queue_id = ?", (queue_id,))
            return files

        for name in await self._owner.write(work):
            self._owner.files.discard_soon(name)

    async def give_back(self) -> int:
        """See Source.give_back."""

        def work(db: Database) -> int:
            rows: list[Any] = db.execute("SELECT number, states FROM taken").fetchall()
            for number, states in rows:
                for key, state in json.loads(states).items():
                    query = "UPDATE recipient SET state = ? WHERE number = ? AND key = ?"
                    db.execute(query, (state, number, int(key)))
            db.execute("DELETE FROM taken")
            return len(rows)

        return await self._owner.write(work)

    async def quiet_in(self) -> float:
        """See Source.quiet_in: nobody commits here."""
        return 0.0


def _load(db: Database, queue_id: str) -> tuple[QueuedMessage, str | None, bytes | None] | None:
    row = db.execute(_LOAD, (queue_id,)).fetchone()
    if row is None:
        return None
    *_, name, octets, states, number = tuple(row)
    waiting = json.loads(states)
    rows = db.execute(_RECIPIENTS, (number,)).fetchall()
    recipients = tuple(
        recipient_from_row((*values[:3], waiting[str(values[0])], *values[4:]))
        for values in rows
        if str(values[0]) in waiting
    )
    return QueuedMessage(envelope_from_row(row, rows), recipients, leased=False), name, octets
