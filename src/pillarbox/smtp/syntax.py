"""The arguments of commands as regular expressions over octets.

Wire data is matched whole, in ASCII octets, before anything is decoded: so no ``int()`` that knows "+5" and "1_000",
no ``upper()`` that makes RSET of "R\u017fET", no ``strip()`` that takes NEL for a space.

Accepted beyond the letter, because honest clients do it and nothing is ambiguous: spaces and tabs between the colon
and the path (``MAIL FROM: <a@b>``), spaces at the end of a line, an underscore in a domain, ``IPv6`` of an address
literal in any case. A source route is dropped (RFC 5321 C: SHOULD).

STANDARDS
    RFC 5321 4.1.2 and 4.1.3, RFC 6531 3.3 (UTF-8 in mailboxes, C1 controls refused as RFC 5198 says),
    RFC 3461 4 (xtext), RFC 4954 (AUTH), RFC 4648 4 (base64).

ERRORS
    RemoteProtocolError with the hint due.

It must not import anything but the protocol core.
"""

import binascii
import re
from ipaddress import AddressValueError, IPv6Address
from typing import Final

from pillarbox.smtp import hints
from pillarbox.smtp.buffer import UPPER
from pillarbox.smtp.errors import RemoteProtocolError
from pillarbox.smtp.path import Mailbox
from pillarbox.smtp.reply import Reply

PATH_LENGTH: Final = 256
"""Octets of a path with its brackets, without a source route (RFC 5321 4.5.3.1.3)."""

LOCAL_PART_LENGTH: Final = 128
"""Octets of a local part. RFC 5321 4.5.3.1.1 says 64; tagged and VERP addresses of real senders are longer."""

_UTF8 = (
    rb"(?:\xc2[\xa0-\xbf]|[\xc3-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}"
    rb"|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}"
    rb"|\xf4[\x80-\x8f][\x80-\xbf]{2})"
)
_OCTET = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_LITERAL = rb"\[(?:" + _OCTET + rb"(?:\." + _OCTET + rb"){3}|[Ii][Pp][Vv]6:([0-9A-Fa-f:.]{2,45}))\]"


def _path(wide: bytes) -> bytes:
    """The expression of a path; ``wide`` is what non-ASCII adds to each alphabet. Groups: dot-string local part,
    quoted content, domain or literal, the IPv6 address in a literal."""
    atom = rb"(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]" + wide + rb")+"
    label = rb"(?:[A-Za-z0-9_]" + wide + rb")+(?:-++(?:[A-Za-z0-9_]" + wide + rb")+)*"
    domain = label + rb"(?:\." + label + rb")*"
    quoted = rb'"((?:[ !#-\[\]-~]' + wide + rb"|\\[ -~])*)\""
    hop = rb"@(?:" + domain + rb"|\[[0-9A-Za-z:.]{2,60}\])"
    local = rb"(?:(" + atom + rb"(?:\." + atom + rb")*)|" + quoted + rb")"
    # a source route is at most as long as the line
    return rb"<(?:" + hop + rb"(?:," + hop + rb")*:)?" + local + rb"@(" + domain + rb"|" + _LITERAL + rb")>"


_MAIL = rb"[Mm][Aa][Ii][Ll] +[Ff][Rr][Oo][Mm]:[ \t]*+"
_RCPT = rb"[Rr][Cc][Pp][Tt] +[Tt][Oo]:[ \t]*+"
_POSTMASTER = rb"<([Pp][Oo][Ss][Tt][Mm][Aa][Ss][Tt][Ee][Rr])>"
_END = rb"(?=[ ]|\Z)"

_MAIL_ASCII = re.compile(_MAIL + rb"(?:<>|" + _path(b"") + rb")" + _END)
_MAIL_WIDE = re.compile(_MAIL + rb"(?:<>|" + _path(b"|" + _UTF8) + rb")" + _END)
_RCPT_ASCII = re.compile(_RCPT + rb"(?:" + _path(b"") + rb"|" + _POSTMASTER + rb")" + _END)
_RCPT_WIDE = re.compile(_RCPT + rb"(?:" + _path(b"|" + _UTF8) + rb"|" + _POSTMASTER + rb")" + _END)
_MAIL_FRAME = re.compile(_MAIL + rb"<")
_RCPT_FRAME = re.compile(_RCPT + rb"<")
_SAYS_SMTPUTF8 = re.compile(rb" [Ss][Mm][Tt][Pp][Uu][Tt][Ff]8(?: |\Z)")
_QUOTED_PAIR = re.compile(rb"\\(.)")

_PARAMETERS = re.compile(rb"(?: ++[A-Za-z0-9][A-Za-z0-9-]*+(?:=[!-<>-~\x80-\xff]++)?)* *+")
_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*+)(?:=([!-<>-~\x80-\xff]++))?")
_AUTH = re.compile(rb"[Aa][Uu][Tt][Hh] +([A-Za-z0-9_-]{1,20}+)(?: +([^ ]++))? *")
# the strict mode of binascii takes "c2VjcmV0=", whose padding is too much
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")

XTEXT: Final = rb"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*"
"""xtext of RFC 3461 4: printable ASCII without "+" and "=", which are written as two hexadecimal digits."""


def mail_path(line: bytes) -> tuple[Mailbox | None, bytes]:
    """The reverse-path of a MAIL line, None for ``<>``, and the rest of the line, where parameters may be.

    Raises:
        RemoteProtocolError: 501, or 553 for the address.
    """
    match = (_MAIL_ASCII if line.isascii() else _MAIL_WIDE).match(line)
    if match is None:
        if _MAIL_FRAME.match(line) is None:
            raise RemoteProtocolError("malformed MAIL", hints.MAIL_SYNTAX)
        if not line.isascii() and _SAYS_SMTPUTF8.search(line) is None:
            raise RemoteProtocolError("octets above 127 in MAIL without SMTPUTF8", hints.SMTPUTF8_NEEDED)
        raise RemoteProtocolError("malformed reverse-path", hints.BAD_REVERSE_PATH)
    rest = line[match.end() :]
    local, quoted, domain, ipv6 = match.groups()
    return None if domain is None else _mailbox(local, quoted, domain, ipv6, hints.BAD_REVERSE_PATH), rest


def rcpt_path(line: bytes) -> tuple[Mailbox, bytes]:
    """The forward-path of a RCPT line and the rest of the line.

    Raises:
        RemoteProtocolError: 501, or 553 for the address.
    """
    match = (_RCPT_ASCII if line.isascii() else _RCPT_WIDE).match(line)
    if match is None:
        if _RCPT_FRAME.match(line) is None:
            raise RemoteProtocolError("malformed RCPT", hints.RCPT_SYNTAX)
        raise RemoteProtocolError("malformed forward-path", hints.BAD_FORWARD_PATH)
    rest = line[match.end() :]
    local, quoted, domain, ipv6, postmaster = match.groups()
    if postmaster is not None:
        return Mailbox(postmaster.decode("ascii"), ""), rest
    return _mailbox(local, quoted, domain, ipv6, hints.BAD_FORWARD_PATH), rest


def parse_mailbox(text: str) -> Mailbox:
    """A mailbox in wire form without brackets (what ``str(Mailbox)`` gives, "Postmaster" too).

    Raises:
        ValueError: it is none.
    """
    try:
        mailbox, rest = rcpt_path(b"RCPT TO:<" + text.encode("utf-8") + b">")
    except (RemoteProtocolError, UnicodeEncodeError):
        raise ValueError("not a mailbox") from None
    if rest:
        raise ValueError("not a mailbox")
    return mailbox


def _mailbox(local: bytes | None, quoted: bytes | None, domain: bytes, ipv6: bytes | None, hint: Reply) -> Mailbox:
    if local is None:
        assert quoted is not None  # noqa: S101 -- the expression has exactly two kinds of local part
        local = _QUOTED_PAIR.sub(rb"\1", quoted) if b"\\" in quoted else quoted
    if len(local) > LOCAL_PART_LENGTH or len(local) + len(domain) + 3 > PATH_LENGTH:
        raise RemoteProtocolError("path too long", hints.PATH_TOO_LONG)
    if ipv6 is not None:
        try:
            IPv6Address(ipv6.decode("ascii"))
        except AddressValueError:
            raise RemoteProtocolError("malformed IPv6 address literal", hint) from None
    return Mailbox(local.decode("utf-8"), domain.decode("utf-8"))


def split_parameters(rest: bytes) -> list[tuple[bytes, bytes | None]]:
    """The parameters after a path: (keyword in upper case, value or None when there is no ``=``).

    Raises:
        RemoteProtocolError: 501 5.5.4.
    """
    if _PARAMETERS.fullmatch(rest) is None:
        raise RemoteProtocolError("malformed parameters", hints.BAD_PARAMETER)
    return [(keyword.translate(UPPER), value or None) for keyword, value in _PARAMETER.findall(rest)]


def auth_arguments(line: bytes) -> tuple[str, bytes | None]:
    """The mechanism of an AUTH line, in upper case, and its initial response as written, None when absent.

    Raises:
        RemoteProtocolError: 501 5.5.4.
    """
    match = _AUTH.fullmatch(line)
    if match is None:
        raise RemoteProtocolError("malformed AUTH", hints.AUTH_SYNTAX)
    return match[1].translate(UPPER).decode("ascii"), match[2]


def decode_base64(octets: bytes) -> bytes:
    """Base64 without line ends, padded (RFC 4648 4).

    Raises:
        RemoteProtocolError: 501 5.5.2; its text holds nothing of ``octets``.
    """
    if _BASE64.fullmatch(octets) is None:
        raise RemoteProtocolError("a SASL response is not base64", hints.BAD_BASE64)
    return binascii.a2b_base64(octets)


def encode_base64(octets: bytes) -> bytes:
    """Base64 on one line, without a line end."""
    return binascii.b2a_base64(octets, newline=False)
