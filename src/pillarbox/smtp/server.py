"""The server role: lines and content in, replies out; the table of ``state.py`` decides, this obeys.

After each event that needs a reply (all but Content and Chunk) it is paused until that reply was sent, and the
octets behind wait in the buffer. ``send`` moves the state by what was answered to what.

STANDARDS
    RFC 5321 3 and 4.1.4, RFC 2920 3.2, RFC 3207 4, RFC 4954 4, RFC 3030 2.

ERRORS
    As ``connection.py`` says.

It must not import anything but the protocol core.
"""

from collections.abc import Callable, Mapping
from enum import Enum, auto
from functools import lru_cache
from typing import Any, Final

from pillarbox.smtp import hints
from pillarbox.smtp.buffer import UPPER, Ceilings, LineTooLong, ReceiveBuffer
from pillarbox.smtp.chunks import ChunkReader
from pillarbox.smtp.content import ContentScanner
from pillarbox.smtp.errors import LocalProtocolError, RemoteProtocolError
from pillarbox.smtp.events import (
    NEED_DATA,
    PAUSED,
    Auth,
    AuthCancelled,
    AuthResponse,
    Body,
    Challenge,
    ConnectionClosed,
    Data,
    EndOfChunk,
    EndOfContent,
    Event,
    Hello,
    Mail,
    Quit,
    Rcpt,
    Reset,
    Signal,
    StartTls,
)
from pillarbox.smtp.extensions import MAIL_ROOM, RCPT_ROOM, Offering, ehlo_reply
from pillarbox.smtp.limits import Limits
from pillarbox.smtp.reader import Facts, read_bdat, read_response
from pillarbox.smtp.reply import Reply
from pillarbox.smtp.state import VERBS, State, refusal
from pillarbox.smtp.syntax import encode_base64

_TLS_HELLO: Final = 0x16
_PEER_GONE: Final = ConnectionClosed()


_HELLOS = frozenset((b"EHLO", b"HELO"))


class _Due(Enum):
    """A reply is due that answers no event."""

    GREETING = auto()
    ERROR = auto()
    FATAL = auto()


class Server:
    """One session, server side."""

    __slots__ = (
        "_bare", "_buffer", "_ceilings", "_chunks", "_content", "_due", "_errors", "_exchange", "_signing_in",
        "_state", "_swallowed", "facts",
    )  # fmt: skip

    def __init__(self, facts: Facts) -> None:
        limits = facts.limits
        self.facts = facts
        self._buffer = ReceiveBuffer()
        self._state = State.GREETING
        self._due: Event | _Due | None = _Due.GREETING
        self._bare = True  # the greeting, and what answers EHLO or HELO, have no enhanced status (RFC 2034 4)
        self._errors = 0
        self._signing_in = False  # AUTH was seen: lines out of step may hold a password
        self._content: ContentScanner | None = None
        self._chunks: ChunkReader | None = None
        self._swallowed: tuple[int, RemoteProtocolError, bytes, State] | None = None
        self._ceilings, self._exchange = _ceilings(limits)

    def receive_data(self, octets: bytes) -> None:
        """See Connection."""
        if self._state is not State.CLOSED or not octets:
            self._buffer.feed(octets)

    def next_event(self) -> Event | Signal:
        """See Connection."""
        if self._due is not None:
            return PAUSED
        return _READERS[self._state](self)

    @property
    def unfinished(self) -> str:
        """See Connection."""
        if self._due is not None:
            return ""
        place = _PLACES.get(self._state)
        if place is not None:
            return place
        buffer = self._buffer
        rest = buffer.joined()[buffer.start :]
        return "a command line" if (rest or buffer.skipping) and b"\r\n" not in rest else ""

    # --- readers by state -------------------------------------------------------------------------------------

    def _read_command(self) -> Event | Signal:
        buffer = self._buffer
        if not self.facts.tls and buffer.begins_with(_TLS_HELLO):
            self._due = _Due.FATAL
            raise RemoteProtocolError(
                "TLS hello on a plaintext connection", hints.TLS_HELLO, fatal=True, tls_hello=True
            )
        line = self._take_line(self._ceilings)
        if line is None:
            return _PEER_GONE if buffer.closed else NEED_DATA
        if b"\r" in line or b"\n" in line or b"\0" in line:
            raise self._error(RemoteProtocolError("bare CR, bare LF or NUL", hints.BAD_LINE), line)
        end = line.find(b" ")
        word = (line if end < 0 else line[:end]).translate(UPPER)
        verb = VERBS.get(word)
        if verb is None:
            raise self._error(RemoteProtocolError("unknown command", hints.UNKNOWN_COMMAND), line)
        refused = refusal(verb, self._state, self.facts)
        if verb.chunk:
            return self._begin_chunk(line, refused)
        if refused is not None or verb.read is None:
            error = RemoteProtocolError("a command that may not come now", refused, fatal=verb.fatal)
            raise self._error(error, line, word)
        try:
            event = verb.read(line, self.facts)
        except RemoteProtocolError as error:
            raise self._error(error, line, word) from None
        self._errors = 0
        if word == b"AUTH":
            self._signing_in = True
        self._due = event
        return event

    def _read_response(self) -> Event | Signal:
        line = self._take_line(self._exchange)
        if line is None:
            return _PEER_GONE if self._buffer.closed else NEED_DATA
        try:
            event = read_response(line)
        except RemoteProtocolError as error:
            self._state = State.READY
            raise self._error(error, b"") from None
        self._due = event
        return event

    def _read_content(self) -> Event | Signal:
        assert self._content is not None  # noqa: S101 -- CONTENT is entered in one place, with a scanner
        event = self._content.next_event(self._buffer)
        if event is NEED_DATA and self._buffer.closed:
            return _PEER_GONE
        if isinstance(event, EndOfContent):
            self._due = event
        return event

    def _begin_chunk(self, line: bytes, refused: Reply | None) -> Event | Signal:
        """The line of BDAT. Its octets are there whether it may come or not: they are taken as they were announced,
        and never for commands; whoever is not signed in, or announces nothing readable, is not listened to any more.
        """
        error = RemoteProtocolError("a command that may not come now", refused)
        try:
            if refused is not None and not self.facts.authenticated:
                raise error
            chunk = read_bdat(line)
        except RemoteProtocolError as failure:
            failure.fatal = True
            raise self._error(failure, line, b"BDAT") from None
        if refused is not None:
            self._swallowed = (chunk.size, error, line, self._state)
            self._state = State.SWALLOW
            return self._read_swallowed()
        self._errors = 0
        if self._chunks is None:
            self._chunks = ChunkReader(self.facts.limits, binary=self.facts.binary)
        self._chunks.begin(chunk)
        self._state = State.CHUNK
        return chunk

    def _read_chunk(self) -> Event | Signal:
        assert self._chunks is not None  # noqa: S101 -- CHUNK is entered in one place, with a reader
        event = self._chunks.next_event(self._buffer)
        if event is NEED_DATA and self._buffer.closed:
            return _PEER_GONE
        if isinstance(event, (EndOfChunk, EndOfContent)):
            self._due = event
        return event

    def _read_swallowed(self) -> Event | Signal:
        assert self._swallowed is not None  # noqa: S101 -- SWALLOW is entered in one place, with what is swallowed
        left, error, line, state = self._swallowed
        buffer = self._buffer
        end = len(buffer.joined())
        taken = min(left, end - buffer.start)
        buffer.advance(buffer.start + taken)
        if taken < left:
            self._swallowed = (left - taken, error, line, state)
            return _PEER_GONE if buffer.closed else NEED_DATA
        self._swallowed = None
        self._state = state
        raise self._error(error, line, b"BDAT")

    def _read_nothing(self) -> Event | Signal:
        return PAUSED

    def _read_closed(self) -> Event | Signal:
        return _PEER_GONE

    def _take_line(self, ceilings: Ceilings) -> bytes | None:
        buffer = self._buffer
        try:
            line = buffer.take_line(ceilings)
        except LineTooLong as error:
            raise self._too_long(error.verb, error.length) from None
        if line is None and buffer.skipping and self._is_endless(buffer.thrown_away):
            raise self._too_long(buffer.skipped_verb, buffer.thrown_away)
        return line

    def _too_long(self, verb: bytes, length: int) -> RemoteProtocolError:
        sign_in = verb == b"AUTH"
        if self._state is State.EXCHANGE:
            self._state, sign_in = State.READY, True
        hint = hints.SIGN_IN_LINE_TOO_LONG if sign_in else hints.LINE_TOO_LONG
        error = RemoteProtocolError("line too long", hint, fatal=self._is_endless(length))
        return self._error(error, b"AUTH" if sign_in else b"")

    def _is_endless(self, octets: int) -> bool:
        return octets > self.facts.limits.endless_line and not self.facts.authenticated

    def _error(self, error: RemoteProtocolError, line: bytes, word: bytes = b"") -> RemoteProtocolError:
        """Makes a reply due, counts, and says what may be logged."""
        self._bare = word in _HELLOS
        if b"AUTH" in line.translate(UPPER):
            self._signing_in = True
            error.octets = b"AUTH"
        elif not self._signing_in or word:
            error.octets = line
        hint = error.reply_hint
        if hint is not None and hint.code not in hints.NOT_COUNTED:
            self._errors += 1
            if self._errors >= self.facts.limits.bad_commands and not error.fatal:
                error.reply_hint = hints.TOO_MANY_ERRORS
                error.fatal = True
        self._due = _Due.FATAL if error.fatal else _Due.ERROR
        return error

    # --- what is said -----------------------------------------------------------------------------------------

    def send(self, event: Reply | Challenge) -> bytes:
        """See Connection."""
        if type(event) is Challenge:
            if not isinstance(self._due, (Auth, AuthResponse)):
                raise LocalProtocolError("a challenge, but no exchange is going on")
            self._due = None
            self._state = State.EXCHANGE
            return b"334 " + encode_base64(event.challenge) + b"\r\n"
        if not isinstance(event, Reply):
            raise LocalProtocolError("a server says replies and challenges")
        due = self._due
        code = event.code
        if due is None and code != 421:
            raise LocalProtocolError("a reply, but none is due")
        if (code == 354) is not (type(due) is Data and code < 400) or code == 334:
            raise LocalProtocolError(f"{code} does not answer what was asked")
        if self._bare or type(due) is Hello:
            octets = event.render_bare()
            self._bare = False
        else:
            octets = event.render()
        self._due = None
        if code == 421:
            self._close()
        else:
            settle = _SETTLE.get(type(due))
            if settle is not None:
                settle(self, due, event)
        return octets

    def _close(self) -> None:
        self._state = State.CLOSED
        self._buffer.clear()

    def _settle_none_due(self, due: _Due, reply: Reply) -> None:
        if due is _Due.GREETING:
            self._state = State.START if reply.is_positive else State.REFUSED
        elif due is _Due.FATAL:
            self._close()

    def _settle_hello(self, due: Hello, reply: Reply) -> None:
        if reply.is_positive:
            self.facts.esmtp = due.esmtp
            self._end_transaction(State.READY)

    def _settle_starttls(self, due: StartTls, reply: Reply) -> None:
        if reply.is_positive:
            self._state = State.TLS

    def _settle_auth(self, due: Any, reply: Reply) -> None:
        self._state = State.READY
        if reply.code == 235:
            self.facts.authenticated = True
            self._signing_in = False

    def _settle_cancelled(self, due: AuthCancelled, reply: Reply) -> None:
        self._state = State.READY

    def _settle_mail(self, due: Mail, reply: Reply) -> None:
        if reply.is_positive:
            self._state = State.MAIL
            self.facts.smtputf8 = due.parameters.smtputf8
            self.facts.binary = due.parameters.body is Body.BINARY_MIME

    def _settle_rcpt(self, due: Rcpt, reply: Reply) -> None:
        if reply.is_positive:
            self._state = State.RCPT

    def _settle_data(self, due: Data, reply: Reply) -> None:
        if reply.is_positive:
            self._state = State.CONTENT
            self._content = ContentScanner(self.facts.limits)

    def _settle_end(self, due: EndOfContent, reply: Reply) -> None:
        self._content = None
        self._end_transaction(State.READY)

    def _settle_chunk(self, due: EndOfChunk, reply: Reply) -> None:
        if reply.is_positive:
            self._state = State.CHUNKS
        else:  # a content without one of its chunks is none: chunks that are on their way meet no transaction
            self._end_transaction(State.READY)

    def _settle_reset(self, due: Reset, reply: Reply) -> None:
        if self._state is not State.START:
            self._end_transaction(State.READY)

    def _settle_quit(self, due: Quit, reply: Reply) -> None:
        self._close()

    def _end_transaction(self, state: State) -> None:
        self._state = state
        self._chunks = None
        self.facts.smtputf8 = self.facts.binary = False

    # --- TLS and EHLO -----------------------------------------------------------------------------------------

    def start_tls(self) -> None:
        """See Connection."""
        if self._state is not State.TLS:
            raise LocalProtocolError("STARTTLS was not agreed")
        if len(self._buffer):
            raise LocalProtocolError("octets after STARTTLS and before the handshake (plaintext injection)")
        self.facts.tls = True
        self.facts.esmtp = False
        self.facts.authenticated = False
        self._signing_in = False
        self._errors = 0
        self._end_transaction(State.START)

    def serve_as(self, limits: Limits, mechanisms: tuple[str, ...]) -> None:
        """See Connection."""
        if self._state not in (State.GREETING, State.START):
            raise LocalProtocolError("the terms of a session change only before its first command")
        self.facts.limits = limits
        self.facts.mechanisms = mechanisms
        self._ceilings, self._exchange = _ceilings(limits)

    def offer(self, mechanisms: tuple[str, ...]) -> None:
        """See Connection."""
        self.facts.mechanisms = mechanisms

    def sign_in(self) -> None:
        """See Connection."""
        if not self.facts.tls or self._state not in (State.GREETING, State.START):
            raise LocalProtocolError("a certificate signs in before the first command inside TLS")
        self.facts.authenticated = True

    def hello_reply(self, host: str, now: float | None = None) -> Reply:
        """See Connection."""
        due = self._due
        esmtp = due.esmtp if isinstance(due, Hello) else self.facts.esmtp
        if not esmtp:
            return Reply(250, (host,))
        facts = self.facts
        return ehlo_reply(
            host, Offering(facts.limits, facts.tls, facts.authenticated, facts.offer_starttls, facts.mechanisms, now)
        )


@lru_cache(maxsize=64)
def _ceilings(limits: Limits) -> tuple[Ceilings, Ceilings]:
    """Of commands, and of the SASL exchange; the same objects for all sessions of a site."""
    base = limits.command_line
    verbs = {b"AUTH": max(limits.auth_line, base), b"MAIL": base + MAIL_ROOM, b"RCPT": base + RCPT_ROOM}
    return Ceilings(base, verbs), Ceilings(limits.auth_line)


_READERS: Final[Mapping[State, Callable[[Server], Event | Signal]]] = {
    State.GREETING: Server._read_nothing,
    State.REFUSED: Server._read_command,
    State.START: Server._read_command,
    State.READY: Server._read_command,
    State.MAIL: Server._read_command,
    State.RCPT: Server._read_command,
    State.CONTENT: Server._read_content,
    State.CHUNK: Server._read_chunk,
    State.CHUNKS: Server._read_command,
    State.SWALLOW: Server._read_swallowed,
    State.EXCHANGE: Server._read_response,
    State.TLS: Server._read_nothing,
    State.CLOSED: Server._read_closed,
}
"""Who reads in which state."""

_PLACES: Final = {State.CONTENT: "the content", State.CHUNK: "a chunk", State.SWALLOW: "a chunk"}
"""What the peer is inside of, in states whose octets are no lines of commands."""

_SETTLE: Final[Mapping[type, Callable[[Server, Any, Reply], None]]] = {
    _Due: Server._settle_none_due,
    Hello: Server._settle_hello,
    StartTls: Server._settle_starttls,
    Auth: Server._settle_auth,
    AuthResponse: Server._settle_auth,
    AuthCancelled: Server._settle_cancelled,
    Mail: Server._settle_mail,
    Rcpt: Server._settle_rcpt,
    Data: Server._settle_data,
    EndOfChunk: Server._settle_chunk,
    EndOfContent: Server._settle_end,
    Reset: Server._settle_reset,
    Quit: Server._settle_quit,
}
"""What a reply to which event moves; the others (NOOP, HELP, VRFY) move nothing."""
