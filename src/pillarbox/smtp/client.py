"""The client role: commands out, replies in, in the order in which they were asked for.

Several commands may be sent before their replies (PIPELINING), behind an end of content too; one that must be the
last of its group closes the group until its reply came. Behind a Chunk its octets are said, as many as it announced,
and nothing else until they are.

STANDARDS
    RFC 5321 4.2 and 4.3, RFC 2920 3.1, RFC 3207 4, RFC 4954 4, RFC 3030 2.

ERRORS
    As ``connection.py`` says; every RemoteProtocolError is fatal and has no reply_hint.

It must not import anything but the protocol core.
"""

from collections import deque
from collections.abc import Mapping
from typing import Final

from pillarbox.smtp.buffer import Ceilings, LineTooLong, ReceiveBuffer
from pillarbox.smtp.errors import LocalProtocolError, RemoteProtocolError
from pillarbox.smtp.events import (
    NEED_DATA,
    Auth,
    AuthCancelled,
    AuthResponse,
    Challenge,
    Chunk,
    Command,
    ConnectionClosed,
    Content,
    Data,
    EndOfContent,
    Event,
    Hello,
    Help,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Reset,
    Signal,
    StartTls,
    Verify,
)
from pillarbox.smtp.extensions import parse_ehlo
from pillarbox.smtp.reply import Reply, ReplyReader, split_enhanced
from pillarbox.smtp.state import VERBS
from pillarbox.smtp.syntax import decode_base64
from pillarbox.smtp.writer import ContentWriter, write_command

REPLY_LINE: Final = Ceilings(2_048)
"""A reply line may be this long: four times what RFC 5321 4.5.3.1.5 allows, for chatty servers."""

_VERB_OF: Final[Mapping[type, bytes]] = {
    StartTls: b"STARTTLS",
    Auth: b"AUTH",
    Mail: b"MAIL",
    Rcpt: b"RCPT",
    Data: b"DATA",
    Chunk: b"BDAT",
    Reset: b"RSET",
    Noop: b"NOOP",
    Quit: b"QUIT",
    Help: b"HELP",
    Verify: b"VRFY",
    Hello: b"EHLO",
}
_LAST: Final = frozenset(
    {command for command, verb in _VERB_OF.items() if VERBS[verb].last} | {AuthResponse, AuthCancelled}
)
"""What closes a pipelined group until its reply came. The end of content does not (RFC 2920 4, the example)."""

_Asked = Command | EndOfContent | None
"""What a reply answers; None is the greeting."""


class Client:
    """One session, client side."""

    __slots__ = (
        "_asked",
        "_buffer",
        "_challenged",
        "_early",
        "_left",
        "_lines",
        "_tls_due",
        "_writer",
        "extensions",
        "tls",
    )

    def __init__(self, *, tls: bool) -> None:
        self.tls = tls
        self.extensions: dict[str, str] = {}
        self._buffer = ReceiveBuffer()
        self._lines = ReplyReader()
        self._asked: deque[_Asked] = deque([None])
        self._challenged = False  # a 334 came: the response is ours to give
        self._early = False  # a reply lay here before the content had its end
        self._left = 0  # octets of the last chunk that were not said yet
        self._tls_due = False  # 220 came for STARTTLS
        self._writer: ContentWriter | None = None  # between 354 and the end of data

    def receive_data(self, octets: bytes) -> None:
        """See Connection."""
        self._buffer.feed(octets)

    # --- what is said -----------------------------------------------------------------------------------------

    def send(self, event: Command | Content | EndOfContent) -> bytes:
        """See Connection."""
        if isinstance(event, (Content, EndOfContent)):
            return self._send_content(event)
        if self._tls_due:
            raise LocalProtocolError("a command, but the TLS handshake is due")
        if self._writer is not None or self._left:
            raise LocalProtocolError("a command inside the content")
        if isinstance(event, (AuthResponse, AuthCancelled)) is not self._challenged:
            raise LocalProtocolError("a challenge is answered with a response, and nothing else is")
        if self._asked and type(self._asked[-1]) in _LAST:
            raise LocalProtocolError("the command before this one must be the last of its group (RFC 2920 3.1)")
        if not isinstance(event, Command):
            raise LocalProtocolError("a client says commands and content")
        octets = write_command(event)
        self._challenged = False
        self._asked.append(event)
        if isinstance(event, Chunk):
            self._left = event.size
        return octets

    def _send_content(self, event: Content | EndOfContent) -> bytes:
        writer = self._writer
        if self._left and isinstance(event, Content):
            return self._send_chunk(event.octets)
        if writer is None:
            raise LocalProtocolError("content, but 354 did not come")
        if isinstance(event, Content):
            return writer.write(event.octets)
        self._writer = None
        self._early = len(self._buffer) > 0
        self._asked.append(event)
        return writer.end()

    def _send_chunk(self, octets: bytes) -> bytes:
        if len(octets) > self._left:
            raise LocalProtocolError("more octets than the chunk announced")
        self._left -= len(octets)
        return octets

    # --- what is heard ----------------------------------------------------------------------------------------

    def next_event(self) -> Event | Signal:
        """See Connection."""
        while True:
            try:
                line = self._buffer.take_line(REPLY_LINE)
                if line is None:
                    if self._buffer.skipping:
                        raise LineTooLong
                    return ConnectionClosed() if self._buffer.closed else NEED_DATA
                reply = self._lines.feed(line)
            except LineTooLong:
                raise RemoteProtocolError("a reply line is too long", fatal=True) from None
            except ValueError as error:
                raise RemoteProtocolError(str(error), fatal=True) from None
            if reply is not None:
                return self._heard(*reply)

    def _heard(self, code: int, lines: list[str]) -> Event:
        if not self._asked:
            if code == 421:
                return split_enhanced(code, lines)
            raise RemoteProtocolError(f"a reply ({code}) that nothing asked for", fatal=True)
        asked = self._asked.popleft()
        if code < 400 and self._is_early(asked):
            # it answers something else: whoever believed it would lose the message
            raise RemoteProtocolError("the content was accepted before it had its end", fatal=True)
        if code == 334:
            return self._challenge(asked, lines)
        if (code == 354) is not (type(asked) is Data and code < 400):
            raise RemoteProtocolError(f"{code} does not answer what was asked", fatal=True)
        if code < 400 and (asked is None or type(asked) is Hello):
            # the greeting and the reply to EHLO have no enhanced status
            if asked is not None:
                self.extensions = parse_ehlo(lines) if asked.esmtp else {}
            return Reply(code, tuple(lines))
        if code == 354:
            self._writer = ContentWriter()
        elif code == 220 and type(asked) is StartTls:
            self._tls_due = True
        return split_enhanced(code, lines)

    def _is_early(self, asked: _Asked) -> bool:
        return (self._early and type(asked) is EndOfContent) or (self._left > 0 and not self._asked)

    def _challenge(self, asked: _Asked, lines: list[str]) -> Challenge:
        if not isinstance(asked, (Auth, AuthResponse)) or len(lines) != 1:
            raise RemoteProtocolError("a challenge that nothing asked for", fatal=True)
        try:
            challenge = decode_base64(lines[0].encode("utf-8"))
        except RemoteProtocolError:
            raise RemoteProtocolError("a challenge is not base64", fatal=True) from None
        self._challenged = True
        return Challenge(challenge)

    def start_tls(self) -> None:
        """See Connection."""
        if not self._tls_due:
            raise LocalProtocolError("STARTTLS was not agreed")
        if len(self._buffer):
            raise LocalProtocolError("octets after the reply to STARTTLS and before the handshake (injection)")
        self._tls_due = False
        self.tls = True
        self.extensions = {}
