"""A queue of any depth in a minute: rows written in bulk, as the spools' own commits would have left them.

    fill_embedded(directory / "spool", 1_000_000)
    fill_cell(dsn, 1_000_000)                     # a superuser's DSN; the tables are there

Of ten messages nine wait until tomorrow, for 1,000 domains, and one is due now for DEAD, a domain that nobody
answers for. Each has one recipient and OCTETS; in a cell they lie out of line, as the octets of larger messages
do. Queue ids are the number of the message in hexadecimal: before all that a clock gives. ``clear_*`` takes away what
came after the filling.
"""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import uvloop

from pillarbox.spool.embedded import open_spool
from pillarbox.spool.settings import EmbeddedSettings

DEAD = "dead.example"
TOMORROW = 86_400.0
OCTETS = 468
"""Of a content: 16 of them fill a page of PostgreSQL's. Where pages had room left, the ends of larger contents would
go into them one by one, and each page be logged whole: the filling would be measured, not the depth."""
STEP = 50_000
"""Messages in one transaction."""
LAST = "0" * 12 + "Z"
"""After each queue id that was filled in, before those of today."""

_MESSAGE = (
    "queue_id, reverse_path, received_at, size, eight_bit, smtputf8, login, site, session_id, is_bounce, "
    '"binary", ret, envid, hold_until, deliver_by, deliver_by_mode, priority, require_tls, tls_optional'
)
_CELL = f"""
WITH filled AS (
    INSERT INTO message ({_MESSAGE}, digest, weight, content, chunks)
    SELECT upper(lpad(to_hex(i), 26, '0')), 'sender' || i %% 5000 || '@example.org', %(now)s - 3600, {OCTETS}, false,
        false, 'login' || i %% 5000, 'bench.invalid', 'filled', false, false, '', '', 0, 0, '', 0, false, false,
        decode(md5(i::text), 'hex'), {OCTETS}, decode(left(repeat(md5(i::text), 32), {2 * OCTETS}), 'hex'), 0
    FROM generate_series(%(first)s::int8, %(last)s::int8) AS s(i)
)
INSERT INTO recipient (queue_id, key, forward_path, domain, priority, state, due_at, notify, original_recipient)
SELECT upper(lpad(to_hex(i), 26, '0')), 0, 'user' || i || '@' || d, d, 0,
    CASE WHEN i %% 10 = 0 THEN 'due' ELSE 'later' END,
    CASE WHEN i %% 10 = 0 THEN %(now)s - 3600 ELSE %(now)s + {TOMORROW} + i END, '', ''
FROM generate_series(%(first)s::int8, %(last)s::int8) AS s(i)
CROSS JOIN LATERAL (SELECT CASE WHEN i %% 10 = 0 THEN '{DEAD}' ELSE 'd' || i %% 1000 || '.example' END) AS n(d)
"""  # noqa: S608  # names of our own columns; values are bound
_EMBEDDED = (
    f"""
INSERT INTO message (number, {_MESSAGE})
WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i < :last)
SELECT i, printf('%026X', i), 'sender' || i % 5000 || '@example.org', :now - 3600, {OCTETS}, 0, 0,
    'login' || i % 5000, 'bench.invalid', 'filled', 0, 0, '', '', 0, 0, '', 0, 0, 0 FROM n
""",  # noqa: S608  # as above
    f"""
INSERT INTO content (number, octets)
WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i < :last)
SELECT i, randomblob({OCTETS}) FROM n
""",  # noqa: S608  # as above
    f"""
INSERT INTO recipient (number, key, forward_path, domain, priority, state, due_at)
WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i < :last),
    d(i, domain, due_at) AS (SELECT i, CASE WHEN i % 10 = 0 THEN '{DEAD}' ELSE 'd' || i % 1000 || '.example' END,
        CASE WHEN i % 10 = 0 THEN :now - 3600 ELSE :now + {TOMORROW} + i END FROM n)
SELECT i, 0, 'user' || i || '@' || domain, domain, 0, 'due', due_at FROM d
""",  # noqa: S608  # as above
)


def _steps(depth: int) -> Iterator[dict[str, float]]:
    now = time.time()
    for first in range(1, depth + 1, STEP):
        yield {"first": first, "last": min(first + STEP - 1, depth), "now": now}


# --- embedded


async def _make(directory: Path) -> None:
    await (await open_spool(EmbeddedSettings(directory, 0))).close()


def fill_embedded(directory: Path, depth: int) -> None:
    """Makes the spool in ``directory`` with so many messages."""
    uvloop.run(_make(directory))
    database = _open(directory)
    for values in _steps(depth):
        with database:
            for statement in _EMBEDDED:
                database.execute(statement, values)
    _close(database)


def clear_embedded(directory: Path) -> None:
    """Only what was filled in stays."""
    database = _open(directory)
    with database:
        (last,) = database.execute("SELECT max(number) FROM message WHERE queue_id < ?", (LAST,)).fetchone()
        for table in ("recipient", "content", "message"):
            database.execute(f"DELETE FROM {table} WHERE number > ?", (last or 0,))  # noqa: S608  # our own names
    _close(database)


def _open(directory: Path) -> sqlite3.Connection:
    database = sqlite3.connect(directory / "spool.db")
    database.execute("PRAGMA synchronous = off")
    return database


def _close(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


# --- a cell


def fill_cell(dsn: str, depth: int) -> None:
    """So many messages. ``dsn``: of a superuser, who waits here until nothing of the filling is left to be done."""
    with _connect(dsn) as connection:
        connection.execute("ALTER TABLE message SET (toast_tuple_target = 128)")
        for values in _steps(depth):
            connection.execute(_CELL, values)
        connection.execute("ALTER TABLE message RESET (toast_tuple_target)")
    rest(dsn)


def clear_cell(dsn: str) -> None:
    """Only what was filled in stays; see fill_cell."""
    with _connect(dsn) as connection:
        for table in ("recipient", "message"):
            connection.execute(f"DELETE FROM {table} WHERE queue_id > %s", (LAST,))  # noqa: S608  # our own names
    rest(dsn)


def rest(dsn: str, patience: float = 180.0) -> None:
    """Vacuum, statistics and checkpoint now, and the standbys have all of it: what is measured next pays for none."""
    with _connect(dsn) as connection:
        connection.execute("VACUUM (ANALYZE) message, recipient")
        connection.execute("CHECKPOINT")
        ends_at = time.monotonic() + patience
        while time.monotonic() < ends_at:
            (behind,) = connection.execute(
                "SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0) FROM pg_stat_replication"
            ).fetchone() or (0,)
            if behind < 1 << 20:
                return
            time.sleep(0.1)


def _connect(dsn: str) -> psycopg.Connection[tuple[float, ...]]:
    connection = psycopg.connect(dsn, autocommit=True)
    connection.execute("SET search_path = pillarbox")
    connection.execute("SET synchronous_commit = local")
    return connection
