"""The embedded spool's tables, and how an envelope and a recipient become rows and come back.

Everything of an envelope has its typed column (STRICT tables: a value of another type is refused): what a peer sent
is never kept as lines that somebody must parse again. A recipient that is delivered or bounced stays as ``gone``
until the message leaves, so that the envelope can always be given back whole.

``message.number`` names a message within this file, rises with each commit and is not used twice in a process's
life; the queue id is its name for everybody else.
"""

import operator
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from pillarbox.message.envelope import Envelope
from pillarbox.spool.base import Recipient, State

MIGRATIONS = (
    """
    CREATE TABLE message (
        number INTEGER PRIMARY KEY,
        queue_id TEXT NOT NULL UNIQUE,
        reverse_path TEXT NOT NULL,
        received_at REAL NOT NULL,
        size INTEGER NOT NULL,
        eight_bit INTEGER NOT NULL,
        smtputf8 INTEGER NOT NULL,
        login TEXT NOT NULL,
        site TEXT NOT NULL,
        session_id TEXT NOT NULL,
        is_bounce INTEGER NOT NULL,
        content_file TEXT  -- its name in content/; NULL: the octets are in table content
    ) STRICT;
    CREATE TABLE content (
        number INTEGER PRIMARY KEY,
        octets BLOB NOT NULL
    ) STRICT;
    CREATE TABLE recipient (
        number INTEGER NOT NULL,
        key INTEGER NOT NULL,
        forward_path TEXT NOT NULL,
        domain TEXT NOT NULL,
        state TEXT NOT NULL,  -- due, held, dead, gone
        due_at REAL NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        last_reply TEXT NOT NULL DEFAULT '',
        last_attempt_at REAL,
        delay_warned INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (number, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX recipient_due ON recipient (domain, due_at) WHERE state = 'due';
    CREATE INDEX recipient_held ON recipient (domain) WHERE state = 'held';
    CREATE INDEX recipient_dead ON recipient (domain) WHERE state = 'dead';
    CREATE TABLE probe (id INTEGER PRIMARY KEY, at REAL NOT NULL) STRICT;
    CREATE INDEX message_file ON message (content_file) WHERE content_file IS NOT NULL;
    """,
    """
    ALTER TABLE message ADD COLUMN binary INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE message ADD COLUMN ret TEXT NOT NULL DEFAULT '';
    ALTER TABLE message ADD COLUMN envid TEXT NOT NULL DEFAULT '';
    ALTER TABLE message ADD COLUMN hold_until REAL NOT NULL DEFAULT 0;
    ALTER TABLE message ADD COLUMN deliver_by REAL NOT NULL DEFAULT 0;
    ALTER TABLE message ADD COLUMN deliver_by_mode TEXT NOT NULL DEFAULT '';
    ALTER TABLE message ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE message ADD COLUMN require_tls INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE message ADD COLUMN tls_optional INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE recipient ADD COLUMN notify TEXT NOT NULL DEFAULT '';
    ALTER TABLE recipient ADD COLUMN original_recipient TEXT NOT NULL DEFAULT '';
    """,
    """
    ALTER TABLE recipient ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;  -- its message's, for the index
    UPDATE recipient SET priority = (SELECT m.priority FROM message m WHERE m.number = recipient.number)
        WHERE number IN (SELECT number FROM message WHERE priority != 0);
    DROP INDEX recipient_due;
    CREATE INDEX recipient_due ON recipient (domain, priority, due_at) WHERE state = 'due';
    CREATE INDEX message_hold ON message (hold_until) WHERE hold_until > 0;
    """,
    """
    CREATE TABLE restored (  -- what was brought back: a repeat is void, also when it was delivered meanwhile
        queue_id TEXT PRIMARY KEY,
        at REAL NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE identity (token TEXT NOT NULL) STRICT;  -- one row: which spool this is
    INSERT INTO identity VALUES (lower(hex(randomblob(16))));
    CREATE TABLE taken (  -- what is on its way to another spool: here its recipients are gone
        number INTEGER PRIMARY KEY,
        queue_id TEXT NOT NULL UNIQUE,
        destination TEXT NOT NULL,  -- that spool's identity
        states TEXT NOT NULL  -- JSON: by key, the states of the recipients that wait
    ) STRICT;
    """,
)

RESTORED_FOR = 30 * 86_400
"""Seconds for which it is known what was brought back."""

GONE = "gone"
"""The state of a recipient that has its final outcome while others of the message wait."""

_BY_RECIPIENT = ("forward_paths", "notify", "original_recipients")
_FIELDS = tuple(field.name for field in fields(Envelope) if field.name not in _BY_RECIPIENT)
_take_fields = operator.attrgetter(*_FIELDS)

MESSAGE_COLUMNS = ", ".join(f"m.{name}" for name in _FIELDS)
"""The envelope's columns, in the order that ``envelope_from_row`` wants them."""

INSERT_MESSAGE = (
    f"INSERT INTO message (number, content_file, {', '.join(_FIELDS)}) "  # noqa: S608  # names of our own columns
    f"VALUES ({', '.join('?' * (len(_FIELDS) + 2))}) ON CONFLICT (queue_id) DO NOTHING"
)
INSERT_CONTENT = "INSERT INTO content (number, octets) VALUES (?, ?)"
INSERT_RECIPIENT = (
    "INSERT INTO recipient (number, key, forward_path, domain, priority, state, due_at, notify, original_recipient) "
    "VALUES (?, ?, ?, ?, ?, 'due', ?, ?, ?)"
)

RECIPIENT_COLUMNS = (
    "r.key, r.forward_path, r.domain, r.state, r.due_at, r.attempts, r.last_reply, r.last_attempt_at, "
    "r.delay_warned, r.notify, r.original_recipient"
)

_BOOLEANS = tuple(index for index, name in enumerate(_FIELDS) if Envelope.__annotations__[name] is bool)


def message_row(number: int, content_file: str | None, envelope: Envelope) -> tuple[Any, ...]:
    """The values of INSERT_MESSAGE."""
    return (number, content_file, *_take_fields(envelope))


def envelope_from_row(row: tuple[Any, ...], recipients: Sequence[tuple[Any, ...]]) -> Envelope:
    """An envelope from MESSAGE_COLUMNS (``row`` may go on behind them) and all its recipients' RECIPIENT_COLUMNS,
    by key."""
    values = dict(zip(_FIELDS, row, strict=False))
    for index in _BOOLEANS:
        values[_FIELDS[index]] = bool(row[index])
    _, forward_paths, *_, notify, original_recipients = zip(*recipients, strict=True)
    return Envelope(
        forward_paths=forward_paths,
        notify=notify if any(notify) else (),
        original_recipients=original_recipients if any(original_recipients) else (),
        **values,
    )


def recipient_from_row(row: tuple[Any, ...]) -> Recipient:
    """A recipient from RECIPIENT_COLUMNS; not for one that is gone."""
    lane: str = row[2]
    domain = lane.partition(" ")[0]
    return Recipient(
        row[0], row[1], domain, State(row[3]), row[4], row[5], row[6], row[7], bool(row[8]), row[9], row[10], lane
    )


def domain_of(forward_path: str) -> str:
    """Of a forward path, in lower case; "" for Postmaster without one."""
    return forward_path.rpartition("@")[2].lower() if "@" in forward_path else ""


def lane_of(forward_path: str, site: str) -> str:
    """What recipients that wait together have in common: the domain and, behind a blank, the site, for its routes may
    be its own. The column ``domain`` holds it; what was queued before sites had routes has the domain alone there,
    and waits well like that."""
    return f"{domain_of(forward_path)} {site}"
