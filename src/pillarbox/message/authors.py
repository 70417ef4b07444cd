"""Who a message says it is from: the mailboxes of all From, Sender, Resent-From and Resent-Sender fields.

Strict about who the author is, tolerant about everything else: a display name may be written as clients write it,
but where two readers could see different authors the header is refused, since rights are checked on what is read
here and shown to people by somebody else's parser. An address comes out in wire form (RFC 5321), its case kept.

STANDARDS
    RFC 5322 3.4 and 3.6.2 (mailbox lists, originator fields), 3.6.6 (resent fields), RFC 6532 (UTF-8), RFC 2047
    (encoded words, in display names only). Refused though legal or once legal: groups (RFC 6854), routes, nested
    comments, comments and white space inside an address, a From field more than once.

ERRORS
    HeaderDefect and nothing else, whatever the octets.

No address parser of the standard library is used: they guess.
"""

import binascii
import re
from dataclasses import dataclass
from functools import lru_cache

from pillarbox.message.header import Header, HeaderDefect, body


@dataclass(frozen=True, slots=True)
class Authors:
    """Addresses in the fields' order, as text in wire form. ``from_`` is never empty, ``sender`` has one or none;
    the resent ones hold those of every resent block."""

    from_: tuple[str, ...]
    sender: tuple[str, ...] = ()
    resent_from: tuple[str, ...] = ()
    resent_sender: tuple[str, ...] = ()


_SHORT = 256  # octets of a field that is remembered

_FIELDS = {b"from": "From", b"sender": "Sender", b"resent-from": "Resent-From", b"resent-sender": "Resent-Sender"}

# ---- one mailbox, as a regular expression over unfolded octets; nothing in it can backtrack far (possessive)
_ATEXT = rb"A-Za-z0-9!#$%&'*+\-/=?^_`{|}~\x80-\xff"
_DOT_ATOM = rb"[" + _ATEXT + rb"]++(?:\.[" + _ATEXT + rb"]++)*"
_COMMENT = rb'\([^()<>@"\\\x00-\x08\x0a-\x1f\x7f]*+\)'
_CFWS = rb"(?:[ \t]++|" + _COMMENT + rb")*"
# a quoted local part holds only what no reader trips over; it comes out without its quotes where it needs none
_LOCAL_PART = rb"(?:" + _DOT_ATOM + rb'|"[' + _ATEXT + rb'. ]++")'
_LABEL = rb"[A-Za-z0-9_\x80-\xff](?:[A-Za-z0-9_\-\x80-\xff]*[A-Za-z0-9_\x80-\xff])?"
_DOMAIN = rb"(?:" + _LABEL + rb"(?:\." + _LABEL + rb")*|\[[A-Za-z0-9.:\-]++\])"
_ADDRESS = _LOCAL_PART + rb"@" + _DOMAIN
# words as clients write them: dots (obs-phrase) and square brackets need no quotes here, since no reader finds an
# address in a phrase without @ or angle brackets
_QUOTED = rb'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t -~])*"'
_PHRASE = rb"(?:[" + _ATEXT + rb". \t\[\]]++|" + _QUOTED + rb"|" + _COMMENT + rb")*"
_MAILBOX = re.compile(
    rb"(?P<name>" + _PHRASE + rb")<" + _CFWS + rb"(?P<bracketed>" + _ADDRESS + rb")" + _CFWS + rb">" + _CFWS + rb"|"
    # `a@b <a@b>`: not legal and often sent; one author, as both are the same
    rb"[ \t]*+(?P<twin>"
    + _ADDRESS
    + rb")[ \t]*+<(?P=twin)>[ \t]*+|"
    + _CFWS
    + rb"(?P<bare>"
    + _ADDRESS
    + rb")"
    + _CFWS
)

_ENCODED_WORD = re.compile(rb"=\?([!-<>@-~]*)\?([BbQq])\?([!->@-~ ]*)\?=")
_ISO_2022 = re.compile(rb"\x1b\$[()]?[@A-DB].*?(?:\x1b\([BJ]|\Z)", re.DOTALL)
_SHOWN_ADDRESS = re.compile(rb'(?<![^\s<>()",;:\\])[^\s<>()",;:\\@]++@[^\s<>()",;:\\]++')
_Q_OCTET = re.compile(rb"=([0-9A-Fa-f]{2})")
_WHITE_LINE = re.compile(rb"\r\n[ \t]++\r\n")
# C1 controls and spaces beyond ASCII: some readers strip them, and see another address
_STRIPPED = re.compile(r"[\x80-\x9f]|[^\S ]")
_NEEDS_QUOTES = re.compile(rb"\A\.|\.\.|\.\Z| ")

# the first that matches says in words what is wrong with a list that cannot be read
_DIAGNOSES = (
    (re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]"), "holds a control character"),
    (re.compile(rb"\A[ \t]*\Z"), "is empty"),
    (re.compile(rb'\A[^<>"()@,]*:'), "holds a group, which names no author"),
    (re.compile(rb"<[ \t]*@"), "holds a route"),
    (re.compile(rb"\([^()]*\("), "holds a comment in a comment"),
    (re.compile(rb"\A[^@]*\Z"), "holds no address"),
)


def authors(header: Header, *, smtputf8: bool = False) -> Authors:
    """Reads the originator fields. ``smtputf8``: MAIL said SMTPUTF8, so addresses may hold UTF-8 (RFC 6532).

    Raises HeaderDefect: for what the header module found, no or several From fields, several Sender fields, several
    authors without a Sender, or a field that is not plainly a list of mailboxes.
    """
    if header.defect is not None:
        raise header.defect
    if _WHITE_LINE.search(header.octets):
        _check_white_lines(header)
    found: dict[bytes, list[bytes]] = {}
    for name, raw in header.fields:
        if name in _FIELDS:
            found.setdefault(name, []).append(raw)
    from_ = _originators(found, b"from", smtputf8)
    sender = _originators(found, b"sender", smtputf8)
    if not from_:
        raise HeaderDefect("there is no From field")
    resent_from = _originators(found, b"resent-from", smtputf8)
    resent_sender = _originators(found, b"resent-sender", smtputf8)
    if len(from_) > 1 and not sender:
        raise HeaderDefect("several addresses need a Sender field", "From")
    if len(resent_from) > len(found.get(b"resent-from", ())) and not resent_sender:
        raise HeaderDefect("several addresses need a Resent-Sender field", "Resent-From")
    return Authors(from_, sender, resent_from, resent_sender)


def _check_white_lines(header: Header) -> None:
    # some readers take a line of white space alone for the header's end: no originator may stand behind it
    seen = False
    for name, raw in header.fields:
        seen = seen or _WHITE_LINE.search(raw) is not None
        if seen and name in _FIELDS:
            raise HeaderDefect("stands at or behind a line of white space", _FIELDS[name])


def _originators(found: dict[bytes, list[bytes]], name: bytes, smtputf8: bool) -> tuple[str, ...]:
    raws = found.get(name)
    if raws is None:
        return ()
    field = _FIELDS[name]
    if len(raws) > 1 and not name.startswith(b"resent-"):
        raise HeaderDefect("there is more than one", field)
    addresses: list[str] = []
    for raw in raws:
        read = _known_mailboxes(raw, field, smtputf8) if len(raw) <= _SHORT else _mailboxes(raw, field, smtputf8)
        if len(read) > 1 and name.endswith(b"sender"):
            raise HeaderDefect("holds more than one address", field)
        addresses.extend(read)
    return tuple(addresses)


@lru_cache(maxsize=1024)  # a person's From is the same in nearly all their messages
def _known_mailboxes(raw: bytes, field: str, smtputf8: bool) -> tuple[str, ...]:
    return tuple(_mailboxes(raw, field, smtputf8))


def _mailboxes(raw: bytes, field: str, smtputf8: bool) -> list[str]:
    octets = body(raw)
    addresses = []
    position = -1
    while position < len(octets):
        match = _MAILBOX.match(octets, position + 1)
        if match is None or (match.end() < len(octets) and octets[match.end()] != 0x2C):  # a comma
            raise HeaderDefect(_diagnosis(octets), field)
        position = match.end()
        name, bracketed, twin, bare = match.groups()
        address = bracketed or bare or twin
        if name and (b"@" in name or b"=?" in name):
            _check_name(name, address, field)
        addresses.append(_wire_form(address, field, smtputf8))
    if not octets.isascii():
        _check_utf8(octets, field)
    return addresses


def _wire_form(address: bytes, field: str, smtputf8: bool) -> str:
    if b"=?" in address:
        raise HeaderDefect("holds an encoded word in an address", field)
    if not address.isascii():
        if not smtputf8:
            raise HeaderDefect("holds an address that needs SMTPUTF8", field)
        _check_utf8(address, field)
        if _STRIPPED.search(address.decode()):
            raise HeaderDefect("holds a control or a space in an address", field)
    if address.startswith(b'"'):
        local_part, _, domain = address[1:].partition(b'"@')
        if not _NEEDS_QUOTES.search(local_part):
            address = local_part + b"@" + domain
    return address.decode()


def _check_utf8(octets: bytes, field: str) -> None:
    # a reader that decodes another charset, or repairs this one, may swallow what follows a stray octet: a quote, say
    try:
        octets.decode()
    except UnicodeDecodeError:
        raise HeaderDefect("holds octets above 127 that are not UTF-8", field) from None


def _check_name(name: bytes, address: bytes, field: str) -> None:
    """A display name may hold @, but no other address where careless readers look for one: in angle brackets, behind
    an escaped quote, or in an encoded word (some decode before they parse)."""
    text = b"".join([_decoded(word) for word in _ENCODED_WORD.finditer(name)])
    if b"<" in name or b"\\" in name:
        text = name + b" " + text
    if {shown.lower() for shown in _SHOWN_ADDRESS.findall(text)} - {address.lower()}:
        raise HeaderDefect("shows another address in the name", field)


def _decoded(word: re.Match[bytes]) -> bytes:
    charset, encoding, text = word.groups()
    if encoding in b"Bb":
        try:
            octets = binascii.a2b_base64(text)
        except binascii.Error:
            octets = b""
    else:
        octets = _Q_OCTET.sub(lambda match: binascii.unhexlify(match[1]), text.replace(b"_", b" "))
    # in ISO-2022 any printable octet may be half of a character
    return _ISO_2022.sub(b"", octets) if charset[:8].lower() == b"iso-2022" else octets


def _diagnosis(octets: bytes) -> str:
    for pattern, reason in _DIAGNOSES:
        if pattern.search(octets):
            return reason
    return "is not a list of mailboxes"
