"""What a submission server adds to a header and takes out of it (RFC 6409 8); every other octet stays as it came.

    complete(parse(octets), trace=received(...), date=date_time(now), message_id=message_id(queue_id, host),
             own_names=frozenset({b"mail.example.org"}))

STANDARDS
    RFC 6409 8 (Date, Message-ID), RFC 5322 3.6.3 (Bcc), RFC 8601 5 (Authentication-Results in our own name).

ERRORS
    HeaderDefect: the header could be read differently by others (header.parse found a defect, which authors raises
    as well); nothing is taken out of what cannot be read.
"""

import re

from pillarbox.message.header import Header, body
from pillarbox.message.received import domain

_BLIND = frozenset({b"bcc", b"resent-bcc"})
_RESULTS = b"authentication-results"
_REMOVABLE = _BLIND | {_RESULTS}

# RFC 8601 2.2: [CFWS] authserv-id [CFWS authres-version]; a value is a token or a quoted-string (RFC 2045)
_AUTHSERV_ID = re.compile(rb'"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<token>[^\x00-\x20()<>@,;:\\"/\[\]?=\x7f]++)')
_WHITE_SPACE = re.compile(rb"[ \t]*+")
_COMMENT_MARK = re.compile(rb"\\.|[()]")
_QUOTED_PAIR = re.compile(rb"\\(.)")


def complete(header: Header, *, trace: bytes, date: str, message_id: str, own_names: frozenset[bytes]) -> bytes:
    """The header as it goes on, with its empty line if it had one.

    Args:
        header: the header section as received, read.
        trace: our Received field with its CRLF, put first.
        date: the body of the Date field that follows it when there is none at all.
        message_id: likewise of the Message-ID field, in angle brackets.
        own_names: authserv-ids that are ours: who sends Authentication-Results in one of them forges it.

    Raises HeaderDefect.
    """
    if header.defect is not None:
        raise header.defect
    fields = header.fields
    names = {name for name, _ in fields}
    parts = [trace]
    if b"date" not in names:
        parts.append(f"Date: {date}\r\n".encode("ascii"))
    if b"message-id" not in names:
        parts.append(f"Message-ID: {message_id}\r\n".encode("ascii"))
    if names.isdisjoint(_REMOVABLE):
        parts.append(header.octets)
    else:
        own = {name.lower() for name in own_names}
        parts += [raw for name, raw in fields if not _is_removed(name, raw, own)]
        parts.append(header.octets[sum([len(raw) for _, raw in fields]) :])
    return b"".join(parts)


def message_id(queue_id: str, host: str) -> str:
    """A Message-ID for a message that has none: ``<queue id@our host>`` (RFC 5322 3.6.4), unique as the queue id."""
    return f"<{queue_id}@{domain(host)}>"


def _is_removed(name: bytes, raw: bytes, own: set[bytes]) -> bool:
    return name in _BLIND or (name == _RESULTS and _authserv_id(raw) in own)


def _authserv_id(raw: bytes) -> bytes:
    octets = body(raw)
    match = _AUTHSERV_ID.match(octets, _skip_comments(octets))
    if match is None:
        return b""
    if (quoted := match["quoted"]) is not None:
        return _QUOTED_PAIR.sub(rb"\1", quoted).lower()
    return match["token"].lower()


def _skip_comments(octets: bytes) -> int:
    """The index behind white space and comments, which may hold comments (RFC 5322 3.2.2)."""
    depth = 0
    position = _white_space_end(octets, 0)
    while (depth or octets.startswith(b"(", position)) and (mark := _COMMENT_MARK.search(octets, position)):
        depth += {b"(": 1, b")": -1}.get(mark[0], 0)
        position = mark.end() if depth else _white_space_end(octets, mark.end())
    return len(octets) if depth else position


def _white_space_end(octets: bytes, position: int) -> int:
    match = _WHITE_SPACE.match(octets, position)
    return match.end() if match else position
