"""Other people's mail programs as clients: each sends one message through a submission port.

``CLIENTS`` has them by name; ``send(target, mail)`` returns what happened. A program that is absent skips the test
with its reason (in CI it fails: there it must be present). Functions block; from a test with an event loop call them
by ``asyncio.to_thread``. Jakarta Mail is not among them: it needs a JDK, so only the heavy tests have it.
"""

import json
import os
import shutil
import smtplib
import ssl
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn
from urllib.parse import quote

import pytest

SECONDS = 30

Security = Literal["starttls", "tls"]


@dataclass(frozen=True, slots=True)
class Target:
    """A server's port and how to sign in there (``user`` None: not at all) from ``source_address``.

    ``mechanism`` as registered; msmtp, curl and Nodemailer know others than PLAIN. ``password`` is an
    access token for OAUTHBEARER and XOAUTH2. ``certificate`` and ``key`` are the client's own, for EXTERNAL.
    """

    host: str
    port: int
    security: Security
    user: str | None
    password: str | None
    ca: Path
    source_address: str | None = None
    mechanism: str = "PLAIN"
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Mail:
    """One message to send: its envelope, and its octets in a file (CRLF line ends)."""

    reverse_path: str
    forward_paths: tuple[str, ...]
    path: Path


@dataclass(frozen=True, slots=True)
class Sent:
    """What the client said. ``octets``: the message as it left the client, with CRLF; empty when it was not sent."""

    accepted: bool
    output: str
    octets: bytes


Client = Callable[[Target, Mail], Sent]

_TOKEN = frozenset({"OAUTHBEARER", "XOAUTH2"})

NODEMAILER = Path(__file__).parent.parent / "interop" / "nodemailer"
JAKARTA = Path(__file__).parent.parent / "interop" / "jakarta" / "Send.java"


def require(program: str) -> str:
    """The path of a program, or a skip with the reason (in CI, a failure)."""
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    return found or missing(f"{program} is not installed; `make interop` installs it on Debian")


def missing(reason: str) -> NoReturn:
    """Skip for ``reason``; in CI, where everything has to be present, fail."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def sample_message(
    sender: str = "Ada Märtens <ada@example.org>", recipient: str = "bob@elsewhere.example", subject: str = "Grüße"
) -> bytes:
    """A UTF-8 message with an attachment, CRLF line ends, and what a careless server would alter.

    Odd but legal fields (folding, tabs, spaces before the end of a line, unusual capitals), lines that begin with
    dots, a line of 998 octets, trailing blanks, an empty line at the end.
    """
    phrase, _, address = sender.rpartition(" ")
    fields = [
        f"From: {_encoded_word(phrase)} {address}".encode(),
        f"To: <{recipient}>".encode(),
        f"Subject: {_encoded_word(subject)}".encode(),
        b"Date: Thu, 01 Jan 2026 12:00:00 +0100",
        b"Message-ID: <sample.1@client.example.org>",
        b"MIME-version:1.0",
        b"X-ODD-Field:\tvalue  with   spaces \t",
        b"X-Folded: one",
        b"\ttwo",
        b"   three",
        b'Content-Type: multipart/mixed; boundary="=_part"',
    ]
    text = [
        "--=_part",
        "Content-Type: text/plain; charset=utf-8; format=flowed",
        "Content-Transfer-Encoding: 8bit",
        "",
        "Grüße aus Köln, žluťoučký kůň, 日本語, 😀",
        ".",
        "..",
        ".a line that begins with a dot",
        "trailing blanks   \t",
        "From here on a careless program would write >From",
        "x" * 998,
        "",
        "-- ",
        "Ada",
    ]
    attachment = [
        "--=_part",
        'Content-Type: application/octet-stream; name="data.bin"',
        "Content-Transfer-Encoding: base64",
        'Content-Disposition: attachment; filename="data.bin"',
        "",
        *["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4"] * 40,
        "--=_part--",
        "",
    ]
    return b"\r\n".join([*fields, b"", *(line.encode() for line in text + attachment), b""])


def _encoded_word(text: str) -> str:
    if text.isascii():
        return text
    return "=?utf-8?q?" + "".join(f"={octet:02X}" for octet in text.encode()) + "?="


def _run(command: list[str], mail: Mail, stdin: bytes = b"", env: dict[str, str] | None = None) -> Sent:
    done = subprocess.run(
        command,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=SECONDS,
        env=(os.environ | env) if env else None,
    )
    accepted = done.returncode == 0
    return Sent(accepted, done.stdout.decode(errors="replace"), mail.path.read_bytes() if accepted else b"")


def send_with_smtplib(target: Target, mail: Mail) -> Sent:
    """Python's own client."""
    context = ssl.create_default_context(cafile=str(target.ca))
    source = (target.source_address, 0) if target.source_address else None
    octets = mail.path.read_bytes()
    try:
        if target.security == "tls":
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(
                target.host,
                target.port,
                "client.example.org",
                timeout=SECONDS,
                source_address=source,
                context=context,
            )
        else:
            smtp = smtplib.SMTP(
                target.host, target.port, "client.example.org", timeout=SECONDS, source_address=source
            )
        with smtp:
            if target.security == "starttls":
                smtp.starttls(context=context)
            if target.user is not None:
                smtp.login(target.user, target.password or "")
            options = ["BODY=8BITMIME"] if smtp.has_extn("8bitmime") else []
            smtp.sendmail(mail.reverse_path, mail.forward_paths, octets, options)
    except (smtplib.SMTPException, OSError) as error:
        return Sent(False, str(error), b"")
    return Sent(True, "", octets)


def send_with_swaks(target: Target, mail: Mail) -> Sent:
    """Swaks, the transaction tester. It ends what it is given with a line end of its own."""
    data = mail.path.with_name("swaks-data")
    data.write_bytes(mail.path.read_bytes().removesuffix(b"\r\n"))
    command = [
        require("swaks"),
        *("--server", target.host, "--port", str(target.port), "--ehlo", "client.example.org"),
        "--tls-on-connect" if target.security == "tls" else "--tls",
        *("--tls-verify", "--tls-ca-path", str(target.ca), "--timeout", str(SECONDS)),
        *("--from", mail.reverse_path, "--to", ",".join(mail.forward_paths), "--data", f"@{data}"),
        "--suppress-data",
    ]
    if target.user is not None:
        command += ["--auth", "PLAIN", "--auth-user", target.user, "--auth-password", target.password or ""]
    if target.source_address:
        command += ["--local-interface", target.source_address]
    return _run(command, mail)


def send_with_curl(target: Target, mail: Mail) -> Sent:
    """curl's smtp:// and smtps://."""
    scheme = "smtps" if target.security == "tls" else "smtp"
    command = [
        require("curl"),
        *("--disable", "--silent", "--show-error", "--verbose", "--max-time", str(SECONDS), "--ssl-reqd"),
        *("--cacert", str(target.ca), "--url", f"{scheme}://{target.host}:{target.port}/client.example.org"),
        *("--mail-from", mail.reverse_path, "--upload-file", str(mail.path)),
    ]
    for forward_path in mail.forward_paths:
        command += ["--mail-rcpt", forward_path]
    if target.user is not None:
        command += ["--login-options", f"AUTH={target.mechanism}"]
        if target.mechanism in _TOKEN:
            command += ["--user", target.user, "--oauth2-bearer", target.password or ""]
        else:
            command += ["--user", f"{target.user}:{target.password}"]
    if target.certificate is not None:
        command += ["--cert", str(target.certificate), "--key", str(target.key)]
    if target.source_address:
        command += ["--interface", target.source_address]
    return _run(command, mail)


def send_with_msmtp(target: Target, mail: Mail) -> Sent:
    """msmtp, the sendmail replacement."""
    lines = [
        "account default",
        *(f"host {target.host}", f"port {target.port}", "domain client.example.org", f"timeout {SECONDS}"),
        *("tls on", f"tls_starttls {'on' if target.security == 'starttls' else 'off'}"),
        f"tls_trust_file {target.ca}",
    ]
    if target.user is not None:
        lines += [f"auth {target.mechanism.lower()}", f'user "{target.user}"']
        if target.mechanism in _TOKEN:  # a line of its file has room for 500 octets
            secret = mail.path.with_name("msmtp-token")
            secret.write_text(f"{target.password}\n")
            lines.append(f"passwordeval cat {secret}")
        else:
            lines.append(f'password "{target.password}"')
    if target.certificate is not None:
        lines += [f"tls_cert_file {target.certificate}", f"tls_key_file {target.key}"]
    if target.source_address:
        lines.append(f"source_ip {target.source_address}")
    configuration = mail.path.with_name("msmtprc")
    configuration.touch(mode=0o600)
    configuration.write_text("\n".join(lines) + "\n")
    command = [require("msmtp"), "--debug", f"--file={configuration}", f"--from={mail.reverse_path}", "--"]
    return _run([*command, *mail.forward_paths], mail, mail.path.read_bytes())


def send_with_s_nail(target: Target, mail: Mail) -> Sent:
    """s-nail (mailx). It writes the message itself, text and attachment; its own record says what it sent."""
    record = mail.path.with_name("s-nail-record")
    record.unlink(missing_ok=True)
    attachment = mail.path.with_name("attachment.bin")
    attachment.write_bytes(bytes(range(256)) * 8)
    sign_in = f"{quote(target.user, safe='')}:{quote(target.password or '', safe='')}@" if target.user else ""
    scheme = "smtps" if target.security == "tls" else "smtp"
    settings = [
        *("v15-compat", "sendwait", "ttycharset=utf-8", "sendcharsets=utf-8", "mime-encoding=8bit"),
        *("hostname=client.example.org", f"from={mail.reverse_path}", f"record={record}", "mbox-fcc-and-pcc"),
        *(f"mta={scheme}://{sign_in}{target.host}:{target.port}", "tls-verify=strict", f"tls-ca-file={target.ca}"),
        "tls-ca-no-defaults",
        f"smtp-auth={'plain' if target.user else 'none'}",
    ]
    if target.security == "starttls":
        settings.append("smtp-use-starttls")
    command = [require("s-nail"), "-:/", "-v"]
    for setting in settings:
        command += ["-S", setting]
    command += ["-s", "Grüße", "-a", str(attachment), "-.", *mail.forward_paths]
    text = "Grüße aus Köln, žluťoučký kůň, 日本語\n.\n..\n.dotted\n".encode()
    sent = _run(command, mail, text, {"LC_ALL": "C.UTF-8", "HOME": str(mail.path.parent), "MAILRC": "/dev/null"})
    return Sent(sent.accepted, sent.output, _from_mbox(record.read_bytes()) if sent.accepted else b"")


def _from_mbox(octets: bytes) -> bytes:
    """The one message of an mbox file, with CRLF; its first line, Status field and last blank line are mbox's own."""
    lines = octets.rstrip(b"\n").split(b"\n")[1:]
    head_end = lines.index(b"")
    head = [line for line in lines[:head_end] if not line.startswith(b"Status:")]
    body = [line[1:] if line.startswith(b">From ") else line for line in lines[head_end:]]
    return b"\r\n".join([*head, *body, b""])


def send_with_nodemailer(target: Target, mail: Mail, dsn: dict[str, object] | None = None) -> Sent:
    """Nodemailer, the Node.js library; ``dsn`` is its own option of that name."""
    if not (NODEMAILER / "node_modules" / "nodemailer").is_dir():
        missing("nodemailer is not installed; `make interop` installs it")
    order = {
        "host": target.host,
        "port": target.port,
        "secure": target.security == "tls",
        "user": target.user,
        "password": target.password,
        "ca": str(target.ca),
        "sourceAddress": target.source_address,
        "from": mail.reverse_path,
        "to": mail.forward_paths,
        "message": str(mail.path),
        "milliseconds": SECONDS * 1000,
        "oauth2": target.mechanism in _TOKEN,
        "dsn": dsn,
    }
    return _run([require("node"), str(NODEMAILER / "send.js")], mail, json.dumps(order).encode())


def send_with_jakarta_mail(target: Target, mail: Mail, **properties: str) -> Sent:
    """Jakarta Mail, the Java library; ``properties`` of its SMTP provider, such as ``chunksize``."""
    jars = [Path("/usr/share/java", name) for name in ("jakarta-mail.jar", "jakarta-activation.jar")]
    if not all(jar.exists() for jar in jars):
        missing("Jakarta Mail is not installed; `make interop-all` installs it on Debian")
    order = {
        "host": target.host,
        "port": str(target.port),
        "security": target.security,
        "ca": str(target.ca),
        "user": target.user or "",
        "password": target.password or "",
        "from": mail.reverse_path,
        "to": ",".join(mail.forward_paths),
        "message": str(mail.path),
        **{f"mail.smtp.{key}": value for key, value in properties.items()},
    }
    arguments = [f"{key}={value}" for key, value in order.items()]
    return _run([require("java"), "-cp", ":".join(map(str, jars)), str(JAKARTA), *arguments], mail)


CLIENTS: dict[str, Client] = {
    "smtplib": send_with_smtplib,
    "swaks": send_with_swaks,
    "curl": send_with_curl,
    "msmtp": send_with_msmtp,
    "s-nail": send_with_s_nail,
    "nodemailer": send_with_nodemailer,
}
