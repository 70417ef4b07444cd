"""Delivery status notifications: bounces, delay warnings and reports of success, whole contents for the spool.

Three parts: words for a person, fields for a program, and the header of the message that it is about, or all of it
where that was asked for (RET=FULL) and it is 7-bit. Every part is
7-bit, whatever it says (quoted-printable where needed): a bounce must not fail where the message failed for being
8-bit. Whoever is told by an internationalised address gets the fields in UTF-8 (message/global-delivery-status), all
others in ASCII. What a next hop said is hostile input: controls and line ends in it become blanks, and it is cut.

STANDARDS
    RFC 3464 (delivery-status), RFC 6522 (multipart/report, text/rfc822-headers), RFC 3463 (status codes), RFC 6533
    (utf-8 addresses, message/global-delivery-status, message/global-headers), RFC 3834 (Auto-Submitted), RFC 3461 4.3
    and 6 (RET, Original-Envelope-Id, Original-Recipient, success reports).

ERRORS
    ValueError: a caller's bug (no recipient, a null reverse-path, a boundary that is none).
"""

import binascii
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from pillarbox.message.advice import advice
from pillarbox.message.date import date_time
from pillarbox.message.envelope import Envelope
from pillarbox.message.header import find_header_end
from pillarbox.message.received import domain

MAX_RETURNED_HEADER = 65_536
"""Octets of the original header that a report returns."""

_MAX_REPLY = 900
_MAX_PATH = 500  # more than an SMTP path can have (RFC 5321 4.5.3.1.3)
_WIDTH = 76

_UNSHOWABLE = re.compile(r"[\x00-\x20\x7f-\xa0\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]+")
_REPLY = re.compile(r"[2-5][0-9]{2}[ \-]")
_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")
_HOP = re.compile(r"([A-Za-z0-9.\-_]+)(?::[0-9]{1,5})?")
_DEFAULTS = {"failed": "5.0.0", "delayed": "4.0.0"}
_BOUNDARY = re.compile(r"[A-Za-z0-9'+_,\-./:=]{1,70}")
_NOT_XTEXT = re.compile(r"[^!-*,-<>-\[\]-~]")
_NOT_SEVEN_BIT = re.compile(rb"[^\r\n]{999}|\r(?!\n)|(?<!\r)\n|[\x00\x80-\xff]")


@dataclass(frozen=True, slots=True)
class FailedRecipient:
    """One recipient that a report is about: failed, delayed or delivered.

    Attributes:
        forward_path: in wire form without brackets.
        status: like "5.1.1"; one that has not this form becomes 5.0.0 (4.0.0 in a delay warning).
        reply: what the next hop said, in one line ("550 5.1.1 no such user"), or our own words.
        hop: who said it, ``host`` or ``host:port``; "" when nobody was reached.
        original: what the sender calls the recipient, "type;address" (RFC 3461 4.2), "" when not said.
    """

    forward_path: str
    status: str
    reply: str
    hop: str = ""
    original: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A whole content and what it needs of the next hop: never 8BITMIME, SMTPUTF8 only if its recipient does."""

    content: bytes
    smtputf8: bool
    eight_bit: bool = False


@dataclass(frozen=True, slots=True)
class Letterhead:
    """What a report has above its words, whatever it is about.

    Attributes:
        host: our name, the reporting MTA.
        postmaster: the address in the From field; "" is MAILER-DAEMON at ``host``.
        now: seconds since the epoch.
        message_id: of the report, in angle brackets.
        boundary: 1 to 70 of RFC 2046's characters that the sender of the original could not guess.
    """

    host: str
    postmaster: str
    now: float
    message_id: str
    boundary: str


def bounce(
    envelope: Envelope,
    header: bytes,
    failed: Sequence[FailedRecipient],
    letterhead: Letterhead,
    *,
    advised: bool = True,
) -> Report:
    """The report that ``failed`` will never be delivered.

    Args:
        envelope: the original's; its reverse_path is whom the report goes to.
        header: the original's header section, returned up to MAX_RETURNED_HEADER octets; b"" when it
            cannot be had, and then nothing is returned. Where the sender asked for RET=FULL it may be the whole
            content, which is returned as it is when it is 7-bit in lines of at most 998 octets.
        failed: in the order in which to name them.
        advised: with what can be done about each status; False where no mail system refused anything.
    """
    words = (
        "Your message could not be delivered to the recipients named below. No further attempt will be made for "
        "them; any other recipients are not affected."
    )
    text = _text(envelope, words, [(one, advice(one.status) if advised else "") for one in failed], letterhead.host)
    status = _status_fields(envelope, failed, "failed", letterhead.host, ())
    report = _Composition("Your message could not be delivered", text, status, envelope.ret == "FULL")
    return _compose(report, envelope, header, letterhead)


def delay_warning(
    envelope: Envelope,
    header: bytes,
    delayed: Sequence[FailedRecipient],
    letterhead: Letterhead,
    *,
    give_up_at: float,
) -> Report:
    """The report that ``delayed`` still wait; ``give_up_at`` is when they would fail. The rest as in bounce()."""
    words = (
        "Your message has not been delivered yet to the recipients named below. You need not send it again: "
        f"delivery will be tried until {date_time(give_up_at)}, and you will be told if that fails."
    )
    text = _text(envelope, words, [(one, "") for one in delayed], letterhead.host)
    retry = (f"Will-Retry-Until: {date_time(give_up_at)}",)
    status = _status_fields(envelope, delayed, "delayed", letterhead.host, retry)
    report = _Composition("Your message is delayed", text, status)
    return _compose(report, envelope, header, letterhead)


def success(
    envelope: Envelope,
    header: bytes,
    delivered: Sequence[FailedRecipient],
    letterhead: Letterhead,
    *,
    action: str,
) -> Report:
    """The report that ``delivered`` were: ``action`` is "delivered", or "relayed" to a mail system that reports on
    nothing (RFC 3464 2.3.3). The rest as in bounce()."""
    if action == "relayed":
        subject = "Your message was relayed"
        words = (
            "Your message was handed to the next mail system for the recipients named below. That system may "
            "tell you no more of them unless something goes wrong."
        )
    else:
        subject = "Your message was delivered"
        words = "Your message was delivered to the recipients named below, as you wanted to know."
    text = _text(envelope, words, [(one, "") for one in delivered], letterhead.host)
    report = _Composition(subject, text, _status_fields(envelope, delivered, action, letterhead.host, ()))
    return _compose(report, envelope, header, letterhead)


@dataclass(frozen=True, slots=True)
class _Composition:
    subject: str
    text: str  # for a person, lines ended by "\n"
    status: str  # for a program, lines ended by CRLF; ASCII unless it goes to an internationalised address
    full: bool = False  # the whole content may come back: what did not fail returns the header (RFC 3461 4.3)


def _compose(report: _Composition, envelope: Envelope, header: bytes, letterhead: Letterhead) -> Report:
    to, boundary = _showable(envelope.reverse_path, _MAX_PATH), letterhead.boundary
    if not to or not _BOUNDARY.fullmatch(boundary):
        raise ValueError("a report needs a reverse-path and a boundary")
    author = _showable(letterhead.postmaster, _MAX_PATH) or f"MAILER-DAEMON@{domain(letterhead.host)}"
    returned, returned_type = _returned(envelope, header, full=report.full)
    kind = "delivery-status" if report.status.isascii() else "global-delivery-status"
    top = (
        f"From: Mail Delivery System <{author}>\r\n"
        f"To: <{to}>\r\n"
        f"Subject: {report.subject}\r\n"
        f"Date: {date_time(letterhead.now)}\r\n"
        f"Message-ID: {letterhead.message_id}\r\n"
        "Auto-Submitted: auto-replied\r\n"
        "MIME-Version: 1.0\r\n"
        f'Content-Type: multipart/report; report-type={kind};\r\n\tboundary="{boundary}"\r\n'
        "\r\n"
        "This is a delivery report in the form that mail programs show (RFC 3464).\r\n"
    )
    delimiter = f"\r\n--{boundary}".encode("ascii")
    parts = [
        _part("text/plain; charset=utf-8", report.text.replace("\n", "\r\n").encode()),
        _part(f"message/{kind}", report.status.encode()),
    ]
    if returned:  # RFC 6522 3: the third part is optional
        parts.append(_part(returned_type, returned))
    content = top.encode() + b"".join([delimiter + b"\r\n" + part for part in parts]) + delimiter + b"--\r\n"
    return Report(content, smtputf8=not (to + author).isascii())


def _returned(envelope: Envelope, octets: bytes, *, full: bool) -> tuple[bytes, str]:
    """The third part and its media type."""
    end = find_header_end(octets)
    if full and end is not None and end < len(octets) and not _NOT_SEVEN_BIT.search(octets):
        return octets, "message/rfc822"
    header = _whole_lines(octets[:end])
    plain = header.isascii() or not envelope.smtputf8
    return header, "text/rfc822-headers" if plain else "message/global-headers"


def _whole_lines(header: bytes) -> bytes:
    lines, end, _ = header[:MAX_RETURNED_HEADER].rpartition(b"\r\n")
    return lines if not lines or lines.endswith(b"\r\n") else lines + end


def _part(media_type: str, octets: bytes) -> bytes:
    encoding = "7bit"
    if _NOT_SEVEN_BIT.search(octets):
        encoding = "quoted-printable"
        octets = b"\r\n".join([_quoted_printable(line) for line in octets.split(b"\r\n")])
    head = f"Content-Type: {media_type}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode("ascii") + octets


def _quoted_printable(line: bytes) -> bytes:
    return binascii.b2a_qp(line, istext=False).replace(b"=\n", b"=\r\n")


# ---- for a program


def _status_fields(
    envelope: Envelope, recipients: Sequence[FailedRecipient], action: str, host: str, more: tuple[str, ...]
) -> str:
    if not recipients:
        raise ValueError("a report needs a recipient")
    per_message = [
        f"Reporting-MTA: dns; {domain(host)}",
        f"Arrival-Date: {date_time(envelope.received_at)}",
        f"X-Pillarbox-Queue-ID: {envelope.queue_id}",
    ]
    if envid := _showable(envelope.envid, _MAX_PATH).encode("ascii", "replace").decode("ascii"):
        per_message.insert(0, f"Original-Envelope-Id: {envid}")
    # who has such an address can read them; anybody else, and every gateway on the way, may not be able to
    unicode = not envelope.reverse_path.isascii()
    blocks = [per_message] + [[*_recipient_fields(one, action, unicode=unicode), *more] for one in recipients]
    return "\r\n".join(["\r\n".join([*block, ""]) for block in blocks])


def _recipient_fields(recipient: FailedRecipient, action: str, *, unicode: bool) -> list[str]:
    status = recipient.status if _STATUS.fullmatch(recipient.status) else _DEFAULTS.get(action, "2.0.0")
    final = _recipient_field("Final", f"rfc822;{recipient.forward_path}", unicode=unicode)
    fields = [final, f"Action: {action}", f"Status: {status}"]
    if recipient.original:
        fields.insert(0, _recipient_field("Original", recipient.original, unicode=unicode))
    if hop := _hop_name(recipient.hop):
        fields.append(f"Remote-MTA: dns; {hop}")
    if reply := _showable(recipient.reply, _MAX_REPLY).encode("ascii", "replace").decode("ascii"):
        kind = "smtp" if _REPLY.match(reply) else "x-pillarbox"
        fields.append("\r\n\t".join(_wrap(f"Diagnostic-Code: {kind}; {reply}")))
    return fields


def _recipient_field(which: str, recipient: str, *, unicode: bool) -> str:
    """Final-Recipient or Original-Recipient of "type;address"."""
    kind, _, address = recipient.partition(";")
    path = _showable(address, _MAX_PATH)
    if path.isascii() and kind != "utf-8":
        return f"{which}-Recipient: {_showable(kind, 60)}; {path}"
    if unicode:
        return f"{which}-Recipient: utf-8; {path}"
    # RFC 6533 3: the form of a utf-8 address that needs no 8-bit delivery-status
    return f"{which}-Recipient: utf-8; " + _NOT_XTEXT.sub(lambda match: f"\\x{{{ord(match[0]):02X}}}", path)


def _hop_name(hop: str) -> str:
    match = _HOP.fullmatch(hop)
    return match[1][:255] if match else ""


# ---- for a person


def _text(envelope: Envelope, words: str, recipients: list[tuple[FailedRecipient, str]], host: str) -> str:
    paragraphs = [[f"This is the mail system at {domain(host)}."], _wrap(words)]
    for recipient, what_to_do in recipients:
        lines = [_showable(recipient.forward_path, _MAX_PATH), *_wrap(_said(recipient), "  ")]
        paragraphs.append(lines + (_wrap(what_to_do, "  ") if what_to_do else []))
    end = (
        f"Your message was accepted on {date_time(envelope.received_at)} under the queue id {envelope.queue_id}. "
        "Whoever helps you will want to see this report."
    )
    paragraphs.append(_wrap(end))
    return "\n\n".join(["\n".join(lines) for lines in paragraphs]) + "\n"


def _said(recipient: FailedRecipient) -> str:
    reply = _showable(recipient.reply, _MAX_REPLY)
    if not reply:
        return "No reason is known."
    if _REPLY.match(reply):
        return f"{_hop_name(recipient.hop) or 'The next mail system'} said: {reply}"
    return f"Reason: {reply}"


def _showable(text: str, limit: int) -> str:
    """``text`` in one line without controls of any kind, cut to ``limit`` characters."""
    return _UNSHOWABLE.sub(" ", text[:limit]).strip(" ")


def _wrap(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
