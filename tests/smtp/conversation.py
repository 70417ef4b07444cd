"""Dialogue files and the session that they talk to: what ``dialogues/README.md`` describes, read and run.

``Site`` says yes to all and answers a defect with 554 or 552. Sign-in is by the real mechanisms of ``sasl``, and the
site knows one person: ``user`` has the password ``pass``, for SCRAM the ``pencil`` of RFC 7677 3, the certificate of
the connection, and as ``user@example.com`` the token of RFC 7628 4.
"""

import base64
import hashlib
import hmac
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from pillarbox.sasl import (
    SERVER_MECHANISMS,
    CertificateClaim,
    Claim,
    Disproved,
    Failure,
    PasswordCredentials,
    ProvenCredentials,
    ScramSecret,
    SecretWanted,
    ServerMechanism,
    Step,
    Success,
    TokenCredentials,
)
from pillarbox.sasl.mechanism import ProofWanted, Refusal, RelayedCredentials, TokenHint
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

SIGN_IN_FAILED: Final = Reply(535, ("No",), "5.7.8")
CONSTANT: Final = {
    AuthCancelled: Reply(501, ("Cancelled",), "5.7.0"),
    StartTls: Reply(220, ("Ready",), "2.0.0"),
    Reset: Reply(250, ("OK",), "2.0.0"),
    Noop: Reply(250, ("OK",), "2.0.0"),
    Quit: Reply(221, ("Bye",), "2.0.0"),
}

TOKEN: Final = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="
SERVER_NONCE: Final = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"


def _cuts(secret: bytes) -> list[bytes]:
    """The secret inside base64, which cuts it in one of three ways."""
    return [
        base64.b64encode(bytes(ahead) + secret)[-(-8 * ahead // 6) : 8 * (ahead + len(secret)) // 6]
        for ahead in range(3)
    ]


SECRETS: Final = [cut for secret in (b"pass", TOKEN.encode(), b",p=dHzbZapWIk4jUhN") for cut in _cuts(secret)]


def _scram_secret(password: bytes) -> ScramSecret:
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    salted = hashlib.pbkdf2_hmac("sha256", password, salt, 4096)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return ScramSecret(4096, salt, stored_key, hmac.digest(salted, b"Server Key", "sha256"))


SCRAM_SECRET: Final = _scram_secret(b"pencil")
NOBODYS_SECRET: Final = _scram_secret(b"of nobody")

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

    def __init__(self, source: Path | str) -> None:
        """A file, or the text itself."""
        text = source if isinstance(source, str) else source.read_text("utf-8")
        lines = text.splitlines()
        self.title = lines[0]
        self.flags: set[str] = set()
        self.limits: dict[str, Any] = {}
        self.now: float | None = None
        self.mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
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
            elif name == "mechanisms":
                self.mechanisms = tuple(value.split(","))
            elif equals:
                self.limits[name] = int(value)
            else:
                assert name in {"tls", "authenticated", "no-starttls", "not-pipelined", "one-packet"}, name
                self.flags.add(name)


def secret_of(authcid: str) -> ScramSecret:
    """What the directory keeps for SCRAM; somebody unknown has a secret too, which no password fits."""
    return SCRAM_SECRET if authcid == "user" else NOBODYS_SECRET


def knows(claim: Claim) -> bool:
    """Whether it is the one person, acting as nobody else."""
    match claim:
        case PasswordCredentials():
            return (claim.authcid, claim.password, claim.authzid) in (("user", "pass", ""), ("user", "pass", "user"))
        case ProvenCredentials():
            return claim.authcid == "user" and claim.authzid in ("", "user")
        case TokenCredentials():
            return claim.token == TOKEN and claim.login in ("", "user@example.com")
        case CertificateClaim():
            return claim.authzid in ("", "user")
        case RelayedCredentials():
            raise AssertionError("no directory plays SCRAM here")


class Site:
    """A session that says yes, over one server connection; ``transcript`` is what came out of it."""

    def __init__(self, dialogue: Dialogue) -> None:
        self.connection = Connection(
            Role.SERVER,
            limits=Limits(**dialogue.limits),
            tls="tls" in dialogue.flags,
            offer_starttls="no-starttls" not in dialogue.flags,
            mechanisms=dialogue.mechanisms,
            authenticated="authenticated" in dialogue.flags,
        )
        self.answers = {verb: list(replies) for verb, replies in dialogue.answers.items()}
        self.transcript: list[bytes] = []
        self.closed = False
        self.content = b""
        self.now = dialogue.now
        self.mechanism: ServerMechanism | None = None
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
                assert not any(secret in error.octets for secret in SECRETS)
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
        """The exchange as ``submission.authentication`` leads it, without its guard and its directory."""
        assert "pass" not in repr(event) and TOKEN not in repr(event)
        if isinstance(event, Auth):
            self.mechanism = SERVER_MECHANISMS[event.mechanism]()
            step = self.mechanism.step(event.initial_response)
        elif self.mechanism is None:
            return SIGN_IN_FAILED  # the client has read why, and said something
        else:
            step = self.mechanism.step(event.response)
        return self.follow(step)

    def follow(self, step: Step) -> Reply | Challenge:
        match step:
            case SecretWanted():
                return Challenge(step.proceed(secret_of(step.authcid), SERVER_NONCE).octets)
            case Success():
                self.mechanism = None
                if knows(step.credentials):
                    return Reply(235, ("Welcome",), "2.7.0")
                return self.refuse(step.refusal)
            case Failure():
                self.mechanism = None
                return self.refuse(step.refusal)
            case Disproved():
                return SIGN_IN_FAILED
            case ProofWanted():
                raise AssertionError("no directory plays SCRAM here")
            case _:
                return Challenge(step.octets)

    @staticmethod
    def refuse(refusal: Refusal | None) -> Reply | Challenge:
        return SIGN_IN_FAILED if refusal is None else Challenge(refusal(TokenHint()))

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
