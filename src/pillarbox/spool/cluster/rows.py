"""Envelopes and recipients as rows of the cell, and back.

A message goes to the server as one JSON object, its recipients within: that is the least work for both sides, and a
text that cannot be stored is found before the message shares a transaction with others. PostgreSQL's text cannot
hold NUL, so it goes as two characters, U+001A and 0; U+001A itself as U+001A and 1.

ERRORS
    pack raises ValueError: no forward paths, a number that is none, text that is no Unicode.
"""

import hashlib
import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from pillarbox.message.envelope import Envelope
from pillarbox.spool.base import Recipient, State
from pillarbox.spool.schema import envelope_from_row, lane_of, recipient_from_row
from pillarbox.store.postgresql import Transaction

_BY_RECIPIENT = ("forward_paths", "notify", "original_recipients")
_FIELDS = tuple(field.name for field in fields(Envelope) if field.name not in _BY_RECIPIENT)
_take_fields = operator.attrgetter(*_FIELDS)
_TYPES = {str: "text", int: "int8", float: "float8", bool: "bool"}

LATER = "later"
"""The state of a recipient that is State.DUE, and whose time has not come."""

_OF_A_RECIPIENT = 50

RECIPIENT_COLUMNS = (
    "r.queue_id, r.key, r.forward_path, r.domain, CASE r.state WHEN 'later' THEN 'due' ELSE r.state END, r.due_at, "
    "r.attempts, r.last_reply, r.last_attempt_at, r.delay_warned, r.notify, r.original_recipient"
)

# -- in

_ESCAPE, _NUL, _ITSELF = "\x1a", "\x1a0", "\x1a1"
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def escaped(text: str) -> str:
    """As PostgreSQL can hold it."""
    return text.replace(_ESCAPE, _ITSELF).replace("\0", _NUL)


class Packed(NamedTuple):
    """A message for INSERT: a JSON object, and the octets of its content (None: in chunks)."""

    queue_id: str
    text: str
    content: bytes | None
    size: int
    digest: bytes


class Chunked(NamedTuple):
    """Where a large content is: how many chunks, how many octets."""

    content_id: int
    chunks: int
    size: int


def to_json(values: Any) -> str:
    """JSON in which no text has what PostgreSQL cannot hold."""
    text = _encode(values)
    if "\\u00" in text:  # a control character, perhaps one of the two
        text = _encode(_escape_all(values))
    text.encode()  # a lone surrogate is a ValueError here, not in everybody's transaction
    return text


def _escape_all(values: Any) -> Any:
    if isinstance(values, str):
        return escaped(values)
    if isinstance(values, dict):
        return {name: _escape_all(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_escape_all(value) for value in values]
    return values


def pack(envelope: Envelope, content: bytes | Chunked, due_at: float, now: float) -> Packed:
    """``due_at``: of its recipients; ``now`` says whether that is yet to come."""
    if not envelope.forward_paths:  # it would stay for ever
        raise ValueError(f"{envelope.queue_id}: an envelope without forward paths")
    if escaped(envelope.queue_id) != envelope.queue_id:
        raise ValueError("not a queue id")
    values: dict[str, Any] = dict(zip(_FIELDS, _take_fields(envelope), strict=True))
    nothing = ("",) * len(envelope.forward_paths)
    wishes = zip(envelope.notify or nothing, envelope.original_recipients or nothing, strict=True)
    values["to"] = [
        {"p": path, "d": lane_of(path, envelope.site), "n": notify, "o": original}
        for path, (notify, original) in zip(envelope.forward_paths, wishes, strict=True)
    ]
    text = to_json(values)
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    more = {"digest": digest.hex(), "due_at": due_at, "state": LATER if due_at > now else State.DUE.value}
    octets = size = 0
    if isinstance(content, Chunked):
        more |= {"content_id": content.content_id, "chunks": content.chunks, "whole": content.size}
    else:
        octets = size = len(content)
    many = len(envelope.forward_paths) > 1
    more["weight"] = octets + (2 * len(text) + _OF_A_RECIPIENT * len(nothing) if many else 0)
    packed = f"{text[:-1]},{_encode(more)[1:]}"
    return Packed(envelope.queue_id, packed, None if isinstance(content, Chunked) else content, size, digest)


_COLUMNS = ", ".join(f'"{name}"' for name in _FIELDS)
_GIVEN = ", ".join(f'"{name}" {_TYPES[Envelope.__annotations__[name]]}' for name in _FIELDS)

_INSERT = f"""
WITH given AS MATERIALIZED (
    SELECT * FROM ROWS FROM (json_to_recordset(%s::json) AS ({_GIVEN}, "to" json, digest text, due_at float8,
        state text, weight int4, content_id int8, chunks int4, whole int8)) WITH ORDINALITY
        AS g({_COLUMNS}, "to", digest, due_at, state, weight, content_id, chunks, whole, number)
), added AS (
    INSERT INTO message ({_COLUMNS}, digest, weight, content, content_id, chunks)
    SELECT {_COLUMNS}, decode(g.digest, 'hex'), g.weight, (%b::bytea[])[g.number::int4], g.content_id,
        coalesce(g.chunks, 0)
    FROM given g
    WHERE g.content_id IS NULL OR content_is_whole(g.content_id, g.chunks, g.whole)
    ORDER BY g.queue_id
    ON CONFLICT (queue_id) DO NOTHING
    RETURNING queue_id
), recipients AS (
    INSERT INTO recipient (queue_id, key, forward_path, domain, priority, state, due_at, notify, original_recipient)
    SELECT g.queue_id, t.number - 1, t.p, t.d, g.priority, g.state, g.due_at, t.n, t.o
    FROM added JOIN given g USING (queue_id) CROSS JOIN LATERAL ROWS FROM (
        json_to_recordset(g."to") AS (p text, d text, n text, o text)
    ) WITH ORDINALITY AS t(p, d, n, o, number)
)
SELECT queue_id FROM added
"""  # noqa: S608  # names of our own columns; values are bound


def insertion(messages: Sequence[Packed]) -> tuple[str, tuple[Any, ...]]:
    """The statement that adds messages, each with another queue id: it gives back the queue ids that were added.

    What is left out was there already under its queue id, or its chunks are not all there.
    """
    texts = f"[{','.join([message.text for message in messages])}]"
    return _INSERT, (texts, [message.content for message in messages])


async def digests(transaction: Transaction, queue_ids: Sequence[str]) -> Mapping[str, bytes]:
    """What is recorded under these queue ids."""
    query = "SELECT queue_id, digest FROM message WHERE queue_id = ANY (%s)"
    return {queue_id: bytes(digest) for queue_id, digest in await transaction.fetch(query, (list(queue_ids),))}


# -- out


def plain(row: Iterable[Any]) -> tuple[Any, ...]:
    """A row with its texts as they were given."""
    return tuple(
        [
            value.replace(_NUL, "\0").replace(_ITSELF, _ESCAPE) if type(value) is str and _ESCAPE in value else value
            for value in row
        ]
    )


def by_message(rows: Iterable[Sequence[Any]]) -> dict[str, list[tuple[Any, ...]]]:
    """Rows of recipients (RECIPIENT_COLUMNS, then anything) in key order by queue id, which is taken off."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(plain(row[1:]))
    return found


def envelope_of(row: Sequence[Any], recipients: Sequence[tuple[Any, ...]]) -> Envelope:
    """An envelope from MESSAGE_COLUMNS (then anything) and all its recipients' rows, as by_message gives them."""
    return envelope_from_row(plain(row), [values[:11] for values in recipients])


def recipient_of(values: tuple[Any, ...]) -> Recipient:
    """From a row of by_message; not for one that is gone."""
    return recipient_from_row(values[:11])
