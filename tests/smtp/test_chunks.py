"""BDAT from end to end: what a client says in chunks is what a server hears."""

import pytest
from tests.support.pair import OK, ConnectionPair

from pillarbox.smtp.connection import Connection, LocalProtocolError, RemoteProtocolError, Role
from pillarbox.smtp.events import (
    Body,
    Chunk,
    Content,
    Defect,
    EndOfChunk,
    EndOfContent,
    Event,
    Mail,
    MailParameters,
    Noop,
    Rcpt,
    RcptParameters,
    Signal,
)
from pillarbox.smtp.limits import Limits
from pillarbox.smtp.path import Mailbox
from pillarbox.smtp.reply import Reply

BINARY = Mail(Mailbox("a", "example.org"), MailParameters(body=Body.BINARY_MIME))


def opened(mail: Mail = BINARY) -> ConnectionPair:
    pair = ConnectionPair(tls=True, authenticated=True)
    pair.greet()
    pair.hello()
    pair.exchange(mail, OK)
    pair.exchange(Rcpt(Mailbox("b", "example.com")), OK)
    return pair


def carried(pair: ConnectionPair, chunk: Chunk, octets: bytes) -> tuple[bytes, Event | Signal]:
    pair.server.receive_data(pair.client.send(chunk))
    assert pair.server.next_event() == chunk
    if octets:
        pair.server.receive_data(pair.client.send(Content(octets)))
    heard = b""
    while isinstance(event := pair.server.next_event(), Content):
        heard += event.octets
    return heard, event


def test_chunks_arrive_octet_by_octet_whatever_they_hold() -> None:
    pair = opened()
    assert carried(pair, Chunk(5), b"\n.\r\0\xff") == (b"\n.\r\0\xff", EndOfChunk(5))
    pair.answer(OK)
    assert carried(pair, Chunk(0, last=True), b"") == (b"", EndOfContent(5, frozenset(), eight_bit=True))
    pair.answer(OK)
    pair.exchange(Noop(), OK)


def test_a_cr_at_the_very_end_is_bare_and_counted() -> None:
    pair = opened(Mail(Mailbox("a", "example.org")))
    assert carried(pair, Chunk(3), b"ab\r") == (b"ab", EndOfChunk(3))
    pair.answer(OK)
    assert carried(pair, Chunk(0, last=True), b"")[1] == EndOfContent(3, frozenset({Defect.BARE_CR}), eight_bit=False)


def test_a_client_says_as_many_octets_as_its_chunk_announced_and_nothing_between() -> None:
    client = opened().client
    assert client.send(Chunk(3, last=True)) == b"BDAT 3 LAST\r\n"
    assert client.send(Content(b"ab")) == b"ab"
    with pytest.raises(LocalProtocolError):
        client.send(Noop())
    with pytest.raises(LocalProtocolError):
        client.send(Content(b"cd"))
    assert client.send(Content(b"c")) == b"c"
    with pytest.raises(LocalProtocolError):
        client.send(Content(b"d"))
    with pytest.raises(LocalProtocolError):
        client.send(Chunk(-1))


def test_a_chunk_that_was_accepted_before_it_was_said_is_not_believed() -> None:
    client = opened().client
    client.send(Chunk(3, last=True))
    client.receive_data(b"250 2.0.0 queued\r\n")
    with pytest.raises(RemoteProtocolError) as caught:
        client.next_event()
    assert caught.value.fatal


MAILS = [
    MailParameters(ret="HDRS", envid="a+b=c d"),
    MailParameters(hold_for=5, priority=-9),
    MailParameters(hold_until=86_400.0, deliver_by=-5, deliver_by_mode="NT"),
    MailParameters(require_tls=True, smtputf8=True),
]


@pytest.mark.parametrize("parameters", MAILS)
def test_parameters_of_mail_are_read_as_they_were_written(parameters: MailParameters) -> None:
    pair = ConnectionPair(tls=True, authenticated=True, limits=Limits(hold=60))
    pair.greet()
    pair.hello()
    pair.exchange(Mail(Mailbox("a", "example.org"), parameters), OK)


@pytest.mark.parametrize(
    "parameters",
    [
        RcptParameters("SUCCESS,DELAY", "rfc822;a+b=c d@example.org"),
        RcptParameters("NEVER"),
        RcptParameters("", "utf-8;ä\\+=€@example.org"),
    ],
)
def test_parameters_of_rcpt_are_read_as_they_were_written(parameters: RcptParameters) -> None:
    pair = opened(Mail(None))
    pair.exchange(Rcpt(Mailbox("c", "example.com"), parameters), OK)


def test_a_parameter_that_would_carry_a_line_end_is_not_written() -> None:
    client = opened(Mail(None)).client
    for original in ("rfc822;a\r\nb", "utf-8;a\nb"):
        with pytest.raises(LocalProtocolError):
            client.send(Rcpt(Mailbox("c", "example.com"), RcptParameters("", original)))
    with pytest.raises(LocalProtocolError):
        client.send(Mail(None, MailParameters(envid="a\nb")))


def test_unitext_is_taken_with_smtputf8_only() -> None:
    wide = Connection(Role.SERVER, tls=True, authenticated=True)
    wide.send(Reply(220, ("mx",)))
    wide.receive_data(b"HELO x\r\nMAIL FROM:<> SMTPUTF8\r\n")
    for _ in range(2):
        wide.next_event()
        wide.send(OK)
    wide.receive_data("RCPT TO:<b@example.com> ORCPT=utf-8;ä@example.org\r\n".encode())
    event = wide.next_event()
    assert isinstance(event, Rcpt)
    assert event.parameters.original_recipient == "utf-8;ä@example.org"
