"""Any octets, in any packets, to either role of the protocol core.

INPUT
    Four octets of terms, then what the peer says. Terms: flags (see the names below), and three sizes of packets,
    taken in turn. For the server what stands behind MARK comes inside TLS, after a STARTTLS that was agreed.

INVARIANTS
    Server: ``next_event`` returns an event, NEED_DATA or PAUSED, or raises RemoteProtocolError with a hint that is
    one reply; nothing else is ever raised, but LocalProtocolError by ``start_tls`` when octets are left (injection).
    Before sign-in no event of mail comes (rule R1), no AUTH outside TLS (but with LEGACY), no response that no
    challenge asked for; no RCPT before a MAIL, no content before a 354 or a chunk. What is accepted after DATA has no
    bare CR and no bare LF.
    How the network cuts the octets changes nothing: the same events, hints and content.
    What waits in memory is bounded by the ceilings of ``Limits``, whatever came.
    Client: ``next_event`` returns a reply, a challenge or the peer's end, or raises a fatal RemoteProtocolError
    without a hint; a command is one line; each reply answers one command, but for 421; its text has no controls.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pillarbox.smtp.connection import (
    NEED_DATA,
    PAUSED,
    Connection,
    Limits,
    LocalProtocolError,
    RemoteProtocolError,
    Role,
)
from pillarbox.smtp.events import (
    Auth,
    AuthCancelled,
    AuthResponse,
    Body,
    Challenge,
    Chunk,
    ConnectionClosed,
    Content,
    Data,
    EndOfChunk,
    EndOfContent,
    Hello,
    Help,
    Mail,
    MailParameters,
    Noop,
    Quit,
    Rcpt,
    RcptParameters,
    Reset,
    StartTls,
    Verify,
)
from pillarbox.smtp.path import Mailbox
from pillarbox.smtp.reply import Reply
from pillarbox.smtp.writer import write_command

SMALL: Final = Limits(command_line=64, auth_line=48, text_line=40, content=200, content_chunk=16, bad_commands=5)
MARK: Final = b"\0TLS\0"
TERMS: Final = 4
"""How many octets the terms are."""

CLIENT: Final = 0x80
AUTHENTICATED: Final = 0x40
TLS: Final = 0x20
LARGE: Final = 0x10  # the usual ceilings
NO_SIGN_IN: Final = 0x08  # the session refuses who signs in
SOME_REFUSED: Final = 0x04  # every third command is refused
AT_ONCE: Final = 0x02  # the client says all it has to say before it hears
LEGACY: Final = 0x01  # a server for old devices: sign-in in the clear, bare line feeds made line ends, no chunks

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_OF_MAIL: Final = (Mail, Rcpt, Data, Chunk, Content, EndOfChunk, EndOfContent, Verify)
_BARE: Final = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_ONE_REPLY: Final = re.compile(rb"(?:([245][0-9]{2})-[^\r\n\0]*\r\n)*[2345][0-9]{2} [^\r\n\0]*\r\n")


def check(octets: bytes) -> None:
    """Asserts the invariants."""
    terms, said = octets[:TERMS], octets[TERMS:]
    if len(terms) < TERMS:
        return
    if terms[0] & CLIENT:
        _check_client(terms, said)
    else:
        whole = _serve(terms[0], _packets(said, b"\xff"))
        cut = _serve(terms[0], _packets(said, terms[1:]))
        assert cut == whole, f"the network changed what happens:\n{cut}\n{whole}"


def _packets(octets: bytes, sizes: bytes) -> tuple[list[bytes], list[bytes]]:
    """(before, after) MARK, in packets of the sizes in turn; a size of 255 is all there is."""
    before, _, after = octets.partition(MARK)
    return _cut(before, sizes), _cut(after, sizes)


def _cut(octets: bytes, sizes: bytes) -> list[bytes]:
    packets = []
    start = turn = 0
    while start < len(octets):
        size = sizes[turn % len(sizes)] + 1
        packets.append(octets[start:] if size > 255 else octets[start : start + size])
        start += len(packets[-1])
        turn += 1
    return packets


# --- server ---------------------------------------------------------------------------------------------------


@dataclass
class _Session:
    """A session that answers, and knows by itself what may happen."""

    flags: int
    signed_in: bool
    tls: bool
    exchange: bool = False
    mail: bool = False
    rcpt: bool = False
    content: bytes | None = None
    chunks: int = 0
    turn: int = 0
    happened: list[Any] = field(default_factory=list)

    def check(self, event: object) -> None:
        assert self.signed_in or not isinstance(event, _OF_MAIL), f"{event} before sign-in"
        assert self.exchange is isinstance(event, (AuthResponse, AuthCancelled)) or isinstance(
            event, ConnectionClosed
        )
        match event:
            case Auth():
                assert self.tls or self.flags & LEGACY
                assert not self.signed_in
                assert not self.mail
            case Mail():
                assert not self.mail
            case Rcpt():
                assert self.mail
            case Data() | Chunk():
                assert self.rcpt
                assert isinstance(event, Data) or not self.flags & LEGACY
            case Content() | EndOfContent() | EndOfChunk():
                assert self.content is not None

    def answer(self, event: object) -> Reply | Challenge:
        """What the session says, its own state moved by it."""
        self.turn += 1
        self.exchange = False
        if self.flags & SOME_REFUSED and self.turn % 3 == 0:
            self._move(event, accepted=False)
            return Reply(451, ("not now",), "4.3.0")
        self._move(event, accepted=True)
        match event:
            case Data():
                return Reply(354, ("go",))
            case Auth(initial_response=None):
                self.exchange = True
                return Challenge(b"")
            case AuthCancelled():
                return Reply(501, ("as you like",), "5.7.0")
            case Auth() | AuthResponse() if self.flags & NO_SIGN_IN:
                return Reply(535, ("no",), "5.7.8")
            case Auth() | AuthResponse():
                self.signed_in = True
                return Reply(235, ("yes",), "2.7.0")
            case Quit():
                return Reply(221, ("bye",), "2.0.0")
            case StartTls():
                return Reply(220, ("go ahead",), "2.0.0")
            case _:
                return Reply(250, ("ok",), "2.0.0")

    def _move(self, event: object, *, accepted: bool) -> None:
        if isinstance(event, EndOfContent) or (isinstance(event, EndOfChunk) and not accepted):
            self.mail = self.rcpt = False
            self.content = None
        elif not accepted and not isinstance(event, Reset):  # RSET resets whatever is answered
            return
        match event:
            case Mail():
                self.mail = True
            case Rcpt():
                self.rcpt = True
            case Data():
                self.content = b""
            case Hello() | Reset():
                self.mail = self.rcpt = False
                self.content = None


def _serve(flags: int, packets: tuple[list[bytes], list[bytes]]) -> list[Any]:
    """What happens on the server side: events, hints, the joined content of sound messages."""
    limits = Limits() if flags & LARGE else SMALL
    if flags & LEGACY:
        limits = replace(
            limits, normalise_line_ends=True, plaintext_sign_in=True, disabled=frozenset({"CHUNKING", "BINARYMIME"})
        )
    session = _Session(flags, signed_in=bool(flags & AUTHENTICATED), tls=bool(flags & (TLS | AUTHENTICATED)))
    connection = Connection(
        Role.SERVER,
        limits=limits,
        tls=session.tls,
        authenticated=session.signed_in,
        mechanisms=("PLAIN", "LOGIN"),
    )
    connection.send(Reply(220, ("mx",)))
    before = iter(packets[0])
    for packet in before:
        connection.receive_data(packet)
        if _hear(connection, session, limits):
            break
    if session.happened[-1:] == [StartTls()] and connection.next_event() is PAUSED:
        for packet in before:
            connection.receive_data(packet)
        _secure(connection, session, limits, packets[1])
    if session.happened[-1:] != ["injection"]:
        connection.receive_data(b"")
        _hear(connection, session, limits)
    return session.happened


def _secure(connection: Connection, session: _Session, limits: Limits, packets: list[bytes]) -> None:
    """220 to STARTTLS was said. Whatever else came in the clear ends the session."""
    left = _waiting(connection)
    try:
        connection.start_tls()
    except LocalProtocolError:
        assert left
        session.happened.append("injection")
        return
    assert not left
    assert not connection.authenticated
    session.tls, session.signed_in, session.mail, session.rcpt = True, False, False, False
    session.happened.append("secure")
    for packet in packets:
        connection.receive_data(packet)
        if _hear(connection, session, limits):
            return


def _hear(connection: Connection, session: _Session, limits: Limits) -> bool:
    """All events that are there. True: STARTTLS was agreed, or it is over."""
    while True:
        try:
            event = connection.next_event()
        except RemoteProtocolError as error:
            _refuse(connection, session, error)
            continue
        if event is NEED_DATA:
            assert _waiting(connection) <= _most(limits), "more waits than may"
            return False
        if event is PAUSED:
            assert session.happened[-1] == StartTls()
            return True
        session.check(event)
        if isinstance(event, ConnectionClosed):
            if session.happened[-1:] != [event]:
                session.happened.append(event)
            return True
        if isinstance(event, Content):
            assert event.octets
            most = limits.content_chunk + 1  # and a CR that waited for what follows
            assert len(event.octets) <= (2 * most if limits.normalise_line_ends else most)
            assert session.content is not None
            session.content += event.octets
            continue
        if isinstance(event, Chunk):
            session.happened.append(event)
            session.content = session.content or b""
            session.chunks += 1
            continue
        if isinstance(event, EndOfContent) and not event.defects:
            _check_accepted(session, event)
            session.happened.append(session.content)
        session.happened.append(event)
        assert connection.next_event() is PAUSED
        assert _ONE_REPLY.fullmatch(connection.send(session.answer(event)))


def _check_accepted(session: _Session, end: EndOfContent) -> None:
    assert session.content is not None
    assert len(session.content) == end.size
    assert session.chunks or not _BARE.search(session.content)


def _refuse(connection: Connection, session: _Session, error: RemoteProtocolError) -> None:
    hint = error.reply_hint
    assert hint is not None
    assert hint.code >= 400
    session.exchange = False
    session.happened.append((hint, error.fatal, error.octets))
    assert connection.next_event() is PAUSED
    said = connection.send(hint)
    assert _ONE_REPLY.fullmatch(said)


def _waiting(connection: Connection) -> int:
    """Octets in the connection's memory. There is no public way to ask, since nobody else needs to know."""
    return len(connection._side._buffer)


def _most(limits: Limits) -> int:
    """What may wait when more must come first: a part of a line."""
    return max(limits.command_line, limits.auth_line, limits.content_chunk) + 4_096


# --- client ---------------------------------------------------------------------------------------------------

_ALL_OF_MAIL: Final = MailParameters(
    size=1,
    body=Body.BINARY_MIME,
    smtputf8=True,
    ret="HDRS",
    envid="a b+c=\r\nRSET",
    hold_for=60,
    deliver_by=-5,
    deliver_by_mode="NT",
    priority=-9,
    require_tls=True,
)
_COMMANDS: Final = (
    Hello("x", esmtp=True),
    Hello("x", esmtp=False),
    StartTls(),
    Auth("PLAIN", None),
    Auth("PLAIN", b"x"),
    AuthResponse(b"x"),
    AuthCancelled(),
    Mail(None, MailParameters(size=1)),
    Mail(Mailbox("a", "b")),
    Rcpt(Mailbox("a", "b")),
    Data(),
    Content(b".x\r\n"),
    EndOfContent(0, frozenset(), eight_bit=False),
    Noop(),
    Reset(),
    Quit(),
    Chunk(4),
    Chunk(4, last=True),
    Chunk(0, last=True),
    Content(b".\r\n"),
    Content(b"x"),
    Mail(Mailbox("ü", "b"), _ALL_OF_MAIL),
    Rcpt(Mailbox("a", "b"), RcptParameters("SUCCESS,DELAY", "rfc822;a+b =\r\nX: y")),
    Rcpt(Mailbox("a\r\nRSET", "b")),
    Hello("x\r\nRSET", esmtp=True),
    Verify("a"),
    Help("A"),
    Chunk(1),
    Noop(),
    Reset(),
    Quit(),
    Quit(),
)


def _check_client(terms: bytes, said: bytes) -> None:
    plan, _, heard = said.partition(b"\n")
    commands = [_COMMANDS[octet % len(_COMMANDS)] for octet in plan[:40]]
    at_once = bool(terms[0] & AT_ONCE)
    cut = _ask(commands, _cut(heard, terms[1:]), at_once=at_once)
    if at_once:
        # what the client says in between may hang on what lies there already, on purpose: so only then
        whole = _ask(commands, _cut(heard, b"\xff"), at_once=True)
        assert cut == whole, f"the network changed what happens:\n{cut}\n{whole}"


def _ask(commands: list[Any], packets: list[bytes], *, at_once: bool) -> list[Any]:
    connection = Connection(Role.CLIENT)
    happened: list[Any] = []
    plan = list(reversed(commands))
    due = 1  # the greeting
    for _ in range(len(plan) if at_once else 1):
        due += _say(connection, plan, happened)
    for packet in [*packets, b""]:
        connection.receive_data(packet)
        while True:
            try:
                event = connection.next_event()
            except RemoteProtocolError as error:
                assert error.fatal
                assert error.reply_hint is None
                return [*happened, str(error)]
            if event is NEED_DATA:
                assert _waiting(connection) <= 4_096
                break
            if isinstance(event, ConnectionClosed):
                return [*happened, event]
            assert isinstance(event, (Reply, Challenge))
            due -= _is_counted(event, due)
            assert due >= 0, "a reply that nothing asked for"
            happened.append(event)
            due += _say(connection, plan, happened)
    raise AssertionError("the peer's end was not told")


def _say(connection: Connection, plan: list[Any], happened: list[Any]) -> int:
    """Says the next of the plan. 1 when a reply is now due for it."""
    if not plan:
        return 0
    command = plan.pop()
    try:
        octets = connection.send(command)
    except LocalProtocolError:
        happened.append(None)
        return 0
    happened.append(octets)
    if isinstance(command, Content):
        return 0
    if not isinstance(command, EndOfContent):
        assert octets == write_command(command)
        assert octets.endswith(b"\r\n")
        assert not re.search(rb"[\r\n\0]", octets[:-2])
    return 1


def _is_counted(event: Reply | Challenge, due: int) -> int:
    if isinstance(event, Challenge):
        return 1
    assert 200 <= event.code <= 599
    assert len(event.text) <= 128
    assert not any(_CONTROL.search(line) for line in event.text)
    return 0 if event.code == 421 and not due else 1
