"""The extension tables: what EHLO offers, and the parameters of MAIL and RCPT. One entry each.

An extension joins by its entries here: a keyword in ``OFFERS``, its parameters in ``MAIL_PARAMETERS`` or
``RCPT_PARAMETERS`` (with the field of MailParameters or RcptParameters that they fill), and, if it brings a verb, a
row of ``state.VERBS``. Line ceilings follow by themselves from the ``room`` of the parameters.

STANDARDS
    RFC 5321 4.1.1.1 and 4.1.1.11, RFC 2920 (PIPELINING), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8), RFC 1870 (SIZE),
    RFC 2034 (ENHANCEDSTATUSCODES), RFC 3207 (STARTTLS), RFC 4954 (AUTH and its parameter of MAIL).

ERRORS
    RemoteProtocolError with the hint due.

It must not import anything but the protocol core.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pillarbox.smtp import hints
from pillarbox.smtp.errors import RemoteProtocolError
from pillarbox.smtp.events import Body, MailParameters, RcptParameters
from pillarbox.smtp.limits import Limits
from pillarbox.smtp.reply import Reply
from pillarbox.smtp.syntax import XTEXT, split_parameters


@dataclass(frozen=True, slots=True)
class Offering:
    """What decides which extensions an EHLO reply lists."""

    limits: Limits
    tls: bool
    authenticated: bool
    offer_starttls: bool
    mechanisms: tuple[str, ...]


def _always(line: str) -> Callable[[Offering], str | None]:
    return lambda _: line


def _size(offering: Offering) -> str:
    return f"SIZE {offering.limits.content}"


def _starttls(offering: Offering) -> str | None:
    return "STARTTLS" if offering.offer_starttls and not offering.tls else None


def _auth(offering: Offering) -> str | None:
    if not offering.tls or offering.authenticated or not offering.mechanisms:
        return None
    return " ".join(("AUTH", *offering.mechanisms))


OFFERS: Final[tuple[Callable[[Offering], str | None], ...]] = (
    _always("PIPELINING"),
    _always("8BITMIME"),
    _always("SMTPUTF8"),
    _size,
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
    """

    field: str
    value: re.Pattern[bytes] | None
    decode: Callable[[bytes], object]
    room: int


_BODY_VALUE = re.compile(rb"7[Bb][Ii][Tt]|8[Bb][Ii][Tt][Mm][Ii][Mm][Ee]")


def _body(value: bytes) -> Body:
    return Body.SEVEN_BIT if value.startswith(b"7") else Body.EIGHT_BIT_MIME


MAIL_PARAMETERS: Final[Mapping[bytes, Parameter]] = {
    b"SIZE": Parameter("size", re.compile(rb"[0-9]{1,20}"), int, 26),
    b"BODY": Parameter("body", _BODY_VALUE, _body, 17),
    b"SMTPUTF8": Parameter("smtputf8", None, bool, 10),
    # somebody else's word about who sent it: checked and ignored, as RFC 4954 5 allows (it is trusted by nobody)
    b"AUTH": Parameter("", re.compile(rb"<>|" + XTEXT), bool, 500),
}
"""Parameters of MAIL by keyword."""

RCPT_PARAMETERS: Final[Mapping[bytes, Parameter]] = {}
"""Parameters of RCPT by keyword."""

MAIL_ROOM: Final = sum(parameter.room for parameter in MAIL_PARAMETERS.values())
RCPT_ROOM: Final = sum(parameter.room for parameter in RCPT_PARAMETERS.values())

_NO_MAIL_PARAMETERS: Final = MailParameters()
_NO_RCPT_PARAMETERS: Final = RcptParameters()


def mail_parameters(rest: bytes) -> MailParameters:
    """The parameters of a MAIL line from what follows its path."""
    return MailParameters(**_fields(MAIL_PARAMETERS, rest)) if rest else _NO_MAIL_PARAMETERS


def rcpt_parameters(rest: bytes) -> RcptParameters:
    """The parameters of a RCPT line from what follows its path."""
    return RcptParameters(**_fields(RCPT_PARAMETERS, rest)) if rest else _NO_RCPT_PARAMETERS


def _fields(table: Mapping[bytes, Parameter], rest: bytes) -> dict[str, Any]:
    """The fields that the parameters fill.

    Raises:
        RemoteProtocolError: 555 for an unknown parameter, 501 for a malformed or repeated one.
    """
    fields: dict[str, Any] = {}
    seen = set()
    for keyword, value in split_parameters(rest):
        parameter = table.get(keyword)
        if parameter is None:
            raise RemoteProtocolError("unknown parameter", hints.UNKNOWN_PARAMETER)
        fits = value is None if parameter.value is None else value is not None and parameter.value.fullmatch(value)
        if keyword in seen or not fits:
            raise RemoteProtocolError("malformed or repeated parameter", hints.BAD_PARAMETER)
        seen.add(keyword)
        if parameter.field:
            fields[parameter.field] = True if value is None else parameter.decode(value)
    return fields


def mail_words(parameters: MailParameters) -> bytes:
    """The parameters as a client writes them after the path, a space before each; b"" when none is set."""
    words = b""
    if parameters.body is not None:
        words += b" BODY=" + parameters.body.value.encode("ascii")
    if parameters.size is not None:
        words += b" SIZE=%d" % parameters.size
    if parameters.smtputf8:
        words += b" SMTPUTF8"
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
