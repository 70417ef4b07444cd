"""Whole conversations as files: each is run turn by turn, octet by octet, and with everything in one packet.

dialogues/README.md documents the format. The session behind the connection is ``Site`` below: it says yes to all,
knows one person (user, pass), and answers a defect with 554 or 552.
"""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

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
    Challenge,
    Chunk,
    ConnectionClosed,
    Content,
    Data,
    Defect,
    EndOfChunk,
    EndOfContent,
    Event,
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
from pillarbox.smtp.reply import Reply

FOLDER = Path(__file__).parent / "dialogues"
FILES = sorted(FOLDER.glob("*.txt"))

CONSTANT = {
    AuthCancelled: Reply(501, ("Cancelled",), "5.7.0"),
    StartTls: Reply(220, ("Ready",), "2.0.0"),
    Reset: Reply(250, ("OK",), "2.0.0"),
    Noop: Reply(250, ("OK",), "2.0.0"),
    Quit: Reply(221, ("Bye",), "2.0.0"),
}

_ESCAPE = re.compile(rb"\\(?:x([0-9a-f]{2})|\{(.+?)\*([0-9]+)\}|(.))", re.DOTALL)
_SIMPLE = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}


def unescape(text: str) -> bytes:
    """The octets of a line of a dialogue."""

    def octets(match: re.Match[bytes]) -> bytes:
        hexadecimal, unit, count, simple = match.groups()
        if hexadecimal is not None:
            return bytes.fromhex(hexadecimal.decode())
        if unit is not None:
            return bytes(unit * int(count))
        return _SIMPLE[simple]

    return _ESCAPE.sub(octets, text.encode())


def asked(parameters: MailParameters | RcptParameters) -> str:
    """What DSN and the later extensions ask for, as a reply shows it."""
    shown = ""
    for item in fields(parameters):
        value = getattr(parameters, item.name)
        if item.name not in {"size", "body", "smtputf8"} and value != item.default:
            shown += f" {item.name}={value}"
    return shown


class Dialogue:
    """A dialogue file, read."""

    def __init__(self, path: Path) -> None:
        lines = path.read_text("utf-8").splitlines()
        self.title = lines[0]
        self.flags: set[str] = set()
        self.limits: dict[str, Any] = {}
        self.now: float | None = None
        self.answers: dict[str, list[Reply]] = {}
        self.turns: list[tuple[bytes, list[bytes], bool]] = []
        for line in lines[1:]:
            self._read(line)

    def _read(self, line: str) -> None:
        kind, text = line[:2], line[3:]
        match kind:
            case "" | "# " | "#":
                pass
            case "= ":
                self._options(line[2:])
            case "A:":
                verb, code, enhanced, words = text.split(" ", 3)
                reply = Reply(int(code), (words,), None if enhanced == "-" else enhanced)
                self.answers.setdefault(verb, []).append(reply)
            case "C:" | "C-" | "C!":
                if not self.turns or self.turns[-1][1] or self.turns[-1][2]:
                    self.turns.append((b"", [], False))
                octets, expected, _ = self.turns[-1]
                octets += b"" if kind == "C!" else unescape(text) + (b"\r\n" if kind == "C:" else b"")
                self.turns[-1] = (octets, expected, kind == "C!")
            case "S:" | "M:" | "X:":
                self.turns[-1][1].append(kind.encode() + b" " + unescape(text))
            case _:
                raise AssertionError(f"not a line of a dialogue: {line!r}")

    def _options(self, text: str) -> None:
        for word in text.split():
            name, equals, value = word.partition("=")
            if name == "now":
                self.now = float(value)
            elif name == "disabled":
                self.limits[name] = frozenset(value.split(","))
            elif equals:
                self.limits[name] = int(value)
            else:
                assert name in {"tls", "authenticated", "no-starttls", "not-pipelined", "one-packet"}, name
                self.flags.add(name)


class Site:
    """A session that says yes, over one server connection; ``transcript`` is what came out of it."""

    def __init__(self, dialogue: Dialogue) -> None:
        self.connection = Connection(
            Role.SERVER,
            limits=Limits(**dialogue.limits),
            tls="tls" in dialogue.flags,
            offer_starttls="no-starttls" not in dialogue.flags,
            mechanisms=("PLAIN", "LOGIN"),
            authenticated="authenticated" in dialogue.flags,
        )
        self.answers = {verb: list(replies) for verb, replies in dialogue.answers.items()}
        self.transcript: list[bytes] = []
        self.closed = False
        self.content = b""
        self.now = dialogue.now
        self.login = b""
        self.connection.send(Reply(220, ("mx.example ESMTP",)))

    def receive(self, octets: bytes) -> None:
        """Octets from the network, and all that follows from them."""
        if self.closed:
            return
        self.connection.receive_data(octets)
        while not self.closed:
            try:
                event = self.connection.next_event()
            except RemoteProtocolError as error:
                assert error.reply_hint is not None
                assert b"cGFzcw" not in error.octets
                self.say(error.reply_hint)
                if error.fatal:
                    self.close()
                continue
            if event is NEED_DATA:
                return
            assert event is not PAUSED
            assert not isinstance(event, (Reply, Challenge, type(NEED_DATA)))
            self.handle(event)

    def say(self, event: Reply | Challenge) -> None:
        octets = self.connection.send(event)
        assert octets.endswith(b"\r\n")
        self.transcript += [b"S: " + line for line in octets[:-2].split(b"\r\n")]

    def close(self) -> None:
        self.closed = True
        self.transcript.append(b"X: closed")
        assert self.connection.next_event() == ConnectionClosed()

    def handle(self, event: Event) -> None:
        if isinstance(event, Content):
            self.content += event.octets
            return
        if isinstance(event, Chunk):
            return  # its reply is due at its end
        if isinstance(event, ConnectionClosed):
            self.close()
            return
        replies = self.answers.get(type(event).__name__)
        reply = replies.pop(0) if replies else self.reply(event)
        self.say(reply)
        if isinstance(reply, Reply) and reply.code in (221, 421):
            self.close()
        if isinstance(reply, Reply) and reply.code == 220:
            try:
                self.connection.start_tls()
            except LocalProtocolError:
                self.transcript.append(b"X: injected")
                self.closed = True
            else:
                self.transcript.append(b"X: tls")

    def reply(self, event: Event) -> Reply | Challenge:
        match event:
            case Hello():
                return self.connection.hello_reply("mx.example", self.now)
            case Auth() | AuthResponse():
                return self.sign_in(event)
            case Data():
                self.content = b""
                return Reply(354, ("Go on",))
            case EndOfContent():
                return self.judge(event)
            case EndOfChunk():
                return self.judge_chunk(event)
            case Mail():
                self.content = b""
                return Reply(250, (f"sender <{event.reverse_path or ''}>{asked(event.parameters)}",), "2.1.0")
            case Rcpt():
                return Reply(250, (f"recipient <{event.forward_path}>{asked(event.parameters)}",), "2.1.5")
            case Help():
                return Reply(214, (f"help {event.topic}",), "2.0.0")
            case Verify():
                return Reply(252, (event.argument,), "2.5.0")
            case _:
                return CONSTANT[type(event)]

    @staticmethod
    def judge_chunk(end: EndOfChunk) -> Reply:
        if Defect.TOO_BIG in end.defects:
            return Reply(552, ("too big",), "5.3.4")
        if end.defects:
            return Reply(554, (" ".join(sorted(defect.name for defect in end.defects)),), "5.6.0")
        return Reply(250, (f"{end.size} octets",), "2.0.0")

    def sign_in(self, event: Auth | AuthResponse) -> Reply | Challenge:
        assert "pass" not in repr(event)
        if isinstance(event, Auth):
            self.login = b""
            if event.mechanism == "PLAIN":
                if event.initial_response is None:
                    return Challenge(b"")
                return self.verdict(event.initial_response == b"\0user\0pass")
            response = event.initial_response
        else:
            response = event.response
            if response.startswith(b"\0"):
                return self.verdict(response == b"\0user\0pass")
        if response is None:
            return Challenge(b"Username:")
        if not self.login:
            self.login = response or b"?"
            return Challenge(b"Password:")
        return self.verdict((self.login, response) == (b"user", b"pass"))

    @staticmethod
    def verdict(right: bool) -> Reply:
        return Reply(235, ("Welcome",), "2.7.0") if right else Reply(535, ("No",), "5.7.8")

    def judge(self, end: EndOfContent) -> Reply:
        if Defect.TOO_BIG in end.defects:
            return Reply(552, ("too big",), "5.3.4")
        if end.defects:
            names = sorted(defect.name for defect in end.defects)
            return Reply(554, (" ".join(names),), "5.6.0")
        assert end.size == len(self.content)
        assert end.eight_bit is not self.content.isascii()
        self.transcript.append(b"M: " + self.content)
        return Reply(250, ("queued",), "2.0.0")


def run(dialogue: Dialogue, size: int) -> None:
    """Turn by turn, in packets of ``size`` octets (0: a turn in one packet)."""
    site = Site(dialogue)
    expected: list[bytes] = []
    for octets, lines, ends in dialogue.turns:
        step = size or max(len(octets), 1)
        for start in range(0, len(octets), step):
            site.receive(octets[start : start + step])
        if ends:
            site.receive(b"")
        expected += lines
        assert site.transcript == expected, dialogue.title


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_dialogue_turn_by_turn(path: Path) -> None:
    run(Dialogue(path), 0)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_dialogue_octet_by_octet(path: Path) -> None:
    dialogue = Dialogue(path)
    if "one-packet" in dialogue.flags:
        pytest.skip("what it shows is one packet")
    run(dialogue, 1)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_dialogue_in_packets_that_cut_everywhere(path: Path) -> None:
    dialogue = Dialogue(path)
    if "one-packet" in dialogue.flags:
        pytest.skip("what it shows is one packet")
    for size in (2, 3, 5, 7):
        run(dialogue, size)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_dialogue_pipelined(path: Path) -> None:
    dialogue = Dialogue(path)
    if "not-pipelined" in dialogue.flags:
        pytest.skip("a handshake stands between its turns")
    site = Site(dialogue)
    site.receive(b"".join(octets for octets, _, _ in dialogue.turns))
    if dialogue.turns[-1][2]:
        site.receive(b"")
    assert site.transcript == [line for _, lines, _ in dialogue.turns for line in lines], dialogue.title


def test_every_dialogue_names_its_section() -> None:
    assert len(FILES) >= 40
    for path in FILES:
        assert re.match(r"# RFC [0-9]{3,4} [0-9.]+: ", path.read_text("utf-8")), path.name
