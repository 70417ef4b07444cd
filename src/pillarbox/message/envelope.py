"""The envelope: what travels beside the content, decoded, in typed fields (never as lines).

STANDARDS
    RFC 5321 2.3.1 (envelope), RFC 6152, RFC 6531, RFC 3030 (BINARYMIME), RFC 3461 (DSN), RFC 4865 (FUTURERELEASE),
    RFC 2852 (DELIVERBY), RFC 6710 (MT-PRIORITY), RFC 8689 (REQUIRETLS).

ERRORS
    queue_id raises ValueError: a time or a number of random octets that no id can be made from (a caller's bug).
"""

import re
from dataclasses import dataclass
from functools import lru_cache

_RANDOM_OCTETS = 10
_MILLISECONDS = 1 << 48
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [high + low for high in _CROCKFORD for low in _CROCKFORD]
_TIME_SHIFTS = range(40, -1, -10)  # two characters are 10 bits; 5 pairs hold the 48 bits of time
_RANDOM_SHIFTS = range(70, -1, -10)  # and 8 pairs the 80 random ones
_QUEUE_ID = re.compile("[0-7][0-9A-HJKMNP-TV-Z]{25}(?:-[a-z0-9]{1,16})?")


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message's envelope, from commit to the last outcome.

    Attributes:
        queue_id: 26 characters of Crockford base32: 48 bits of milliseconds, 80 random bits; then "-" and the tag
            of the cell that holds the message, if its spool has cells (see queue_id()).
        reverse_path: in wire form without brackets; "" is the null reverse-path.
        forward_paths: in wire form without brackets, in RCPT order, each once.
        received_at: seconds since the epoch, when the content ended.
        size: octets of the content as stored.
        eight_bit: the content holds an octet above 127: a next hop needs 8BITMIME.
        smtputf8: the message needs SMTPUTF8 at the next hop.
        login: who submitted (the Identity's name); "" for what we made ourselves (bounces).
        site: the site's name.
        session_id: the session it came in by, for the log; "" for our own.
        is_bounce: a delivery status notification of ours: never bounced again.
        binary: the content is BINARYMIME: it may hold bare CR, bare LF and NUL, and goes out by BDAT or not at all.
        ret: "FULL" or "HDRS", what a failure's report returns (RFC 3461 4.3); "" when not asked.
        envid: the sender's own name for the message, decoded (RFC 3461 4.4); "" for none.
        notify: what is reported of each forward path, in their order (RFC 3461 4.1): "" as by default, "NEVER", or
            of SUCCESS, FAILURE, DELAY those wanted, with commas, in this order. Empty when all are "".
        original_recipients: ORCPT of each forward path, decoded, "type;address" (RFC 3461 4.2), "" for none. Empty
            when all are "".
        hold_until: seconds since the epoch before which nothing is delivered (RFC 4865); 0.0: at once.
        deliver_by: seconds since the epoch by which it shall be delivered (RFC 2852); 0.0: no such time.
        deliver_by_mode: "R" (return when late), "N" (notify when late), "" without deliver_by; a T behind it asks
            for a trace: "RT", "NT".
        priority: -9 (last) to 9 (first), 0 as by default (RFC 6710).
        require_tls: only over TLS with a checked certificate, hop by hop (RFC 8689 REQUIRETLS).
        tls_optional: the header says TLS-Required: No (RFC 8689 5): delivery matters more than TLS.
    """

    queue_id: str
    reverse_path: str
    forward_paths: tuple[str, ...]
    received_at: float
    size: int
    eight_bit: bool = False
    smtputf8: bool = False
    login: str = ""
    site: str = ""
    session_id: str = ""
    is_bounce: bool = False
    binary: bool = False
    ret: str = ""
    envid: str = ""
    notify: tuple[str, ...] = ()
    original_recipients: tuple[str, ...] = ()
    hold_until: float = 0.0
    deliver_by: float = 0.0
    deliver_by_mode: str = ""
    priority: int = 0
    require_tls: bool = False
    tls_optional: bool = False


def queue_id(now: float, random: bytes, tag: str = "") -> str:
    """A queue id from the time (seconds since the epoch) and 10 random octets; ``tag``: the cell's name, or "".

    Ids of one millisecond sort by chance, ids of different ones by time. Raises ValueError.
    """
    milliseconds = int(now * 1000)
    if len(random) != _RANDOM_OCTETS or not 0 <= milliseconds < _MILLISECONDS:
        raise ValueError("a queue id needs a time after 1970 and 10 random octets")
    number = int.from_bytes(random)
    name = _time_text(milliseconds) + "".join([_PAIRS[number >> shift & 0x3FF] for shift in _RANDOM_SHIFTS])
    return f"{name}-{tag}" if tag else name


@lru_cache(maxsize=8)
def _time_text(milliseconds: int) -> str:
    return "".join([_PAIRS[milliseconds >> shift & 0x3FF] for shift in _TIME_SHIFTS])


def tag_of(queue_id: str) -> str:
    """The tag of a queue id: the name of the cell that holds its message; "" when it has none."""
    return queue_id.partition("-")[2]


def is_queue_id(text: str) -> bool:
    """Whether ``text`` has the form of a queue id, exactly as queue_id() writes it (capitals, ASCII; a tag is of a-z
    and digits, 16 at most)."""
    return _QUEUE_ID.fullmatch(text) is not None
