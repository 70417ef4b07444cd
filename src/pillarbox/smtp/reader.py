"""Readers of command lines: one function a verb, from the line to its event.

Whether the verb may come now was decided before, by the table in ``state.py``. A reader gets the whole line without
its CRLF (no CR, LF or NUL is in it) and the facts of the session.

STANDARDS
    RFC 5321 4.1.1, RFC 4954 4, RFC 6531 3.4 and 3.5, RFC 1870 6.1, RFC 3030 2.

ERRORS
    RemoteProtocolError with the hint due.

It must not import anything but the protocol core.
"""

import re
from dataclasses import dataclass

from pillarbox.smtp import hints
from pillarbox.smtp.buffer import UPPER
from pillarbox.smtp.errors import RemoteProtocolError
from pillarbox.smtp.events import (
    Auth,
    AuthCancelled,
    AuthResponse,
    Chunk,
    Data,
    Hello,
    Help,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Reset,
    StartTls,
    Verify,
)
from pillarbox.smtp.extensions import mail_parameters, rcpt_parameters
from pillarbox.smtp.limits import Limits
from pillarbox.smtp.syntax import auth_arguments, decode_base64, mail_path, rcpt_path

_ARGUMENT = re.compile(rb"[^ ]++ *+(.*[^ ])? *+", re.DOTALL)


_BDAT = re.compile(rb"BDAT ++([0-9]{1,18})( ++LAST)? *+", re.IGNORECASE)


@dataclass(slots=True)
class Facts:
    """What was agreed so far: what rows and readers may ask.

    Attributes:
        mechanisms: offered inside TLS, upper case.
        esmtp: the last greeting was EHLO.
        smtputf8: MAIL of the open transaction said SMTPUTF8.
        binary: it said BODY=BINARYMIME.
    """

    limits: Limits
    mechanisms: tuple[str, ...]
    offer_starttls: bool
    tls: bool
    authenticated: bool
    esmtp: bool = False
    smtputf8: bool = False
    binary: bool = False


def _argument(line: bytes) -> bytes:
    match = _ARGUMENT.fullmatch(line)
    return (match[1] or b"") if match is not None else b""


def _no_argument(line: bytes) -> None:
    if _argument(line):
        raise RemoteProtocolError("an argument where none is allowed", hints.NO_ARGUMENT)


def read_ehlo(line: bytes, facts: Facts) -> Hello:
    """EHLO; any argument, even none, is taken (R2: it is never a reason to refuse)."""
    return Hello(_argument(line).decode("latin-1"), esmtp=True)


def read_helo(line: bytes, facts: Facts) -> Hello:
    """HELO; as EHLO."""
    return Hello(_argument(line).decode("latin-1"), esmtp=False)


def read_starttls(line: bytes, facts: Facts) -> StartTls:
    """STARTTLS, without an argument."""
    _no_argument(line)
    return StartTls()


def read_auth(line: bytes, facts: Facts) -> Auth:
    """AUTH with its mechanism and, maybe, an initial response (``=``: an empty one)."""
    mechanism, response = auth_arguments(line)
    if mechanism not in facts.mechanisms:
        raise RemoteProtocolError("a mechanism that was not offered", hints.UNKNOWN_MECHANISM)
    if response is None:
        return Auth(mechanism, None)
    return Auth(mechanism, b"" if response == b"=" else decode_base64(response))


def read_response(line: bytes) -> AuthResponse | AuthCancelled:
    """A line of the SASL exchange; not a command. An empty line is an empty response."""
    return AuthCancelled() if line == b"*" else AuthResponse(decode_base64(line))


def read_mail(line: bytes, facts: Facts) -> Mail:
    """MAIL FROM and its parameters."""
    path, rest = mail_path(line)
    parameters = mail_parameters(rest, facts.limits, tls=facts.tls)
    if not (parameters.smtputf8 or line.isascii()):
        raise RemoteProtocolError("octets above 127 in MAIL without SMTPUTF8", hints.SMTPUTF8_NEEDED)
    ceiling = facts.limits.content
    if ceiling and parameters.size is not None and parameters.size > ceiling:
        raise RemoteProtocolError("SIZE is over the ceiling", hints.TOO_BIG)
    return Mail(path, parameters)


def read_rcpt(line: bytes, facts: Facts) -> Rcpt:
    """RCPT TO and its parameters."""
    if not (facts.smtputf8 or line.isascii()):
        raise RemoteProtocolError("octets above 127 in RCPT without SMTPUTF8", hints.SMTPUTF8_NEEDED)
    path, rest = rcpt_path(line)
    return Rcpt(path, rcpt_parameters(rest, facts.limits))


def read_data(line: bytes, facts: Facts) -> Data:
    """DATA, without an argument."""
    _no_argument(line)
    return Data()


def read_bdat(line: bytes) -> Chunk:
    """BDAT with the size of its chunk. Raises also for a size that nobody can mean."""
    match = _BDAT.fullmatch(line)
    if match is None:
        raise RemoteProtocolError("malformed BDAT", hints.BDAT_SYNTAX)
    return Chunk(int(match[1]), match[2] is not None)


def read_rset(line: bytes, facts: Facts) -> Reset:
    """RSET, without an argument."""
    _no_argument(line)
    return Reset()


def read_noop(line: bytes, facts: Facts) -> Noop:
    """NOOP; its argument has no effect (RFC 5321 4.1.1.9)."""
    return Noop()


def read_quit(line: bytes, facts: Facts) -> Quit:
    """QUIT, without an argument."""
    _no_argument(line)
    return Quit()


def read_help(line: bytes, facts: Facts) -> Help:
    """HELP with its topic; octets that are no ASCII are shown escaped."""
    return Help(_argument(line).translate(UPPER).decode("ascii", "backslashreplace"))


def read_vrfy(line: bytes, facts: Facts) -> Verify:
    """VRFY with its argument, which need not be an address (RFC 5321 3.5.1)."""
    argument = _argument(line)
    if not argument:
        raise RemoteProtocolError("VRFY without an argument", hints.VRFY_SYNTAX)
    return Verify(argument.decode("utf-8", "backslashreplace"))
