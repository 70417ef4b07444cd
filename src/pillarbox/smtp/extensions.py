"""The extension tables: what EHLO offers, and the parameters of MAIL and RCPT. One entry each.

An extension joins by its entries here: a keyword in ``OFFERS``, its parameters in ``MAIL_PARAMETERS`` or
``RCPT_PARAMETERS`` (with the field of MailParameters or RcptParameters that they fill), and, if it brings a verb, a
row of ``state.VERBS``. Line ceilings follow by themselves from the ``room`` of the parameters.

STANDARDS
    RFC 5321 4.1.1.1 and 4.1.1.11, RFC 2920 (PIPELINING), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8), RFC 1870 (SIZE),
    RFC 2034 (ENHANCEDSTATUSCODES), RFC 3207 (STARTTLS), RFC 4954 (AUTH and its parameter of MAIL), RFC 3030
    (CHUNKING, BINARYMIME), RFC 3461 and RFC 6533 (DSN), RFC 4865 (FUTURERELEASE), RFC 2852 (DELIVERBY), RFC 6710
    (MT-PRIORITY), RFC 8689 (REQUIRETLS), RFC 9422 (LIMITS).

ERRORS
    RemoteProtocolError with the hint due.

It must not import anything but the protocol core.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pillarbox.smtp import hints
from pillarbox.smtp.buffer import UPPER
from pillarbox.smtp.errors import RemoteProtocolError
from pillarbox.smtp.events import Body, MailParameters, RcptParameters
from pillarbox.smtp.limits import Limits
from pillarbox.smtp.reply import Reply
from pillarbox.smtp.syntax import XTEXT, split_parameters
from pillarbox.smtp.values import (
    decode_xtext,
    encode_xtext,
    format_time,
    notify,
    original_recipient,
    original_recipient_words,
    parse_time,
)


@dataclass(frozen=True, slots=True)
class Offering:
    """What decides which extensions an EHLO reply lists. ``now``: seconds since the epoch, None when nobody said."""

    limits: Limits
    tls: bool
    authenticated: bool
    offer_starttls: bool
    mechanisms: tuple[str, ...]
    now: float | None = None


def _always(line: str) -> Callable[[Offering], str | None]:
    return lambda _: line


def _enabled(keyword: str) -> Callable[[Offering], str | None]:
    return lambda offering: None if keyword in offering.limits.disabled else keyword


def _binary_mime(offering: Offering) -> str | None:
    return "BINARYMIME" if offers_binary(offering.limits) else None


def offers_binary(limits: Limits) -> bool:
    """BINARYMIME needs CHUNKING (RFC 3030 3)."""
    return limits.disabled.isdisjoint(("CHUNKING", "BINARYMIME"))


def _future_release(offering: Offering) -> str | None:
    hold = offering.limits.hold
    if not hold or offering.now is None or "FUTURERELEASE" in offering.limits.disabled:
        return None
    return f"FUTURERELEASE {hold} {format_time(offering.now + hold)}"


def _require_tls(offering: Offering) -> str | None:
    return "REQUIRETLS" if offering.tls and "REQUIRETLS" not in offering.limits.disabled else None


def _limits(offering: Offering) -> str | None:
    recipients = offering.limits.recipients
    return f"LIMITS RCPTMAX={recipients}" if recipients and "LIMITS" not in offering.limits.disabled else None


def _size(offering: Offering) -> str:
    return f"SIZE {offering.limits.content}"


def _starttls(offering: Offering) -> str | None:
    return "STARTTLS" if offering.offer_starttls and not offering.tls else None


def _auth(offering: Offering) -> str | None:
    if offering.authenticated or not offering.mechanisms:
        return None
    if not (offering.tls or offering.limits.plaintext_sign_in):
        return None
    return " ".join(("AUTH", *offering.mechanisms))


OFFERS: Final[tuple[Callable[[Offering], str | None], ...]] = (
    _always("PIPELINING"),
    _always("8BITMIME"),
    _enabled("SMTPUTF8"),
    _enabled("CHUNKING"),
    _binary_mime,
    _size,
    _enabled("DSN"),
    _future_release,
    _enabled("DELIVERBY"),
    _enabled("MT-PRIORITY"),
    _require_tls,
    _limits,
    _always("ENHANCEDSTATUSCODES"),
    _starttls,
    _auth,
)
"""The lines of an EHLO reply after the first, in this order; None leaves the line out."""


def ehlo_reply(host: str, offering: Offering) -> Reply:
    """The 250 to EHLO."""
    lines = [host]
    for offer in OFFERS:
        line = offer(offering)
        if line is not None:
            lines.append(line)
    return Reply(250, tuple(lines))


@dataclass(frozen=True, slots=True)
class Parameter:
    """One ESMTP parameter.

    Attributes:
        field: the field that it fills; "" when it is checked and then ignored.
        value: the whole value as an expression; None when no value is allowed.
        decode: from the value's octets to the field's value.
        room: octets that it adds to the ceiling of the command line.
        extension: the keyword of EHLO with which a site may switch it off; "" for one that is always there.
        spread: ``decode`` gives several fields at once, by name.
    """

    field: str
    value: re.Pattern[bytes] | None
    decode: Callable[[bytes], object]
    room: int
    extension: str = ""
    spread: bool = False


_BODIES = {b"7BIT": Body.SEVEN_BIT, b"8BITMIME": Body.EIGHT_BIT_MIME, b"BINARYMIME": Body.BINARY_MIME}
_BODY_VALUE = re.compile(rb"7BIT|8BITMIME|BINARYMIME", re.IGNORECASE)
_BY_VALUE = re.compile(rb"([+-]?[0-9]{1,9});([NRnr])([Tt]?)")


def _upper(value: bytes) -> str:
    return value.translate(UPPER).decode("ascii")


def _body(value: bytes) -> Body:
    return _BODIES[value.translate(UPPER)]


def _by(value: bytes) -> dict[str, object]:
    match = _BY_VALUE.fullmatch(value)
    assert match is not None  # noqa: S101 -- the table has matched it
    seconds, mode = int(match[1]), _upper(match[2] + match[3])
    if mode.startswith("R") and seconds <= 0:  # RFC 2852 4: it could only be returned at once
        raise ValueError("a by-time that is over")
    return {"deliver_by": seconds, "deliver_by_mode": mode}


MAIL_PARAMETERS: Final[Mapping[bytes, Parameter]] = {
    b"SIZE": Parameter("size", re.compile(rb"[0-9]{1,20}"), int, 26),
    b"BODY": Parameter("body", _BODY_VALUE, _body, 17),
    b"SMTPUTF8": Parameter("smtputf8", None, bool, 10, "SMTPUTF8"),
    b"RET": Parameter("ret", re.compile(rb"FULL|HDRS", re.IGNORECASE), _upper, 9, "DSN"),
    b"ENVID": Parameter("envid", re.compile(rb"(?=.{1,100}\Z)" + XTEXT), decode_xtext, 107, "DSN"),
    b"HOLDFOR": Parameter("hold_for", re.compile(rb"[1-9][0-9]{0,8}"), int, 18, "FUTURERELEASE"),
    b"HOLDUNTIL": Parameter("hold_until", re.compile(rb"[!-~]{1,40}"), parse_time, 51, "FUTURERELEASE"),
    b"BY": Parameter("", _BY_VALUE, _by, 17, "DELIVERBY", spread=True),
    b"MT-PRIORITY": Parameter("priority", re.compile(rb"-?[1-9]|0"), int, 15, "MT-PRIORITY"),
    b"REQUIRETLS": Parameter("require_tls", None, bool, 11, "REQUIRETLS"),
    # somebody else's word about who sent it: checked and ignored, as RFC 4954 5 allows (it is trusted by nobody)
    b"AUTH": Parameter("", re.compile(rb"<>|" + XTEXT), bool, 500),
}
"""Parameters of MAIL by keyword."""

RCPT_PARAMETERS: Final[Mapping[bytes, Parameter]] = {
    b"NOTIFY": Parameter("notify", re.compile(rb"[A-Z,]{1,40}", re.IGNORECASE), notify, 30, "DSN"),
    b"ORCPT": Parameter("original_recipient", re.compile(rb".{1,500}"), original_recipient, 507, "DSN"),
}
"""Parameters of RCPT by keyword."""

MAIL_ROOM: Final = sum(parameter.room for parameter in MAIL_PARAMETERS.values())
RCPT_ROOM: Final = sum(parameter.room for parameter in RCPT_PARAMETERS.values())

_NO_MAIL_PARAMETERS: Final = MailParameters()
_NO_RCPT_PARAMETERS: Final = RcptParameters()


def mail_parameters(rest: bytes, limits: Limits, *, tls: bool) -> MailParameters:
    """The parameters of a MAIL line from what follows its path. Raises RemoteProtocolError."""
    if not rest:
        return _NO_MAIL_PARAMETERS
    parameters = MailParameters(**_fields(MAIL_PARAMETERS, rest, limits))
    if parameters.hold_for is not None and parameters.hold_until is not None:  # RFC 4865 4: one of them
        raise RemoteProtocolError("HOLDFOR and HOLDUNTIL", hints.bad_parameter("HOLDFOR with HOLDUNTIL"))
    if parameters.body is Body.BINARY_MIME and not offers_binary(limits):
        raise RemoteProtocolError("BINARYMIME is not offered", hints.UNKNOWN_PARAMETER)
    if parameters.require_tls and not tls:
        raise RemoteProtocolError("REQUIRETLS is not offered outside TLS", hints.UNKNOWN_PARAMETER)
    return parameters


def rcpt_parameters(rest: bytes, limits: Limits) -> RcptParameters:
    """The parameters of a RCPT line from what follows its path. Raises RemoteProtocolError."""
    return RcptParameters(**_fields(RCPT_PARAMETERS, rest, limits)) if rest else _NO_RCPT_PARAMETERS


def _is_off(parameter: Parameter, limits: Limits) -> bool:
    return parameter.extension in limits.disabled or (parameter.extension == "FUTURERELEASE" and not limits.hold)


def _fields(table: Mapping[bytes, Parameter], rest: bytes, limits: Limits) -> dict[str, Any]:
    """The fields that the parameters fill.

    Raises:
        RemoteProtocolError: 555 for an unknown parameter, 501 for a malformed or repeated one.
    """
    fields: dict[str, Any] = {}
    seen = set()
    for keyword, value in split_parameters(rest):
        parameter = table.get(keyword)
        if parameter is None or _is_off(parameter, limits):
            raise RemoteProtocolError("unknown parameter", hints.UNKNOWN_PARAMETER)
        fits = value is None if parameter.value is None else value is not None and parameter.value.fullmatch(value)
        if keyword in seen or not fits:
            raise RemoteProtocolError("malformed or repeated parameter", _named(keyword))
        seen.add(keyword)
        try:
            decoded: Any = True if value is None else parameter.decode(value)
        except ValueError:
            raise RemoteProtocolError("malformed parameter", _named(keyword)) from None
        if parameter.spread:
            fields.update(decoded)
        elif parameter.field:
            fields[parameter.field] = decoded
    return fields


def _named(keyword: bytes) -> Reply:
    """The 501 that names a parameter of the tables: a word of ours, not of the client's line."""
    return hints.bad_parameter(keyword.decode("ascii"))


_MAIL_WORDS: Final[tuple[tuple[str, Callable[[Any], bytes]], ...]] = (
    ("body", lambda body: b" BODY=" + body.value.encode("ascii")),
    ("size", lambda size: b" SIZE=%d" % size),
    ("smtputf8", lambda _: b" SMTPUTF8"),
    ("ret", lambda ret: b" RET=" + ret.encode("ascii")),
    ("envid", lambda envid: b" ENVID=" + encode_xtext(envid)),
    ("hold_for", lambda seconds: b" HOLDFOR=%d" % seconds),
    ("hold_until", lambda seconds: b" HOLDUNTIL=" + format_time(seconds).encode("ascii")),
    ("deliver_by", lambda seconds: b" BY=%d;" % seconds),
    ("deliver_by_mode", lambda mode: mode.encode("ascii")),
    ("priority", lambda priority: b" MT-PRIORITY=%d" % priority),
    ("require_tls", lambda _: b" REQUIRETLS"),
)
"""How a client writes each field of MailParameters that is set, a space before each; in this order."""


def mail_words(parameters: MailParameters) -> bytes:
    """The parameters as a client writes them after the path; b"" when none is set. Raises ValueError for an envid
    that is not printable."""
    words = b""
    for name, write in _MAIL_WORDS:
        value = getattr(parameters, name)
        if value is not None and value is not False and value != "":
            words += write(value)
    return words


def rcpt_words(parameters: RcptParameters) -> bytes:
    """As mail_words, of RCPT. An ORCPT of type utf-8 is written in ASCII, which is right with SMTPUTF8 and without
    (RFC 6533 3). Raises ValueError for one that is none."""
    words = b""
    if parameters.notify:
        words += b" NOTIFY=" + parameters.notify.encode("ascii")
    if parameters.original_recipient:
        words += b" ORCPT=" + original_recipient_words(parameters.original_recipient)
    return words


_OFFERED_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:[ =] *(.*))?")


def parse_ehlo(lines: list[str]) -> dict[str, str]:
    """What an EHLO reply offers: keyword in upper case to its arguments. ``AUTH=PLAIN``, which old servers write
    beside ``AUTH PLAIN``, is the same keyword; lines that offer nothing readable are passed over."""
    offered: dict[str, str] = {}
    for line in lines[1:]:
        match = _OFFERED_LINE.fullmatch(line)
        if match is not None:
            # ASCII by the expression, so that upper() has no surprise
            offered.setdefault(match[1].upper(), match[2] or "")
    return offered
