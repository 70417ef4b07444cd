"""Attacks in the language itself, through the whole house: a next hop of another make judges what arrives.

Each attack is followed by an honest message in a session of its own; that one arrives, octet for octet, and nothing
else does.
"""

import asyncio
import secrets
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.scenarios.conftest import PASSWORD
from tests.support.cell_node import wait_until
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.nexthop import Message, NextHop
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario

VICTIM = "victim@elsewhere.example"
REFUSED = "nobody@elsewhere.example"
"""A forward path that the next hop refuses, so that there is a bounce."""


class House:
    """A daemon, and the next hop that its mail goes to (it lives in a thread of its own)."""

    def __init__(self, daemon: RunningDaemon, hop: NextHop) -> None:
        self.daemon = daemon
        self.hop = hop

    def signed_in(self) -> Talk:
        """Ada's session."""
        talk = Talk(self.daemon.submissions, self.daemon.ca)
        talk.say("EHLO client.example.org")
        assert talk.sign_in("ada", PASSWORD).startswith("235")
        return talk

    def arrived(self, queue_id: str) -> None:
        """Waits until a message has left the house, and the next hop, which enters it behind its 250, has it too."""
        self.daemon.wait_for("delivery.delivered", queue_id=queue_id, timeout=30)
        there = f"id {queue_id}".encode()
        wait_until("it is there", lambda: any(there in message.content for message in self.hop.messages), 10, 0.01)

    def mail_arrives(self) -> Message:
        """An honest message, which arrives as it was sent; returns it."""
        token = secrets.token_hex(8)
        content = f"From: ada@example.org\r\nSubject: {token}\r\n\r\n.dot\r\n..\r\ntext\r\n".encode()
        with self.signed_in() as talk:
            answer = talk.transaction(content)
        assert answer.startswith("250"), answer
        self.arrived(queue_id_of(answer))
        (message,) = [message for message in self.hop.messages if token.encode() in message.content]
        assert message.content.endswith(content)
        assert message.forward_paths == ["bob@elsewhere.example"]
        return message


def queue_id_of(answer: str) -> str:
    return answer.split()[-1]


@pytest.fixture(scope="module")
def house(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, request: pytest.FixtureRequest
) -> Iterator[House]:
    hop = NextHop(rcpt={REFUSED: "550 5.1.1 nobody here"})
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(hop.__aenter__(), loop).result(20)
        daemon = start_daemon(
            tmp_path_factory.mktemp("house"),
            authority,
            routes=f'[[route]]\nhost = "127.0.0.1"\nport = {hop.port}\ntls = "none"\n',
            at_end=request.addfinalizer,
        )
        daemon.user("ada", PASSWORD, ["ada@example.org"])
        yield House(daemon, hop)
        assert daemon.stop() == 0
        assert hop.violations == []
    finally:
        asyncio.run_coroutine_threadsafe(hop.stop(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


def inner(ending: bytes) -> bytes:
    """Content that holds a second message behind an end that is none."""
    return (
        b"From: ada@example.org\r\nSubject: outer\r\n\r\nouter text"
        + ending
        + f"MAIL FROM:<ada@example.org>\r\nRCPT TO:<{VICTIM}>\r\nDATA\r\n".encode()
        + b"From: ada@example.org\r\nSubject: inner\r\n\r\ninner text\r\n.\r\n"
    )


NO_ENDS = [
    b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r\n.\r\r\n",
    b"\n\n.\n\n", b"\n.\r", b"\r.\n", b"\r\n.\0\r\n", b"\r\n\0.\r\n", b"\r\0\n.\r\n", b"\r\n.\r\0\n", b"\n.\0\n",
    b"\0\n.\n", b"\r\n.\x85", b"\x85.\x85", b"\x0b.\x0b", b"\x0c.\x0c",
    b"\r\n. \r\n", b"\r\n.\t\r\n", b"\r\n\x85.\r\n",
]  # fmt: skip
"""What some server or other has taken for the end of content."""


@pytest.mark.parametrize("cut", ["whole", "at the end", "octet by octet"])
@pytest.mark.parametrize("ending", NO_ENDS, ids=repr)
def test_no_message_is_smuggled_inside_a_message(house: House, ending: bytes, cut: str) -> None:
    before = len(house.hop.messages)
    octets = inner(ending)
    middle = octets.index(ending) + len(ending) // 2
    with house.signed_in() as talk:
        assert talk.say("MAIL FROM:<ada@example.org>").startswith("250")
        assert talk.say("RCPT TO:<bob@elsewhere.example>").startswith("250")
        assert talk.say("DATA").startswith("354")
        for part in {
            "whole": [octets],
            "at the end": [octets[:middle], octets[middle:]],
            "octet by octet": [octets[place : place + 1] for place in range(len(octets))],
        }[cut]:
            talk.send(part)
        answer = talk.reply()
        assert talk.say("NOOP").startswith("250")  # there was one answer, to one message
    if answer.startswith("250"):
        house.arrived(queue_id_of(answer))
        (message,) = house.hop.messages[before:]
        sent = octets.removesuffix(b".\r\n").replace(b"\r\n.", b"\r\n")  # RFC 5321 4.5.2: the first dot is no text
        assert message.content.endswith(sent)
    else:
        assert answer.startswith("5"), answer
        assert len(house.hop.messages) == before
    house.mail_arrives()
    assert not any(VICTIM in message.forward_paths for message in house.hop.messages)


def test_what_is_sent_in_the_clear_behind_starttls_is_never_obeyed(house: House) -> None:
    with Talk(house.daemon.submission) as talk:
        talk.say("EHLO client.example.org")
        talk.send(b"STARTTLS\r\nEHLO injected.example\r\nAUTH PLAIN AGFkYQB4\r\nNOOP\r\n")
        answers = []
        try:
            while True:
                answers.append(talk.reply())
        except ConnectionError:
            pass
    assert len(answers) <= 1
    assert all(answer.startswith(("220", "5", "4")) for answer in answers)
    assert not any(line.get("octets", "").startswith("AUTH") for line in house.daemon.log())
    house.mail_arrives()


def test_a_command_pipelined_behind_auth_is_answered_after_it_or_not_at_all(house: House) -> None:
    """A wrong sign-in opens no door for what was sent behind it."""
    with Talk(house.daemon.submissions, house.daemon.ca) as talk:
        talk.say("EHLO client.example.org")
        talk.send(
            b"AUTH PLAIN AGFkYQB3cm9uZw==\r\nMAIL FROM:<ada@example.org>\r\nRCPT TO:<victim@elsewhere.example>\r\n"
        )
        assert talk.reply().startswith("535")
        assert talk.reply().startswith("530")
        assert talk.reply().startswith("530")
    house.mail_arrives()


INJECTED = "X-Injected"


@pytest.mark.parametrize(
    ("mail", "rcpt"),
    [
        ("RET=HDRS ENVID=id+0D+0AX-Injected:+20yes", ""),
        ("ENVID=id+0AX-Injected:+20yes", ""),
        ("ENVID=id+0DX-Injected:+20yes", ""),
        ("ENVID=id+0D+0A+0D+0AX-Injected:+20yes", ""),
        ("ENVID=id+00X-Injected:+20yes", ""),
        ("", "ORCPT=rfc822;a+40b.example+0D+0AX-Injected:+20yes"),
        ("", "ORCPT=rfc822;a+40b.example+0AX-Injected:+20yes NOTIFY=FAILURE"),
        ("SMTPUTF8", "ORCPT=utf-8;a@b.example\\x{0D}\\x{0A}X-Injected:yes"),
        ("AUTH=ada+40example.org+0D+0AX-Injected:+20yes", ""),
        ("BODY=8BITMIME+0D+0AX-Injected", ""),
    ],
)
def test_no_parameter_of_the_envelope_becomes_a_line(house: House, mail: str, rcpt: str) -> None:
    """Decoded line ends are refused, or stay inside a value: neither the message nor its bounce has a field more."""
    before = len(house.hop.messages)
    with house.signed_in() as talk:
        answers = [
            talk.say(f"MAIL FROM:<ada@example.org> {mail}".rstrip()),
            talk.say(f"RCPT TO:<{REFUSED}> {rcpt}".rstrip()),
        ]
        if all(answer.startswith("250") for answer in answers):
            assert talk.say("DATA").startswith("354")
            talk.send(b"From: ada@example.org\r\nSubject: parameters\r\n\r\ntext\r\n.\r\n")
            answer = talk.reply()
            assert answer.startswith("250"), answer
            house.daemon.wait_for("delivery.failed", queue_id=queue_id_of(answer), timeout=30)
        else:
            assert all(answer[:3] in {"250", "501", "503", "504", "555"} for answer in answers), answers
    house.mail_arrives()
    for message in house.hop.messages[before:]:
        lines = message.content.replace(b"\r", b"\n").split(b"\n")
        assert not any(line.lower().startswith(INJECTED.lower().encode()) for line in lines)
    assert not any(
        INJECTED in command and not command.startswith(("MAIL", "RCPT")) for _, command in house.hop.commands
    )


@pytest.mark.parametrize(
    "command",
    [
        b"MAIL FROM:<ada@example.org>\r\0X-Injected: yes",
        b"MAIL FROM:<ada@example.org\nRCPT TO:<victim@elsewhere.example>>",
        b'MAIL FROM:<"ada\r\nX-Injected: yes"@example.org>',
        "MAIL FROM:<adä@example.org>".encode(),
        "MAIL FROM:<adä@example.org>".encode("latin-1"),
        "MAIL FROM:<ada@exämple.org> BODY=8BITMIME".encode(),
        b"MAIL FROM:<ada\x80@example.org> SMTPUTF8",
    ],
    ids=repr,
)
def test_a_reverse_path_that_is_none_is_refused(house: House, command: bytes) -> None:
    """8-bit octets without SMTPUTF8, octets that are no UTF-8 with it, line ends inside."""
    with house.signed_in() as talk:
        assert talk.say(command).startswith("5")
    house.mail_arrives()
    assert not any(b"X-Injected" in message.content for message in house.hop.messages)


@pytest.mark.parametrize(
    "command", ["RCPT TO:<victim@exämple.example>".encode(), "RCPT TO:<vïctim@elsewhere.example>".encode("latin-1")]
)
def test_an_8_bit_forward_path_without_smtputf8_is_refused(house: House, command: bytes) -> None:
    with house.signed_in() as talk:
        assert talk.say("MAIL FROM:<ada@example.org>").startswith("250")
        assert talk.say(command).startswith("5")
    house.mail_arrives()


async def test_what_a_next_hop_says_in_the_clear_behind_its_220_is_never_believed(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, password: str
) -> None:
    """Response injection: capabilities that somebody on the way put behind the 220 of STARTTLS."""
    injected = "220 2.0.0 go on\n250-hop.test\n250 AUTH PLAIN LOGIN"
    issued = authority.issue("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    async with NextHop(tls=context, script={"STARTTLS": injected}) as hop:
        routes = f'[[route]]\nhost = "localhost"\nport = {hop.port}\ntls = "starttls"\nca = "{authority.ca}"\n'

        def attack() -> None:
            daemon = start_daemon(tmp_path, authority, routes=routes, at_end=request.addfinalizer)
            daemon.user("ada", password, ["ada@example.org"])
            with Talk(daemon.submissions, daemon.ca) as talk:
                talk.say("EHLO client.example.org")
                assert talk.sign_in("ada", password).startswith("235")
                assert talk.transaction(b"From: ada@example.org\r\n\r\ntext\r\n").startswith("250")
            daemon.wait_for("delivery.deferred", timeout=30)
            assert daemon.stop() == 0

        await asyncio.to_thread(attack)
        assert hop.messages == []
        assert set(hop.verbs()) <= {"EHLO", "STARTTLS", "QUIT"}
