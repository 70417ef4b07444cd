"""Numbered schema migrations for PostgreSQL, forward only, safe while others serve.

    before = await migrate(store, "spool", MIGRATIONS)    # how many had been applied
    await check(store, "spool", len(MIGRATIONS))          # at a program's start: never changes anything

A room has its own numbers, so that several share one database. The statements of a migration and its number are one
transaction. It waits for a table's lock for a moment only, since whoever comes after it would have to wait as well,
and then tries again; two that migrate at the same time take turns. A schema that a newer program made is refused.

ERRORS
    SchemaTooNew, SchemaTooOld, StoreError (the database has another encoding than UTF8; a lock was not to be had),
    and what store.postgresql raises.
"""

import asyncio
from collections.abc import Sequence

from pillarbox.store.errors import SchemaTooNew, SchemaTooOld, StoreError, Undone
from pillarbox.store.postgresql import SCHEMA, Store, Transaction

Migration = Sequence[str]
"""Its statements. A table gets its name without a schema: the search path has ours."""

_BOOTSTRAP = (
    f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}",
    "CREATE TABLE IF NOT EXISTS migration (room text NOT NULL, number integer NOT NULL, "
    "applied_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (room, number))",
)
TURN = "SELECT pg_advisory_xact_lock(hashtext('pillarbox migration'))"
"""Whoever changes the schema, or who may use it, waits for this."""
_APPLIED = "SELECT coalesce(max(number), 0) FROM migration WHERE room = %s"
_ATTEMPTS = 30
_PAUSE = 0.5


async def migrate(store: Store, room: str, migrations: Sequence[Migration]) -> int:
    """Applies what is missing; how many had been applied before."""
    ((encoding,),) = (await store.read(("SHOW server_encoding", ())))[0]
    if encoding != "UTF8":
        raise StoreError(f"{store.where}: the database's encoding is {encoding}: make one with ENCODING 'UTF8'")
    await _apply(store, _BOOTSTRAP)
    before = await applied(store, room)
    if before > len(migrations):
        raise _too_new(store, room, before, len(migrations))
    for number in range(before + 1, len(migrations) + 1):
        await _apply(store, migrations[number - 1], room, number)
    return before


async def check(store: Store, room: str, known: int) -> None:
    """Raises SchemaTooNew or SchemaTooOld unless exactly ``known`` migrations were applied."""
    number = await applied(store, room)
    if number > known:
        raise _too_new(store, room, number, known)
    if number < known:
        raise SchemaTooOld(f"{store.where}: schema {number} of {room}; this program needs {known}")


async def applied(store: Store, room: str) -> int:
    """How many migrations were applied; 0 in a database that has none of our tables."""
    try:
        ((number,),) = (await store.read((_APPLIED, (room,))))[0]
    except SchemaTooOld:
        return 0
    return int(number)


async def all_applied(store: Store) -> dict[str, int]:
    """The same for each room that has tables."""
    try:
        (rows,) = await store.read(("SELECT room, max(number) FROM migration GROUP BY room", ()))
    except SchemaTooOld:
        return {}
    return dict((room, number) for room, number in rows)


async def _apply(store: Store, statements: Migration, room: str = "", number: int = 0) -> None:
    """One transaction; nothing when another program was faster."""

    async def work(transaction: Transaction) -> None:
        transaction.add("SET LOCAL lock_timeout = '2s'")
        await transaction.fetch(TURN)
        if number:
            ((last,),) = await transaction.fetch(_APPLIED, (room,))
            if last >= number:
                return
            transaction.add("INSERT INTO migration (room, number) VALUES (%s, %s)", (room, number))
        for statement in statements:
            transaction.add(statement)

    for attempt in range(_ATTEMPTS):
        try:
            await store.write(work, deadline=600.0)
            return
        except Undone:  # the lock was not to be had in time
            if attempt == _ATTEMPTS - 1:
                raise
            await asyncio.sleep(_PAUSE)


def _too_new(store: Store, room: str, number: int, known: int) -> SchemaTooNew:
    return SchemaTooNew(
        f"{store.where}: schema {number} of {room}, made by a newer Pillarbox; this one knows {known}"
    )
