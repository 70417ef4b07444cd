"""Writers of the client role: one function a command, and the content with its dots stuffed.

STANDARDS
    RFC 5321 4.1.1 and 4.5.2, RFC 3207, RFC 4954 4, RFC 1870, RFC 6152, RFC 6531, RFC 3030 2.

ERRORS
    LocalProtocolError: what the caller wants to say cannot be said in one line, or not without SMTPUTF8.

It must not import anything but the protocol core.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from pillarbox.smtp.errors import LocalProtocolError
from pillarbox.smtp.events import (
    Auth,
    AuthCancelled,
    AuthResponse,
    Chunk,
    Command,
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
from pillarbox.smtp.extensions import mail_words, rcpt_words
from pillarbox.smtp.path import Mailbox
from pillarbox.smtp.syntax import encode_base64

_FORBIDDEN = re.compile(rb"[\0\r\n]")
_DOMAIN = re.compile(r"[A-Za-z0-9.:_\-\[\]\x80-\U0010ffff]*")


def _path(mailbox: Mailbox) -> bytes:
    if _DOMAIN.fullmatch(mailbox.domain) is None:
        raise LocalProtocolError("a domain with octets that no domain has")
    return str(mailbox).encode("utf-8")


def _hello(event: Hello) -> bytes:
    return (b"EHLO " if event.esmtp else b"HELO ") + event.argument.encode("latin-1", "replace")


def _auth(event: Auth) -> bytes:
    words = b"AUTH " + event.mechanism.encode("ascii")
    if event.initial_response is None:
        return words
    return words + b" " + (encode_base64(event.initial_response) or b"=")


def _mail(event: Mail) -> bytes:
    path = b"" if event.reverse_path is None else _path(event.reverse_path)
    if not (event.parameters.smtputf8 or path.isascii()):
        raise LocalProtocolError("a non-ASCII reverse-path without SMTPUTF8")
    try:
        return b"MAIL FROM:<" + path + b">" + mail_words(event.parameters)
    except ValueError:
        raise LocalProtocolError("a parameter of MAIL that cannot be written") from None


def _rcpt(event: Rcpt) -> bytes:
    try:
        return b"RCPT TO:<" + _path(event.forward_path) + b">" + rcpt_words(event.parameters)
    except ValueError:
        raise LocalProtocolError("a parameter of RCPT that cannot be written") from None


def _chunk(event: Chunk) -> bytes:
    if event.size < 0:
        raise LocalProtocolError("a chunk of less than nothing")
    return b"BDAT %d LAST" % event.size if event.last else b"BDAT %d" % event.size


def _help(event: Help) -> bytes:
    return b"HELP " + event.topic.encode("utf-8") if event.topic else b"HELP"


_WRITERS: Final[Mapping[type[Command], Callable[[Any], bytes]]] = {
    Hello: _hello,
    StartTls: lambda _: b"STARTTLS",
    Auth: _auth,
    AuthResponse: lambda event: encode_base64(event.response),
    AuthCancelled: lambda _: b"*",
    Mail: _mail,
    Rcpt: _rcpt,
    Data: lambda _: b"DATA",
    Chunk: _chunk,
    Reset: lambda _: b"RSET",
    Noop: lambda _: b"NOOP",
    Quit: lambda _: b"QUIT",
    Help: _help,
    Verify: lambda event: b"VRFY " + event.argument.encode("utf-8"),
}


def write_command(command: Command) -> bytes:
    """The line of a command, with CRLF.

    Raises:
        LocalProtocolError: CR, LF or NUL in an argument would end the line early; a non-ASCII reverse-path without
            SMTPUTF8; a domain that is none; a parameter that cannot be written.
    """
    line = _WRITERS[type(command)](command)
    if _FORBIDDEN.search(line) is not None:
        raise LocalProtocolError("CR, LF or NUL in the argument of a command")
    return line + b"\r\n"


class ContentWriter:
    """Stuffs the dots of one content, over the borders of its chunks."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b"\r\n"  # the DATA line's

    def write(self, octets: bytes) -> bytes:
        """One chunk as it goes on the wire; the same object when nothing is to be stuffed."""
        stuffed = octets.replace(b"\r\n.", b"\r\n..")
        if self._tail == b"\r\n" and octets.startswith(b"."):
            stuffed = b"." + stuffed
        elif self._tail.endswith(b"\r") and octets.startswith(b"\n."):
            stuffed = b"\n." + stuffed[1:]
        self._tail = (self._tail + octets[-2:])[-2:]
        return stuffed

    def end(self) -> bytes:
        """The end of data, with a CRLF before it when the content did not end in one."""
        return b".\r\n" if self._tail == b"\r\n" else b"\r\n.\r\n"
