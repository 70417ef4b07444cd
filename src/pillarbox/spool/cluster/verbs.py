"""What an operator's verbs do to a cell's tables: the SQL of find, show, hold, release, retry, count.

As in the embedded spool a search walks the messages by queue id from where the last one ended.
"""

from collections.abc import Sequence
from typing import Any

from pillarbox.spool.base import Filter, State
from pillarbox.spool.cluster.rows import LATER, RECIPIENT_COLUMNS, escaped
from pillarbox.spool.cluster.schema import FREE
from pillarbox.spool.meaning import Change, pattern
from pillarbox.spool.schema import MESSAGE_COLUMNS, domain_of

Query = tuple[str, Sequence[Any]]

_STATES = {State.DUE: ("due", LATER), State.HELD: ("held",), State.DEAD: ("dead",)}
_FUTURE = "r.attempts = 0 AND m.hold_until > %s AND r.due_at >= m.hold_until"
"""base.is_future() of the recipient ``r`` of the message ``m``, at the bound time."""


def _like(column: str) -> str:
    """ASCII letters are one in either case, others are not: the columns' collation is C."""
    return f"{column} ILIKE %s ESCAPE '\\'"


def recipient_conditions(which: Filter, now: float) -> tuple[str, list[Any]]:
    """SQL over ``r`` (and its message ``m``) for what a filter says of recipients."""
    terms = ["r.state <> 'gone'"]
    values: list[Any] = []
    if which.future:
        terms.append(_FUTURE)
        values.append(now)
    domains = [which.domain] if which.domain is not None else []
    if which.recipient is not None and "*" not in which.recipient:
        domains.append(domain_of(which.recipient))  # quicker to compare than what follows
    for domain in (escaped(each.lower()) for each in domains):
        if "*" in domain:
            terms.append("split_part(r.domain, ' ', 1) LIKE %s ESCAPE '\\'")  # without the site
            values.append(pattern(domain))
        elif " " in domain:
            terms.append("false")  # that would be a lane
        else:
            terms.append("(r.domain = %s OR r.domain > %s AND r.domain < %s)")  # so that the index serves
            values += [domain, f"{domain} ", f"{domain}!"]
    if which.recipient is not None:
        terms.append(_like("r.forward_path"))
        values.append(pattern(escaped(which.recipient)))
    if which.state is not None:
        terms.append(f"r.state IN ({_list(_STATES[which.state])})")
    return " AND ".join(terms), values


def _list(texts: Sequence[str]) -> str:
    return ", ".join(f"'{text}'" for text in texts)


def message_conditions(which: Filter, now: float) -> tuple[str, list[Any]]:
    """SQL over ``m`` for what a filter says of messages."""
    terms = ["true"]
    values: list[Any] = []
    if which.queue_ids:
        terms.append("m.queue_id = ANY (%s)")
        values.append([escaped(queue_id) for queue_id in which.queue_ids])
    for column, text in (("m.reverse_path", which.sender), ("m.login", which.login)):
        if text is not None:
            terms.append(_like(column))
            values.append(pattern(escaped(text)))
    if which.age is not None:
        terms.append("m.received_at <= %s")
        values.append(now - which.age)
    if which.future:
        terms.append("m.hold_until > %s AND m.hold_until > 0")
        values.append(now)
    return " AND ".join(terms), values


def find(which: Filter, now: float, after: str, limit: int) -> Query:
    """Queue ids of messages that fit, in their order, after ``after``."""
    about_message, message_values = message_conditions(which, now)
    about_recipient, recipient_values = recipient_conditions(which, now)
    query = (
        f"SELECT m.queue_id FROM message m WHERE m.queue_id > %s AND {about_message} "  # noqa: S608  # fixed text; values are bound
        f"AND EXISTS (SELECT FROM recipient r WHERE r.queue_id = m.queue_id AND {about_recipient}) "
        "ORDER BY m.queue_id LIMIT %s"
    )
    return query, (after, *message_values, *recipient_values, limit)


def messages(queue_ids: Sequence[str]) -> Query:
    """Whole messages."""
    query = f"SELECT {MESSAGE_COLUMNS} FROM message m WHERE m.queue_id = ANY (%s) ORDER BY m.queue_id"  # noqa: S608  # our own columns
    return query, (list(queue_ids),)


def recipients(queue_ids: Sequence[str]) -> Query:
    """All their recipients, and of each whether it is lent."""
    query = (
        f"SELECT {RECIPIENT_COLUMNS}, NOT {FREE} FROM recipient r WHERE r.queue_id = ANY (%s) "  # noqa: S608  # as above
        "ORDER BY r.queue_id, r.key"
    )
    return query, (list(queue_ids),)


def change(verb: Change, which: Filter, queue_ids: Sequence[str], now: float) -> Query:
    """Carries a verb out on these messages' free recipients; gives back the queue ids of what was changed."""
    condition, values = recipient_conditions(which, now)
    states = [state for each in verb.states for state in _STATES[each]]
    stays = f"({_FUTURE})"
    due_at = "r.due_at"
    if verb.due_now:
        due_at = "%s::float8" if verb.early else f"CASE WHEN {stays} THEN r.due_at ELSE %s END"
    before: list[Any] = [] if not verb.due_now else [now] if verb.early else [now, now]
    terms = [f"r.queue_id = m.queue_id AND r.queue_id = ANY (%s) AND r.state IN ({_list(states)}) AND {condition}"]
    if verb.due_now and State.DUE in verb.states and not verb.early:  # a sender's time stays
        terms.append(f"NOT {stays}")
        values.append(now)
    state = f"'{verb.state.value}'"
    if verb.state is State.DUE:
        state = f"CASE WHEN {due_at} > %s THEN '{LATER}' ELSE 'due' END"
        before += [*before, now]
    query = (
        f"UPDATE recipient r SET due_at = {due_at}, state = {state} FROM message m "  # noqa: S608  # fixed text; values are bound
        f"WHERE {' AND '.join(terms)} AND {FREE} RETURNING r.queue_id"
    )
    return query, (*before, list(queue_ids), *values)


OF_A_MESSAGE = f"SELECT NOT {FREE} FROM recipient r WHERE r.queue_id = %s ORDER BY r.key FOR UPDATE"  # noqa: S608  # fixed text
"""Locks a message's recipients: of each whether it is lent."""
LOCK = "SELECT FROM message WHERE queue_id = %s FOR UPDATE"
REMOVE = "DELETE FROM recipient WHERE queue_id = %s"

COUNT_MESSAGES = "SELECT count(*) FROM recipient WHERE key = 0"
COUNT_RECIPIENTS = "SELECT state, count(*) FROM recipient WHERE state <> 'gone' GROUP BY state"
OLDEST = (
    "SELECT m.received_at FROM recipient r JOIN message m USING (queue_id) WHERE r.key = 0 AND m.hold_until = 0 "
    "ORDER BY r.queue_id LIMIT 1"
)
OLDEST_RELEASED = (
    "SELECT min(m.hold_until) FROM message m WHERE m.hold_until > 0 AND m.hold_until <= %s "
    "AND EXISTS (SELECT FROM recipient r WHERE r.queue_id = m.queue_id)"
)
