"""The exchange of facts with the first cell: one short transaction that tells what is new here and reads the rest.

    exchange = Exchange(store, node=b"...", clock=time.time)
    exchange.outbox.put(fact)
    anew = await exchange.run(hear)        # hear(facts, begins): facts of other machines since the last time, page by
                                           # page; the first time all, and then it returns True
    alone = await exchange.beat(node)      # a small write: a primary that nobody follows any more takes none

What is told is a row under its own key (schema.py), so an exchange of unknown outcome is repeated and counts nothing
twice. Rows are numbered under an advisory lock that is held until the commit is confirmed: they become visible in
their order, and nothing is skipped. After a fail-over, or when the numbers went back, everything is read anew.

Clocks: a time crosses as an age, taken from the server's clock at one end and from the own at the other.

ERRORS
    What store.postgresql raises; what was to be told then waits again.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from pillarbox.guard.facts import Fact, Outbox
from pillarbox.guard.node import Node
from pillarbox.guard.schema import MIGRATIONS, ROOM
from pillarbox.store.migrations import check
from pillarbox.store.postgresql import Rows, Store, Transaction

BATCH = 5_000
"""Facts told, and rows read, at a time."""
DEADLINE = 5.0

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('pillarbox guard'))"
_TELL = """
    INSERT INTO guard_fact AS old (kind, place, login, id, node, at, expires_at, amount)
    SELECT kind, place, login, id, %s, now() - make_interval(secs => age), now() + make_interval(secs => remaining),
           amount
    FROM unnest(%s::text[], %s::bytea[], %s::bytea[], %s::bytea[], %s::float8[], %s::float8[], %s::int8[])
        AS new (kind, place, login, id, age, remaining, amount)
    ON CONFLICT (kind, place, login, id) DO UPDATE SET
        node = excluded.node, number = excluded.number, amount = excluded.amount,
        at = greatest(old.at, excluded.at), expires_at = greatest(old.expires_at, excluded.expires_at)
    WHERE CASE WHEN old.kind = 'f' THEN excluded.at > old.at + interval '5 s'  -- forgotten, then tried again
          ELSE excluded.at > old.at OR excluded.expires_at > old.expires_at OR excluded.amount <> old.amount END
"""
# the highest number is looked up before the rows are: a row between the two is read twice rather than never
_HEAD = """
    SELECT coalesce((SELECT max(number) FROM guard_fact), 0), (SELECT last_value FROM guard_number),
           substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
"""
_HEAR = """
    SELECT kind, place, login, id, extract(epoch FROM now() - at)::float8,
           extract(epoch FROM expires_at - now())::float8, amount, number
    FROM guard_fact WHERE number > %s AND (node <> %s OR %s) AND expires_at > now() ORDER BY number LIMIT %s
"""
_EXPIRE = """
    DELETE FROM guard_fact WHERE ctid = ANY (ARRAY(SELECT ctid FROM guard_fact WHERE expires_at < now() LIMIT 20000))
"""
_BEAT = """
    INSERT INTO guard_node AS old (node, holder, seen_at) VALUES (%s, %s, now())
    ON CONFLICT (node) DO UPDATE SET holder = excluded.holder, seen_at = excluded.seen_at
    WHERE old.holder = ANY (%s::bytea[]) RETURNING 1
"""
_MACHINES = "SELECT count(*) FROM guard_node WHERE seen_at > now() - interval '1 hour'"
_LEFT = "DELETE FROM guard_node WHERE seen_at < now() - interval '30 days'"

Hear = Callable[[list[Fact], bool], None]
"""Called with a page of facts, and whether everything is read from its beginning with it."""


class Exchange:
    """See the module's text. ``node``: whose word it is, the same for each start over one data directory."""

    def __init__(self, store: Store, node: bytes, clock: Callable[[], float]) -> None:
        self.outbox = Outbox()
        self._store, self._node, self._clock = store, node, clock
        self._number = 0
        self._timeline = ""
        self._whole = True
        self._running = asyncio.Lock()

    def rename(self, node: bytes) -> None:
        """Another name from now on; everything is read anew."""
        self._node = node
        self._number, self._whole = 0, True

    async def check(self) -> None:
        """Raises SchemaTooOld, SchemaTooNew; StoreError."""
        await check(self._store, ROOM, len(MIGRATIONS))

    async def beat(self, node: Node) -> bool:
        """Says that this start lives; False: the name is another one's. Raises StoreError."""

        async def work(transaction: Transaction) -> bool:
            transaction.add("SET LOCAL lock_timeout = '2s'")
            holders = [node.holder, *node.formers]
            return bool(await transaction.fetch(_BEAT, (node.id, node.holder, holders)))

        return await self._store.write(work, deadline=DEADLINE)

    async def machines(self) -> int:
        """How many were seen in the last hour. Raises StoreError."""
        ((count,),) = (await self._store.read((_MACHINES, ()), deadline=DEADLINE))[0]
        return int(count)

    async def run(self, hear: Hear) -> bool:
        """Hears and tells once; facts of others, and with the first exchange those of this machine's earlier lives.
        Returns whether everything was heard. Raises StoreError; pages heard before count."""
        async with self._running:
            anew = await self._run([], hear) if self._whole else False
            batch = self.outbox.take(BATCH)
            if anew and not batch:
                return True
            try:
                return await self._run(batch, hear) or anew
            except BaseException:
                self.outbox.put_back(batch)
                raise

    async def expire(self) -> None:
        """Deletes rows that have expired, some of them. Raises StoreError."""

        async def work(transaction: Transaction) -> None:
            transaction.add(_EXPIRE)
            transaction.add(_LEFT)

        await self._store.write(work, deadline=DEADLINE)

    async def _run(self, batch: list[Fact], hear: Hear) -> bool:
        while True:
            sent, head, rows = await self._talk(batch)
            batch = []
            highest, last, timeline = head[0]
            if (timeline != self._timeline or last < self._number) and self._number:
                self._number, self._whole, self._timeline = 0, True, timeline
                continue
            self._timeline = timeline
            hear([_fact(row, sent) for row in rows], self._whole and not self._number)
            if len(rows) < BATCH:
                self._number = max([highest, *(row[7] for row in rows)])
                whole, self._whole = self._whole, False
                return whole
            self._number = rows[-1][7]

    async def _talk(self, batch: list[Fact]) -> tuple[float, Rows, Rows]:
        values = (self._number, self._node, self._whole, BATCH)
        if not batch:
            sent = self._clock()
            head, rows = await self._store.read((_HEAD, ()), (_HEAR, values), deadline=DEADLINE)
            return sent, head, rows

        async def work(transaction: Transaction) -> tuple[float, Rows, Rows]:
            sent = self._clock()
            transaction.add("SET LOCAL lock_timeout = '2s'")  # who gives up must not stay in the line
            transaction.add(_LOCK)
            transaction.add(_TELL, (self._node, *_columns(batch, sent)))
            top = transaction.add(_HEAD)
            rows = await transaction.fetch(_HEAR, values)
            return sent, top.rows, rows

        return await self._store.write(work, deadline=DEADLINE)


def _columns(batch: list[Fact], sent: float) -> tuple[list[object], ...]:
    return (
        [fact.kind for fact in batch],
        [_octets(fact.place) for fact in batch],
        [_octets(fact.login) for fact in batch],
        [fact.id for fact in batch],
        [sent - fact.at for fact in batch],
        [fact.ends - sent for fact in batch],
        [fact.amount for fact in batch],
    )


def _fact(row: tuple[Any, ...], sent: float) -> Fact:
    kind, place, login, identity, age, remaining, amount, _ = row
    return Fact(kind, _text(place), _text(login), identity, sent - age, sent + remaining, amount)


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogatepass")
