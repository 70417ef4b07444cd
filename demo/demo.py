"""The demo: a Pillarbox of its own, a message through both ports, two refusals; every step shown, and checked.

usage: make demo        (or: .venv/bin/python demo/demo.py)

It writes into demo-data/ beside this folder (a temporary folder when that cannot be written or another demo is in
it) and listens on 127.0.0.1 only, on 2587 and 2465, or on other ports when those are taken. The client is Python's
smtplib. With a terminal it stays up afterwards, for a mail program, until Ctrl-C.

Exit codes: 0 all steps held; 1 one did not, and the last line says which; 130 interrupted before the end.
"""

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import signal
import smtplib
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from types import FrameType
from typing import Any

from next_hop import NextHop
from server import HOST, LOGIN, NAME, NotHeld, Server

RECIPIENT = "bob@elsewhere.example"
CLIENT = "client.example.org"
PATIENCE = 15.0


# -- what is shown


def title(text: str) -> None:
    """A heading."""
    say(f"\n{_styled('1', text)}")


def step(what: str, detail: str, began: float | None = None) -> None:
    """A step that held; ``began`` (perf_counter) gives its time."""
    took = "" if began is None else f"{1000 * (time.perf_counter() - began):9.1f} ms"
    say(f"  {_styled('32', 'ok')}  {what:<12}{took:>12}   {detail}")


def say(text: str = "") -> None:
    """One line, at once."""
    print(text, flush=True)


def hold(condition: bool, complaint: str) -> None:
    """Raises NotHeld with ``complaint`` unless ``condition``."""
    if not condition:
        raise NotHeld(complaint)


def _styled(code: str, text: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text


# -- the client


class Client(smtplib.SMTP):
    """smtplib, but it keeps the greeting, and connects by address while it checks the certificate for a name."""

    greeting = ""

    def connect(self, *arguments: Any, **named: Any) -> tuple[int, bytes]:
        """As smtplib's."""
        code, text = super().connect(*arguments, **named)
        self.greeting = reply_text(code, text)
        return code, text


class TlsClient(Client, smtplib.SMTP_SSL):
    """The same for implicit TLS."""


def reply_text(code: int, text: bytes) -> str:
    """A reply as it came."""
    return f"{code} {text.decode(errors='replace')}"


def open_session(server: Server, port: str) -> Client:
    """A session inside TLS on ``port`` (submission or submissions), its steps shown."""
    context = ssl.create_default_context(cafile=str(server.certificate))
    began = time.perf_counter()
    if port == "submissions":
        client: Client = TlsClient(HOST, server.submissions, CLIENT, timeout=PATIENCE, context=context)
    else:
        client = Client(HOST, server.submission, CLIENT, timeout=PATIENCE)
    hold(client.greeting.startswith("220 "), f"the greeting was {client.greeting}")
    if port == "submission":
        step("greeting", client.greeting, began)
        client.ehlo()
        hold(client.has_extn("starttls"), "STARTTLS was not offered")
        hold(not client.has_extn("auth"), "AUTH was offered outside TLS")
        began = time.perf_counter()
        code, text = client.starttls(context=context)
        hold(code == 220, f"STARTTLS was answered {reply_text(code, text)}")
    tls = client.sock
    if not isinstance(tls, ssl.SSLSocket):
        raise NotHeld("the connection is not encrypted")
    cipher = tls.cipher()
    step("TLS", f"{tls.version()}, {cipher[0] if cipher else 'no cipher'}; certificate verified", began)
    if port == "submissions":
        step("greeting", client.greeting)
    client.ehlo()
    return client


# -- the steps


def send(server: Server, next_hop: NextHop, password: str, port: str) -> None:
    """One message through ``port``, followed until its copy lies at the next hop."""
    before = len(server.events())
    content = message(port)
    with contextlib.closing(open_session(server, port)) as client:
        began = time.perf_counter()
        code, text = client.login(LOGIN, password)
        hold(code == 235, f"the sign-in was answered {reply_text(code, text)}")
        step("sign-in", reply_text(code, text), began)
        event = server.wait_for("signin.succeeded", after=before)
        hold(event["login"] == LOGIN, f"the server took us for {event['login']}")
        step("identity", f"{event['login']}, by {event['mechanism']}, session {event['session']}")
        began = time.perf_counter()
        reply = transaction(client, content)
        ended = time.perf_counter()
        accepted = server.wait_for("message.accepted", after=before, session=event["session"])
        queue_id = accepted["queue_id"]
        hold(reply.startswith("250 ") and queue_id in reply, f"the message was answered {reply}")
        step("accepted", reply, began)
        client.quit()
    relayed = server.wait_for("delivery.delivered", after=before, queue_id=queue_id)
    step("relayed", f'to {relayed["next_hop"]}, which said "{relayed["reply"]}"', ended)
    path = arrived(next_hop, content)
    step("copy", f"{path}: the {len(content)} octets sent, below one Received field of ours")


def message(port: str) -> bytes:
    """What is sent: 8-bit text, and lines that a careless server alters."""
    lines = (
        f"From: Ada <{LOGIN}>",
        f"To: Bob <{RECIPIENT}>",
        f"Subject: A message through {port}",
        f"Date: {formatdate(localtime=True)}",
        f"Message-ID: <{secrets.token_hex(8)}@{CLIENT}>",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        "",
        "Grüße aus Köln!",
        ".a line that begins with a dot, and one that ends with blanks:   ",
        "..",
        "",
    )
    return "\r\n".join(lines).encode()


def transaction(client: Client, content: bytes) -> str:
    """MAIL, RCPT, DATA; the last reply."""
    code, text = client.mail(LOGIN, ("BODY=8BITMIME",))
    hold(code == 250, f"MAIL was answered {reply_text(code, text)}")
    code, text = client.rcpt(RECIPIENT)
    hold(code == 250, f"RCPT was answered {reply_text(code, text)}")
    return reply_text(*client.data(content))


def arrived(next_hop: NextHop, content: bytes) -> Path:
    """The file that holds ``content`` under one field that was added: octet by octet, nothing else may differ."""
    for path in reversed(next_hop.caught()):
        octets = path.read_bytes()
        if octets.endswith(content):
            added = octets.removesuffix(content)
            first, *folded = added.removesuffix(b"\r\n").split(b"\r\n")
            held = first.startswith(b"Received: ") and all(line[:1] in (b" ", b"\t") for line in folded)
            hold(held and added.endswith(b"\r\n"), f"{path} holds more than a Received field: {added!r}")
            return path
    raise NotHeld("the message did not arrive as it was sent")


def refuse_stranger(server: Server) -> None:
    """The same message, without signing in."""
    before = len(server.events())
    with contextlib.closing(open_session(server, "submission")) as client:
        began = time.perf_counter()
        reply = reply_text(*client.mail(LOGIN))
        hold(reply.startswith("530 "), f"MAIL without a sign-in was answered {reply}")
        step("refused", reply, began)
        client.quit()
    show_lines(server, before, "command.refused")


def refuse_wrong_password(server: Server, password: str) -> None:
    """The same again, with a password that is not Ada's. smtplib tries it with each mechanism that is offered."""
    before = len(server.events())
    with contextlib.closing(open_session(server, "submissions")) as client:
        began = time.perf_counter()
        try:
            client.login(LOGIN, password[::-1])
        except smtplib.SMTPAuthenticationError as error:
            reply = reply_text(error.smtp_code, error.smtp_error if isinstance(error.smtp_error, bytes) else b"")
        else:
            raise NotHeld("a wrong password was accepted")
        hold(reply.startswith("535 "), f"a wrong password was answered {reply}")
        step("refused", reply, began)
        client.quit()
    if show_lines(server, before, "signin.failed") > 1:
        say("      (smtplib tried the password with each mechanism; the guard counts one wrong password once)")


def show_lines(server: Server, before: int, name: str) -> int:
    """Prints what the server's log says of a refusal, as it says it; how many lines that were."""
    # by the refusal's own session: the one before it may end only now
    session = server.wait_for(name, after=before)["session"]
    server.wait_for("session.closed", after=before, session=session)
    found = [each for each in server.events()[before:] if each["event"] == name and each["session"] == session]
    for each in found:
        say(f"      the log: {each['line']}")
    return len(found)


# -- the place


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """An empty folder, ours alone while it lasts; it stays behind, to be looked at."""
    folder = Path(__file__).resolve().parent.parent / "demo-data"
    lock = None
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for each in folder.iterdir():
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            elif each.name != ".lock":
                each.unlink()
        try:
            yield folder
        finally:
            os.close(lock)
        return
    if lock is not None:
        os.close(lock)
    yield Path(tempfile.mkdtemp(prefix="pillarbox-demo-data-"))


# -- for a mail program


def stay(server: Server, password: str) -> None:
    """Prints what a mail program wants to know, then what happens, until Ctrl-C."""
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(server.certificate.read_text())).hexdigest().upper()
    fingerprint = ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))
    title("Try it with your own mail program: settings for outgoing mail")
    for name, value in (
        ("Server", NAME),
        ("Port, security", f"{server.submissions}, SSL/TLS"),
        ("  or", f"{server.submission}, STARTTLS"),
        ("Authentication", "normal password"),
        ("User name", LOGIN),
        ("Password", password),
        ("From", f"{LOGIN} (this user may send from no other address)"),
        ("Certificate", f"made by this demo; your program will ask. SHA-256:\n{'':20}{fingerprint}"),
    ):
        say(f"  {name:<16}  {value}")
    seen = len(server.events())  # before anybody can know what to send
    say(f"\nMail to anybody is caught in {server.directory / 'caught'}. Ctrl-C ends the demo.\n")
    while not server.ended():
        for event in server.events()[seen:]:
            if event.get("event") in ("message.accepted", "delivery.delivered", "signin.failed", "command.refused"):
                say(event["line"])
            seen += 1
        time.sleep(0.2)
    raise NotHeld(f"pillarbox serve has ended:\n{server.tail()}")


def show(directory: Path) -> int:
    """All of it, in ``directory``."""
    password = secrets.token_urlsafe(12)
    say(f"Pillarbox, a demo on this machine alone. Everything lies in {directory}")
    with NextHop(directory / "caught") as next_hop, Server(directory, password, next_hop.port) as server:
        title("A server of its own")
        step("next hop", f"a small SMTP server on {HOST}:{next_hop.port} catches what is relayed")
        began = time.perf_counter()
        server.init()
        step("init", f"pillarbox.toml, a certificate for {NAME}, the user {LOGIN}", began)
        began = time.perf_counter()
        ready = server.serve()
        step("serve", f"listens on {', '.join(ready['addresses'])}", began)
        title(f"A message through submission: STARTTLS on port {server.submission}")
        send(server, next_hop, password, "submission")
        title(f"A message through submissions: TLS from the start on port {server.submissions}")
        send(server, next_hop, password, "submissions")
        title("The same message without signing in")
        refuse_stranger(server)
        title("The same message with a wrong password")
        refuse_wrong_password(server, password)
        hold(len(next_hop.caught()) == 2, "more arrived at the next hop than was accepted")
        title("All steps held.")
        if sys.stdin.isatty() and sys.stdout.isatty():
            with contextlib.suppress(KeyboardInterrupt):
                stay(server, password)
            say()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends already; the end has its own limit
        began = time.perf_counter()
        code = server.stop()
        hold(code == 0, f"pillarbox serve ended with {code}:\n{server.tail()}")
        step("stopped", f"in order; its log is {server.log_path}", began)
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _quietly(work: Callable[[], int]) -> int:
    """The exit code of ``work``; what can go wrong in a demo is one line, never a traceback."""
    try:
        return work()
    except NotHeld as error:
        complaint = str(error)
    except (OSError, smtplib.SMTPException) as error:
        complaint = f"{type(error).__name__}: {error}"
    except KeyboardInterrupt:
        complaint = ""
    with contextlib.suppress(OSError):  # whoever looked on may have gone
        say(f"\n{_styled('31', 'FAILED')}  {complaint}" if complaint else "\ninterrupted")
    return 1 if complaint else 130


def main() -> int:
    """The whole program; returns its exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    socket.setdefaulttimeout(PATIENCE)

    def work() -> int:
        with place() as directory:
            return show(directory)

    return _quietly(work)


if __name__ == "__main__":
    sys.exit(main())
