"""What an operator's verbs do to the tables: find, hold, release, retry, count. Work for Store.read and write.

A search walks the messages by queue id from where the last one ended, so that paging costs the same on every page.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pillarbox.message.envelope import Envelope
from pillarbox.spool.base import Filter, Recipient, State
from pillarbox.spool.due import Lane
from pillarbox.spool.meaning import Change, pattern
from pillarbox.spool.rows import Held
from pillarbox.spool.schema import (
    GONE,
    MESSAGE_COLUMNS,
    RECIPIENT_COLUMNS,
    envelope_from_row,
    recipient_from_row,
)
from pillarbox.store.sqlite import Database


class Found(NamedTuple):
    """A message with its recipients that are not gone."""

    number: int
    envelope: Envelope
    recipients: tuple[Recipient, ...]


_FUTURE = "r.attempts = 0 AND m.hold_until > ? AND r.due_at >= m.hold_until"
"""base.is_future() of the recipient ``r`` of the message ``m``, at the bound time."""


def recipient_conditions(which: Filter, now: float) -> tuple[str, list[Any]]:
    """SQL over ``r`` (and its message ``m``) for what a filter says of recipients."""
    terms: list[str] = [f"r.state != '{GONE}'"]
    values: list[Any] = []
    if which.future:
        terms.append(_FUTURE)
        values.append(now)
    if which.recipient is not None:
        terms.append("r.forward_path LIKE ? ESCAPE '\\'")
        values.append(pattern(which.recipient))
    if which.domain is not None:
        terms.append("substr(r.domain, 1, instr(r.domain || ' ', ' ') - 1) LIKE ? ESCAPE '\\'")  # without the site
        values.append(pattern(which.domain.lower()))
    if which.state is not None:
        terms.append("r.state = ?")
        values.append(which.state.value)
    return " AND ".join(terms), values


def message_conditions(which: Filter, now: float) -> tuple[str, list[Any]]:
    """SQL over ``m`` for what a filter says of messages."""
    terms: list[str] = []
    values: list[Any] = []
    if which.queue_ids:
        terms.append(f"m.queue_id IN ({', '.join('?' * len(which.queue_ids))})")
        values += which.queue_ids
    for column, text in (("reverse_path", which.sender), ("login", which.login)):
        if text is not None:
            terms.append(f"m.{column} LIKE ? ESCAPE '\\'")
            values.append(pattern(text))
    if which.age is not None:
        terms.append("m.received_at <= ?")
        values.append(now - which.age)
    if which.future:  # few are: begin with them
        terms.append("m.number IN (SELECT number FROM message WHERE hold_until > ? AND hold_until > 0)")
        values.append(now)
    return " AND ".join(terms) or "1", values


def find(db: Database, which: Filter, now: float, after: str, limit: int) -> list[tuple[str, int]]:
    """(queue id, number) of messages that fit, by queue id, after ``after``."""
    about_message, message_values = message_conditions(which, now)
    about_recipient, recipient_values = recipient_conditions(which, now)
    alone = which.recipient is None and which.domain is None and not which.future
    if alone and which.state in (State.HELD, State.DEAD):
        # Few are held or dead: begin with them rather than with everything that waits.
        about_recipient = f"m.number IN (SELECT number FROM recipient r WHERE {about_recipient})"  # noqa: S608  # fixed text; values are bound
    else:
        about_recipient = f"EXISTS (SELECT 1 FROM recipient r WHERE r.number = m.number AND {about_recipient})"  # noqa: S608  # as above
    rows: list[Any] = db.execute(
        f"SELECT m.queue_id, m.number FROM message m WHERE m.queue_id > ? AND {about_message} AND {about_recipient} "  # noqa: S608  # as above
        "ORDER BY m.queue_id LIMIT ?",
        (after, *message_values, *recipient_values, limit),
    ).fetchall()
    return rows


def load(db: Database, numbers: Iterable[int]) -> list[Found]:
    """Whole messages by number; one that left meanwhile is left out."""
    found = []
    for number in numbers:
        row = db.execute(f"SELECT {MESSAGE_COLUMNS} FROM message m WHERE m.number = ?", (number,)).fetchone()  # noqa: S608  # our own columns
        if row is None:
            continue
        columns = f"SELECT {RECIPIENT_COLUMNS} FROM recipient r WHERE r.number = ? ORDER BY r.key"  # noqa: S608  # our own columns
        rows = db.execute(columns, (number,)).fetchall()
        recipients = tuple(recipient_from_row(values) for values in rows if values[3] != GONE)
        found.append(Found(number, envelope_from_row(row, rows), recipients))
    return found


def number_of(db: Database, queue_id: str) -> int | None:
    """The number of a message, None when there is none."""
    row = db.execute("SELECT number FROM message WHERE queue_id = ?", (queue_id,)).fetchone()
    return None if row is None else int(row[0])


_UPDATE = "UPDATE recipient SET state = ?, due_at = ? WHERE number = ? AND key = ?"


def change(
    db: Database, verb: Change, which: Filter, messages: Sequence[tuple[str, int]], held: Held, now: float
) -> tuple[list[str], set[tuple[Lane, float]]]:
    """Carries a verb out on these messages' free recipients: the queue ids changed, and what is due when."""
    condition, values = recipient_conditions(which, now)
    states = ", ".join(f"'{state.value}'" for state in verb.states)
    select = (
        f"SELECT r.key, r.domain, r.priority, r.due_at, {_FUTURE} FROM message m JOIN recipient r USING (number) "  # noqa: S608  # fixed text; values are bound
        f"WHERE number = ? AND r.state IN ({states}) AND {condition}"
    )
    changed = []
    due: set[tuple[Lane, float]] = set()
    for queue_id, number in messages:
        lent = held.get(number, frozenset())
        rows = [row for row in db.execute(select, (now, number, *values)) if row[0] not in lent]
        if verb.due_now and State.DUE in verb.states and not verb.early:  # a sender's time stays
            rows = [row for row in rows if not row[-1]]
        for key, lane, priority, was_due_at, future in rows:
            due_at = now if verb.due_now and (verb.early or not future) else was_due_at
            db.execute(_UPDATE, (verb.state.value, due_at, number, key))
            if verb.state is State.DUE:
                due.add(((lane, priority), due_at))
        if rows:
            changed.append(queue_id)
    return changed, due


def count(db: Database, now: float) -> tuple[int, dict[str, int], float | None]:
    """Messages, recipients by state, and since when the first of them waits: not counting what its sender wants sent
    later."""
    messages = int(db.execute("SELECT count(*) FROM message").get)
    recipients = {}
    for state in State:
        query = f"SELECT count(*) FROM recipient INDEXED BY recipient_{state.value} WHERE state = '{state.value}'"  # noqa: S608  # our own names
        recipients[state.value] = int(db.execute(query).get)
    received_at = db.execute("SELECT received_at FROM message WHERE hold_until = 0 ORDER BY number LIMIT 1").get
    released_at = db.execute(
        "SELECT min(hold_until) FROM message WHERE hold_until > 0 AND hold_until <= ?", (now,)
    ).get
    waiting = [float(since) for since in (received_at, released_at) if since is not None]
    return messages, recipients, min(waiting, default=None)
