"""SMTP as octets and events, without any I/O (sans-IO), for both roles.

The room's public names are imported from here or from their modules: ``connection`` (the seam), ``events``,
``reply``, ``path``, ``hints``. It imports nothing of ours, no asyncio, socket, ssl, time or logging, so that every
rule of the protocol can be tested with octets alone.
"""

from pillarbox.smtp.connection import (
    NEED_DATA,
    PAUSED,
    Connection,
    Limits,
    LocalProtocolError,
    RemoteProtocolError,
    Role,
    Signal,
)
from pillarbox.smtp.path import ForwardPath, Mailbox, ReversePath
from pillarbox.smtp.reply import Reply
from pillarbox.smtp.syntax import parse_mailbox

__all__ = [
    "NEED_DATA",
    "PAUSED",
    "Connection",
    "ForwardPath",
    "Limits",
    "LocalProtocolError",
    "Mailbox",
    "RemoteProtocolError",
    "Reply",
    "ReversePath",
    "Role",
    "Signal",
    "parse_mailbox",
]
