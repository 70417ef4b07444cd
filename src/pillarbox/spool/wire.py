"""How the spool's values travel between our own processes: by hand into plain tuples, since they are on every
message's path. Shapes here and in service.py and remote.py only; both ends are always of one version.

ERRORS
    TypeError, ValueError, KeyError on what does not fit: only a peer that is broken or hostile sends that.
"""

import operator
from dataclasses import fields
from typing import Any

from pillarbox.message.envelope import Envelope
from pillarbox.spool.base import (
    Deferred,
    Delivered,
    Failed,
    Lease,
    NewMessage,
    Outcome,
    Recipient,
    Settlement,
    State,
)

_ENVELOPE = tuple(field.name for field in fields(Envelope))
_TUPLES = tuple(_ENVELOPE.index(name) for name in ("forward_paths", "notify", "original_recipients"))

pack_envelope = operator.attrgetter(*_ENVELOPE)
pack_recipient = operator.attrgetter(*(field.name for field in fields(Recipient)))
_STATE = tuple(field.name for field in fields(Recipient)).index("state")

_OUTCOMES: tuple[type[Outcome], ...] = (Delivered, Deferred, Failed)
_pack_outcome = {
    Delivered: operator.attrgetter("reply", "hop"),
    Deferred: operator.attrgetter("reason", "hop", "due_at", "tried"),
    Failed: operator.attrgetter("reason", "hop", "status"),
}


def unpack_envelope(body: Any) -> Envelope:
    """The envelope of pack_envelope(); its queue id, which names files and rows, is text."""
    if len(body) != len(_ENVELOPE):
        raise ValueError("not an envelope")
    for index in _TUPLES:
        body[index] = tuple(body[index])
    envelope = Envelope(*body)
    if not isinstance(envelope.queue_id, str):
        raise ValueError("not a queue id")
    return envelope


def pack_lease(lease: Lease) -> tuple[Any, ...]:
    """(lease id, envelope, recipients, content)."""
    recipients = [pack_recipient(recipient) for recipient in lease.recipients]
    return lease.lease_id, pack_envelope(lease.envelope), recipients, lease.content


def unpack_lease(body: Any) -> Lease:
    """The lease of pack_lease()."""
    lease_id, envelope, recipients, content = body
    return Lease(lease_id, unpack_envelope(envelope), tuple(map(_unpack_recipient, recipients)), content)


def _unpack_recipient(body: Any) -> Recipient:
    body[_STATE] = State(body[_STATE])
    return Recipient(*body)


def pack_message(message: NewMessage) -> tuple[Any, ...]:
    """(envelope, content)."""
    return pack_envelope(message.envelope), message.content


def unpack_message(body: Any) -> NewMessage:
    """The message of pack_message()."""
    envelope, content = body
    return NewMessage(unpack_envelope(envelope), content)


def pack_settlement(settlement: Settlement) -> tuple[Any, ...]:
    """(queue id, [(key, kind, outcome's fields)], messages, warned)."""
    outcomes = [
        (key, _OUTCOMES.index(type(outcome)), _pack_outcome[type(outcome)](outcome))
        for key, outcome in settlement.outcomes.items()
    ]
    messages = [pack_message(message) for message in settlement.messages]
    return settlement.queue_id, outcomes, messages, tuple(settlement.warned)


def unpack_settlement(body: Any) -> Settlement:
    """The settlement of pack_settlement()."""
    queue_id, outcomes, messages, warned = body
    return Settlement(
        queue_id,
        {key: _OUTCOMES[kind](*values) for key, kind, values in outcomes},
        tuple(map(unpack_message, messages)),
        frozenset(warned),
    )
