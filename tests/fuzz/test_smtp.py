"""Fuzzing of the protocol core.

INVARIANTS
    Whatever octets come, in whatever packets: ``next_event`` returns an event, NEED_DATA or PAUSED, or raises
    RemoteProtocolError with a hint (server) or fatal (client); nothing else.
    How the network cuts the octets never changes what happens: the events, the hints, the end of content and the
    joined content are the same.
    The content that the scanner carries is what a reader that goes line by line makes of it.
"""

import os
import re
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

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
    AuthResponse,
    Challenge,
    ConnectionClosed,
    Content,
    Data,
    Defect,
    EndOfContent,
    Hello,
    Mail,
    MailParameters,
    Noop,
    Quit,
    Rcpt,
    StartTls,
)
from pillarbox.smtp.path import Mailbox
from pillarbox.smtp.reply import Reply
from pillarbox.smtp.syntax import parse_mailbox
from pillarbox.smtp.writer import ContentWriter

FUZZ = settings(derandomize=True, deadline=None, max_examples=int(os.environ.get("PILLARBOX_FUZZ_EXAMPLES", "400")))
SMALL = Limits(command_line=64, auth_line=48, text_line=40, content=200, content_chunk=16, bad_commands=5)

FRAGMENTS = st.sampled_from(
    [
        b"EHLO x\r\n",
        b"HELO\r\n",
        b"AUTH PLAIN\r\n",
        b"AUTH LOGIN dXNlcg==\r\n",
        b"AHVzZXIAcGFzcw==\r\n",
        b"*\r\n",
        b"MAIL FROM:<a@example.org>\r\n",
        b"MAIL FROM: <> SMTPUTF8\r\n",
        b"RCPT TO:<b@example.com>\r\n",
        b"RCPT TO:<\xc3\xbc@example.com>\r\n",
        b"DATA\r\n",
        b".\r\n",
        b"..\r\n",
        b".",
        b"\r\n.\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b"\0",
        b"text\r\n",
        b"x" * 70,
        b"NOOP\r\n",
        b"RSET\r\n",
        b"STARTTLS\r\n",
        b"QUIT\r\n",
        b"HELP \xff\r\n",
        b"VRFY a\r\n",
        b"BDAT 1\r\n",
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
    ]
)
OCTETS = st.lists(FRAGMENTS | st.binary(max_size=6), max_size=30).map(b"".join)
CUTS = st.lists(st.integers(min_value=1, max_value=40), min_size=1, max_size=20)


def packets(octets: bytes, cuts: list[int]) -> list[bytes]:
    """The octets in packets of the given sizes, over and over."""
    result = []
    start = turn = 0
    while start < len(octets):
        size = cuts[turn % len(cuts)]
        result.append(octets[start : start + size])
        start += size
        turn += 1
    return result


def answer(event: object) -> Reply | Challenge:
    """A session that says yes, and lets a SASL exchange have one challenge."""
    match event:
        case Data():
            return Reply(354, ("go",))
        case Auth(initial_response=None):
            return Challenge(b"")
        case Auth() | AuthResponse():
            return Reply(235, ("yes",), "2.7.0")
        case Quit():
            return Reply(221, ("bye",), "2.0.0")
        case _:
            return Reply(250, ("ok",), "2.0.0")


def serve(pieces: list[bytes], *, authenticated: bool) -> list[Any]:
    """What happens on the server side: events and hints, the content of sound messages joined."""
    connection = Connection(
        Role.SERVER,
        limits=SMALL,
        tls=True,
        authenticated=authenticated,
        mechanisms=("PLAIN", "LOGIN"),
    )
    connection.send(Reply(220, ("mx",)))
    happened: list[Any] = []
    content = b""
    for piece in [*pieces, b""]:
        connection.receive_data(piece)
        while True:
            try:
                event = connection.next_event()
            except RemoteProtocolError as error:
                assert error.reply_hint is not None
                happened.append((error.reply_hint, error.fatal, error.octets))
                assert connection.next_event() is PAUSED
                connection.send(error.reply_hint)
                continue
            if event is NEED_DATA:
                assert piece
                break
            assert event is not PAUSED
            if isinstance(event, Content):
                content += event.octets
                continue
            if isinstance(event, EndOfContent):
                happened.append(b"" if event.defects else content)
                content = b""
            if isinstance(event, ConnectionClosed):
                break
            happened.append(event)
            assert connection.next_event() is PAUSED
            connection.send(answer(event))
    return happened


@FUZZ
@given(octets=OCTETS, cuts=CUTS, authenticated=st.booleans())
@example(octets=b"HELO x\r\nNOOP\r\n" + b"x" * 65 + b"\r\r\n", cuts=[1], authenticated=True)
def test_the_network_does_not_change_what_happens(octets: bytes, cuts: list[int], authenticated: bool) -> None:
    assert serve(packets(octets, cuts), authenticated=authenticated) == serve(
        [octets] if octets else [], authenticated=authenticated
    )


def reference(octets: bytes, limits: Limits) -> tuple[bytes, frozenset[Defect], int] | None:
    """Content, defects and octets read by a reader that goes line by line; None: the end has not come."""
    content = b""
    position = 0
    while True:
        end = octets.find(b"\r\n", position)
        if end < 0:
            return None
        line = octets[position : end + 2]
        position = end + 2
        if line == b".\r\n":
            break
        content += line[1:] if line.startswith(b".") else line
    defects = set()
    if re.search(rb"\r(?!\n)", content):
        defects.add(Defect.BARE_CR)
    if re.search(rb"(?<!\r)\n", content):
        defects.add(Defect.BARE_LF)
    if re.search(rb"(?:\A|\n)\0", content):
        defects.add(Defect.LEADING_NUL)
    if any(len(line) > limits.text_line for line in re.split(rb"(?<=\n)", content)):
        defects.add(Defect.LINE_TOO_LONG)
    if len(content) > limits.content:
        defects.add(Defect.TOO_BIG)
    return content, frozenset(defects), position


CONTENT = st.lists(
    st.sampled_from(
        [b"\r\n", b"\r\n.", b".", b"\r", b"\n", b"\r\n.\r\n", b"a", b"\xff", b"x" * 39, b"\0", b"y" * 38]
    ),
    max_size=40,
).map(b"".join)


@FUZZ
@given(octets=CONTENT, cuts=CUTS, chunk=st.integers(min_value=1, max_value=64))
@example(octets=b"\r\n.\r\n", cuts=[1], chunk=8)
@example(octets=b"\r.\r\r\n.\r\n", cuts=[3], chunk=8)
@example(octets=b".\r\n", cuts=[2], chunk=8)
def test_content_is_what_a_reader_line_by_line_makes_of_it(octets: bytes, cuts: list[int], chunk: int) -> None:
    limits = Limits(text_line=40, content=200, content_chunk=chunk)
    connection = Connection(Role.SERVER, limits=limits, tls=True, authenticated=True)
    connection.send(Reply(220, ("mx",)))
    connection.receive_data(b"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n")
    for _ in range(4):
        connection.send(answer(connection.next_event()))
    chunks: list[bytes] = []
    end = None
    for piece in packets(octets, cuts):
        connection.receive_data(piece)
        while end is None and (event := connection.next_event()) is not NEED_DATA:
            if isinstance(event, EndOfContent):
                end = event
            else:
                assert isinstance(event, Content)
                chunks.append(event.octets)
    expected = reference(octets, limits)
    if expected is None:
        assert end is None
        return
    content, defects, read = expected
    assert end == EndOfContent(len(content), defects, eight_bit=b"\xff" in content)
    if defects:
        assert content.startswith(b"".join(chunks))
    else:
        assert b"".join(chunks) == content
    # the octets behind the end are the next command's
    connection.send(Reply(250, ("ok",), "2.0.0"))
    connection.receive_data(b"\r\nNOOP\r\n")
    if not octets[read:]:
        try:
            connection.next_event()
        except RemoteProtocolError as error:
            assert error.octets == b""
        connection.send(Reply(500, ("no",), "5.5.2"))
        assert connection.next_event() == Noop()


@FUZZ
@given(content=CONTENT, cuts=CUTS)
def test_stuffed_content_is_read_back_whatever_its_chunks(content: bytes, cuts: list[int]) -> None:
    writer = ContentWriter()
    wire = b"".join(map(writer.write, packets(content, cuts))) + writer.end()
    read = reference(wire, Limits())
    assert read is not None
    assert read[0] == (content if content.endswith(b"\r\n") or not content else content + b"\r\n")
    assert read[2] == len(wire)


REPLIES = st.lists(
    st.sampled_from(
        [
            b"220 mx\r\n",
            b"250-mx\r\n",
            b"250 ok\r\n",
            b"250 2.1.0 ok\r\n",
            b"250-SIZE 10\r\n",
            b"334 dXNlcg==\r\n",
            b"334 !\r\n",
            b"354 go\r\n",
            b"421 4.4.2 late\r\n",
            b"550-5.1.1 a\r\n",
            b"550 5.1.1 b\r\n",
            b"\r\n",
            b"999 x\r\n",
            b"x" * 3_000,
        ]
    )
    | st.binary(max_size=8),
    max_size=20,
).map(b"".join)

COMMANDS = st.lists(
    st.sampled_from(
        [
            Hello("x", esmtp=True),
            StartTls(),
            Auth("PLAIN", None),
            AuthResponse(b"x"),
            Mail(None, MailParameters(size=1)),
            Rcpt(Mailbox("a", "b")),
            Data(),
            Content(b".x"),
            EndOfContent(0, frozenset(), eight_bit=False),
            Quit(),
        ]
    ),
    max_size=8,
)


@FUZZ
@given(octets=REPLIES, commands=COMMANDS, cuts=CUTS)
def test_a_client_survives_any_server(octets: bytes, commands: list[Any], cuts: list[int]) -> None:
    def hear(pieces: list[bytes]) -> list[Any]:
        connection = Connection(Role.CLIENT)
        happened: list[Any] = []
        for command in commands:
            try:
                happened.append(connection.send(command))
            except LocalProtocolError:
                happened.append(None)
        for piece in pieces:
            connection.receive_data(piece)
            while True:
                try:
                    event = connection.next_event()
                except RemoteProtocolError as error:
                    assert error.fatal
                    assert error.reply_hint is None
                    return [*happened, str(error)]
                if event is NEED_DATA:
                    break
                assert isinstance(event, (Reply, Challenge))
                happened.append(event)
        return happened

    assert hear(packets(octets, cuts)) == hear([octets] if octets else [])


ANY_TEXT = st.text(max_size=20) | st.text(st.sampled_from('a.b@"\\<> :,[]\r\n\x85é'), max_size=12)


@FUZZ
@given(text=ANY_TEXT)
def test_a_mailbox_that_is_read_is_written_back_to_the_same(text: str) -> None:
    try:
        mailbox = parse_mailbox(text)
    except ValueError:
        return
    assert parse_mailbox(str(mailbox)) == mailbox


@FUZZ
@given(local_part=st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), max_size=30))
def test_any_local_part_is_quoted_so_that_it_reads_back(local_part: str) -> None:
    if re.search("[\x7f-\x9f]", local_part):
        return  # DEL and the C1 controls are in no mailbox
    mailbox = Mailbox(local_part, "example.org")
    if len(local_part.encode()) <= 128:
        assert parse_mailbox(str(mailbox)) == mailbox
