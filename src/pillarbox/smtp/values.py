"""Values of parameters that are more than a word or a number: xtext, ORCPT, NOTIFY, times.

STANDARDS
    RFC 3461 4 (xtext, NOTIFY, ORCPT), RFC 6533 3 (addresses of type utf-8), RFC 4865 4 and RFC 3339 (times).

ERRORS
    ValueError for what is malformed.

It must not import anything but the protocol core.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from pillarbox.smtp.syntax import XTEXT

_XTEXT: Final = re.compile(XTEXT)
_HEX: Final = re.compile(rb"\+([0-9A-F]{2})")
_NOT_XCHAR: Final = re.compile(rb"[^!-*,-<>-~]")
_PRINTABLE: Final = re.compile(r"[ -~]+")
_ADDRESS_TYPE: Final = re.compile(rb"[A-Za-z0-9-]{1,60}")
# RFC 6533 3: \x{HEX} stands for any character, and must for "\", "+" and "="; others may stand as they are
_EMBEDDED: Final = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_NOT_QCHAR: Final = re.compile(r"[^!-*,-<>-\[\]-~]")
_TIME: Final = re.compile(
    rb"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]{1,9})?(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)
_NOTIFIED: Final = ("SUCCESS", "FAILURE", "DELAY")


def decode_xtext(octets: bytes) -> str:
    """The text, which is printable ASCII: it is written into header fields. Raises ValueError."""
    if _XTEXT.fullmatch(octets) is None:
        raise ValueError("not xtext")
    text = _HEX.sub(lambda match: bytes.fromhex(match[1].decode("ascii")), octets).decode("ascii")
    if _PRINTABLE.fullmatch(text) is None:
        raise ValueError("xtext of what is not printable")
    return text


def encode_xtext(text: str) -> bytes:
    """Printable ASCII as xtext. Raises ValueError."""
    if _PRINTABLE.fullmatch(text) is None:
        raise ValueError("not printable ASCII")
    return _NOT_XCHAR.sub(lambda match: b"+%02X" % match[0][0], text.encode("ascii"))


def notify(octets: bytes) -> str:
    """NOTIFY in one order: "NEVER", or of SUCCESS, FAILURE, DELAY those that are there, with commas."""
    words = octets.decode("ascii").upper().split(",")
    if words == ["NEVER"]:
        return "NEVER"
    if len(set(words)) != len(words) or not set(words) <= set(_NOTIFIED):
        raise ValueError("not a list of SUCCESS, FAILURE and DELAY")
    return ",".join(word for word in _NOTIFIED if word in words)


def original_recipient(octets: bytes) -> str:
    """ORCPT, decoded: "type;address"; the address is printable, of type utf-8 beyond ASCII too."""
    kind, semicolon, address = octets.partition(b";")
    if _ADDRESS_TYPE.fullmatch(kind) is None or not (semicolon and address):
        raise ValueError("not type;address")
    if kind.lower() != b"utf-8":
        return f"{kind.decode('ascii')};{decode_xtext(address)}"
    text = _HEX.sub(lambda match: bytes.fromhex(match[1].decode("ascii")), address).decode("utf-8")
    text = _EMBEDDED.sub(lambda match: chr(int(match[1], 16)), text)
    if not text.isprintable():  # nor is a lone surrogate
        raise ValueError("an address of what is not printable")
    return f"utf-8;{text}"


def original_recipient_words(text: str) -> bytes:
    """The value of ORCPT for what original_recipient() gave, in ASCII. Raises ValueError."""
    kind, _, address = text.partition(";")
    if kind != "utf-8":
        return kind.encode("ascii") + b";" + encode_xtext(address)
    if not address.isprintable():
        raise ValueError("an address of what is not printable")
    return b"utf-8;" + _NOT_QCHAR.sub(lambda match: f"\\x{{{ord(match[0]):02X}}}", address).encode("ascii")


def parse_time(octets: bytes) -> float:
    """A date-time of RFC 3339 as seconds since the epoch. Raises ValueError."""
    match = _TIME.fullmatch(octets)
    if match is None:
        raise ValueError("not a date-time")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    leap = second == 60  # a leap second is the one that follows
    moment = datetime(year, month, day, hour, minute, 59 if leap else second, tzinfo=UTC)
    seconds = moment.timestamp() + leap
    if match[7] is None:
        return seconds
    ahead = timedelta(hours=int(match[8]), minutes=int(match[9])).total_seconds()
    return seconds - ahead if match[7] == b"+" else seconds + ahead


def format_time(seconds: float) -> str:
    """Seconds since the epoch as RFC 3339 has it, in UTC: 2026-01-31T23:59:59Z."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
