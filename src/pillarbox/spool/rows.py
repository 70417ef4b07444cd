"""What one message's life does to the tables: insert, lend, settle, remove. Runs in the store's threads.

Each function here is work for Store.write or Store.read: it changes the database and nothing else, may be run twice,
and gives back what the owner needs to know (which domains have something due, which file to unlink).
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from pillarbox.message.envelope import Envelope
from pillarbox.spool.base import NewMessage, QueueIdTaken, Recipient, Settlement, State
from pillarbox.spool.due import Lane, rank
from pillarbox.spool.schema import (
    INSERT_CONTENT,
    INSERT_MESSAGE,
    INSERT_RECIPIENT,
    MESSAGE_COLUMNS,
    RECIPIENT_COLUMNS,
    envelope_from_row,
    lane_of,
    message_row,
    recipient_from_row,
)
from pillarbox.spool.settling import Known, is_carried_out, plan
from pillarbox.store.sqlite import Database

Held = Mapping[int, AbstractSet[int]]
"""Message number -> keys of recipients that are lent out."""


_ENVELOPE = f"SELECT {MESSAGE_COLUMNS}, m.number FROM message m WHERE m.queue_id = ?"  # noqa: S608  # our own columns


def insert(
    db: Database, number: int, envelope: Envelope, octets: bytes | None, content_file: str | None, due_at: float
) -> bool:
    """Adds a message; False when the very same is there already. Raises QueueIdTaken, ValueError."""
    if not envelope.forward_paths:  # it would stay for ever
        raise ValueError(f"{envelope.queue_id}: an envelope without forward paths")
    db.execute(INSERT_MESSAGE, message_row(number, content_file, envelope))
    if not db.changes():
        if load_envelope(db, envelope.queue_id) != envelope:
            raise QueueIdTaken(f"queue id {envelope.queue_id} names another message")
        return False
    if octets is not None:
        db.execute(INSERT_CONTENT, (number, octets))
    nothing = ("",) * len(envelope.forward_paths)
    wishes = zip(envelope.notify or nothing, envelope.original_recipients or nothing, strict=True)
    for key, (path, wish) in enumerate(zip(envelope.forward_paths, wishes, strict=True)):
        lane = lane_of(path, envelope.site)
        db.execute(INSERT_RECIPIENT, (number, key, path, lane, envelope.priority, due_at, *wish))
    return True


def load_envelope(db: Database, queue_id: str) -> Envelope | None:
    """The envelope as it was committed, whatever became of its recipients since."""
    row = db.execute(_ENVELOPE, (queue_id,)).fetchone()
    if row is None:
        return None
    return envelope_from_row(row, db.execute(_RECIPIENTS, (row[-1],)).fetchall())


class Lent(NamedTuple):
    """One message that may be lent: its number, and what a Lease is made of."""

    number: int
    envelope: Envelope
    recipients: tuple[Recipient, ...]
    content: bytes | None


def weight(lent: Lent) -> int:
    """The octets of a lease, about: content, and if there are many addresses each twice (envelope and recipient)."""
    envelope = lent.envelope
    content = len(lent.content or b"")
    if len(envelope.forward_paths) == 1:
        return content
    addresses = sum(map(len, envelope.forward_paths)) + sum(map(len, envelope.original_recipients))
    each = sum([_OF_A_RECIPIENT + len(recipient.last_reply) for recipient in lent.recipients])
    return content + 2 * addresses + each


_OF_A_RECIPIENT = 50
"""Octets of a recipient beside its texts, about."""


class Search(NamedTuple):
    """What is looked for: ``lanes`` that have something due at ``now``; ``octets`` in all, by weight().

    Other lanes may have something that goes before ranks above ``until``: what has one is not lent before they were
    looked at.
    """

    lanes: Sequence[Lane]
    skip: frozenset[str]
    now: float
    until: float
    limit: int
    octets: int


_NEXT_DUE = (
    "SELECT due_at, number, key FROM recipient INDEXED BY recipient_due WHERE state = 'due' AND domain = ? "
    "AND priority = ? ORDER BY due_at, number"
)
_LOAD = (
    f"SELECT {MESSAGE_COLUMNS}, m.content_file, c.octets FROM message m "  # noqa: S608  # our own columns
    "LEFT JOIN content c ON c.number = m.number WHERE m.number = ?"
)
_RECIPIENTS = f"SELECT {RECIPIENT_COLUMNS} FROM recipient r WHERE r.number = ? ORDER BY r.key"  # noqa: S608  # our own columns


class _Stream(NamedTuple):
    """A lane's due rows while they are merged; the lane is in the heap once, so nothing behind it is compared."""

    rank: float
    lane: Lane
    due_at: float
    number: int
    rows: Iterator[tuple[float, int]]


def lend(db: Database, search: Search, held: Held) -> tuple[list[Lent], dict[Lane, float | None]]:
    """Messages with something due, the lowest rank first over all the lanes, and for each lane looked at the due time
    of its first recipient that is still free (None: there is none).

    The lanes' rows are merged as they are read, so the cost is that of what is lent and lent out already, however
    many wait behind it.
    """
    found: list[Lent] = []
    taken: set[int] = set()
    following: dict[Lane, float | None] = {}
    octets = 0
    streams: list[_Stream] = []
    for lane in search.lanes:
        _advance(_free(db, lane, held), lane, search.now, streams, following)
    while streams and streams[0].rank <= search.until and len(found) < search.limit and octets < search.octets:
        _, lane, _, number, rows = heapq.heappop(streams)
        if number not in taken:
            taken.add(number)
            lent = _load(db, number, search, held.get(number, frozenset()))
            if lent is not None:
                found.append(lent)
                octets += weight(lent)
        _advance(rows, lane, search.now, streams, following)
    for _, lane, due_at, number, rows in streams:
        while number in taken and due_at <= search.now:  # taken through another recipient
            due_at, number = next(rows, (0.0, 0))
            if not number:
                break
        following[lane] = due_at if number else None
    return found, following


def _advance(
    rows: Iterator[tuple[float, int]],
    lane: Lane,
    now: float,
    streams: list[_Stream],
    following: dict[Lane, float | None],
) -> None:
    row = next(rows, None)
    if row is None or row[0] > now:
        following[lane] = None if row is None else row[0]
    else:
        heapq.heappush(streams, _Stream(rank(row[0], lane[1]), lane, *row, rows))


def _free(db: Database, lane: Lane, held: Held) -> Iterator[tuple[float, int]]:
    nothing: frozenset[int] = frozenset()
    for due_at, number, key in db.execute(_NEXT_DUE, lane):
        if key not in held.get(number, nothing):
            yield due_at, number


def _load(db: Database, number: int, search: Search, held: AbstractSet[int]) -> Lent | None:
    row = db.execute(_LOAD, (number,)).fetchone()
    recipients: list[Any] = db.execute(_RECIPIENTS, (number,)).fetchall()
    due = []
    for values in recipients:
        free = values[3] == State.DUE and values[4] <= search.now and values[0] not in held
        if free and values[2] not in search.skip:
            due.append(recipient_from_row(values))
    if row is None or not due:
        return None
    return Lent(number, envelope_from_row(row, recipients), tuple(due), row[-1])


def reload(db: Database, queue_id: str, keys: frozenset[int]) -> Lent | None:
    """What a lease that was given earlier is about, without content: those of its recipients that still wait."""
    row = db.execute(_ENVELOPE, (queue_id,)).fetchone()
    if row is None:
        return None
    values = db.execute(_RECIPIENTS, (row[-1],)).fetchall()
    waiting = [recipient_from_row(v) for v in values if v[0] in keys and v[3] == State.DUE]
    if len(waiting) < len(keys):
        return None
    return Lent(row[-1], envelope_from_row(row, values), tuple(waiting), None)


def content_file_of(db: Database, number: int) -> str | None:
    """The file with a message's content, None when it is a row."""
    name: str | None = db.execute("SELECT content_file FROM message WHERE number = ?", (number,)).get
    return name


class Settled(NamedTuple):
    """What a settlement led to: what is due in which lane and when, whether the message left, what to unlink."""

    due: list[tuple[Lane, float]]
    finished: bool
    content_file: str | None


_KNOWN = "SELECT r.key, r.state, r.due_at, r.domain, r.delay_warned FROM recipient r WHERE r.number = ?"


def _known(db: Database, number: int) -> dict[int, Known]:
    rows = db.execute(_KNOWN, (number,))
    return {key: Known(state, due_at, lane, bool(warned)) for key, state, due_at, lane, warned in rows}


def is_settled(db: Database, settlement: Settlement) -> bool:
    """Whether the tables say what the settlement says: it was carried out before."""
    number = db.execute("SELECT number FROM message WHERE queue_id = ?", (settlement.queue_id,)).get
    return is_carried_out(settlement, {} if number is None else _known(db, number))


def settle(db: Database, settlement: Settlement, now: float, numbers: Sequence[int]) -> Settled:
    """Outcomes and new messages, as settling.plan says."""
    row = db.execute(
        "SELECT number, is_bounce, content_file, priority FROM message WHERE queue_id = ?", (settlement.queue_id,)
    ).fetchone()
    if row is None:
        return Settled([], False, None)
    number, is_bounce, content_file, priority = row
    known = _known(db, number)
    made = plan(settlement, known, is_bounce=bool(is_bounce))
    for key, deferred in made.postponed.items():
        db.execute(
            "UPDATE recipient SET state = 'due', due_at = ?, attempts = attempts + ?, last_reply = ?, "
            "last_attempt_at = coalesce(?, last_attempt_at) WHERE number = ? AND key = ?",
            (deferred.due_at, deferred.tried, deferred.reason, now if deferred.tried else None, number, key),
        )
    for key, failed in made.dead.items():
        db.execute(
            "UPDATE recipient SET state = 'dead', attempts = attempts + 1, last_reply = ?, last_attempt_at = ? "
            "WHERE number = ? AND key = ?",
            (failed.reason, now, number, key),
        )
    for key in made.warned:
        db.execute("UPDATE recipient SET delay_warned = 1 WHERE number = ? AND key = ?", (number, key))
    due = [((known[key].lane, priority), deferred.due_at) for key, deferred in made.postponed.items()]
    if made.messages:
        due += add_messages(db, settlement.messages, now, numbers)
    if made.finished:
        remove(db, number)
        return Settled(due, True, content_file)
    db.executemany(
        "UPDATE recipient SET state = 'gone', last_attempt_at = ? WHERE number = ? AND key = ?",
        ((now, number, key) for key in made.leaving),
    )
    return Settled(due, False, None)


def add_messages(
    db: Database, messages: Iterable[NewMessage], now: float, numbers: Sequence[int]
) -> list[tuple[Lane, float]]:
    """Inserts messages of our own, due at once; (lane, due_at) of their recipients."""
    due: list[tuple[Lane, float]] = []
    for number, message in zip(numbers, messages, strict=True):
        if insert(db, number, message.envelope, message.content, None, now):
            envelope = message.envelope
            lanes = ((lane_of(path, envelope.site), envelope.priority) for path in envelope.forward_paths)
            due += [(lane, now) for lane in lanes]
    return due


def remove(db: Database, number: int) -> None:
    """Takes a message out of every table."""
    db.execute("DELETE FROM recipient WHERE number = ?", (number,))
    db.execute("DELETE FROM content WHERE number = ?", (number,))
    db.execute("DELETE FROM message WHERE number = ?", (number,))


def due_lanes(db: Database) -> list[tuple[Lane, float]]:
    """Each lane that has recipients waiting, with the first due time."""
    rows: list[Any] = db.execute(
        "SELECT domain, priority, min(due_at) FROM recipient INDEXED BY recipient_due WHERE state = 'due' "
        "GROUP BY domain, priority"
    ).fetchall()
    return [((lane, priority), due_at) for lane, priority, due_at in rows]
