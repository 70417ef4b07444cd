"""Under which name this data directory counts in a cluster, and whether it is the only one of that name.

    node = await take(store)          # store: guard.db; at each start
    await confirm(store, node)        # the first cell has the holder of this start now
    node = await renew(store)         # somebody else has that name: a copy of the data directory runs as well

The name is kept in guard.db, so a restart replaces what the machine told before rather than adding to it. A copied
directory has the same name; hence each start makes a *holder*, new octets, written here before the cell hears of it.
The cell takes a new holder only from who knows the one that it has: of two that run over copies, one is told so, and
takes another name.

ERRORS
    What store.sqlite raises. Must not import asyncio, control.
"""

import secrets
from dataclasses import dataclass

from pillarbox.store.sqlite import Database, StoreLike

OCTETS = 16
REMEMBERED = 64
"""Holders of starts during which the cell was away."""

TABLE = """
    CREATE TABLE node (
        node BLOB NOT NULL,
        holder BLOB NOT NULL,
        formers BLOB NOT NULL,        -- holders that the cell may still have, 16 octets each
        confirmed INTEGER NOT NULL    -- whether the cell was heard to have the holder
    ) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Node:
    """``id``: the data directory's; ``holder``: this start's; ``formers``: those that it follows."""

    id: bytes
    holder: bytes
    formers: tuple[bytes, ...] = ()


async def take(store: StoreLike) -> Node:
    """The name, made if there is none, with a new holder; both are on stable storage when it returns."""
    return await store.write(_take)


async def confirm(store: StoreLike, node: Node) -> None:
    """The cell has this holder."""

    def work(db: Database) -> None:
        db.execute("UPDATE node SET confirmed = 1, formers = x'' WHERE holder = ?", (node.holder,))

    await store.write(work)


async def renew(store: StoreLike) -> Node:
    """Another name."""

    def work(db: Database) -> Node:
        db.execute("DELETE FROM node")
        return _take(db)

    return await store.write(work)


def _take(db: Database) -> Node:
    row = db.execute("SELECT node, holder, formers, confirmed FROM node").fetchone()
    holder = secrets.token_bytes(OCTETS)
    if row is None:
        made = Node(secrets.token_bytes(OCTETS), holder)
        db.execute("INSERT INTO node (node, holder, formers, confirmed) VALUES (?, ?, x'', 0)", (made.id, holder))
        return made
    identity, last, formers, confirmed = row
    formers = last if confirmed else (formers + last)[-OCTETS * REMEMBERED :]
    db.execute("UPDATE node SET holder = ?, formers = ?, confirmed = 0", (holder, formers))
    return Node(identity, holder, tuple(formers[i : i + OCTETS] for i in range(0, len(formers), OCTETS)))
